import { describe, expect, it } from "vitest";

import { connectionProblem } from "../src/canvas/edges";
import { readText, reconcile } from "../src/core/document";
import { addStep, copySteps, pasteSteps, removeSteps, setWhen } from "../src/core/edits";
import { framesOf, groupAt, groupsAfterMove } from "../src/core/frames";
import {
  describeGroup,
  groupKey,
  groupSteps,
  labelsBefore,
  moveSteps,
  onlyStep,
  plainValue,
  setForEach,
  shownValue,
  stepsIn,
  ungroup,
  valuesIn,
} from "../src/core/groups";
import { arrange, placesOfCopies } from "../src/core/layout";
import { type Catalogue, type Component, type Pipeline, controlsOf, edgeProblem, groupsOf, stepsOf } from "../src/core/pipeline";
import { groupOfProblem } from "../src/core/problems";
import { type Json, type JsonObject } from "../src/core/value";
import { type TaskRun, countsText, foldedRun, foldedRuns, runWord } from "../src/run/state";

function component(name: string, inputs: string, outputs: string): Component {
  const ports = (text: string) =>
    text.split(" ").filter(Boolean).map((port) => {
      const [portName = "", type = ""] = port.split(":");
      const plain = type.replace("*", "");
      return { name: portName, type: plain, required: true, many: type.endsWith("*"), accepts: [plain] };
    });
  return {
    name,
    title: name,
    group: "Train",
    help: "",
    inputs: ports(inputs),
    outputs: ports(outputs),
    resources: { gpus: 0, cpus: 1, memory_gb: 2 },
    config_schema: {},
  };
}

const catalogue: Catalogue = new Map(
  [
    component("build_dataset", "", "dataset:dataset"),
    component("train_heads", "dataset:dataset", "heads:heads"),
    component("pick_signal", "heads:heads", "model:model"),
    component("gate", "challenger:model", "verdict:verdict"),
    component("promote", "verdict:verdict", "champion:model"),
    component("fine_tune", "dataset:dataset", "model:model"),
    component("evaluate", "models:model*", "report:report"),
    component("distill", "teacher:model", "model:model"),
  ].map((item) => [item.name, item]),
);

const TEXT = `pipeline: desks
groups:
  each_topic:
    steps: [picked, verdict, champion]
    for_each: {topic: [grain, crude]}
steps:
  dataset:
    component: build_dataset
    config: {labels: [grain, crude, earn, "\${label}"]}

  heads: {component: train_heads, inputs: {dataset: dataset.dataset}}

  picked:
    component: pick_signal
    inputs: {heads: heads.heads}
    config: {signal: "\${topic}"}  # one a topic

  verdict: {component: gate, inputs: {challenger: picked.model}, config: {name: "\${topic}_champion"}}

  champion: {component: promote, inputs: {verdict: verdict.verdict}}

  report: {component: evaluate, inputs: {models: [picked.model]}}
  student: {component: distill}
  first: {component: gate}
  fallback:
    component: fine_tune
    inputs: {dataset: dataset.dataset}
    when: {first: refused}
`;
const pipeline = readText(TEXT).value as Pipeline;
const steps = stepsOf(pipeline);
const groups = groupsOf(pipeline);
const edit = (change: (value: Pipeline) => Pipeline) => reconcile(TEXT, change(pipeline));

