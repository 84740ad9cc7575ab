/**
 * Drafts: texts that are not saved yet, kept in the browser with the saved text that they were made from.
 *
 * A draft outlives a closed tab and an ended session. When it is opened again and somebody else has saved
 * meanwhile, edits that do not touch each other are merged (diff3); others are a conflict for a person.
 */

import { diff3Merge } from "node-diff3";

/** A saved text; the etag is null for what has never been saved. */
export interface Saved {
  text: string;
  etag: string | null;
}

export interface Draft {
  text: string;
  /** What was saved when the draft was begun. */
  base: Saved;
  /** When it was last edited, in milliseconds since 1970. */
  time: number;
}

/** What an editor begins with. `base` is the saved text that saving replaces. */
export interface Opening {
  text: string;
  base: Saved;
  state: "saved" | "restored" | "merged" | "conflict";
}

export type DraftKind = "pipeline" | "rules";

const PREFIX = "modelmill.draft.";

/** Return the name of a draft of something that has no name yet; there may be several. */
export function newDraftName(): string {
  return `new-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
}

export function readDraft(kind: DraftKind, name: string): Draft | null {
  return draftOf(localStorage.getItem(keyOf(kind, name)));
}

/** Keep a draft. @return false if the browser's storage is full or forbidden. */
export function keepDraft(kind: DraftKind, name: string, text: string, base: Saved): boolean {
  try {
    localStorage.setItem(keyOf(kind, name), JSON.stringify({ text, base, time: Date.now() } satisfies Draft));
    return true;
  } catch {
    return false;
  }
}

export function dropDraft(kind: DraftKind, name: string): void {
  localStorage.removeItem(keyOf(kind, name));
}

/** Drop a draft whose text has been saved; one that was edited since stays. */
export function dropSaved(kind: DraftKind, name: string, text: string): void {
  if (readDraft(kind, name)?.text === text) dropDraft(kind, name);
}

/** Return all drafts of a kind with their names, the latest first. */
export function listDrafts(kind: DraftKind): { name: string; draft: Draft }[] {
  const prefix = keyOf(kind, "");
  const found = Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  return found
    .flatMap((key) => {
      const draft = draftOf(localStorage.getItem(key));
      return draft === null ? [] : [{ name: key.slice(prefix.length), draft }];
    })
    .sort((left, right) => right.draft.time - left.draft.time);
}

/** Return what an editor begins with: the saved text, or this browser's draft of it. */
export function opening(saved: Saved, draft: Draft | null): Opening {
  if (draft === null || draft.text === saved.text) return { text: saved.text, base: saved, state: "saved" };
  if (draft.base.etag === saved.etag) return { text: draft.text, base: saved, state: "restored" };
  const merged = mergeTexts(draft.base.text, draft.text, saved.text);
  if (merged === null) return { text: draft.text, base: draft.base, state: "conflict" };
  return { text: merged, base: saved, state: merged === saved.text ? "saved" : "merged" };
}

/** Merge two edits of a text line by line; null if they touch the same or neighbouring lines. */
export function mergeTexts(base: string, mine: string, theirs: string): string | null {
  const regions = diff3Merge(mine.split("\n"), base.split("\n"), theirs.split("\n"), { excludeFalseConflicts: true });
  const lines = regions.map((region) => region.ok ?? null);
  return lines.includes(null) ? null : lines.flat().join("\n");
}

function keyOf(kind: DraftKind, name: string): string {
  return `${PREFIX}${kind}.${name}`;
}

function draftOf(stored: string | null): Draft | null {
  try {
    const draft = JSON.parse(stored ?? "null") as Partial<Draft> | null;
    const isDraft = typeof draft?.text === "string" && typeof draft.base?.text === "string";
    return isDraft ? { text: draft.text!, base: draft.base!, time: draft.time ?? 0 } : null;
  } catch {
    return null;
  }
}
