/** The edits of steps, edges and branches that a graph can make. Every edit returns a new pipeline. */

import { moveSteps, regroup, withGroups } from "./groups";
import {
  type Catalogue,
  type Edge,
  type Pipeline,
  type Verdict,
  accepts,
  freeName,
  groupsOf,
  rawGroups,
  rawSteps,
  stepsOf,
} from "./pipeline";
import { type Json, type JsonObject, isObject } from "./value";

export interface Clipboard {
  steps: Record<string, JsonObject>;
  /** Groups of those steps, with the copied steps alone. */
  groups: Record<string, { value: JsonObject; isWhole: boolean }>;
}

/** Add a step of a component; its inputs take the outputs of `after` where they fit, and it joins its group. */
export function addStep(
  pipeline: Pipeline,
  catalogue: Catalogue,
  component: string,
  after: string | null = null,
): { pipeline: Pipeline; id: string } {
  const steps = stepsOf(pipeline);
  const declared = catalogue.get(component);
  const id = freeName(component, [...steps.keys(), ...Object.keys(rawGroups(pipeline))]);
  const inputs: JsonObject = {};
  const outputs = catalogue.get(steps.get(after ?? "")?.component ?? "")?.outputs ?? [];
  for (const sink of declared?.inputs ?? []) {
    const source = outputs.find((output) => accepts(sink, output));
    if (source && after !== null) inputs[sink.name] = sink.many ? [`${after}.${source.name}`] : `${after}.${source.name}`;
  }
  const step: JsonObject = Object.keys(inputs).length > 0 ? { component, inputs } : { component };
  const added = withSteps(pipeline, { ...rawSteps(pipeline), [id]: step });
  const group = steps.get(after ?? "")?.group ?? null;
  return { pipeline: group === null ? added : moveSteps(added, [id], group), id };
}

/** Draw an edge. An input that takes one edge loses the one it had. */
export function connect(pipeline: Pipeline, edge: Edge, many: boolean): Pipeline {
  const source = `${edge.origin}.${edge.originPort}`;
  return updateStep(pipeline, edge.target, (step) => {
    const inputs = objectOf(step.inputs);
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

/** Make a step run only after a verdict; `undefined`: whatever it is. */
export function setWhen(pipeline: Pipeline, target: string, gate: string, verdict: Verdict | undefined): Pipeline {
  return updateStep(pipeline, target, (step) => withoutEmpty(step, "when", withKey(objectOf(step.when), gate, verdict)));
}

/** Remove steps, and the edges and branches that begin at them. */
export function removeSteps(pipeline: Pipeline, ids: Iterable<string>): Pipeline {
  const gone = new Set(ids);
  const left: JsonObject = {};
  for (const [id, step] of Object.entries(rawSteps(pipeline))) {
    if (!gone.has(id)) left[id] = isObject(step) ? withoutOrigins(step, (origin) => gone.has(origin)) : step;
  }
  const isLeft = (id: Json): boolean => typeof id !== "string" || !gone.has(id);
  return regroup(withSteps(pipeline, left), (members) => members.filter(isLeft));
}

export function copySteps(pipeline: Pipeline, ids: Iterable<string>): Clipboard {
  const wanted = new Set(ids);
  const steps = Object.entries(rawSteps(pipeline)).filter(([id, step]) => wanted.has(id) && isObject(step));
  const groups: Clipboard["groups"] = {};
  for (const [name, { steps: members }] of groupsOf(pipeline)) {
    const copied = members.filter((id) => wanted.has(id));
    if (copied.length === 0) continue;
    groups[name] = { value: { ...objectOf(rawGroups(pipeline)[name]), steps: copied }, isWhole: copied.length === members.length };
  }
  return { steps: Object.fromEntries(steps) as Record<string, JsonObject>, groups };
}

export interface Pasted {
  pipeline: Pipeline;
  /** Of the steps, in the order of the clipboard. */
  ids: string[];
  groups: string[];
}

/**
 * Add copied steps under free names. Edges and branches among them lead to the copies; others stay if their origin
 * is here. A group that was copied whole is a new group; copies of some of its steps join it if it is here.
 */
export function pasteSteps(pipeline: Pipeline, clipboard: Clipboard): Pasted {
  const steps = { ...rawSteps(pipeline) };
  const names = new Map<string, string>();
  const taken = new Set([...Object.keys(steps), ...Object.keys(rawGroups(pipeline))]);
  const nameOf = (id: string): string => {
    const name = freeName(id, taken);
    taken.add(name);
    return name;
  };
  for (const id of Object.keys(clipboard.steps)) names.set(id, nameOf(id));
  for (const [id, step] of Object.entries(clipboard.steps)) {
    const local = withoutOrigins(step, (origin) => !names.has(origin) && !Object.hasOwn(rawSteps(pipeline), origin));
    steps[names.get(id) ?? id] = renamedOrigins(local, (origin) => names.get(origin) ?? origin);
  }
  const groups = { ...rawGroups(pipeline) };
  const pasted: string[] = [];
  for (const [name, { value, isWhole }] of Object.entries(clipboard.groups)) {
    const copies = listOf(value.steps).map((id) => names.get(String(id)) ?? String(id));
    const present = groups[name];
    if (isWhole) {
      pasted.push(nameOf(name));
      groups[pasted.at(-1) ?? name] = { ...value, steps: copies };
    } else if (isObject(present)) groups[name] = { ...present, steps: [...listOf(present.steps), ...copies] };
  }
  return { pipeline: withGroups(withSteps(pipeline, steps), groups), ids: [...names.values()], groups: pasted };
}

/** Set a part of a step; `undefined`, or an empty mapping, takes the key away. */
export function setStep(pipeline: Pipeline, id: string, key: "config" | "retries", value: Json | undefined): Pipeline {
  return updateStep(pipeline, id, (step) => withKey(step, key, isObject(value) && Object.keys(value).length === 0 ? undefined : value));
}

const PLACEHOLDER = /\$\{([^}]*)\}/g;

/** Declare the parameters that a value names and the deployment has a value for: `${data}` needs no second place. */
export function declareParams(pipeline: Pipeline, value: Json, deployed: readonly string[]): Pipeline {
  if (pipeline.params !== undefined && !isObject(pipeline.params)) return pipeline;
  const known = objectOf(pipeline.params);
  const named = new Set([...JSON.stringify(value).matchAll(PLACEHOLDER)].map((found) => found[1] ?? ""));
  const missing = deployed.filter((name) => named.has(name) && !Object.hasOwn(known, name));
  if (missing.length === 0) return pipeline;
  return { ...pipeline, params: { ...known, ...Object.fromEntries(missing.map((name) => [name, {}])) } };
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
    // A list's new entry, and one that was cleared, has no value yet: the text says so by an empty one.
    if (Array.isArray(value)) return [[key, value.map((item) => (item as Json | undefined) ?? "")]];
    if (!isObject(value)) return [[key, value]];
    const inner = cleaned(value, isObject(present) ? (present) : {});
    return Object.keys(inner).length > 0 || isObject(present) ? [[key, inner]] : [];
  });
  return Object.fromEntries(kept);
}

