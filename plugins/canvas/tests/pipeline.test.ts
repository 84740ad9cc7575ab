import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { readText, reconcile } from "../src/core/document";
import { type JsonObject } from "../src/core/value";
import { framesOf } from "../src/core/frames";
import { groupSteps, moveSteps, setForEach } from "../src/core/groups";
import { record, redo, startOf, undo } from "../src/core/history";
import { arrange, nodeHeight, NODE_WIDTH } from "../src/core/layout";
import { addStep, cleaned, connect, copySteps, disconnect, pasteSteps, removeSteps, setStep, setWhen } from "../src/core/edits";
import {
  type Catalogue,
  type Component,
  type Pipeline,
  type Step,
  controlProblem,
  edgeProblem,
  edgesOf,
  freeName,
  groupsOf,
  nameProblem,
  openParams,
  orderOf,
  stepsOf,
} from "../src/core/pipeline";
import { firstFields, formHints, formSchema, limitsOf, scalarOf, spokenSchema } from "../src/core/schema";
import { speak } from "../src/i18n/t";
import { byHand } from "./byHand";

const ACCEPTS: Record<string, string[]> = { table: ["dataset", "table"] };

function component(name: string, inputs: Record<string, string>, outputs: Record<string, string>): Component {
  const port = ([portName, type]: [string, string]) => ({
    name: portName,
    type: type.replace("*", ""),
    required: true,
    many: type.endsWith("*"),
    accepts: ACCEPTS[type] ?? [type.replace("*", "")],
  });
  return {
    name,
    title: name,
    group: "Data",
    help: "",
    inputs: Object.entries(inputs).map(port),
    outputs: Object.entries(outputs).map(port),
    resources: { gpus: 0, cpus: 1, memory_gb: 2 },
    config_schema: {},
  };
}

const catalogue: Catalogue = new Map(
  [
    component("delta_table", {}, { table: "table" }),
    component("build_dataset", { table: "table" }, { dataset: "dataset", quarantine: "table" }),
    component("fine_tune", { dataset: "dataset" }, { model: "model" }),
    component("distill", { dataset: "dataset", teacher: "model" }, { model: "model" }),
    component("evaluate", { dataset: "dataset", models: "model*" }, { report: "report" }),
    component("gate", { challenger: "model" }, { verdict: "verdict" }),
  ].map((item) => [item.name, item]),
);

const pipeline: Pipeline = {
  pipeline: "p",
  steps: {
    raw: { component: "delta_table", config: { uri: "/t" } },
    dataset: { component: "build_dataset", inputs: { table: "raw.table" } },
    teacher: { component: "fine_tune", inputs: { dataset: "dataset.dataset" } },
    student: { component: "distill", inputs: { dataset: "dataset.dataset", teacher: "teacher.model" } },
    report: { component: "evaluate", inputs: { dataset: "dataset.dataset", models: ["teacher.model", "student.model"] } },
  },
};
const steps = stepsOf(pipeline);

const edge = (text: string) => {
  const [source = "", sink = ""] = text.split(" > ");
  const [origin = "", originPort = ""] = source.split(".");
  const [target = "", targetPort = ""] = sink.split(".");
  return { origin, originPort, target, targetPort };
};

describe("edges", () => {
  it.each([
    ["raw.table > teacher.dataset", "input dataset takes a dataset; raw.table is a table"],
    ["student.model > student.teacher", "a step cannot feed itself"],
    ["student.model > report.models", "this edge is there already"],
    ["raw.table > raw.nothing", "an edge runs from an output to an input"],
    ["nobody.table > dataset.table", "an edge runs from an output to an input"],
  ])("%s is refused: %s", (text, reason) => {
    expect(edgeProblem(steps, catalogue, edge(text))).toBe(reason);
  });

  it("a cycle is refused with its way", () => {
    const looped = { ...pipeline, steps: { ...(pipeline.steps as JsonObject), again: { component: "build_dataset", inputs: {} } } };
    const withAgain = connect(looped, edge("dataset.quarantine > again.table"), false);
    expect(edgeProblem(stepsOf(withAgain), catalogue, edge("again.dataset > dataset.table"))).toBe(
      "a pipeline has no cycles: dataset → again → dataset",
    );
  });

  it("a dataset is a table", () => {
    const two = addStep(pipeline, catalogue, "build_dataset").pipeline;
    expect(edgeProblem(stepsOf(two), catalogue, edge("dataset.dataset > build_dataset.table"))).toBeNull();
  });

  it("an input that takes one edge loses the one it had; one that takes several keeps them", () => {
    const one = connect(pipeline, edge("student.model > student.teacher"), false);
    expect(stepsOf(one).get("student")?.inputs.teacher).toEqual(["student.model"]);
    const without = disconnect(pipeline, [edge("teacher.model > report.models")]);
    expect(stepsOf(without).get("report")?.inputs.models).toEqual(["student.model"]);
    const several = connect(without, edge("teacher.model > report.models"), true);
    expect(stepsOf(several).get("report")?.inputs.models).toEqual(["student.model", "teacher.model"]);
  });
});

