/**
 * The text of a rule set that is being edited: its history, the saved text that it replaces, and its draft.
 *
 * It outlives the page's own state: an answer to a save that comes late finds the text as it is by then.
 */

import type { RuleSetDocument } from "../api/client";
import { type Keeping, type Opening, OwnDraft, type Saved, opening } from "../core/drafts";
import { type History, MERGE_MILLISECONDS, record, redo, startOf, undo } from "../core/history";

export interface RuleTextSnapshot {
  /** The document as it is known; null: it has never been saved. */
  document: RuleSetDocument | null;
  /** What saving replaces: an older text than the document's while there is a conflict. */
  base: Saved;
  history: History;
  /** How the browser keeps what is not saved. */
  keeping: Keeping;
}

export class RuleText {
  /** How the editor begins. */
  readonly state: Opening["state"];
  private shown: RuleTextSnapshot;
  private readonly listeners = new Set<() => void>();
  private draft: OwnDraft;
  private typedAt = 0;

  /**
   * @param empty What a new rule set begins with.
   * @param name Of its draft, where it is not saved: its own, or of a rule set that has been deleted.
   */
  constructor(
    saved: RuleSetDocument | null,
    private readonly empty: string,
    name: string,
  ) {
    this.draft = new OwnDraft("rules", saved?.name ?? name);
    const draft = this.draft.read();
    const { text, base, state } = opening(savedOf(saved), draft && saved === null ? { ...draft, base: savedOf(null) } : draft);
    const first = startOf(saved === null ? empty : base.text);
    const history = saved === null && state === "saved" ? first : record(first, text);
    this.state = state;
    this.shown = { document: saved, base, history, keeping: "kept" };
    this.show({});
  }

  readonly snapshot = (): RuleTextSnapshot => this.shown;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => { this.listeners.delete(listener); };
  };

  /** What a person types: quick edits are one undo step. */
  readonly type = (text: string): void => {
    const now = Date.now();
    const merge = now - this.typedAt < MERGE_MILLISECONDS;
    this.typedAt = now;
    this.show({ history: record(this.shown.history, text, merge) });
  };

  /** Put another text in its place, such as an older version: one undo step. */
  readonly replace = (text: string): void => {
    this.typedAt = 0;
    this.show({ history: record(this.shown.history, text) });
  };

  readonly undo = (): void => {
    this.typedAt = 0;
    this.show({ history: undo(this.shown.history) });
  };

  readonly redo = (): void => {
    this.show({ history: redo(this.shown.history) });
  };

  /** Go on with a text over a newer saved one, which is one undo away. */
  readonly rebase = (newer: Saved, text: string): void => {
    const { document, history } = this.shown;
    this.typedAt = 0;
    this.show({
      document: document === null || newer.etag === null ? document : { ...document, text: newer.text, etag: newer.etag },
      base: newer,
      history: record(record(history, newer.text), text),
    });
  };

  /** What has been saved is what the next save replaces; what was typed meanwhile is a draft of it. */
  readonly saved = (document: RuleSetDocument): void => {
    this.draft.drop();
    this.draft = new OwnDraft("rules", document.name);
    this.show({ document, base: savedOf(document), keeping: "kept" });
  };

  /** Another tab has changed its drafts: where this one's own has gone, keep it again. */
  readonly keepAgain = (): void => {
    if (this.draft.isTaken()) this.show({});
  };

  private show(change: Partial<RuleTextSnapshot>): void {
    const next = { ...this.shown, ...change };
    const text = next.history.present;
    this.shown = next;
    const isNothing = text === next.base.text || (next.document === null && text === this.empty);
    if (isNothing) this.draft.drop();
    const keeping = isNothing ? "kept" : this.draft.keep(text, next.base);
    // Beside another's it stays until it is saved.
    const isBeside = !isNothing && keeping === "kept" && next.keeping === "beside";
    this.shown = { ...next, keeping: isBeside ? "beside" : keeping };
    for (const listener of this.listeners) listener();
  }
}

export function savedOf(document: RuleSetDocument | null): Saved {
  return { text: document?.text ?? "", etag: document?.etag ?? null };
}
