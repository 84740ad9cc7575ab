/** Forms out of the catalogue's JSON Schemas: what pydantic writes, made simpler for rjsf. */

import { isObject } from "./value";
import { t, word } from "../i18n/t";

export type Schema = Record<string, unknown>;

/** Whether a field that has a default stands among the first ones all the same: it, or another, is needed. */
const FIRST = "x-first";

/** Return the fields that a form shows first: those that are required, and those that ask for it. */
export function firstFields(schema: Schema): readonly string[] {
  const properties = isObject(schema.properties) ? Object.entries(schema.properties) : [];
  const asking = properties.filter(([, property]) => isObject(property) && property[FIRST] === true).map(([name]) => name);
  return [...(Array.isArray(schema.required) ? schema.required.map(String) : []), ...asking];
}

/** Whether null is a value of its own. */
export const NULLABLE = "x-nullable";

/**
 * Return a schema whose `anyOf: [X, null]` is X marked as nullable, and whose unions of plain types are one
 * type, so that a field is one input. References and everything else stay.
 */
export function formSchema(schema: Schema): Schema {
  return simplified(schema) as Schema;
}

function simplified(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(simplified);
  if (!isObject(value)) return value;
  const schema = Object.fromEntries(Object.entries(value).map(([key, item]) => [key, key === "default" ? item : simplified(item)]));
  if (!Array.isArray(schema.anyOf)) return schema;
  const branches = schema.anyOf.filter((branch): branch is Schema => isObject(branch));
  const left = branches.filter((branch) => branch.type !== "null");
  const { anyOf: _, ...rest } = schema;
  const nullable = left.length < branches.length ? { [NULLABLE]: true } : {};
  const [only] = left;
  if (left.length === 1 && only) return { ...only, ...nullable, ...rest };
  if (left.every((branch) => typeof branch.type === "string" && SCALARS.has(branch.type))) {
    return { ...nullable, ...rest, type: "string", "x-scalar": true };
  }
  return { ...nullable, ...rest, anyOf: left };
}

const SCALARS = new Set(["string", "integer", "number", "boolean"]);

/** Keywords whose content is data, not wording. */
const VALUES = new Set(["default", "const", "enum", "examples"]);

/** Return a schema whose titles and descriptions are in the page's language; those that it does not know stay. */
export function spokenSchema(schema: Schema): Schema {
  return spoken(schema) as Schema;
}

function spoken(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(spoken);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      if (VALUES.has(key)) return [key, item];
      const isWording = (key === "title" || key === "description") && typeof item === "string";
      return [key, isWording ? word(item) : spoken(item)];
    }),
  );
}

/** Return what a text typed into a field for numbers or plain values means. */
export function scalarOf(text: string, schema: Schema): string | number | boolean | undefined {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  const type = schema.type;
  const isNumber = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(trimmed);
  if ((type === "number" || type === "integer" || schema["x-scalar"] === true) && isNumber) return Number(trimmed);
  if (schema["x-scalar"] === true && (trimmed === "true" || trimmed === "false")) return trimmed === "true";
  return type === "number" || type === "integer" ? trimmed : text;
}

/** Return the limits of a field in words, such as "0.4 to 1" or "at least 1". */
export function limitsOf(schema: Schema): string {
  const [low, high] = [schema.minimum ?? schema.exclusiveMinimum, schema.maximum ?? schema.exclusiveMaximum];
  const from = schema.minimum === undefined ? t("above {limit}", { limit: String(low) }) : t("at least {limit}", { limit: String(low) });
  const to = schema.maximum === undefined ? t("below {limit}", { limit: String(high) }) : t("at most {limit}", { limit: String(high) });
  if (low !== undefined && high !== undefined) {
    const exact = schema.minimum !== undefined && schema.maximum !== undefined;
    return exact ? t("{low} to {high}", { low: String(low), high: String(high) }) : `${from}, ${to}`;
  }
  if (low !== undefined) return from;
  return high === undefined ? "" : to;
}

/** Return rjsf's hints for a simplified schema: what no single input can show is edited as YAML. */
export function formHints(schema: Schema): Schema {
  return hintsAt(schema, schema, 0);
}

function hintsAt(schema: Schema, root: Schema, depth: number): Schema {
  const resolved = resolve(schema, root);
  if (depth > 0 && isFree(resolved, root)) return { "ui:field": "YamlField" };
  const hints: Schema = {};
  if (!isObject(resolved.properties) || depth > 4) return hints;
  const dependent = dependentNames(resolved);
  for (const [name, property] of Object.entries(resolved.properties)) {
    if (isObject(property) && !dependent.has(name)) hints[name] = hintsAt(property, root, depth + 1);
  }
  return hints;
}

/** Return the fields whose form depends on the value of another field. */
function dependentNames(schema: Schema): ReadonlySet<string> {
  const found = Object.entries(isObject(schema.dependencies) ? schema.dependencies : {}).flatMap(([name, dependency]) => {
    const branches = isObject(dependency) && Array.isArray(dependency.oneOf) ? dependency.oneOf : [];
    return branches
      .flatMap((branch) => (isObject(branch) && isObject(branch.properties) ? Object.keys(branch.properties) : []))
      .filter((field) => field !== name);
  });
  return new Set(found);
}

function isFree(schema: Schema, root: Schema): boolean {
  if (schema.anyOf !== undefined || schema.oneOf !== undefined || schema.type === undefined) {
    return schema.enum === undefined && schema.const === undefined;
  }
  if (schema.type === "object") return !isObject(schema.properties);
  if (schema.type !== "array") return false;
  const items = isObject(schema.items) ? resolve(schema.items, root) : null;
  return items === null || typeof items.type !== "string" || !SCALARS.has(items.type);
}

function resolve(schema: Schema, root: Schema): Schema {
  if (typeof schema.$ref !== "string") return schema;
  const name = schema.$ref.replace("#/$defs/", "");
  const found = isObject(root.$defs) ? root.$defs[name] : undefined;
  return isObject(found) ? found : schema;
}