describe("what can be drawn", () => {
  const draw = (source: string, sourceHandle: string, target: string, targetHandle: string) =>
    connectionProblem(steps, catalogue, { source, sourceHandle, target, targetHandle });

  it("reads groups, and the branches", () => {
    expect(groups.get("each_topic")).toEqual({ description: "", steps: ["picked", "verdict", "champion"], variable: "topic", values: ["grain", "crude"] });
    expect(steps.get("picked")).toMatchObject({ group: "each_topic", variable: "topic", when: {} });
    expect(controlsOf(steps)).toEqual([{ origin: "first", verdict: "refused", target: "fallback" }]);
  });

  it("all copies go to an input for several, and to no other", () => {
    expect(edgeProblem(steps, catalogue, { origin: "champion", originPort: "champion", target: "report", targetPort: "models" })).toBeNull();
    expect(draw("picked", "model", "student", "teacher")).toBe(
      "picked is there for each topic; teacher takes one: use an input for several, or put student into each_topic",
    );
    const inside = stepsOf(moveSteps(pipeline, ["student"], "each_topic"));
    expect(edgeProblem(inside, catalogue, { origin: "picked", originPort: "model", target: "student", targetPort: "teacher" })).toBeNull();
  });

  it.each([
    ["heads", "when:accepted", "fallback", "when:", "heads gives no verdict: a branch begins at a gate"],
    ["heads", "heads", "fallback", "when:", "heads gives no verdict: a branch begins at a gate"],
    ["first", "verdict", "student", "when:", "a branch begins at “if accepted” or “if refused” of a gate"],
    ["first", "when:accepted", "student", "teacher", "a branch ends beside the name of a step"],
    ["first", "when:refused", "fallback", "when:", "this branch is there already"],
    ["first", "when:refused", "first", "when:", "a step cannot wait for itself"],
    ["verdict", "when:refused", "picked", "when:", "a pipeline has no cycles: picked → verdict → picked"],
    ["verdict", "when:refused", "student", "when:", "verdict is there for each topic: only steps of each_topic can wait for it"],
    ["first", "when:accepted", "fallback", "when:", null],
    ["first", "when:accepted", "picked", "when:", null],
    ["verdict", "when:accepted", "champion", "when:", null],
  ])("from %s %s to %s %s: %s", (source, sourceHandle, target, targetHandle, problem) => {
    expect(draw(source, sourceHandle, target, targetHandle)).toBe(problem);
  });

  it("no way leads out of a group and back", () => {
    const split = setWhen(groupSteps(pipeline, new Set(["first", "student"])).pipeline, "report", "first", "accepted");
    expect(edgeProblem(stepsOf(split), catalogue, { origin: "champion", originPort: "champion", target: "student", targetPort: "teacher" })).toContain("champion is there for each topic");
    const edge = { origin: "fallback", originPort: "model", target: "student", targetPort: "teacher" };
    expect(edgeProblem(steps, catalogue, edge)).toBeNull();
    expect(edgeProblem(stepsOf(split), catalogue, edge)).toBe("no path leaves a group and comes back: group → fallback → group");
  });

  it("a branch counts for cycles of edges", () => {
    const looped = stepsOf(setWhen(pipeline, "dataset", "first", "accepted"));
    expect(edgeProblem(looped, catalogue, { origin: "fallback", originPort: "model", target: "first", targetPort: "challenger" })).toContain("no cycles");
  });
});

describe("edits in the text", () => {
  it("a new group stands before the steps, and taking it away gives the text back", () => {
    const plain = edit((value) => ungroup(value, ["each_topic"]));
    expect(plain).toBe(TEXT.replace(/groups:\n(?: .*\n)*/, ""));
    const made = groupSteps(readText(plain).value as Pipeline, new Set(["verdict", "picked"]));
    const grouped = reconcile(plain, setForEach(made.pipeline, made.name, { variable: "topic", values: ["grain", 7, true, "no"] }));
    expect(grouped).toBe(
      plain.replace("steps:", 'groups:\n  group:\n    steps: [picked, verdict]\n    for_each: {topic: [grain, 7, true, "no"]}\nsteps:'),
    );
    expect(reconcile(grouped, ungroup(readText(grouped).value as Pipeline, ["group"]))).toBe(plain);
  });

  it("steps join and leave; a group that loses its last one goes", () => {
    expect(edit((value) => moveSteps(value, ["heads"], "each_topic"))).toBe(TEXT.replace("champion]\n", "champion, heads]\n"));
    expect(edit((value) => moveSteps(value, ["verdict"], null))).toBe(TEXT.replace("picked, verdict,", "picked,"));
    const emptied = removeSteps(pipeline, ["picked", "verdict", "champion"]);
    expect(emptied).not.toHaveProperty("groups");
    expect(moveSteps(pipeline, ["heads"], null)).toEqual(pipeline);
  });

  it("a step moves from one group to another", () => {
    const { pipeline: two, name } = groupSteps(pipeline, new Set(["report", "champion"]));
    expect(groupsOf(two).get(name)?.steps).toEqual(["champion", "report"]);
    expect(groupsOf(two).get("each_topic")?.steps).toEqual(["picked", "verdict"]);
  });

  it("branches are written and taken away", () => {
    expect(edit((value) => setWhen(value, "fallback", "first", "accepted"))).toBe(TEXT.replace("refused", "accepted"));
    expect(edit((value) => setWhen(value, "fallback", "first", undefined))).toBe(TEXT.replace("    when: {first: refused}\n", ""));
    expect(edit((value) => setWhen(value, "student", "first", "accepted"))).toContain(
      "  student: {component: distill, when: {first: accepted}}\n",
    );
    expect(edit((value) => removeSteps(value, ["first"]))).not.toContain("when");
  });

  it("another name of the variable, in the configurations too", () => {
    const after = edit((value) => setForEach(value, "each_topic", { variable: "desk", values: ["grain"] }));
    expect(after).toBe(TEXT.replace("{topic: [grain, crude]}", "{desk: [grain]}").replaceAll("${topic}", "${desk}"));
    expect(edit((value) => setForEach(value, "each_topic", null))).toBe(TEXT.replace("    for_each: {topic: [grain, crude]}\n", ""));
  });

  it("a description", () => {
    const after = edit((value) => describeGroup(value, "each_topic", "One model: each topic"));
    expect(after).toContain('description: "One model: each topic"');
    expect(reconcile(after, describeGroup(readText(after).value as Pipeline, "each_topic", ""))).toBe(TEXT);
  });
});

