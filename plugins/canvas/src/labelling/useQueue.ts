/** A person at a queue: rows are fetched ahead, and what was done is sent until the server has it. */

import { useEffect, useState, useSyncExternalStore } from "react";

import { type QueueView, api } from "../api/client";
import { pageActivity } from "./activity";
import { type QueueSnapshot, QueueTalk } from "./talk";

export type QueueSession = QueueSnapshot & Pick<QueueTalk, "act" | "undo" | "lookAgain" | "resend" | "discard">;

export function useQueue(first: QueueView, mayEdit: boolean): QueueSession {
  const [{ talk, activity }] = useState(() => {
    const made = pageActivity();
    return { activity: made, talk: new QueueTalk(first, api, made.isActive) };
  });
  useEffect(() => {
    if (!mayEdit) return undefined;
    const ends = [talk.start(), activity.watch(talk.wake)];
    return () => { for (const end of ends) end(); };
  }, [talk, activity, mayEdit]);
  const snapshot = useSyncExternalStore(talk.subscribe, talk.snapshot);
  const isAtRisk = !snapshot.isKept && snapshot.session.outbox.length > 0;
  useEffect(() => {
    if (!isAtRisk) return undefined;
    const leaving = (event: BeforeUnloadEvent): void => { event.preventDefault(); };
    window.addEventListener("beforeunload", leaving);
    return () => { window.removeEventListener("beforeunload", leaving); };
  }, [isAtRisk]);
  const { act, undo, lookAgain, resend, discard } = talk;
  return { ...snapshot, act, undo, lookAgain, resend, discard };
}
