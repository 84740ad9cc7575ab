import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";

import { type Act, type LabelRow, type Session, acted, beginning, classOf, confirmed, discarded, handed, numberOf, resent, sent, setAside, undone } from "../src/core/labelling";
import { keepOutbox, keptForOthers, readOutbox } from "../src/core/outbox";

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
    expect(back.outbox.map(({ key, action }) => [key, action])).toEqual([["a", "label"], ["b", "skip"], ["b", "unskip"], ["a", "undo"]]);
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

  it("keeps what is not accepted until it is sent again, thrown away, or settled by another label", () => {
    const labelled = acted(full, "1", "label", "sport");
    const aside = setAside(labelled, labelled.outbox, "is one of the classes");
    expect([aside.outbox, aside.done]).toEqual([[], []]);
    expect(aside.refused).toEqual([{ id: "1", key: "a", action: "label", value: "sport", reason: "is one of the classes" }]);
    expect(keys(handed(aside, [row("a")]))).toEqual(["b", "c", "a"]);
    expect(beginning([...aside.refused, ...labelled.outbox])).toMatchObject({ refused: aside.refused, outbox: labelled.outbox });
    const again = resent(aside, "1");
    expect([again.outbox, again.refused]).toEqual([labelled.outbox, []]);
    expect(discarded(aside, "1").refused).toEqual([]);
    const back = { ...aside, rows: [row("a"), ...aside.rows] };
    expect(acted(back, "2", "label", "trade").refused).toEqual([]);
  });

  it("lets rows go that are with others, not the one that is shown", () => {
    const asked = new Set(["a", "b"]);
    expect(keys(confirmed(full, asked, [row("b")]))).toEqual(["a", "b", "c"]);
    expect(keys(confirmed(full, asked, []))).toEqual(["a", "c"]);
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
      get length() { return stored.size; },
      key: (place: number) => [...stored.keys()][place] ?? null,
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
        else if (action === "unskip") this.skipped.delete(key);
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

  it("what others did is known, and is theirs", () => {
    const { outbox } = acted(handed(beginning([]), [row("a")]), "1", "label", "sport");
    keepOutbox("bob.smith", "q", outbox, new Set());
    keepOutbox("ada", "q", outbox, new Set());
    keepOutbox("cy", "other", outbox, new Set());
    expect([...keptForOthers("ada", "q")]).toEqual([["bob.smith", 1]]);
    stored.set("modelmill.labels.q.dan", "no JSON");
    expect(readOutbox("dan", "q")).toEqual([]);
  });

  it("no label is lost and none is written twice", () => {
    const step = fc.constantFrom("label", "skip", "undo", "send", "lost answer", "reload", "ask");
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        stored.clear();
        const server = new Server();
        const meant = new Map<string, string>();
        const skipped = new Set<string>();
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
          } else if (name === "skip" && shown !== undefined) {
            session = acted(session, String(number), "skip", null);
            skipped.add(shown);
          } else if (name === "undo") {
            const last = session.done.at(-1);
            session = undone(session, String(number));
            if (last) (last.act.action === "label" ? meant : skipped).delete(last.row.key);
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
        expect([...server.skipped].sort()).toEqual([...skipped].sort());
      }),
      { numRuns: 500 },
    );
  });
});
