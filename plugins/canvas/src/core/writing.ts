/** How values are written as YAML: on one line or on several, and with which quotes. */

import { Document, Scalar, type ScalarTag, type Tags, isCollection, isPair, isScalar } from "yaml";
import { type Json, type JsonObject, isObject } from "./value";

const TIMESTAMP = "tag:yaml.org,2002:timestamp";
/** A float without a point before its exponent, which the loader's reader would take for a text. */
const EXPONENT: ScalarTag = {
  identify: (value) => typeof value === "number" && /^-?\d+e/.test(String(value)),
  default: true,
  tag: "tag:yaml.org,2002:float",
  test: /^(?!)/,
  resolve: (source) => source,
  stringify: ({ value }) => String(value).replace("e", ".0e"),
};
/** YAML 1.1, as the loader reads it. */
export const YAML_OPTIONS = {
  version: "1.1",
  prettyErrors: true,
  uniqueKeys: true,
  // A date stays the text that it is in the file.
  customTags: (tags: Tags): Tags => [
    EXPONENT,
    ...tags.filter((tag) => typeof tag === "string" || tag.tag !== TIMESTAMP),
  ],
} as const;
const WRITTEN = { lineWidth: 0, flowCollectionPadding: false } as const;
const STEP_DEPTH = 2; // steps / NAME
const FLOW_WIDTH = 72;

/** Where a value is written. */
export interface Context {
  /** How many keys lead here: steps and what is above them are never written on one line. */
  depth: number;
  inFlow: boolean;
}

/** Return a key and its value as YAML on one line. */
export function pairText([key, value]: [string, Json]): string {
  return `${flowText(key, undefined, true)}: ${flowText(value, undefined, true)}`;
}

/** Whether a value is written on its key's line. */
export function inline(value: Json, type: Scalar.Type | null | undefined, context: Context): boolean {
  if (typeof value === "string" && value.includes("\n") && !context.inFlow) {
    return type === Scalar.QUOTE_DOUBLE;
  }
  if (!isObject(value) && !Array.isArray(value)) return true;
  if (context.inFlow || Object.keys(value).length === 0) return true;
  if (context.depth <= STEP_DEPTH) return false;
  return isShallow(value) && flowText(value, undefined, false).length <= FLOW_WIDTH;
}

function isShallow(value: Json): boolean {
  const items = Array.isArray(value) ? value : Object.values(value as JsonObject);
  return items.every(
    (item) => item === null || typeof item !== "object" || (Array.isArray(item) && item.every((part) => !isObject(part))),
  );
}

/** Return a value as YAML on one line. */
export function flowText(value: Json, type: Scalar.Type | null | undefined, inFlow: boolean): string {
  const document = new Document(inFlow ? [value] : value, YAML_OPTIONS);
  if (document.contents) markFlow(document.contents, type ?? undefined);
  const text = escaped(document.toString(WRITTEN)).replace(/\n$/, "");
  return inFlow ? text.slice(1, -1) : text;
}

function markFlow(node: unknown, type: Scalar.Type | undefined): void {
  if (isScalar(node)) markScalar(node, type);
  if (!isCollection(node)) return;
  node.flow = true;
  for (const item of node.items) {
    if (isPair(item)) {
      markFlow(item.key, undefined);
      markFlow(item.value, undefined);
    } else markFlow(item, type);
  }
}

/** Texts that every reader of YAML takes for themselves without quotes, if `yaml` does. */
const PLAIN = /^[A-Za-z_/][\w ./()+%-]*$/;
/** Texts of several lines that may stand as they are below a `|`. */
const LINES = /^(?:[!-~](?:[ -~]*[!-~])?\n)+$/;
/** Characters that the loader's reader takes for ends of lines, or refuses. */
const ODD = /[\u007f-\u009f\u2028\u2029\ufeff]/g;

function markScalar(node: Scalar, type: Scalar.Type | undefined): void {
  if (typeof node.value !== "string") return;
  const isOdd = node.value.search(ODD) >= 0;
  if (type === Scalar.QUOTE_SINGLE && !isOdd && !node.value.includes("\n")) node.type = type;
  else if (type === Scalar.QUOTE_DOUBLE || !PLAIN.test(node.value) || node.value.endsWith(" ")) node.type = Scalar.QUOTE_DOUBLE;
}

/** Write what a reader would misread as an escape: it stands in double quotes, as every odd text does. */
function escaped(text: string): string {
  return text.replace(ODD, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Return a value as block YAML, each line indented, ending in a newline. */
export function render(value: Json, indent: number, depth: number): string {
  const document = new Document(value, YAML_OPTIONS);
  shape(document.contents, depth);
  const text = escaped(document.toString(WRITTEN));
  const pad = " ".repeat(indent);
  return text
    .split("\n")
    .map((line) => (line === "" ? line : pad + line))
    .join("\n");
}

/** Decide for each collection below a node whether it stands on one line. */
function shape(node: unknown, depth: number): void {
  if (isScalar(node)) {
    if (typeof node.value !== "string" || !LINES.test(node.value)) markScalar(node, undefined);
    return;
  }
  if (!isCollection(node)) return;
  for (const item of node.items) {
    const child: unknown = isPair(item) ? item.value : item;
    if (isPair(item) && isScalar(item.key)) markScalar(item.key, undefined);
    if (isCollection(child) && inline(child.toJS(new Document()) as Json, undefined, { depth: depth + 1, inFlow: false })) {
      markFlow(child, undefined);
    } else shape(child, depth + 1);
  }
}
