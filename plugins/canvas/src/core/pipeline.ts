/** A pipeline as the graph sees it, and what can be drawn in it. */

import { type Json, type JsonObject, isObject } from "./value";
import { t } from "../i18n/t";

export interface Port {
  name: string;
  type: string;
  required: boolean;
  many: boolean;
  /** Types of outputs that an edge may come from: a dataset is a table, too. */
  accepts: string[];
}

export interface Component {
  name: string;
  title: string;
  group: string;
  help: string;
  inputs: Port[];
  outputs: Port[];
  resources: { gpus: number; cpus: number; memory_gb: number };
  /** JSON Schema of the configuration. */
  config_schema: Record<string, unknown>;
}

export type Catalogue = ReadonlyMap<string, Component>;

export interface Step {
  component: string;
  /** Sources (`STEP.PORT`) by input port. */
  inputs: Record<string, string[]>;
  config: JsonObject;
  retries: number | null;
  /** What it waits for: which verdict, by the step that gives it. */
  when: Record<string, Verdict>;
  group: string | null;
  /** Variable for whose values the step's group is copied; null: there is one of it. */
  variable: string | null;
}

export type Verdict = "accepted" | "refused";

/** Steps that belong together; with a variable, there is a copy of them for each value. */
export interface Group {
  description: string;
  /** Those of its steps that are there. */
  steps: string[];
  variable: string | null;
  values: Json[];
}

export interface Edge {
  origin: string;
  originPort: string;
  target: string;
  targetPort: string;
}

/** The target runs only if the origin's verdict is as said. */
export interface Control {
  origin: string;
  verdict: Verdict;
  target: string;
}

/** What a text stands for: any mapping; the parts of it that are a pipeline's are read by the functions here. */
export type Pipeline = JsonObject;

export const VERDICTS: readonly Verdict[] = ["accepted", "refused"];

/** What a step, a group, a parameter or a variable may be called. */
export const NAME = /^[a-z][a-z0-9_]{0,62}$/;

/** Return the steps that have the shape of one; what else stands there is left to validation. */
export function stepsOf(pipeline: Pipeline): Map<string, Step> {
  const steps = new Map<string, Step>();
  const groupOf = new Map<string, [string, Group]>();
  for (const [name, group] of groupsOf(pipeline)) for (const id of group.steps) groupOf.set(id, [name, group]);
  for (const [id, value] of Object.entries(rawSteps(pipeline))) {
    if (!isObject(value)) continue;
    const [group = null, { variable } = { variable: null }] = groupOf.get(id) ?? [];
    const when = Object.entries(isObject(value.when) ? value.when : {}).filter(([, verdict]) => isVerdict(verdict));
    const inputs: Record<string, string[]> = {};
    for (const [port, sources] of Object.entries(isObject(value.inputs) ? value.inputs : {})) {
      inputs[port] = (Array.isArray(sources) ? sources : [sources]).filter((source) => typeof source === "string");
    }
    steps.set(id, {
      component: typeof value.component === "string" ? value.component : "",
      inputs,
      config: isObject(value.config) ? (value.config) : {},
      retries: typeof value.retries === "number" ? value.retries : null,
      when: Object.fromEntries(when) as Record<string, Verdict>,
      group,
      variable,
    });
  }
  return steps;
}

/** Return the groups; a step in two of them counts for the first, and validation says so. */
export function groupsOf(pipeline: Pipeline): Map<string, Group> {
  const groups = new Map<string, Group>();
  const left = new Set(Object.keys(rawSteps(pipeline)));
  for (const [name, value] of Object.entries(rawGroups(pipeline))) {
    if (!isObject(value)) continue;
    const listed = Array.isArray(value.steps) ? value.steps : [];
    const [variable = null, values = []] = Object.entries(isObject(value.for_each) ? value.for_each : {})[0] ?? [];
    groups.set(name, {
      description: typeof value.description === "string" ? value.description : "",
      steps: listed.filter((id): id is string => typeof id === "string" && left.delete(id)),
      variable,
      values: Array.isArray(values) ? values : [values],
    });
  }
  return groups;
}

function isVerdict(value: unknown): value is Verdict {
  return value === "accepted" || value === "refused";
}

export function controlsOf(steps: ReadonlyMap<string, Step>): Control[] {
  return [...steps].flatMap(([target, { when }]) =>
    Object.entries(when).map(([origin, verdict]) => ({ origin, verdict, target })),
  );
}

export function edgesOf(steps: ReadonlyMap<string, Step>): Edge[] {
  const edges: Edge[] = [];
  for (const [target, step] of steps) {
    for (const [targetPort, sources] of Object.entries(step.inputs)) {
      for (const source of sources) {
        const [origin = "", originPort = ""] = source.split(".");
        edges.push({ origin, originPort, target, targetPort });
      }
    }
  }
  return edges;
}

/** Return why a name cannot be a step's, or null. */
export function nameProblem(name: string, taken: Iterable<string>): string | null {
  if (!NAME.test(name)) return t("a name has at most 63 of a-z, 0-9 and _, and begins with a letter");
  if (new Set(taken).has(name)) return t("{name} is taken already", { name });
  return null;
}

