/** A pipeline as the graph sees it, and the edits that a graph can make. Every edit returns a new value. */

import { type Json, type JsonObject, isObject } from "./value";

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
}

export interface Edge {
  origin: string;
  originPort: string;
  target: string;
  targetPort: string;
}

/** What a text stands for: any mapping; the parts of it that are a pipeline's are read by the functions here. */
export type Pipeline = JsonObject;

export interface Clipboard {
  steps: Record<string, JsonObject>;
}

const NAME = /^[a-z][a-z0-9_]{0,62}$/;

/** Return the steps that have the shape of one; what else stands there is left to validation. */
export function stepsOf(pipeline: Pipeline): Map<string, Step> {
  const steps = new Map<string, Step>();
  for (const [id, value] of Object.entries(rawSteps(pipeline))) {
    if (!isObject(value)) continue;
    const inputs: Record<string, string[]> = {};
    for (const [port, sources] of Object.entries(isObject(value.inputs) ? value.inputs : {})) {
      inputs[port] = (Array.isArray(sources) ? sources : [sources]).filter((source) => typeof source === "string");
    }
    steps.set(id, {
      component: typeof value.component === "string" ? value.component : "",
      inputs,
      config: isObject(value.config) ? (value.config) : {},
      retries: typeof value.retries === "number" ? value.retries : null,
    });
  }
  return steps;
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
  if (!NAME.test(name)) return "a name has at most 63 of a-z, 0-9 and _, and begins with a letter";
  if (new Set(taken).has(name)) return `there is a step ${name} already`;
  return null;
}

