/** Undo and redo: the texts before and after the present one. */

export interface History {
  past: readonly string[];
  present: string;
  future: readonly string[];
}

const LIMIT = 200;

/** Edits of the same that follow each other within this time are one step back. */
export const MERGE_MILLISECONDS = 1200;

export function startOf(text: string): History {
  return { past: [], present: text, future: [] };
}

/** Record a new text. With `merge` it takes the present one's place: a word typed is one step back. */
export function record(history: History, text: string, merge = false): History {
  if (text === history.present) return history;
  const past = merge && history.past.length > 0 ? history.past : [...history.past, history.present].slice(-LIMIT);
  return { past, present: text, future: [] };
}

export function undo(history: History): History {
  const previous = history.past.at(-1);
  if (previous === undefined) return history;
  return { past: history.past.slice(0, -1), present: previous, future: [history.present, ...history.future] };
}

export function redo(history: History): History {
  const [next, ...future] = history.future;
  if (next === undefined) return history;
  return { past: [...history.past, history.present], present: next, future };
}