describe("copies", () => {
  it("of a whole group are a group with its values, edges and branches among themselves", () => {
    const inside = setWhen(pipeline, "champion", "verdict", "accepted");
    const { pipeline: pasted, ids, groups: made } = pasteSteps(inside, copySteps(inside, stepsIn(groups, [groupKey("each_topic")])));
    expect(ids).toEqual(["picked_2", "verdict_2", "champion_2"]);
    expect(made).toEqual(["each_topic_2"]);
    expect((pasted.groups as JsonObject).each_topic_2).toEqual({ steps: ids, for_each: { topic: ["grain", "crude"] } });
    expect(stepsOf(pasted).get("champion_2")).toMatchObject({ when: { verdict_2: "accepted" }, inputs: { verdict: ["verdict_2.verdict"] } });
    expect(stepsOf(pasted).get("picked_2")?.inputs).toEqual({ heads: ["heads.heads"] });
  });

  it("of a step of a group join it; elsewhere they are free, and without what is not there", () => {
    const clipboard = copySteps(pipeline, ["picked", "fallback"]);
    expect(stepsOf(pasteSteps(pipeline, clipboard).pipeline).get("picked_2")?.group).toBe("each_topic");
    const elsewhere = pasteSteps({ steps: {} }, clipboard).pipeline;
    expect(elsewhere).toEqual({
      steps: { picked: { component: "pick_signal", config: { signal: "${topic}" } }, fallback: { component: "fine_tune" } },
    });
  });

  it("a step behind one of a group joins the group", () => {
    const { pipeline: added, id } = addStep(pipeline, catalogue, "distill", "picked");
    expect(stepsOf(added).get(id)).toMatchObject({ group: "each_topic", inputs: { teacher: ["picked.model"] } });
  });

  it("stand where nothing else stands, as the originals do to one another", () => {
    const places = arrange(steps, catalogue, groups);
    const copied = placesOfCopies(steps, catalogue, places, new Map([["picked", "p"], ["verdict", "v"]]));
    const [from, to] = [places.get("picked")!, copied.get("p")!];
    expect(copied.get("v")!.y - to.y).toBe(places.get("verdict")!.y - from.y);
    expect(to.x).toBe(from.x);
    for (const [, place] of places) expect(place.x !== to.x || Math.abs(place.y - to.y) > 60).toBe(true);
  });
});

describe("frames", () => {
  const places = arrange(steps, catalogue, groups);
  const picture = { steps, groups, catalogue, places, collapsed: new Set<string>() };
  const frame = framesOf(picture).get("each_topic")!;
  const after = (moves: Record<string, { x: number; y: number }>) =>
    Object.fromEntries(groupsAfterMove(Object.keys(moves), picture, new Map([...places, ...Object.entries(moves)])));
  const inside = { x: frame.x + 30, y: frame.y + 50 };
  const away = { x: frame.x, y: frame.y + frame.height + 500 };

  it("a step that comes into a frame joins, one that goes out leaves, a little way changes nothing", () => {
    expect(after({ report: inside })).toEqual({ report: "each_topic" });
    expect(after({ picked: away })).toEqual({ picked: null });
    expect(after({ picked: { x: frame.x - 20, y: frame.y + 20 } })).toEqual({});
    expect(after({ report: away })).toEqual({});
  });

  it("a group all of whose steps move stays one; a collapsed one takes nothing", () => {
    expect(after({ picked: away, verdict: away, champion: away })).toEqual({});
    const collapsed = { ...picture, collapsed: new Set(["each_topic"]) };
    expect(groupsAfterMove(["report"], collapsed, new Map([...places, ["report", inside]])).size).toBe(0);
  });

  it("a point is in a frame or in none", () => {
    expect(groupAt(inside, framesOf(picture))).toBe("each_topic");
    expect(groupAt(away, framesOf(picture))).toBeNull();
  });
});