export function withSteps(pipeline: Pipeline, steps: JsonObject): Pipeline {
  return { ...pipeline, steps };
}

export function withKey(object: JsonObject, key: string, value: Json | undefined): JsonObject {
  if (value !== undefined) return { ...object, [key]: value };
  return Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));
}

export function updateStep(pipeline: Pipeline, id: string, update: (step: JsonObject) => JsonObject): Pipeline {
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
  return withoutEmpty(step, "inputs", inputs);
}

/** Take away the edges and branches that begin at steps. */
function withoutOrigins(step: JsonObject, isGone: (origin: string) => boolean): JsonObject {
  const left = withoutSources(step, (_, source) => isGone(source.split(".")[0] ?? ""));
  if (!isObject(left.when)) return left;
  return withoutEmpty(left, "when", Object.fromEntries(Object.entries(left.when).filter(([gate]) => !isGone(gate))));
}

function renamedOrigins(step: JsonObject, rename: (origin: string) => string): JsonObject {
  const source = (text: Json): string => {
    const [origin = "", port = ""] = String(text).split(".");
    return `${rename(origin)}.${port}`;
  };
  const inputs = Object.entries(objectOf(step.inputs)).map(([port, sources]): [string, Json] => [
    port,
    Array.isArray(sources) ? sources.map(source) : source(sources),
  ]);
  const when = Object.entries(objectOf(step.when)).map(([gate, verdict]): [string, Json] => [rename(gate), verdict]);
  return withoutEmpty(withoutEmpty(step, "inputs", Object.fromEntries(inputs)), "when", Object.fromEntries(when));
}

function withoutEmpty(step: JsonObject, key: string, value: JsonObject): JsonObject {
  return withKey(step, key, Object.keys(value).length > 0 ? value : undefined);
}

function objectOf(value: Json | undefined): JsonObject {
  return isObject(value) ? (value) : {};
}

function listOf(value: Json | undefined): Json[] {
  return Array.isArray(value) ? value : [];
}
