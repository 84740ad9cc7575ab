import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { positionOf, readText, reconcile, renameGroup, renameStep } from "../src/core/document";
import { type JsonObject } from "../src/core/value";
import { byHand, textOfList, writtenList } from "./byHand";

const SHIPPED = join(import.meta.dirname, "../../../dags/pipelines");
const shipped = readdirSync(SHIPPED)
  .filter((name) => name.endsWith(".yaml"))
  .map((name) => [name, readFileSync(join(SHIPPED, name), "utf8")] as const);
const reuters = readFileSync(join(SHIPPED, "reuters_nightly.yaml"), "utf8");

function valueOf(text: string): JsonObject {
  return structuredClone(readText(text).value) as JsonObject;
}

/** Return the lines that stand in only one of two texts. */
function changes(before: string, after: string): { gone: string[]; come: string[] } {
  const old = before.split("\n");
  const fresh = after.split("\n");
  return {
    gone: old.filter((line) => !fresh.includes(line)),
    come: fresh.filter((line) => !old.includes(line)),
  };
}

function edited(text: string, edit: (value: JsonObject) => void): string {
  const value = valueOf(text);
  edit(value);
  return reconcile(text, value);
}

type Step = Record<string, never>;
function steps(value: JsonObject): Record<string, { config: JsonObject; inputs: JsonObject; component: string }> {
  return value.steps as unknown as Record<string, Step> as never;
}