/** Return why an edge cannot be drawn, or null. */
export function edgeProblem(steps: ReadonlyMap<string, Step>, catalogue: Catalogue, edge: Edge): string | null {
  const source = portOf(steps, catalogue, edge.origin, edge.originPort, "outputs");
  const sink = portOf(steps, catalogue, edge.target, edge.targetPort, "inputs");
  if (!source || !sink) return "an edge runs from an output to an input";
  if (edge.origin === edge.target) return "a step cannot feed itself";
  if (!accepts(sink, source)) {
    return `input ${sink.name} takes a ${sink.type}; ${edge.origin}.${source.name} is a ${source.type}`;
  }
  const present = steps.get(edge.target)?.inputs[edge.targetPort] ?? [];
  if (present.includes(`${edge.origin}.${edge.originPort}`)) return "this edge is there already";
  const way = pathBetween(steps, edge.target, edge.origin);
  if (way) return `a pipeline has no cycles: ${[...way, edge.target].join(" → ")}`;
  return null;
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

/** Return the steps from one to another along the edges, both included; null if there is no way. */
function pathBetween(steps: ReadonlyMap<string, Step>, from: string, to: string): string[] | null {
  const after = new Map<string, string[]>();
  for (const edge of edgesOf(steps)) after.set(edge.origin, [...(after.get(edge.origin) ?? []), edge.target]);
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

/** Return a step, and every step that it needs or that needs it. */
export function reachable(steps: ReadonlyMap<string, Step>, from: string, side: "before" | "after"): Set<string> {
  const found = new Set([from]);
  const edges = edgesOf(steps);
  for (const step of found) {
    for (const edge of edges) {
      if (side === "after" && edge.origin === step) found.add(edge.target);
      if (side === "before" && edge.target === step) found.add(edge.origin);
    }
  }
  return found;
}

export function freeName(base: string, taken: Iterable<string>): string {
  const names = new Set(taken);
  const stem = base.replace(/_\d+$/, "").slice(0, 58);
  if (!names.has(base)) return base;
  for (let number = 2; ; number += 1) if (!names.has(`${stem}_${number}`)) return `${stem}_${number}`;
}

/** Add a step of a component; its inputs take the outputs of `after` where they fit. */
export function addStep(
  pipeline: Pipeline,
  catalogue: Catalogue,
  component: string,
  after: string | null = null,
): { pipeline: Pipeline; id: string } {
  const steps = stepsOf(pipeline);
  const declared = catalogue.get(component);
  const id = freeName(component, steps.keys());
  const inputs: JsonObject = {};
  const outputs = catalogue.get(steps.get(after ?? "")?.component ?? "")?.outputs ?? [];
  for (const sink of declared?.inputs ?? []) {
    const source = outputs.find((output) => accepts(sink, output));
    if (source && after !== null) inputs[sink.name] = sink.many ? [`${after}.${source.name}`] : `${after}.${source.name}`;
  }
  const step: JsonObject = Object.keys(inputs).length > 0 ? { component, inputs } : { component };
  return { pipeline: withSteps(pipeline, { ...rawSteps(pipeline), [id]: step }), id };
}

/** Draw an edge. An input that takes one edge loses the one it had. */
export function connect(pipeline: Pipeline, edge: Edge, many: boolean): Pipeline {
  const source = `${edge.origin}.${edge.originPort}`;
  return updateStep(pipeline, edge.target, (step) => {
    const inputs = isObject(step.inputs) ? (step.inputs) : {};
    const present = inputs[edge.targetPort];
    const sources = many ? [...(Array.isArray(present) ? present : present ? [present] : []), source] : source;
    return { ...step, inputs: { ...inputs, [edge.targetPort]: sources } };
  });
}

export function disconnect(pipeline: Pipeline, edges: readonly Edge[]): Pipeline {
  return edges.reduce((result, edge) => {
    const source = `${edge.origin}.${edge.originPort}`;
    return updateStep(result, edge.target, (step) => withoutSources(step, (port, item) => port === edge.targetPort && item === source));
  }, pipeline);
}

/** Remove steps and the edges that begin at them. */
export function removeSteps(pipeline: Pipeline, ids: Iterable<string>): Pipeline {
  const gone = new Set(ids);
  const left: JsonObject = {};
  for (const [id, step] of Object.entries(rawSteps(pipeline))) {
    if (gone.has(id)) continue;
    left[id] = isObject(step) ? withoutSources(step, (_, source) => gone.has(source.split(".")[0] ?? "")) : step;
  }
  return withSteps(pipeline, left);
}

export function copySteps(pipeline: Pipeline, ids: Iterable<string>): Clipboard {
  const wanted = new Set(ids);
  const steps = Object.entries(rawSteps(pipeline)).filter(([id, step]) => wanted.has(id) && isObject(step));
  return { steps: Object.fromEntries(steps) as Record<string, JsonObject> };
}

/** Add copied steps under free names. Edges among them lead to the copies; others stay if their origin is here. */
export function pasteSteps(pipeline: Pipeline, clipboard: Clipboard): { pipeline: Pipeline; ids: string[] } {
  const steps = { ...rawSteps(pipeline) };
  const names = new Map<string, string>();
  const taken = new Set(Object.keys(steps));
  for (const id of Object.keys(clipboard.steps)) {
    const name = freeName(id, taken);
    taken.add(name);
    names.set(id, name);
  }
  for (const [id, step] of Object.entries(clipboard.steps)) {
    const local = withoutSources(step, (_, source) => {
      const origin = source.split(".")[0] ?? "";
      return !names.has(origin) && !Object.hasOwn(rawSteps(pipeline), origin);
    });
    steps[names.get(id) ?? id] = mapSources(local, (source) => {
      const [origin = "", port = ""] = source.split(".");
      return `${names.get(origin) ?? origin}.${port}`;
    });
  }
  return { pipeline: withSteps(pipeline, steps), ids: [...names.values()] };
}

/** Set a part of a step; `undefined`, or an empty mapping, takes the key away. */
export function setStep(pipeline: Pipeline, id: string, key: "config" | "retries", value: Json | undefined): Pipeline {
  return updateStep(pipeline, id, (step) => withKey(step, key, isObject(value) && Object.keys(value).length === 0 ? undefined : value));
}

/** Set a key of the pipeline itself; `undefined` takes it away. */
export function setKey(pipeline: Pipeline, key: string, value: Json | undefined): Pipeline {
  return withKey(pipeline, key, value);
}

/**
 * Return a form's values without what it made up: an empty value counts only where the text has one, or the
 * field's default is another.
 */
export function cleaned(next: JsonObject, before: JsonObject): JsonObject {
  const kept = Object.entries(next).flatMap(([key, value]): [string, Json][] => {
    const present = before[key];
    if ((value as Json | undefined) === undefined) return [];
    if (!isObject(value)) return [[key, value]];
    const inner = cleaned(value, isObject(present) ? (present) : {});
    return Object.keys(inner).length > 0 || isObject(present) ? [[key, inner]] : [];
  });
  return Object.fromEntries(kept);
}

function rawSteps(pipeline: Pipeline): JsonObject {
  return isObject(pipeline.steps) ? (pipeline.steps) : {};
}

function withSteps(pipeline: Pipeline, steps: JsonObject): Pipeline {
  return { ...pipeline, steps };
}

function withKey(object: JsonObject, key: string, value: Json | undefined): JsonObject {
  if (value !== undefined) return { ...object, [key]: value };
  return Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));
}

function updateStep(pipeline: Pipeline, id: string, update: (step: JsonObject) => JsonObject): Pipeline {
  const steps = rawSteps(pipeline);
  const step = steps[id];
  return isObject(step) ? withSteps(pipeline, { ...steps, [id]: update(step) }) : pipeline;
}

function withoutSources(step: JsonObject, isGone: (port: string, source: string) => boolean): JsonObject {
  if (!isObject(step.inputs)) return step;
  const inputs: JsonObject = {};
  for (const [port, sources] of Object.entries(step.inputs)) {
    if (Array.isArray(sources)) {
      const left = sources.filter((source) => !isGone(port, String(source)));
      if (left.length > 0) inputs[port] = left;
    } else if (!isGone(port, String(sources))) inputs[port] = sources;
  }
  return withKey(step, "inputs", Object.keys(inputs).length > 0 ? inputs : undefined);
}

function mapSources(step: JsonObject, rename: (source: string) => string): JsonObject {
  if (!isObject(step.inputs)) return step;
  const inputs = Object.entries(step.inputs).map(([port, sources]) => [
    port,
    Array.isArray(sources) ? sources.map((source) => rename(String(source))) : rename(String(sources)),
  ]);
  return { ...step, inputs: Object.fromEntries(inputs) as JsonObject };
}

/** Whether a value is a mapping, which is all that the functions here ask of a pipeline. */
export function isPipeline(value: unknown): value is Pipeline {
  return isObject(value);
}
