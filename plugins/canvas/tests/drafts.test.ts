import fc from "fast-check";
import { beforeEach, describe, expect, it, vi } from "vitest";

import { cleaned } from "../src/core/edits";
import { reconcile, readText } from "../src/core/document";
import type { PipelineDocument, RuleSetDocument } from "../src/api/client";
import { type Draft, type Saved, chooseDraft, keepDraft, listDrafts, mergeTexts, opening, ownerOf, readDraft } from "../src/core/drafts";
import { RuleText } from "../src/rules/ruleText";
import { storage } from "./storage";

const BASE = "pipeline: small\nsteps:\n  raw: {component: delta_table}\n\n  # reviewed\n  dataset: {component: build_dataset}\n";
const draft = (text: string, base = { text: BASE, etag: "one" } as Saved): Draft => ({ text, base, time: 0 });
const edit = (from: string, to: string): string => BASE.replace(from, to);

beforeEach(() => {
  globalThis.localStorage = storage();
  globalThis.sessionStorage = storage();
});

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

const SMALL = { dag_id: "small", text: BASE, etag: "one", may_edit: true, may_run: true, problems: [] } as unknown as PipelineDocument;
const MAIL = { name: "mail", text: BASE, etag: "one" } as RuleSetDocument;

/** What two kinds of pages have in common. */
interface Page {
  type: (text: string) => void;
  undo: () => void;
  saved: (text: string) => void;
  text: () => string;
  keepAgain: () => void;
}

async function canvasPage(): Promise<Page> {
  vi.resetModules();
  const { getState } = (await import("../src/store")).useCanvas;
  getState().open(SMALL);
  return {
    type: (text) => { getState().setText(text, ""); },
    undo: () => { getState().undo(); },
    saved: (text) => { getState().saved({ ...SMALL, text, etag: "two" }); },
    text: () => getState().history.present,
    keepAgain: () => { getState().keepAgain(); },
  };
}

function rulesPage(): Promise<Page> {
  const edited = new RuleText(MAIL, "", "mail");
  return Promise.resolve({
    type: edited.replace,
    undo: edited.undo,
    saved: (text: string) => { edited.saved({ ...MAIL, text, etag: "two" }); },
    text: () => edited.snapshot().history.present,
    keepAgain: edited.keepAgain,
  });
}

describe.each([
  { kind: "pipeline" as const, owner: "small", open: canvasPage },
  { kind: "rules" as const, owner: "mail", open: rulesPage },
])("two tabs of one $owner", ({ kind, owner, open }) => {
  const kept = (): string[] => listDrafts(kind).map((item) => item.draft.text).toSorted();
  const [mine, other] = [edit("small", "mine"), edit("small", "other")];
  const tabs = [storage(), storage()] as const;
  const inTab = <T>(number: 0 | 1, act: () => T): T => {
    globalThis.sessionStorage = tabs[number];
    return act();
  };

  it("keep a draft each, which only its own tab drops", async () => {
    const [first, second] = [await open(), await open()];
    inTab(0, () => { first.type(mine); });
    inTab(1, () => { second.type(other); });
    expect(kept()).toEqual([mine, other]);
    expect(listDrafts(kind).map((item) => ownerOf(item.name))).toEqual([owner, owner]);
    inTab(1, () => { second.undo(); });
    expect(kept()).toEqual([mine]);
    inTab(1, () => { second.type(other); });
    inTab(1, () => { second.saved(other); });
    expect(kept()).toEqual([mine]);
    inTab(0, () => { first.saved(mine); });
    expect(kept()).toEqual([]);
  });

  it("find each its own again, and another tab the one that is chosen", async () => {
    const [first, second] = [await open(), await open()];
    inTab(0, () => { first.type(mine); });
    inTab(1, () => { second.type(other); });
    expect((await inTab(0, open)).text()).toBe(mine);
    expect((await inTab(1, open)).text()).toBe(other);
    globalThis.sessionStorage = storage();
    chooseDraft(kind, listDrafts(kind).find((item) => item.draft.text === other)?.name ?? "");
    expect((await open()).text()).toBe(other);
  });

  it("keep again what another tab has taken up and dropped; who has typed nothing keeps nothing", async () => {
    const first = await open();
    inTab(0, () => { first.type(mine); });
    const second = await inTab(1, open);
    expect(second.text()).toBe(mine);
    inTab(1, () => { second.undo(); });
    expect(kept()).toEqual([]);
    inTab(0, () => { first.keepAgain(); });
    expect(kept()).toEqual([mine]);
    const third = await inTab(1, open);
    inTab(0, () => { first.type(other); });
    inTab(1, () => { third.keepAgain(); });
    expect(kept()).toEqual([other]);
  });
});

describe("an older text that is asked for", () => {
  const older = edit("small", "older");

  it("is shown where all is saved, one step before", async () => {
    vi.resetModules();
    const { getState } = (await import("../src/store")).useCanvas;
    getState().open(SMALL);
    getState().handOver(older);
    expect(getState()).toMatchObject({ older: null, history: { past: [BASE], present: older } });
  });

  it("takes the place of what is not saved only where a person says so", async () => {
    const mine = edit("small", "mine");
    keepDraft("pipeline", "small", mine, { text: BASE, etag: "one" });
    vi.resetModules();
    const { getState } = (await import("../src/store")).useCanvas;
    getState().open(SMALL);
    getState().handOver(older);
    expect(getState()).toMatchObject({ older, history: { present: mine } });
    getState().settle(false);
    expect(getState()).toMatchObject({ older: null, history: { present: mine } });
    expect(readDraft("pipeline", "small")?.text).toBe(mine);
    getState().handOver(older);
    getState().settle(true);
    expect(getState()).toMatchObject({ older: null, history: { past: [BASE, mine], present: older } });
  });
});

describe("where steps stand, and which groups are collapsed", () => {
  const GROUPED = `${BASE}  again: {component: build_dataset}\ngroups:\n  pair: {steps: [dataset, again]}\n`;

  it("outlives the first save, and a new name of a step", async () => {
    vi.resetModules();
    const { getState } = (await import("../src/store")).useCanvas;
    getState().open({ text: GROUPED, draftName: "new-one", may_edit: true, may_run: true });
    getState().place(new Map([["raw", { x: 700, y: 7 }]]));
    getState().toggle("pair");
    const text = getState().history.present;
    getState().saved({ ...SMALL, text });
    getState().open({ ...SMALL, text });
    expect(getState().places.get("raw")).toEqual({ x: 700, y: 7 });
    expect(getState().collapsed).toEqual(new Set(["pair"]));
    expect(getState().rename("raw", "rows")).toBe(true);
    getState().open({ ...SMALL, text: getState().history.present, etag: "two" });
    expect(getState().places.get("rows")).toEqual({ x: 700, y: 7 });
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