describe("the text of a pipeline", () => {
  it.each(shipped)("%s stays as it is where nothing is edited", (_, text) => {
    expect(reconcile(text, valueOf(text))).toBe(text);
  });

  it("changes one line where one value changes", () => {
    const after = edited(reuters, (value) => {
      steps(value).student!.config.layers = 3;
    });
    expect(changes(reuters, after)).toEqual({ gone: ["    config: {layers: 2}"], come: ["    config: {layers: 3}"] });
  });

  it("keeps the comment behind a value that changes", () => {
    const after = edited(reuters, (value) => {
      steps(value).dataset!.config.near_duplicates = 0.7;
    });
    expect(after).toContain("      near_duplicates: 0.7  # the published split as it is, so that figures compare\n");
  });

  it("keeps the comment behind a value that becomes a text of several lines", () => {
    const after = reconcile("a:\n  b: 1 # why\n", { a: { b: "one\ntwo\n" } });
    expect(after).toBe('a:\n  b: "one\\ntwo\\n" # why\n');
  });

  it("keeps the quotes of a text", () => {
    const after = edited(reuters, (value) => {
      value.schedule = "0 3 * * *";
    });
    expect(after).toContain('schedule: "0 3 * * *"\n');
  });

  it("adds keys to a mapping on one line and takes them away again", () => {
    const after = edited(reuters, (value) => {
      steps(value).student!.config.epochs = 2;
      steps(value).student!.inputs.extra = ["a.b", "c.d"];
    });
    expect(after).toContain("    config: {layers: 2, epochs: 2}\n");
    expect(after).toContain("    inputs: {dataset: dataset.dataset, teacher: teacher.model, extra: [a.b, c.d]}\n");
    expect(reconcile(after, valueOf(reuters))).toBe(reuters);
  });

  it("adds a step behind the others, with an empty line between, and takes it away again", () => {
    const after = edited(reuters, (value) => {
      steps(value).again = { component: "evaluate", inputs: { models: ["teacher.model"] }, config: { resamples: 500 } };
    });
    expect(after).toBe(
      `${reuters}\n  again:\n    component: evaluate\n    inputs: {models: [teacher.model]}\n    config: {resamples: 500}\n`,
    );
    expect(reconcile(after, valueOf(reuters))).toBe(reuters);
  });

  it("takes a step in the middle away with its comment, and nothing else", () => {
    const text = reuters.replace("  report:\n", "  # what the demo prints\n  report:\n");
    const after = edited(text, (value) => {
      delete steps(value).report;
    });
    expect(after).not.toContain("what the demo prints");
    expect(changes(text, after).come).toEqual([]);
    expect(readText(after).problems).toEqual([]);
  });

  it("renames a step wherever it is named", () => {
    const after = renameStep(reuters, "student", "small");
    expect(after).toContain("  small:\n");
    expect(after).toContain("models: [teacher.model, small.model, exported.model]");
    expect(after).toContain("inputs: {dataset: dataset.dataset, model: small.model}");
    expect(renameStep(after, "small", "student")).toBe(reuters);
  });

  it("renames a step in groups and branches, and a group, and nothing else", () => {
    const text = `# by hand
pipeline: desks
groups:
  each: # one a desk
    steps: [picked, "verdict"]  # in this order
    for_each: {desk: [picked, verdict]}
steps:
  verdict: {component: gate, inputs: {picked: picked.model}}
  fallback:
    component: fine_tune
    when: {verdict: refused}
  picked: {component: pick_signal, config: {signal: verdict}}
`;
    const after = renameGroup(renameStep(text, "verdict", "judged"), "each", "each_desk");
    expect(after).toBe(
      text
        .replace('"verdict"]', '"judged"]')
        .replace("  verdict: {c", "  judged: {c")
        .replace("{verdict: refused}", "{judged: refused}")
        .replace("  each:", "  each_desk:"),
    );
    expect(renameStep(renameGroup(after, "each_desk", "each"), "judged", "verdict")).toBe(text);
  });

  it("fills what was empty", () => {
    expect(reconcile("pipeline: a\nsteps:\n", { pipeline: "a", steps: { b: { component: "c" } } })).toBe(
      "pipeline: a\nsteps:\n  b:\n    component: c\n",
    );
    expect(reconcile("pipeline: a\nsteps: {}\n", { pipeline: "a", steps: { b: { component: "c" } } })).toBe(
      "pipeline: a\nsteps:\n  b:\n    component: c\n",
    );
  });

  it("writes what the loader's YAML would misread so that it does not", () => {
    const after = edited(reuters, (value) => {
      Object.assign(steps(value).student!.config, { rate: 1e-7, answer: "yes", day: "2026-01-01", when: "12:30" });
    });
    expect(after).toContain("rate: 1.0e-7");
    expect(after).toContain('answer: "yes"');
    expect(after).toContain('day: "2026-01-01"');
    expect(after).toContain('when: "12:30"');
  });

  it("ends the line where a mapping becomes a list and another key follows it", () => {
    const tiny = { a: 5e-324, a0: -2.7612127327397003e-308, a_: -1.6799584871909901e131 };
    const text = reconcile("", { pipeline: "a", steps: { a: { component: "a", config: { p: tiny } } } });
    const next = { pipeline: "a", steps: { a: { component: "a", config: { a: {}, p: [] } } } };
    expect(reconcile(text, next)).toBe(
      "pipeline: a\nsteps:\n  a:\n    component: a\n    config:\n      p: []\n      a: {}\n",
    );
  });

  const blocks = [
    "p:\n  a: 1\n  # kept\n\n# kept\nq: 2\n",
    "p:\n- 1\n# kept\n\nq: 2\n",
    "p: # kept\n  a: 1\n\n  b: 1\n\n  # kept\nq: 1",
    "q: 1\np:\n  - a: 1\n    b: 2",
    "p: |\n  a: 1\n\nq: 1\n",
    "r:\n  - p\n  -\n    - 1\n    - 2\np: 1\n",
  ];
  const values = [[], {}, 3, "a\nb\n", { z: 1 }, { z: { a: { b: {} } } }, [1], [{ a: 1 }], "x", null, { a: 2 }];
  it.each(blocks)("%j takes a value of any kind in the place of another, and keeps its comments", (text) => {
    for (const value of values) {
      for (const key of Object.keys(valueOf(text))) {
        const next = { ...valueOf(text), [key]: value };
        const after = reconcile(text, next);
        expect(readText(after).value).toEqual(next);
        expect(after.match(/# kept/g)).toEqual(text.match(/# kept/g));
      }
    }
  });

  const lists: [string, string, (value: string[]) => string[], string][] = [
    ["a third edge", "m:\n  - a.model    # why\n  - 'b.model'\n", (value) => [...value, "c.model"], "m:\n  - a.model    # why\n  - 'b.model'\n  - c.model\n"],
    ["quotes and comments", "m:\n- 'bill'   # first\n# second\n- \"b\"\n# end\nn: 1\n", (value) => [...value, "c"], "m:\n- 'bill'   # first\n# second\n- \"b\"\n- c\n# end\nn: 1\n"],
    ["no end of line", "m:\n  - a # why", (value) => [...value, "b"], "m:\n  - a # why\n  - b\n"],
    ["empty lines between", "m:\n  - a # a\n\n  # b\n  - b\n\nn: 1\n", ([a]) => [a!, "c", "d"], "m:\n  - a # a\n\n  - c\n\n  - d\n\nn: 1\n"],
    ["one item goes", "m:\n  # first\n  - 'a' # a\n  # second\n  - \"b\" # b\n  - c\n", ([a, , c]) => [a!, c!], "m:\n  # first\n  - 'a' # a\n  - c\n"],
    ["nothing in it yet", "m: []   # none yet\n", () => ["a"], "m: [a]   # none yet\n"],
    ["lines in brackets", "m: [\n  a,  # one\n  'b'   # two\n]\n", (value) => [...value, "c"], "m: [\n  a,  # one\n  'b',   # two\n  c\n]\n"],
    ["brackets at the end of a line", "m: [a, # one\n  b]\n", ([a]) => [a!], "m: [a # one\n  ]\n"],
    ["the first in brackets goes", "m: [ # all\n  a, b, # b\n  c]\n", ([, b, c]) => [b!, c!], "m: [ # all\n  b, # b\n  c]\n"],
    ["a line that is shared", "m: [\n  a,\n  b, c]\n", ([a, , c]) => [a!, c!], "m: [\n  a,\n  c]\n"],
    ["empty lines that count", "m:\n  - |+\n    a\n\n  - b\n", ([a]) => [a!, "c", "d"], "m:\n  - |+\n    a\n\n  - c\n  - d\n"],
    ["an anchor that nothing names", "m:\n  - &x a\n  - b\n", (value) => [...value, "c"], "m:\n  - &x a\n  - b\n  - c\n"],
    ["other line ends", "m:\r\n  - 'a' # a\r\n  - b\r\n", ([a]) => [a!, "c", "d"], "m:\r\n  - 'a' # a\r\n  - c\r\n  - d\r\n"],
  ];
  it.each(lists)("keeps what stands beside the items of a list: %s", (_, text, edit, after) => {
    expect(edited(text, (value) => { value.m = edit(value.m as string[]); })).toBe(after);
  });

  it("keeps what stands beside the items of a list in a list", () => {
    const text = "m:\n  - - 'a' # a\n    # b\n    - b   # b\n";
    expect(edited(text, (value) => { value.m = [["a", "b", "c"]]; })).toBe(`${text}    - c\n`);
    expect(edited(text, (value) => { value.m = [["b"]]; })).toBe("m:\n  -\n    # b\n    - b   # b\n");
    expect(edited(text, (value) => { value.m = [["a", "b"], ["c"]]; })).toBe(`${text}  - - c\n`);
  });

  it("refuses to take away the item of a list that an alias stands for", () => {
    const text = "m:\n  - &x a\n  - b\nn: *x\n";
    expect(() => edited(text, (value) => { value.m = ["b"]; })).toThrow(/edit it in the text/);
  });

  it("refuses an edit below an alias, and says where to make it", () => {
    const text = "base: &c {layers: 2}\nsteps:\n  a: {config: *c}\n";
    expect(() =>
      reconcile(text, { base: { layers: 2 }, steps: { a: { config: { layers: 3 } } } }),
    ).toThrow(/edit it in the text/);
  });

  it("says where a text is no YAML", () => {
    const { value, problems } = readText("pipeline: a\nsteps: {b: [}\n");
    expect(value).toBeNull();
    expect(problems[0]?.line).toBe(2);
  });

  it("finds a place in the text, or the nearest that is there", () => {
    const line = reuters.split("\n").indexOf("    config: {layers: 2}") + 1;
    expect(positionOf(reuters, ["steps", "student", "config", "layers"])).toEqual({ line, column: 14 });
    expect(positionOf(reuters, ["steps", "student", "config", "nothing"]).line).toBe(line);
  });
});

const name = fc.stringMatching(/^[a-z][a-z0-9_]{0,11}$/);
const scalar = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.constantFrom("yes", "null", "1e5", "${data}/x", "a: b", "- x", "# no", "'", '"', "[", "}", ",", "a\nb", " a ", "é\u2028"),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => (Object.is(number, -0) ? 0 : number)),
  fc.boolean(),
  fc.constant(null),
);
const config: fc.Arbitrary<JsonObject> = fc.dictionary(
  name,
  fc.oneof(scalar, fc.array(scalar, { maxLength: 4 }), fc.dictionary(name, scalar, { maxKeys: 3 })),
  { maxKeys: 5 },
);
const step = fc.record(
  {
    component: name,
    inputs: fc.dictionary(name, fc.oneof(name, fc.array(name, { minLength: 1, maxLength: 3 })), { maxKeys: 3 }),
    config,
    when: fc.dictionary(name, fc.constantFrom("accepted", "refused"), { maxKeys: 2 }),
    retries: fc.nat(5),
  },
  { requiredKeys: ["component"] },
);
const group = fc.record(
  {
    description: fc.string({ maxLength: 30 }),
    steps: fc.array(name, { minLength: 1, maxLength: 5 }),
    for_each: fc.dictionary(name, fc.array(scalar, { minLength: 1, maxLength: 5 }), { minKeys: 1, maxKeys: 1 }),
  },
  { requiredKeys: ["steps"] },
);
const pipeline: fc.Arbitrary<JsonObject> = fc.record(
  {
    pipeline: name,
    description: fc.string({ maxLength: 60 }),
    schedule: fc.constantFrom(null, "0 2 * * *"),
    tags: fc.array(name, { maxLength: 3 }),
    groups: fc.dictionary(name, group, { maxKeys: 2 }),
    steps: fc.dictionary(name, step, { minKeys: 1, maxKeys: 8 }),
  },
  { requiredKeys: ["pipeline", "steps"] },
);