describe("values", () => {
  it.each([
    ["grain, crude\nearn", ["grain", "crude", "earn"]],
    ['"a b";\t\'c\'', ["a b", "c"]],
    ["1, 2.5, -3, 007, true, 1e5", [1, 2.5, -3, "007", true, "1e5"]],
    [" , \n", []],
  ])("%j are %j", (text, values) => {
    expect(valuesIn(text)).toEqual(values);
  });

  it("labels of the datasets before a group are offered", () => {
    expect(labelsBefore(steps, "each_topic")).toEqual(["grain", "crude", "earn"]);
  });
});

it("one selected step is one; a group, or two, are none", () => {
  expect(onlyStep(new Set(["a"]))).toBe("a");
  expect(onlyStep(new Set([groupKey("a")]))).toBeNull();
  expect(onlyStep(new Set(["a", "b"]))).toBeNull();
});

it("problems of groups are known by their path", () => {
  expect(groupOfProblem({ step: null, path: "groups.each_topic.for_each.topic.1" })).toBe("each_topic");
  expect(groupOfProblem({ step: null, path: "groups" })).toBeNull();
  expect(groupOfProblem({ step: "groups", path: "steps.groups" })).toBeNull();
});

describe("runs", () => {
  const task = (name: string, value: string | null, state: string, line = ""): TaskRun => ({
    task: name,
    value,
    state,
    duration: 1.5,
    line,
    told: line,
    isReused: false,
    runUrl: "",
    logUrl: "",
    attempt: 1,
  });

  it("of copies are folded, the worst first", () => {
    const tasks = [task("a__x", "x", "success", "98 %"), task("a__y", "y", "failed"), task("a__z", "z", "running", "40 %")];
    const run = foldedRun(tasks);
    expect(run).toMatchObject({ state: "failed", done: 1, line: "z: 40 %" });
    expect(run.tasks.map(({ value }) => value)).toEqual(["y", "z", "x"]);
    expect(runWord(run)).toBe("failed 1/3");
    expect(countsText(run.tasks)).toBe("1 failed, 1 running, 1 done");
  });

  it("a skipped copy is not a bad one", () => {
    expect(runWord(foldedRun([task("a__x", "x", "skipped"), task("a__y", "y", "success")]))).toBe("done 1/2");
    expect(runWord(foldedRun([task("a", null, "skipped")]))).toBe("skipped");
  });

  it("of a step that is there once say how long it took", () => {
    const runs = foldedRuns([["a", task("a", null, "success", "12 rows")], ["b", task("b__x", "x", "")]]);
    expect(runWord(runs.get("a")!)).toBe("done 1.5 s");
    expect(runs.get("a")?.line).toBe("12 rows");
    expect([...runs.keys()]).toEqual(["a", "b"]);
  });
});

describe("a field for a value", () => {
  it.each([
    ["0.05", 0.05],
    ["1.05", 1.05],
    ["-0.5", -0.5],
    ["10", 10],
    ["007", "007"],
    ["true", true],
    ["a text", "a text"],
  ])("shows %j as it is typed", (text, value) => {
    let [typed, meant] = ["", undefined as Json | undefined];
    for (const letter of text) {
      typed = shownValue(typed, meant) + letter;
      meant = plainValue(typed);
    }
    expect([shownValue(typed, meant), meant]).toEqual([text, value]);
  });

  it("shows the value where another one came to be", () => {
    expect(shownValue("0.0", 0)).toBe("0.0");
    expect(shownValue("0.0", 2)).toBe("2");
    expect(shownValue("0.0", undefined)).toBe("");
  });
});