describe("steps", () => {
  it("a new step takes a free name, and what its neighbour yields", () => {
    const { pipeline: added, id } = addStep(pipeline, catalogue, "fine_tune", "dataset");
    expect(id).toBe("fine_tune");
    expect(stepsOf(added).get(id)?.inputs).toEqual({ dataset: ["dataset.dataset"] });
    expect(addStep(added, catalogue, "fine_tune").id).toBe("fine_tune_2");
    expect(freeName("a_2", ["a_2", "a"])).toBe("a_3");
  });

  it.each([["raw", "raw is taken already"], ["Raw", "a name has"], ["", "a name has"], ["a".repeat(64), "a name has"]])(
    "the name %j is refused",
    (name, reason) => {
      expect(nameProblem(name, steps.keys())).toContain(reason);
    },
  );

  it("removing steps removes their edges and leaves no empty inputs", () => {
    const left = stepsOf(removeSteps(pipeline, ["dataset", "teacher"]));
    expect([...left.keys()]).toEqual(["raw", "student", "report"]);
    expect(left.get("student")?.inputs).toEqual({});
    expect(left.get("report")?.inputs).toEqual({ models: ["student.model"] });
  });

  it("copies keep the edges among them, and those from steps that are there", () => {
    const { pipeline: pasted, ids } = pasteSteps(pipeline, copySteps(pipeline, ["teacher", "student"]));
    expect(ids).toEqual(["teacher_2", "student_2"]);
    expect(stepsOf(pasted).get("student_2")?.inputs).toEqual({ dataset: ["dataset.dataset"], teacher: ["teacher_2.model"] });
    const elsewhere = pasteSteps({ steps: {} }, copySteps(pipeline, ["teacher", "student"])).pipeline;
    expect(stepsOf(elsewhere).get("student")?.inputs).toEqual({ teacher: ["teacher.model"] });
  });

  it("junk in the text is no step and breaks nothing", () => {
    const junk = { steps: { a: null, b: [1], c: { component: 7, inputs: "x", config: [] }, d: { inputs: { e: { f: 1 } } } } } as never;
    expect([...stepsOf(junk).keys()]).toEqual(["c", "d"]);
    expect(edgesOf(stepsOf(junk))).toEqual([]);
    expect(stepsOf({ steps: [] as never }).size).toBe(0);
  });
});

it("a form's empty values are none, where the text has none either", () => {
  const before = { split: { test: 0.2 }, labels: ["a"] };
  const next = { split: { test: 0.3 }, labels: ["a"], options: {}, nested: { deep: {} }, text: undefined as never, gone: null };
  expect(cleaned(next, before)).toEqual({ split: { test: 0.3 }, labels: ["a"], gone: null });
  expect(setStep(pipeline, "raw", "config", {})).toEqual({
    ...pipeline,
    steps: { ...(pipeline.steps as JsonObject), raw: { component: "delta_table" } },
  });
});

it("a run asks for parameters that nobody has given a value, and not for its own date", () => {
  const params = { rate: { default: 0.1 }, data: {}, base: { description: "which" }, logical_date: { description: "as it was then" } };
  expect(openParams({ ...pipeline, params }, { data: "/t" })).toEqual(["base"]);
  expect(openParams({ ...pipeline, params: { logical_date: {} } }, {})).toEqual([]);
  expect(openParams(pipeline, {})).toEqual([]);
});