/** Return why an edge cannot be drawn, or null. */
export function edgeProblem(steps: ReadonlyMap<string, Step>, catalogue: Catalogue, edge: Edge): string | null {
  const source = portOf(steps, catalogue, edge.origin, edge.originPort, "outputs");
  const sink = portOf(steps, catalogue, edge.target, edge.targetPort, "inputs");
  if (!source || !sink) return t("an edge runs from an output to an input");
  if (edge.origin === edge.target) return t("a step cannot feed itself");
  if (!accepts(sink, source)) {
    return t("input {input} takes a {type}; {output} is a {other}", { input: sink.name, type: sink.type, output: `${edge.origin}.${source.name}`, other: source.type });
  }
  const present = steps.get(edge.target)?.inputs[edge.targetPort] ?? [];
  if (present.includes(`${edge.origin}.${edge.originPort}`)) return t("this edge is there already");
  const from = steps.get(edge.origin);
  if (from?.variable != null && from.group !== steps.get(edge.target)?.group && !sink.many) {
    return t("{origin} is there for each {variable}; {input} takes one: use an input for several, or put {target} into {group}", {
      origin: edge.origin,
      variable: from.variable,
      input: sink.name,
      target: edge.target,
      group: from.group,
    });
  }
  return cycleProblem(steps, edge.origin, edge.target);
}

/** Return why a step cannot wait for a verdict, or null. */
export function controlProblem(steps: ReadonlyMap<string, Step>, catalogue: Catalogue, control: Control): string | null {
  const [gate, target] = [steps.get(control.origin), steps.get(control.target)];
  if (!gate || !target) return t("a branch runs from a gate to a step");
  if (control.origin === control.target) return t("a step cannot wait for itself");
  if (!hasVerdict(gate, catalogue)) return t("{step} gives no verdict: a branch begins at a gate", { step: control.origin });
  if (target.when[control.origin] === control.verdict) return t("this branch is there already");
  if (gate.variable !== null && gate.group !== target.group) {
    return t("{origin} is there for each {variable}: only steps of {group} can wait for it", { origin: control.origin, variable: gate.variable, group: gate.group });
  }
  return cycleProblem(steps, control.origin, control.target);
}

export function hasVerdict(step: Step, catalogue: Catalogue): boolean {
  return catalogue.get(step.component)?.outputs.some((port) => port.type === "verdict") ?? false;
}

function cycleProblem(steps: ReadonlyMap<string, Step>, origin: string, target: string): string | null {
  const order = orderOf(steps);
  const way = pathBetween(order, target, origin);
  if (way) return t("a pipeline has no cycles: {way}", { way: [...way, target].join(" → ") });
  // Airflow shows a group as one node, so what holds for steps holds for groups.
  const nodeOf = (id: string): string => steps.get(id)?.group ?? id;
  const [from, to] = [nodeOf(target), nodeOf(origin)];
  const around = from === to ? null : pathBetween(order.map((pair) => ({ origin: nodeOf(pair.origin), target: nodeOf(pair.target) })), from, to);
  return around ? t("no path leaves a group and comes back: {way}", { way: [...around, from].join(" → ") }) : null;
}

export function accepts(sink: Port, source: Port): boolean {
  return sink.accepts.includes(source.type);
}

export function portOf(
  steps: ReadonlyMap<string, Step>,
  catalogue: Catalogue,
  step: string,
  port: string,
  side: "inputs" | "outputs",
): Port | undefined {
  const component = catalogue.get(steps.get(step)?.component ?? "");
  return component?.[side].find((item) => item.name === port);
}

/** Return which step comes after which: along the edges, and along the branches. */
export function orderOf(steps: ReadonlyMap<string, Step>): { origin: string; target: string }[] {
  return [...edgesOf(steps), ...controlsOf(steps)];
}

/** Return the way from one to another along an order, both included; null if there is none. */
function pathBetween(order: readonly { origin: string; target: string }[], from: string, to: string): string[] | null {
  const after = new Map<string, string[]>();
  for (const { origin, target } of order) after.set(origin, [...(after.get(origin) ?? []), target]);
  const cameFrom = new Map<string, string | null>([[from, null]]);
  const queue = [from];
  for (let step = queue.shift(); step !== undefined; step = queue.shift()) {
    if (step === to) {
      const way: string[] = [];
      for (let at: string | null = step; at !== null; at = cameFrom.get(at) ?? null) way.unshift(at);
      return way;
    }
    for (const next of after.get(step) ?? []) {
      if (cameFrom.has(next)) continue;
      cameFrom.set(next, step);
      queue.push(next);
    }
  }
  return null;
}

export function freeName(base: string, taken: Iterable<string>): string {
  const names = new Set(taken);
  const stem = base.replace(/_\d+$/, "").slice(0, 58);
  if (!names.has(base)) return base;
  for (let number = 2; ; number += 1) if (!names.has(`${stem}_${number}`)) return `${stem}_${number}`;
}

export function rawSteps(pipeline: Pipeline): JsonObject {
  return isObject(pipeline.steps) ? (pipeline.steps) : {};
}

export function rawGroups(pipeline: Pipeline): JsonObject {
  return isObject(pipeline.groups) ? (pipeline.groups) : {};
}

/** Whether a value is a mapping, which is all that the functions here ask of a pipeline. */
export function isPipeline(value: unknown): value is Pipeline {
  return isObject(value);
}

/** Return the step that says how good a run's model is: the last gate, else the last step that makes a report. */
export function resultStep(steps: ReadonlyMap<string, Step>, catalogue: Catalogue): string | undefined {
  for (const type of ["verdict", "report"]) {
    const found = [...steps].findLast(([, step]) => catalogue.get(step.component)?.outputs.some((port) => port.type === type));
    if (found) return found[0];
  }
  return undefined;
}

/** The parameter that is the date of the run where nobody gives it a value. */
const RUN_DATE = "logical_date";

/** Return the parameters that a run cannot start without: neither the pipeline nor the deployment has a value for them. */
export function openParams(pipeline: Pipeline, deployed: Readonly<Record<string, string>>): string[] {
  const params = isObject(pipeline.params) ? pipeline.params : {};
  return Object.entries(params)
    .filter(([name, param]) => name !== RUN_DATE && !(isObject(param) && param.default != null) && !(name in deployed))
    .map(([name]) => name);
}
