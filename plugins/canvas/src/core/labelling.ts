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
  action: "label" | "undo" | "skip" | "unskip";
  value: LabelValue | null;
}

/** An act that the server does not accept, however often it is sent. */
export interface RefusedAct extends Act {
  reason: string;
}

export interface Session {
  /** Rows in front of the person; the first one is shown. */
  rows: readonly LabelRow[];
  /** What was done in this session, the last one last. */
  done: readonly { row: LabelRow; act: Act }[];
  /** What the server does not have yet, in the order in which it was done. */
  outbox: readonly Act[];
  /** What the server does not accept: it stays in sight until the person sends it again or throws it away. */
  refused: readonly RefusedAct[];
}

/** Begin with what an earlier page has left: acts to send, and acts that were not accepted. */
export function beginning(left: readonly (Act & { reason?: string })[]): Session {
  const outbox = left.filter(({ reason }) => reason === undefined);
  const refused = left.flatMap((act) => act.reason === undefined ? [] : [{ ...act, reason: act.reason }]);
  return { rows: [], done: [], outbox, refused };
}

/** Keys of rows that a list of acts leaves labelled or skipped. */
function settledKeys(acts: readonly Act[]): Set<string> {
  const keys = new Set<string>();
  for (const act of acts) {
    if (act.action === "undo" || act.action === "unskip") keys.delete(act.key);
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
  // What was not accepted for this row is settled by what the person does now.
  const refused = session.refused.filter(({ key }) => key !== row.key);
  return { rows, done: [...session.done, { row, act }], outbox: [...session.outbox, act], refused };
}

/** Take the last act back: its row is shown again. */
export function undone(session: Session, id: string): Session {
  const last = session.done.at(-1);
  if (!last) return session;
  const back: Act = { id, key: last.row.key, action: last.act.action === "label" ? "undo" : "unskip", value: null };
  return { ...session, rows: [last.row, ...session.rows], done: session.done.slice(0, -1), outbox: [...session.outbox, back] };
}

/** Forget what the server has. */
export function sent(session: Session, acts: readonly Act[]): Session {
  const ids = new Set(acts.map(({ id }) => id));
  return { ...session, outbox: session.outbox.filter(({ id }) => !ids.has(id)) };
}

/** Put acts aside that the server does not accept. Their rows may be handed out again. */
export function setAside(session: Session, acts: readonly Act[], reason: string): Session {
  const ids = new Set(acts.map(({ id }) => id));
  return {
    ...sent(session, acts),
    done: session.done.filter(({ act }) => !ids.has(act.id)),
    refused: [...session.refused, ...acts.map((act) => ({ ...act, reason }))],
  };
}

/** Send what was not accepted once more. */
export function resent(session: Session, id: string): Session {
  const again = session.refused.filter((act) => act.id === id).map(({ reason: _, ...act }): Act => act);
  return { ...discarded(session, id), outbox: [...session.outbox, ...again] };
}

/** Throw away what was not accepted. */
export function discarded(session: Session, id: string): Session {
  return { ...session, refused: session.refused.filter((act) => act.id !== id) };
}

/**
 * Let go of rows that the server did not confirm: they are with somebody else now. The row that is shown stays: a
 * person may be in the middle of it, and a label that comes late counts all the same.
 */
export function confirmed(session: Session, asked: ReadonlySet<string>, held: readonly LabelRow[]): Session {
  const keys = new Set(held.map(({ key }) => key));
  const rows = session.rows.filter(({ key }, place) => place === 0 || !asked.has(key) || keys.has(key));
  return rows.length === session.rows.length ? session : { ...session, rows };
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
