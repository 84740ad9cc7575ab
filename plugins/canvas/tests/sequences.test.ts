/**
 * Two browsers and one folder: 200 random sequences of edit, undo, close, reopen, save, and going back to a version,
 * on pipelines and on rule sets. Nothing that was saved is lost to somebody who has not been shown it, and nothing
 * that was typed is gone.
 *
 * The editors are the page's own: the pipeline's store, and the text of a rule set. The folder is the real one, in
 * Python. The same in a browser, with the whole page: tests/e2e/test_canvas_sequences.py.
 */

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";

import type { PipelineDocument, RuleSetDocument } from "../src/api/client";
import type { Saved } from "../src/core/drafts";
import { RuleText } from "../src/rules/ruleText";
import type { useCanvas } from "../src/store";
import { storage } from "./storage";

const ROOT = join(import.meta.dirname, "..", "..", "..");
const SEQUENCES = 100;
const SLOTS = 4;

const COMMENTS = Array.from({ length: SLOTS }, (_, slot) => `# slot ${slot}: begin${slot}\n#\n#\n`).join("");
const TEXTS = {
  pipeline: `pipeline: small\n${COMMENTS}description: begin${SLOTS}\nsteps:\n  raw: {component: delta_table, config: {uri: /t}}\n`,
  rules: `rule_set: small\n${COMMENTS}key: id\nsignals:\n  offer: {kind: regex, column: text, pattern: "offer"}\nrules:\n  - {name: offers, when: offer, then: review}\ndefault: keep\n`,
} as const;
type Kind = keyof typeof TEXTS;

/** What was typed into a slot, as a word that nobody else types. */
const tokensOf = (text: string): Set<string> => new Set(text.match(/\b(begin|typed)\d+\b/g) ?? []);
const less = (all: ReadonlySet<string>, some: ReadonlySet<string>): string[] => [...all].filter((token) => !some.has(token));

class Folder {
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly lines: AsyncIterator<string>;
  constructor() {
    const paths = ["src", "operators", "plugins", "spark_jobs"].map((name) => join(ROOT, name)).join(":");
    const python = process.env.MODELMILL_PYTHON ?? join(ROOT, ".venv", "bin", "python");
    this.child = spawn(python, [join(import.meta.dirname, "documents_server.py")], { env: { ...process.env, PYTHONPATH: paths } });
    this.lines = createInterface(this.child.stdout)[Symbol.asyncIterator]();
    this.child.stderr.pipe(process.stderr);
  }
  async ask<T>(request: Record<string, unknown>): Promise<T> {
    this.child.stdin.write(`${JSON.stringify({ name: "small", ...request })}\n`);
    const line = (await this.lines.next()) as { value: string };
    return JSON.parse(line.value) as T;
  }
  end(): void {
    this.child.stdin.end();
  }
}

/** A browser's storage, of one tab; the one in use is the global one. */
class Browser {
  private readonly kept = storage();
  private readonly tab = storage();
  use(): void {
    globalThis.localStorage = this.kept;
    globalThis.sessionStorage = this.tab;
  }
}

/** What a page does with a text, whichever page it is. */
interface Editor {
  open: (saved: Saved & { etag: string }) => void;
  text: () => string;
  over: () => string | null;
  /** What somebody else has saved, if the page opened with a conflict. */
  newer: () => Saved | null;
  type: (text: string) => void;
  describe: (token: string) => void;
  undo: () => void;
  saved: (saved: Saved & { etag: string }) => void;
  take: (newer: Saved, text: string) => void;
}

function pipelineEditor(store: typeof useCanvas): Editor {
  const document = ({ text, etag }: Saved & { etag: string }): PipelineDocument =>
    ({ dag_id: "small", text, etag, digest: null, may_edit: true, may_run: true, problems: [] }) as unknown as PipelineDocument;
  const state = () => store.getState();
  return {
    open: (saved) => { state().open(document(saved)); },
    text: () => state().history.present,
    over: () => state().etag,
    newer: () => state().newer,
    type: (text) => { state().setText(text, ""); },
    describe: (token) => { state().edit((pipeline) => ({ ...pipeline, description: token })); },
    undo: () => { state().undo(); },
    saved: (saved) => { state().saved(document(saved)); },
    take: (newer, text) => { state().rebase(newer, text); },
  };
}

function rulesEditor(): Editor {
  const document = ({ text, etag }: Saved): RuleSetDocument => ({ name: "small", text, etag }) as RuleSetDocument;
  let opened: Saved = { text: "", etag: null };
  let edited: RuleText;
  return {
    open: (saved) => {
      opened = saved;
      edited = new RuleText(document(saved), "", "small");
    },
    text: () => edited.snapshot().history.present,
    over: () => edited.snapshot().base.etag,
    newer: () => (edited.state === "conflict" && edited.snapshot().base.etag !== opened.etag ? opened : null),
    type: (text) => { edited.replace(text); },
    describe: () => undefined,
    undo: () => { edited.undo(); },
    saved: (saved) => {
      opened = saved;
      edited.saved(document(saved));
    },
    take: (newer, text) => {
      opened = newer;
      edited.rebase(newer, text);
    },
  };
}

