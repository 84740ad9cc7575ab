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
const CHOSEN = "modelmill.chosen.";
/** Stands in the names of second drafts, and in no other name. */
const BESIDE = "~";
const NEW = "new-";

/** Return the name of a draft of something that has no name yet; there may be several. */
export function newDraftName(): string {
  return `${NEW}${unique()}`;
}

export function isNewDraft(name: string): boolean {
  return name.startsWith(NEW);
}

function unique(): string {
  return `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
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

/** Return whose draft it is: of one pipeline or rule set there are several where two tabs edit it. */
export function ownerOf(name: string): string {
  return name.split(BESIDE, 1)[0] ?? "";
}

/** Let this tab go on with one of several drafts of the same, also after it is loaded again. */
export function chooseDraft(kind: DraftKind, name: string): void {
  sessionStorage.setItem(CHOSEN + keyOf(kind, ownerOf(name)), name);
}

/** Where a draft is kept: under its name, beside the draft that another tab keeps, or nowhere. */
export type Keeping = "kept" | "beside" | "lost";

/** The draft of one editor. Another tab may keep one of the same: neither overwrites or drops the other's. */
export class OwnDraft {
  private name: string;
  /** What this tab found or stored last: only that is its own. */
  private stored: string | null = null;
  private isWritten = false;

  constructor(
    private readonly kind: DraftKind,
    readonly owner: string,
  ) {
    const chosen = sessionStorage.getItem(CHOSEN + keyOf(kind, owner));
    this.name = chosen !== null && readDraft(kind, chosen) !== null ? chosen : owner;
  }

  read(): Draft | null {
    this.stored = this.present();
    return draftOf(this.stored);
  }

  /** Whether this tab has stored a text that stands there no more. */
  isTaken(): boolean {
    return this.isWritten && this.present() !== this.stored;
  }

  keep(text: string, base: Saved): Keeping {
    const present = this.present();
    const draft = draftOf(present);
    if (draft?.text === text && draft.base.text === base.text && draft.base.etag === base.etag) {
      this.stored = present;
      return "kept";
    }
    const isBeside = present !== null && present !== this.stored;
    if (isBeside) this.name = `${ownerOf(this.owner)}${BESIDE}${unique()}`;
    if (!keepDraft(this.kind, this.name, text, base)) return "lost";
    this.stored = this.present();
    this.isWritten = true;
    if (isBeside) chooseDraft(this.kind, this.name);
    return isBeside ? "beside" : "kept";
  }

  drop(): void {
    if (this.stored !== null && this.present() === this.stored) dropDraft(this.kind, this.name);
    this.stored = null;
    this.isWritten = false;
  }

  /** Drop the draft if its text is the one that has been saved; one that was edited since stays. */
  dropSaved(text: string): void {
    if (draftOf(this.stored)?.text === text) this.drop();
  }

  private present(): string | null {
    return localStorage.getItem(keyOf(this.kind, this.name));
  }
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
