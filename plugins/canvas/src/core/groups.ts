/** The edits of groups. Every edit returns a new pipeline. */

import { type Group, type Pipeline, type Step, freeName, groupsOf, rawGroups, rawSteps } from "./pipeline";
import { type Json, type JsonObject, isObject, sameValue, textOf } from "./value";

const KEY = "group:";

/** Key of a group where steps and groups stand together: selected, or drawn. No step has such a name. */
export function groupKey(name: string): string {
  return KEY + name;
}

/** Return the group that a key is of; null: it is a step. */
export function groupOfKey(key: string): string | null {
  return key.startsWith(KEY) ? key.slice(KEY.length) : null;
}

/** Return the one step that is selected; null: there are several, or none. */
export function onlyStep(selection: ReadonlySet<string>): string | null {
  const [key] = selection;
  return selection.size === 1 && key !== undefined && groupOfKey(key) === null ? key : null;
}

/** Return the steps of a selection, with those of its groups. */
export function stepsIn(groups: ReadonlyMap<string, Group>, selection: Iterable<string>): Set<string> {
  return new Set(
    [...selection].flatMap((key) => {
      const name = groupOfKey(key);
      return name === null ? [key] : (groups.get(name)?.steps ?? []);
    }),
  );
}

/** Put steps into a new group. They leave the ones that they are in. */
export function groupSteps(pipeline: Pipeline, ids: ReadonlySet<string>): { pipeline: Pipeline; name: string } {
  const members = Object.keys(rawSteps(pipeline)).filter((id) => ids.has(id));
  const left = moveSteps(pipeline, members, null);
  const name = freeName("group", [...Object.keys(rawGroups(pipeline)), ...Object.keys(rawSteps(pipeline))]);
  return { pipeline: withGroups(left, { ...rawGroups(left), [name]: { steps: members } }), name };
}

/** Put steps into a group; null: into none. A group that loses its last step goes. */
export function moveSteps(pipeline: Pipeline, ids: Iterable<string>, group: string | null): Pipeline {
  const moved = new Set<Json>(ids);
  return regroup(pipeline, (members, name) =>
    name === group
      ? [...members, ...[...moved].filter((id) => !members.includes(id))]
      : members.filter((id) => !moved.has(id)),
  );
}

/** Take groups away. Their steps stay. */
export function ungroup(pipeline: Pipeline, names: Iterable<string>): Pipeline {
  const gone = new Set(names);
  return withGroups(pipeline, Object.fromEntries(Object.entries(rawGroups(pipeline)).filter(([name]) => !gone.has(name))));
}

/** Describe a group; an empty text takes the description away. */
export function describeGroup(pipeline: Pipeline, name: string, description: string): Pipeline {
  return updateGroup(pipeline, name, ({ description: _, ...rest }) =>
    description === "" ? rest : { description, ...rest },
  );
}

/**
 * Copy a group for each value of a variable; null: there is one of it. Where the variable had another name, the
 * configurations of the steps follow.
 */
export function setForEach(pipeline: Pipeline, name: string, forEach: { variable: string; values: Json[] } | null): Pipeline {
  const before = groupsOf(pipeline).get(name);
  const changed = updateGroup(pipeline, name, ({ for_each: _, ...rest }) =>
    forEach === null ? rest : { ...rest, for_each: { [forEach.variable]: forEach.values } },
  );
  if (before?.variable == null || forEach === null || forEach.variable === before.variable) return changed;
  const [from, to] = [`\${${before.variable}}`, `\${${forEach.variable}}`];
  const steps = Object.entries(rawSteps(changed)).map(([id, step]): [string, Json] =>
    isObject(step) && before.steps.includes(id) && step.config !== undefined
      ? [id, { ...step, config: replaced(step.config, from, to) }]
      : [id, step],
  );
  return { ...changed, steps: Object.fromEntries(steps) };
}

/** Change which steps the groups list; a group that loses its last one goes. */
export function regroup(pipeline: Pipeline, change: (members: Json[], name: string) => Json[]): Pipeline {
  const groups = Object.entries(rawGroups(pipeline)).flatMap(([name, group]): [string, Json][] => {
    if (!isObject(group) || !Array.isArray(group.steps)) return [[name, group]];
    const steps = change(group.steps, name);
    return steps.length === 0 && group.steps.length > 0 ? [] : [[name, { ...group, steps }]];
  });
  return withGroups(pipeline, Object.fromEntries(groups));
}

/** Set the groups. They stand before the steps. */
export function withGroups(pipeline: Pipeline, groups: JsonObject): Pipeline {
  const entries = Object.entries(pipeline);
  if (Object.keys(groups).length === 0) {
    return Object.keys(rawGroups(pipeline)).length === 0 ? pipeline : Object.fromEntries(entries.filter(([key]) => key !== "groups"));
  }
  if (Object.hasOwn(pipeline, "groups")) return { ...pipeline, groups };
  const at = entries.findIndex(([key]) => key === "steps");
  return Object.fromEntries(entries.toSpliced(at < 0 ? entries.length : at, 0, ["groups", groups]));
}

/** Return the values in a text: one a line, or separated by commas. Numbers, true and false are such. */
export function valuesIn(text: string): Json[] {
  return text
    .split(/[\n,;\t]/)
    .map((part) => part.trim().replace(/^(["'])(.*)\1$/, "$2"))
    .filter((part) => part !== "")
    .map(plainValue);
}

/** Return what a text typed for a value means; `007` stays a text. */
export function plainValue(text: string): Json {
  if (/^-?(0|[1-9]\d*)(\.\d+)?$/.test(text)) return Number(text);
  return text === "true" || text === "false" ? text === "true" : text;
}

/** Return what a field for such a value shows: what was typed (`0.0` on the way to `0.05`) while it means the value. */
export function shownValue(typed: string | null, value: Json | undefined): string {
  return typed !== null && sameValue(plainValue(typed), value) ? typed : textOf(value);
}

/** Labels that the datasets before a group are made with: what there could be a copy for. */
export function labelsBefore(steps: ReadonlyMap<string, Step>, group: string): string[] {
  const found = new Set([...steps].filter(([, step]) => step.group === group).map(([id]) => id));
  for (const id of found) for (const source of Object.values(steps.get(id)?.inputs ?? {}).flat()) found.add(source.split(".")[0] ?? "");
  const labels = [...found].flatMap((id) => steps.get(id)?.config.labels ?? []);
  return [...new Set(labels.filter((label): label is string => typeof label === "string" && !label.includes("${")))];
}

function updateGroup(pipeline: Pipeline, name: string, update: (group: JsonObject) => JsonObject): Pipeline {
  const groups = rawGroups(pipeline);
  const group = groups[name];
  return isObject(group) ? withGroups(pipeline, { ...groups, [name]: update(group) }) : pipeline;
}

function replaced(value: Json, from: string, to: string): Json {
  if (typeof value === "string") return value.replaceAll(from, to);
  if (Array.isArray(value)) return value.map((item) => replaced(item, from, to));
  return isObject(value) ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, replaced(item, from, to)])) : value;
}
