/**
 * What is typed into YAML fields and is not YAML yet: no part of the pipeline, and kept in the browser all the same.
 *
 * A text belongs to the value that its field had; it is shown again as long as the field has that value.
 */

import { isObject, sameValue } from "./value";

/** A text that is not YAML yet, and what is wrong with it. */
export interface Unfinished {
  text: string;
  problem: string;
}

/** `beside` is the value that the field had when the text was typed. */
type Kept = Unfinished & { beside: unknown };

/** By step and path of the field. */
export type UnfinishedTexts = Readonly<Record<string, Kept>>;

export type FieldPath = readonly (string | number)[];

const PREFIX = "modelmill.unfinished.";

/** Return the texts with that of one field; null: there is none any more. */
export function withUnfinished(texts: UnfinishedTexts, step: string, path: FieldPath, value: unknown, unfinished: Unfinished | null): UnfinishedTexts {
  const key = keyOf(step, path);
  const others = Object.entries(texts).filter(([name]) => name !== key);
  return Object.fromEntries(unfinished === null ? others : [...others, [key, { ...unfinished, beside: value ?? null }]]);
}

export function unfinishedOf(texts: UnfinishedTexts, step: string, path: FieldPath, value: unknown): Unfinished | null {
  const found = texts[keyOf(step, path)];
  return found !== undefined && isSame(found.beside, value) ? found : null;
}

/** Return the texts after a step has got another name. */
export function withStepRenamed(texts: UnfinishedTexts, from: string, to: string): UnfinishedTexts {
  return Object.fromEntries(
    Object.entries(texts).map(([key, kept]) => {
      const [step, ...path] = placeOf(key);
      return [step === from ? keyOf(to, path) : key, kept];
    }),
  );
}

/** A step's field with a text that is no part of its configuration. */
export interface UnfinishedField {
  step: string;
  path: FieldPath;
  problem: string;
}

/** Return the fields that show such a text. */
export function unfinishedFields(texts: UnfinishedTexts, steps: ReadonlyMap<string, { config: unknown }>): UnfinishedField[] {
  return Object.entries(texts).flatMap(([key, { problem, beside }]) => {
    const [step = "", ...path] = placeOf(key);
    const found = steps.get(String(step));
    const isShown = found !== undefined && isSame(valueAt(found.config, path), beside);
    return isShown ? [{ step: String(step), path, problem }] : [];
  });
}

/** Return what is kept in this browser for a pipeline, or for a draft that has no name yet. */
export function readUnfinished(name: string): UnfinishedTexts {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(PREFIX + name) ?? "{}");
    return isObject(found) ? (found as UnfinishedTexts) : {};
  } catch {
    return {};
  }
}

export function keepUnfinished(name: string, texts: UnfinishedTexts): void {
  try {
    if (Object.keys(texts).length === 0) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(texts));
  } catch {
    // The browser's storage is full or forbidden: they last as long as the page.
  }
}

export function dropUnfinished(name: string): void {
  localStorage.removeItem(PREFIX + name);
}

function keyOf(step: string, path: FieldPath): string {
  return JSON.stringify([step, ...path]);
}

function placeOf(key: string): (string | number)[] {
  return JSON.parse(key) as (string | number)[];
}

/** A field without a value may be an empty one, or not be there. */
function isSame(left: unknown, right: unknown): boolean {
  return (isEmpty(left) && isEmpty(right)) || sameValue(left, right);
}

export function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === "object" && Object.keys(value).length === 0);
}

function valueAt(value: unknown, path: FieldPath): unknown {
  return path.reduce<unknown>((inner, key) => (typeof inner === "object" && inner !== null ? (inner as Record<string | number, unknown>)[key] : undefined), value);
}