describe("forms of schemas", () => {
  it("null beside a type is a mark, plain unions are one field, the rest is YAML", () => {
    const schema = formSchema({
      properties: {
        near: { anyOf: [{ type: "number", minimum: 0.4 }, { type: "null" }], default: 0.5 },
        value: { anyOf: [{ type: "string" }, { type: "integer" }] },
        split: { $ref: "#/$defs/Split" },
        names: { type: "array", items: { type: "string" } },
        options: { type: "object", additionalProperties: { type: "string" } },
        either: { anyOf: [{ $ref: "#/$defs/Split" }, { type: "string" }] },
      },
      $defs: { Split: { type: "object", properties: { column: { type: "string" }, free: { type: "object" } } } },
    });
    expect((schema.properties as Record<string, unknown>).near).toEqual({ type: "number", minimum: 0.4, "x-nullable": true, default: 0.5 });
    expect(formHints(schema)).toEqual({
      near: {},
      value: {},
      split: { column: {}, free: { "ui:field": "YamlField" } },
      names: {},
      options: { "ui:field": "YamlField" },
      either: { "ui:field": "YamlField" },
    });
  });

  it.each([
    ["3", { type: "integer" }, 3],
    ["1e-3", { type: "number" }, 0.001],
    ["${rate}", { type: "number" }, "${rate}"],
    ["", { type: "number" }, undefined],
    ["3", { type: "string" }, "3"],
    ["3", { "x-scalar": true }, 3],
    ["true", { "x-scalar": true }, true],
    ["0x10", { type: "integer" }, "0x10"],
  ])("%j typed into %j is %j", (text, schema, value) => {
    expect(scalarOf(text, schema)).toBe(value);
  });

  it("titles and descriptions are said in the page's language, values are not", () => {
    const schema = (type: string, text: string, own: string) => ({
      properties: {
        // A field may have such a name, and a value such a text.
        title: { title: type, type: "string", enum: ["Type", "Text"], default: "Type" },
        description: { description: own, default: { title: "Type" } },
        either: { anyOf: [{ const: "Text", title: text }, { $ref: "#/$defs/Type" }], examples: [{ description: "Type" }] },
      },
      $defs: { Type: { title: type, required: ["title"] } },
    });
    speak({ Type: "类型", Text: "文本" });
    expect(spokenSchema(schema("Type", "Text", "A description of somebody's."))).toEqual(schema("类型", "文本", "A description of somebody's."));
    speak({});
    expect(spokenSchema(schema("Type", "Text", ""))).toEqual(schema("Type", "Text", ""));
  });

  it("shows first what is required, and what asks for it", () => {
    const properties = { labels: { "x-first": true }, columns: {}, signals: { "x-first": true }, seed: { default: 0 } };
    expect(firstFields({ properties, required: ["columns"] })).toEqual(["columns", "labels", "signals"]);
    expect(firstFields({})).toEqual([]);
  });

  it("limits are words", () => {
    expect(limitsOf({ minimum: 0, maximum: 1 })).toBe("0 to 1");
    expect(limitsOf({ exclusiveMinimum: 0 })).toBe("above 0");
    expect(limitsOf({ minimum: 0, exclusiveMaximum: 1 })).toBe("at least 0, below 1");
    expect(limitsOf({})).toBe("");
  });
});

describe("undo", () => {
  it("goes back and forth, and a new edit forgets what was undone", () => {
    let history = record(record(startOf("a"), "b"), "c");
    expect(undo(history).present).toBe("b");
    expect(redo(undo(history)).present).toBe("c");
    history = record(undo(history), "d");
    expect(redo(history).present).toBe("d");
    expect(undo(undo(undo(history))).present).toBe("a");
  });

  it("a merged edit is one step", () => {
    const history = record(record(startOf("a"), "ab"), "abc", true);
    expect(undo(history).present).toBe("a");
  });
});

const COMPONENTS = [...catalogue.keys()];

/** An edit that a person can make on the graph, from three numbers. */
function edited(before: Pipeline, [kind, first, second]: readonly [number, number, number]): Pipeline {
  const ids = [...stepsOf(before).keys()];
  const pick = (number: number) => ids[number % ids.length] ?? "";
  const actions = [
    () => addStep(before, catalogue, COMPONENTS[first % COMPONENTS.length] ?? "", pick(second)).pipeline,
    () => (ids.length > 1 ? removeSteps(before, [pick(first)]) : before),
    () => pasteSteps(before, copySteps(before, [pick(first), pick(second)])).pipeline,
    () => setStep(before, pick(first), "config", { value: second }),
    () => groupSteps(before, new Set([pick(first), pick(second), pick(first + second)])).pipeline,
    () => moveSteps(before, [pick(first)], [...groupsOf(before).keys()][second % 3] ?? null),
    () => {
      const [name] = groupsOf(before).keys();
      return name === undefined ? before : setForEach(before, name, second % 3 ? { variable: "topic", values: [first, "b"] } : null);
    },
    () => {
      const control = { origin: pick(first), target: pick(second), verdict: second % 2 ? ("accepted" as const) : ("refused" as const) };
      if (controlProblem(stepsOf(before), catalogue, control) !== null) return before;
      return setWhen(before, control.target, control.origin, control.verdict);
    },
    () => {
      const candidates = COMPONENTS.flatMap((name) => catalogue.get(name)?.outputs ?? []).map((port) => port.name);
      const wanted = edge(`${pick(first)}.${candidates[second % candidates.length] ?? ""} > ${pick(second)}.${second % 2 ? "dataset" : "models"}`);
      return edgeProblem(stepsOf(before), catalogue, wanted) === null ? connect(before, wanted, second % 2 === 0) : before;
    },
  ];
  return actions[kind % actions.length]?.() ?? before;
}