/** How often each property is tried; more often by hand: RUNS=5000 SEED=2 npm test. */
const tried = { numRuns: Number(process.env.RUNS ?? 1000) };

/** Write a pipeline as a person might: comments, empty lines, one line or several. */
function written(value: JsonObject, style: number): string {
  const text = reconcile(style % 2 ? "# made by hand\n" : "", value);
  return byHand(text, style)
    .split("\n")
    .map((line, index) => ((style >> (index % 20)) & 4 && /^ {2}[a-z]\w*:$/.test(line) ? `\n  # step\n${line}  # here` : line))
    .join("\n");
}

describe("generated pipelines", () => {
  it("stay as they are where nothing is edited", () => {
    fc.assert(
      fc.property(pipeline, fc.nat(), (value, style) => {
        const text = written(value, style);
        expect(readText(text).value).toEqual(value);
        expect(reconcile(text, valueOf(text))).toBe(text);
      }),
      tried,
    );
  });

  it("become any other pipeline, and one edit taken back gives the text from before it", () => {
    fc.assert(
      fc.property(pipeline, pipeline, fc.nat(), (before, after, style) => {
        const text = written(before, style);
        expect(readText(reconcile(text, after)).value).toEqual(after);
      }),
      tried,
    );
  });

  it("keep each line of a list's other items when some go and some come", () => {
    fc.assert(
      fc.property(writtenList, (list) => {
        const stays = (index: number): boolean => list.stay[index]! || !list.items.some((_, place) => list.stay[place]) && index === 0;
        const text = textOfList(list, () => true, 0);
        const gone = list.items.filter((_, index) => !stays(index)).length;
        // As many others in the place of items are the same items with other values: their comments stay with them.
        const next = textOfList(list, stays, gone > 0 && gone === list.more ? gone + 1 : list.more);
        expect(reconcile(text, valueOf(next))).toBe(next);
      }),
      tried,
    );
  });

  it("keep every comment when a value of a step changes", () => {
    fc.assert(
      fc.property(pipeline, config, fc.nat(), (value, other, style) => {
        const text = written(value, style);
        const next = structuredClone(value);
        const first = Object.values(next.steps as JsonObject)[0] as JsonObject;
        first.config = other;
        const result = reconcile(text, next);
        expect(readText(result).value).toEqual(next);
        const comments = /# step|# here|# made by hand|# item/g;
        expect(result.match(comments)).toEqual(text.match(comments));
      }),
      tried,
    );
  });
});