interface Act {
  who: 0 | 1;
  what: "edit" | "describe" | "undo" | "reopen" | "save" | "back";
  number: number;
  choice: "mine" | "theirs" | "close";
}

const acts = fc.array(
  fc.record({
    who: fc.constantFrom(0 as const, 1 as const),
    what: fc.constantFrom<Act["what"]>("edit", "edit", "edit", "describe", "undo", "reopen", "reopen", "save", "save", "back"),
    number: fc.nat(1000),
    choice: fc.constantFrom<Act["choice"]>("mine", "theirs", "close"),
  }),
  { minLength: 8, maxLength: 24 },
);

let folder: Folder;
let counted = { saves: 0, conflicts: 0, merges: 0 };
beforeAll(() => { folder = new Folder(); });
afterAll(() => { folder.end(); });

async function play(kind: Kind, sequence: readonly Act[], editors: readonly [Editor, Editor]): Promise<void> {
  await folder.ask({ do: "new", kind });
  let server = await folder.ask<Saved & { etag: string }>({ do: "save", text: TEXTS[kind], over: null, author: "begin" });
  const people = editors.map((editor) => ({ editor, browser: new Browser(), shown: new Set<string>() }));
  let typed = 0;
  const look = ({ editor, shown }: (typeof people)[number], more = ""): void => {
    for (const token of [...tokensOf(editor.text()), ...tokensOf(more)]) shown.add(token);
  };
  const reopen = async (person: (typeof people)[number]): Promise<void> => {
    server = await folder.ask({ do: "read" });
    person.editor.open(server);
    look(person, person.editor.newer()?.text ?? "");
  };
  for (const person of people) {
    person.browser.use();
    await reopen(person);
  }
  for (const { who, what, number, choice } of sequence) {
    const person = people[who]!;
    const { editor, browser, shown } = person;
    browser.use();
    const before = editor.text();
    if (what === "edit") {
      typed += 1;
      editor.type(before.replace(new RegExp(`(# slot ${number % SLOTS}: )\\w+`), `$1typed${typed}`));
      expect(tokensOf(editor.text())).toContain(`typed${typed}`);
    } else if (what === "describe") {
      typed += 1;
      editor.describe(`typed${typed}`);
    } else if (what === "undo") editor.undo();
    else if (what === "back") editor.type((await folder.ask<{ text: string }>({ do: "version", number })).text);
    else if (what === "reopen") {
      const own = new Set(less(tokensOf(before), tokensOf(server.text)));
      const isUnsaved = before !== server.text;
      await reopen(person);
      if (isUnsaved && editor.over() === server.etag && editor.text() !== before) counted.merges += 1;
      // Saved tokens of older versions may be theirs to replace; what this person typed is still in front of them.
      const mine = [...own].filter((token) => !people[1 - who]!.shown.has(token));
      expect(less(new Set(mine), tokensOf(editor.text()))).toEqual([]);
    } else {
      let over = editor.over();
      // A page that opened with a conflict asks first, and so does a save that meets one.
      let newer = editor.newer();
      for (let round = 0; round < 3; round += 1) {
        if (newer === null) {
          const text = editor.text();
          const said = await folder.ask<Saved & { etag: string; conflict?: Saved }>({ do: "save", text, over, author: String(who) });
          if (said.conflict === undefined) {
            counted.saves += 1;
            expect(less(less_(tokensOf(server.text), tokensOf(text)), shown)).toEqual([]);
            server = said;
            editor.saved(said);
            break;
          }
          newer = said.conflict;
        }
        counted.conflicts += 1;
        look(person, newer.text);
        if (choice === "close") break;
        editor.take(newer, choice === "mine" ? editor.text() : newer.text);
        over = editor.over();
        newer = null;
      }
    }
    look(person);
  }
  // Nobody else is there any more: whatever is in front of each of them is found again.
  for (const { editor, browser } of people) {
    browser.use();
    const text = editor.text();
    const isOld = editor.over() !== server.etag;
    editor.open(await folder.ask({ do: "read" }));
    if (!isOld) expect(editor.text()).toBe(text);
  }
}

const less_ = (all: ReadonlySet<string>, some: ReadonlySet<string>): Set<string> => new Set(less(all, some));

describe("200 random sequences of two people", () => {
  const check = async (kind: Kind, editors: readonly [Editor, Editor]): Promise<void> => {
    counted = { saves: 0, conflicts: 0, merges: 0 };
    await fc.assert(fc.asyncProperty(acts, (sequence) => play(kind, sequence, editors)), { numRuns: SEQUENCES });
    // The sequences reach what they are for.
    expect(counted.saves).toBeGreaterThan(SEQUENCES);
    expect(Math.min(counted.conflicts, counted.merges)).toBeGreaterThan(SEQUENCES / 10);
  };

  test("on pipelines", async () => {
    new Browser().use();
    const first = (await import("../src/store")).useCanvas;
    vi.resetModules();
    const second = (await import("../src/store")).useCanvas;
    expect(first).not.toBe(second);
    await check("pipeline", [pipelineEditor(first), pipelineEditor(second)]);
  });

  test("on rule sets", () => check("rules", [rulesEditor(), rulesEditor()]));
});
