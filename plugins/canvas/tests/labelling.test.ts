import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";

import { type Act, type LabelRow, type Session, acted, beginning, classOf, handed, keepOutbox, numberOf, readOutbox, sent, undone } from "../src/core/labelling";

const row = (key: string): LabelRow => ({ key, text: key, label: null, suggestion: null, why: "", second: false });
const keys = (session: Session): string[] => session.rows.map(({ key }) => key);

describe("a person at a queue", () => {
  const full = handed(beginning([]), ["a", "b", "c"].map(row));

  it("labels, skips, and takes back", () => {
    const labelled = acted(full, "1", "label", "sport");
    expect(keys(labelled)).toEqual(["b", "c"]);
    const skipped = acted(labelled, "2", "skip", null);
    expect(skipped.outbox.map(({ id, action }) => [id, action])).toEqual([["1", "label"], ["2", "skip"]]);
    const back = undone(undone(skipped, "3"), "4");
    expect(keys(back)).toEqual(["a", "b", "c"]);
    // A skipped row needs no word: whoever labels it later has labelled it.
    expect(back.outbox.map(({ key, action }) => [key, action])).toEqual([["a", "label"], ["b", "skip"], ["a", "undo"]]);
    expect(undone(full, "5")).toBe(full);
  });

  it("is not handed a row twice, nor one that waits in the outbox", () => {
    expect(handed(full, [row("b")])).toBe(full);
    const labelled = acted(full, "1", "label", "sport");
    expect(keys(handed(labelled, [row("a"), row("d")]))).toEqual(["b", "c", "d"]);
    const reloaded = handed(beginning(labelled.outbox), ["a", "b", "c"].map(row));
    expect(keys(reloaded)).toEqual(["b", "c"]);
    expect(keys(handed(beginning(undone(labelled, "2").outbox), [row("a")]))).toEqual(["a"]);
  });

  it("knows numbers and keys", () => {
    expect([" 3,5 ", "-2", "1e3", ".5", "", "x", "1e999", "0x1", "Infinity"].map(numberOf)).toEqual([3.5, -2, 1000, 0.5, null, null, null, null, null]);
    expect(["1", "3", "4", "0", "a", "12"].map((key) => classOf(key, 3))).toEqual([0, 2, null, null, null, null]);
  });
});

describe("whatever happens in between", () => {
  const stored = new Map<string, string>();
  beforeEach(() => {
    stored.clear();
    globalThis.localStorage = {
      getItem: (key: string) => stored.get(key) ?? null,
      setItem: (key: string, value: string) => void stored.set(key, value),
      removeItem: (key: string) => void stored.delete(key),
    } as Storage;
  });

  /** A server that keeps each act once, and hands out what is open. */
  class Server {
    readonly labels = new Map<string, string>();
    readonly skipped = new Set<string>();
    private readonly ids = new Set<string>();
    take(acts: readonly Act[]): void {
      for (const { id, key, action, value } of acts) {
        if (this.ids.has(id)) continue;
        this.ids.add(id);
        if (action === "label") this.labels.set(key, value as string);
        else if (action === "undo") this.labels.delete(key);
        else this.skipped.add(key);
      }
    }
    rows(): LabelRow[] {
      return ["a", "b", "c", "d", "e"].filter((key) => !this.labels.has(key) && !this.skipped.has(key)).map(row);
    }
  }

  it("two tabs keep what each of them did", () => {
    const [one, other] = ["1", "2"].map((id) => acted(handed(beginning([]), [row(id)]), id, "label", "sport"));
    const [mine, others] = [new Set<string>(), new Set<string>()];
    keepOutbox("ada", "q", one!.outbox, mine);
    keepOutbox("ada", "q", other!.outbox, others);
    keepOutbox("ada", "q", sent(one!, one!.outbox).outbox, mine);
    expect(readOutbox("ada", "q").map(({ id }) => id)).toEqual(["2"]);
    keepOutbox("ada", "q", sent(other!, other!.outbox).outbox, others);
    expect(stored.size).toBe(0);
  });

  it("no label is lost and none is written twice", () => {
    const step = fc.constantFrom("label", "skip", "undo", "send", "lost answer", "reload", "ask");
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        stored.clear();
        const server = new Server();
        const meant = new Map<string, string>();
        let number = 0;
        let session = handed(beginning([]), server.rows());
        let mine = new Set<string>();
        const keep = (): void => void keepOutbox("ada", "q", session.outbox, mine);
        for (const name of steps) {
          number += 1;
          const shown = session.rows[0]?.key;
          if (name === "label" && shown !== undefined) {
            session = acted(session, String(number), "label", `label ${number}`);
            meant.set(shown, `label ${number}`);
          } else if (name === "skip") session = acted(session, String(number), "skip", null);
          else if (name === "undo") {
            const last = session.done.at(-1);
            session = undone(session, String(number));
            if (last) meant.delete(last.row.key);
          } else if (name === "send") {
            server.take(session.outbox);
            session = sent(session, session.outbox);
          } else if (name === "lost answer") server.take(session.outbox);
          else if (name === "reload") {
            mine = new Set();
            session = handed(beginning(readOutbox("ada", "q")), server.rows());
          }
          else if (name === "ask") session = handed(session, server.rows());
          keep();
        }
        server.take(readOutbox("ada", "q"));
        expect(Object.fromEntries(server.labels)).toEqual(Object.fromEntries(meant));
      }),
      { numRuns: 500 },
    );
  });
});
