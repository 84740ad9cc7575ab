/**
 * What a person did and the server does not have, kept in the browser's storage: by queue, and by the person who did it.
 *
 * Somebody else may log in in the same browser: theirs is another outbox, and nobody's is ever sent by another.
 */

import type { Act, RefusedAct } from "./labelling";

const PREFIX = "modelmill.labels.";

/** An act that waits; with a reason: one that the server does not accept. */
export type KeptAct = Act & Partial<Pick<RefusedAct, "reason">>;

export function readOutbox(who: string, queue: string): KeptAct[] {
  try {
    return actsOf(localStorage.getItem(keyOf(who, queue)));
  } catch {
    return [];
  }
}

/**
 * Keep what is not sent. What another tab of the same person keeps stays.
 *
 * @param mine Ids of all that has ever been in this page's outbox; the outbox's own are added.
 * @return false if the browser's storage is full or forbidden: then only the page has them.
 */
export function keepOutbox(who: string, queue: string, outbox: readonly KeptAct[], mine: Set<string>): boolean {
  try {
    for (const { id } of outbox) mine.add(id);
    const kept = [...readOutbox(who, queue).filter(({ id }) => !mine.has(id)), ...outbox];
    if (kept.length === 0) localStorage.removeItem(keyOf(who, queue));
    else localStorage.setItem(keyOf(who, queue), JSON.stringify(kept));
    return true;
  } catch {
    return false;
  }
}

/** Return how much of other people waits in this browser until they log in, by person. */
export function keptForOthers(who: string | null, queue: string): Map<string, number> {
  const found = new Map<string, number>();
  const prefix = keyOf("", queue);
  try {
    for (let place = 0; place < localStorage.length; place += 1) {
      const key = localStorage.key(place);
      if (key === null || !key.startsWith(prefix) || key === prefix + (who ?? "")) continue;
      const acts = actsOf(localStorage.getItem(key)).length;
      if (acts > 0) found.set(key.slice(prefix.length), acts);
    }
  } catch {
    // A storage that is forbidden holds nothing of anybody.
  }
  return found;
}

function actsOf(stored: string | null): KeptAct[] {
  const found = JSON.parse(stored ?? "[]") as unknown;
  return Array.isArray(found) ? (found as KeptAct[]).filter((act) => typeof act.id === "string" && typeof act.key === "string") : [];
}

function keyOf(who: string, queue: string): string {
  return `${PREFIX}${queue}.${who}`;
}
