/**
 * A person at a queue of rows: what is in front of them, what they did, and what the server does not have yet.
 *
 * What was done waits in an outbox, in the browser's storage, until the server has it: a page that is loaded anew
 * in the middle, or a server that is away, loses nothing. Each act has an id, and the server keeps it once.
 */

export interface LabelRow {
  key: string;
  text: string;
  label: string | null;
  suggestion: string | null;
  why: string;
  second: boolean;
}

export type LabelValue = string | number | string[];

/** One thing that a person did with a row. */
export interface Act {
  id: string;
  key: string;
  action: "label" | "undo" | "skip";
  value: LabelValue | null;
}

export interface Session {
  /** Rows in front of the person; the first one is shown. */
  rows: readonly LabelRow[];
  /** What was done in this session, the last one last. */
  done: readonly { row: LabelRow; act: Act }[];
  /** What the server does not have yet, in the order in which it was done. */
  outbox: readonly Act[];
}

export function beginning(outbox: readonly Act[]): Session {
  return { rows: [], done: [], outbox };
}

/** Keys of rows that a list of acts leaves labelled or skipped. */
function settledKeys(acts: readonly Act[]): Set<string> {
  const keys = new Set<string>();
  for (const act of acts) {
    if (act.action === "undo") keys.delete(act.key);
    else keys.add(act.key);
  }
  return keys;
}

/** Take rows that the server hands out; those that are here, or that were just done, are left out. */
export function handed(session: Session, rows: readonly LabelRow[]): Session {
  const known = settledKeys([...session.done.map(({ act }) => act), ...session.outbox]);
  for (const row of session.rows) known.add(row.key);
  const fresh = rows.filter((row) => !known.has(row.key));
  return fresh.length === 0 ? session : { ...session, rows: [...session.rows, ...fresh] };
}

/** Label or skip the row that is shown. */
export function acted(session: Session, id: string, action: "label" | "skip", value: LabelValue | null): Session {
  const [row, ...rows] = session.rows;
  if (!row) return session;
  const act: Act = { id, key: row.key, action, value };
  return { rows, done: [...session.done, { row, act }], outbox: [...session.outbox, act] };
}

/** Take the last act back: its row is shown again. */
export function undone(session: Session, id: string): Session {
  const last = session.done.at(-1);
  if (!last) return session;
  const back: Act[] = last.act.action === "label" ? [{ id, key: last.row.key, action: "undo", value: null }] : [];
  return { rows: [last.row, ...session.rows], done: session.done.slice(0, -1), outbox: [...session.outbox, ...back] };
}

/** Forget what the server has. */
export function sent(session: Session, acts: readonly Act[]): Session {
  const ids = new Set(acts.map(({ id }) => id));
  return { ...session, outbox: session.outbox.filter(({ id }) => !ids.has(id)) };
}

/** Return the number that a person has typed; null: it is none. */
export function numberOf(typed: string): number | null {
  const text = typed.trim().replace(",", ".");
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/iu.test(text)) return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

/** Return the place of the class that a key stands for; null: the key stands for none. */
export function classOf(key: string, classes: number): number | null {
  const place = /^[1-9]$/u.test(key) ? Number(key) - 1 : -1;
  return place >= 0 && place < classes ? place : null;
}

const PREFIX = "modelmill.labels.";

export function readOutbox(who: string, queue: string): Act[] {
  try {
    const found = JSON.parse(localStorage.getItem(`${PREFIX}${queue}.${who}`) ?? "[]") as unknown;
    return Array.isArray(found) ? (found as Act[]).filter((act) => typeof act.id === "string" && typeof act.key === "string") : [];
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
export function keepOutbox(who: string, queue: string, outbox: readonly Act[], mine: Set<string>): boolean {
  try {
    for (const { id } of outbox) mine.add(id);
    const kept = [...readOutbox(who, queue).filter(({ id }) => !mine.has(id)), ...outbox];
    if (kept.length === 0) localStorage.removeItem(`${PREFIX}${queue}.${who}`);
    else localStorage.setItem(`${PREFIX}${queue}.${who}`, JSON.stringify(kept));
    return true;
  } catch {
    return false;
  }
}