it("1,000 chains of edits: the text says what the graph says, and undo gives each text back", () => {
  const numbers = fc.tuple(fc.nat(40), fc.nat(20), fc.nat(20));
  fc.assert(
    fc.property(fc.array(numbers, { maxLength: 8 }), fc.nat(), (edits, style) => {
      let value = pipeline;
      const texts = [byHand(reconcile("# by hand\n", pipeline).replace(/ \{models: (.*)\}/, "\n      models: $1"), style)];
      let history = startOf(texts[0] ?? "");
      for (const change of edits) {
        value = edited(value, change);
        history = record(history, reconcile(history.present, value));
        if (history.present !== texts.at(-1)) texts.push(history.present);
        expect(readText(history.present).value).toEqual(value);
      }
      for (const text of texts.toReversed()) {
        expect(history.present).toBe(text);
        history = undo(history);
      }
    }),
    { numRuns: 1000 },
  );
});

it("no two steps stand on one another, no frame on another or on a step outside, and every edge runs to the right", () => {
  const random = fc.array(fc.tuple(fc.nat(40), fc.nat(40), fc.nat(40)), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(random, (edits) => {
      const made = edits.reduce((before, change) => edited(before, change), pipeline);
      const [value, groups] = [stepsOf(made), groupsOf(made)];
      const places = arrange(value, catalogue, groups);
      expect(places.size).toBe(value.size);
      const boxes = [...value].map(([id, step]) => ({ ...places.get(id)!, height: nodeHeight(step, catalogue) }));
      boxes.forEach((box, index) => {
        for (const other of boxes.slice(index + 1)) {
          const apart = Math.abs(box.x - other.x) >= NODE_WIDTH || box.y + box.height <= other.y || other.y + other.height <= box.y;
          expect(apart).toBe(true);
        }
      });
      const frames = [...framesOf({ steps: value, groups, catalogue, places })];
      frames.forEach(([name, frame], index) => {
        const outside = [...value].filter(([, step]) => step.group !== name);
        const others = outside.map(([id, step]) => ({ ...places.get(id)!, width: NODE_WIDTH, height: nodeHeight(step, catalogue) }));
        for (const other of [...others, ...frames.slice(index + 1).map(([, box]) => box)]) {
          const apart =
            frame.x + frame.width <= other.x ||
            other.x + other.width <= frame.x ||
            frame.y + frame.height <= other.y ||
            other.y + other.height <= frame.y;
          expect(apart).toBe(true);
        }
      });
      for (const { origin, target } of orderOf(value)) {
        if (!value.has(origin)) continue;
        const [from, to] = [places.get(origin)!, places.get(target)!];
        const isInNextRow = from.y + nodeHeight(value.get(origin)!, catalogue) < to.y;
        expect(from.x < to.x || isInNextRow).toBe(true);
      }
    }),
    { numRuns: 200 },
  );
});

describe("rows", () => {
  const chain = (length: number): Map<string, Step> =>
    stepsOf({
      steps: Object.fromEntries(
        Array.from({ length }, (_, index) => [`s${index}`, index === 0 ? { component: "delta_table" } : { component: "build_dataset", inputs: { table: `s${index - 1}.dataset` } }]),
      ),
    });
  const sizeOf = (steps: Map<string, Step>) => {
    const places = [...arrange(steps, catalogue).values()];
    return { width: Math.max(...places.map(({ x }) => x)) + NODE_WIDTH, height: Math.max(...places.map(({ y }) => y)) + 100 };
  };

  it("ten steps in a row fit a screen of 1440 x 900, and can be read", () => {
    const { width, height } = sizeOf(chain(10));
    expect(Math.min(800 / width, 620 / height)).toBeGreaterThan(0.7);
  });

  it("a short flow is one row", () => {
    expect(sizeOf(chain(3)).width).toBe(3 * NODE_WIDTH + 2 * 60);
  });
});
