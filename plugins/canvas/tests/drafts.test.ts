import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { cleaned } from "../src/core/edits";
import { reconcile, readText } from "../src/core/document";
import type { RuleSetDocument } from "../src/api/client";
import { type Draft, type Saved, keepDraft, mergeTexts, opening, readDraft } from "../src/core/drafts";
import { RuleText } from "../src/rules/ruleText";

const BASE = "pipeline: small\nsteps:\n  raw: {component: delta_table}\n\n  # reviewed\n  dataset: {component: build_dataset}\n";
const draft = (text: string, base = { text: BASE, etag: "one" } as Saved): Draft => ({ text, base, time: 0 });
const edit = (from: string, to: string): string => BASE.replace(from, to);

describe("a draft that is opened again", () => {
  it("is the saved text where there is no draft, or the draft is the same", () => {
    const saved = { text: BASE, etag: "one" };
    expect(opening(saved, null)).toEqual({ text: BASE, base: saved, state: "saved" });
    expect(opening(saved, draft(BASE)).state).toBe("saved");
  });

  it("goes on over the text that it was made from", () => {
    const saved = { text: BASE, etag: "one" };
    const mine = edit("reviewed", "checked");
    expect(opening(saved, draft(mine))).toEqual({ text: mine, base: saved, state: "restored" });
  });

  it("merges edits that do not touch each other", () => {
    const theirs = { text: edit("small", "smaller"), etag: "two" };
    const opened = opening(theirs, draft(edit("build_dataset", "dataset")));
    expect(opened.state).toBe("merged");
    expect(opened.base).toEqual(theirs);
    expect(opened.text).toBe(edit("small", "smaller").replace("build_dataset", "dataset"));
  });

  it("is a conflict over its own base where both touch the same line", () => {
    const theirs = { text: edit("small", "smaller"), etag: "two" };
    const mine = edit("small", "smallest");
    expect(opening(theirs, draft(mine))).toEqual({ text: mine, base: { text: BASE, etag: "one" }, state: "conflict" });
  });

  it("is a conflict where somebody has saved what this draft began as new", () => {
    expect(opening({ text: BASE, etag: "two" }, draft(edit("small", "mine"), { text: "", etag: null })).state).toBe("conflict");
  });
});

describe("the draft of a rule set that has been deleted", () => {
  it("is a new rule set's text, over nothing, until it is saved", () => {
    const stored = new Map<string, string>();
    globalThis.localStorage = {
      getItem: (key: string) => stored.get(key) ?? null,
      setItem: (key: string, value: string) => void stored.set(key, value),
      removeItem: (key: string) => void stored.delete(key),
    } as Storage;
    keepDraft("rules", "mail", "mine", { text: "theirs", etag: "one" });
    const edited = new RuleText(null, "rule_set: new_rules", "mail");
    expect(edited.state).toBe("restored");
    expect(edited.snapshot()).toMatchObject({ base: { text: "", etag: null }, history: { present: "mine" } });
    edited.type("mine, again");
    expect(readDraft("rules", "mail")?.text).toBe("mine, again");
    edited.saved({ name: "mail", text: "mine, again", etag: "two" } as RuleSetDocument);
    expect(readDraft("rules", "mail")).toBeNull();
  });
});

describe("merging", () => {
  const lines = fc.array(fc.constantFrom("a", "b", "c", "", "  d: 1"), { maxLength: 8 }).map((list) => list.join("\n"));

  it("keeps the edit of the only one who made one", () => {
    fc.assert(
      fc.property(lines, lines, (base, next) => {
        expect(mergeTexts(base, next, base)).toBe(next);
        expect(mergeTexts(base, base, next)).toBe(next);
        expect(mergeTexts(base, next, next)).toBe(next);
      }),
    );
  });

  it("does not depend on who saved first", () => {
    fc.assert(fc.property(lines, lines, lines, (base, mine, theirs) => mergeTexts(base, mine, theirs) === mergeTexts(base, theirs, mine)));
  });
});

describe("a list that is edited in a form", () => {
  it("writes a new entry as an empty text", () => {
    const text = "steps:\n  dataset:\n    config: {text: message, labels: [desk]}\n";
    const value = { config: { text: "message", labels: ["desk", undefined] } } as never;
    const config = cleaned(value, { config: { text: "message", labels: ["desk"] } });
    const next = reconcile(text, { steps: { dataset: config } });
    expect(readText(next).value).toEqual({ steps: { dataset: { config: { text: "message", labels: ["desk", ""] } } } });
  });
});
