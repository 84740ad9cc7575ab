/** A person at a queue: rows are fetched ahead, and what was done is sent until the server has it. */

import { useCallback, useEffect, useRef, useState } from "react";

import { ApiError, type QueueView, api } from "../api/client";
import { type LabelValue, type Session, acted, beginning, handed, keepOutbox, readOutbox, sent, undone } from "../core/labelling";

const AHEAD = 10;
const ASK_BELOW = 4;
const MOST_SENT = 100;
const AGAIN_AFTER = 3000;

export interface QueueSession {
  session: Session;
  view: QueueView;
  /** Why the server does not answer, or refuses; empty: it does not. */
  error: string;
  /** Whether it is known what an earlier page has left to send. */
  isReady: boolean;
  /** Whether nothing is left to hand out. */
  isOver: boolean;
  act: (action: "label" | "skip", value: LabelValue | null) => void;
  undo: () => void;
  /** Ask again whether there is a row: others may have given theirs up. */
  lookAgain: () => void;
}

export function useQueue(first: QueueView, mayEdit: boolean): QueueSession {
  const { name } = first.queue;
  const [session, setSession] = useState<Session>(() => beginning([]));
  const [view, setView] = useState(first);
  const [error, setError] = useState("");
  const [isOver, setOver] = useState(false);
  const [isReady, setReady] = useState(false);
  const [round, setRound] = useState(0);
  const who = useRef<string | null>(null);
  const mine = useRef(new Set<string>());
  const isBusy = useRef(false);
  const again = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);

  const { rows, outbox } = session;
  const isHungry = mayEdit && !isOver && rows.length < ASK_BELOW;

  const talk = useCallback(async (): Promise<void> => {
    // First what was done: what is handed out then does not have these rows in it.
    if (who.current !== null && outbox.length > 0) {
      const acts = outbox.slice(0, MOST_SENT);
      const kept = await api.keepLabels(name, acts);
      setView(kept.queue);
      setSession((before) => stored(sent(before, acts), who.current, name, mine.current));
    } else {
      const found = await api.handOut(name, AHEAD);
      setView(found.queue);
      if (who.current === null) {
        who.current = found.who;
        // What a page that was closed in the middle has left.
        const left = readOutbox(found.who, name);
        for (const { id } of left) mine.current.add(id);
        setSession((before) => handed({ ...before, outbox: [...left, ...before.outbox] }, found.rows));
        setReady(true);
      } else {
        setSession((before) => handed(before, found.rows));
      }
      if (found.rows.length < AHEAD) setOver(true);
    }
  }, [name, outbox]);

  useEffect(() => {
    if (isBusy.current || !mayEdit || !(isHungry || outbox.length > 0)) return;
    isBusy.current = true;
    talk().then(
      () => {
        setError("");
        isBusy.current = false;
        setRound((before) => before + 1);
      },
      (problem: unknown) => {
        isBusy.current = false;
        if (!(problem instanceof ApiError)) throw problem;
        setError(problem.message);
        again.current = setTimeout(() => { setRound((before) => before + 1); }, AGAIN_AFTER);
      },
    );
  }, [round, talk, isHungry, mayEdit, outbox.length]);
  useEffect(() => () => { clearTimeout(again.current); }, []);

  const act = useCallback(
    (action: "label" | "skip", value: LabelValue | null) => {
      setSession((before) => stored(acted(before, newId(), action, value), who.current, name, mine.current));
    },
    [name],
  );
  const undo = useCallback(() => {
    setSession((before) => stored(undone(before, newId()), who.current, name, mine.current));
  }, [name]);
  const lookAgain = useCallback(() => { setOver(false); }, []);
  return { session, view, error, isReady, isOver, act, undo, lookAgain };
}

/** An id that no other act has. Not randomUUID, which a page without TLS does not have. */
function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Keep what is not sent in the browser: it outlives a page that is loaded anew, and an ended session. */
function stored(session: Session, who: string | null, queue: string, mine: Set<string>): Session {
  if (who !== null) keepOutbox(who, queue, session.outbox, mine);
  return session;
}
