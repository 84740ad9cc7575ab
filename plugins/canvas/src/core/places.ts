/** Where the nodes of a YAML document stand in its text, and changes of that text. */

import { type Node, type Pair, type YAMLMap, type YAMLSeq, isMap, isPair, isScalar, isSeq } from "yaml";
import { t } from "../i18n/t";

/** An edit that cannot be written into the text without changing more than was asked. */
export class EditError extends Error {}

export interface Splice {
  start: number;
  end: number;
  text: string;
}

/** Whether a node is a mapping or a list whose items stand on lines of their own. */
export function isBlock(node: unknown): node is YAMLMap | YAMLSeq {
  return (isMap(node) || isSeq(node)) && node.flow !== true;
}

/** Make the changes; those at one place keep their order. */
export function splice(text: string, splices: Splice[]): string {
  const ordered = splices.map((item, index) => ({ ...item, index }));
  ordered.sort((left, right) => right.start - left.start || right.end - left.end || right.index - left.index);
  return ordered.reduce((result, { start, end, text: put }) => result.slice(0, start) + put + result.slice(end), text);
}

export function keyOf(pair: Pair): string {
  return String(isScalar(pair.key) ? pair.key.value : pair.key);
}

export function rangeOf(node: unknown): [number, number] {
  const range = (node as Node | null)?.range;
  if (!range) throw new EditError(t("this part has no place in the text: edit it there"));
  return [range[0], range[1]];
}

export function itemStart(item: Pair | Node): number {
  return rangeOf(isPair(item) ? item.key : item)[0];
}

export function itemEnd(item: Pair | Node): number {
  if (!isPair(item)) return rangeOf(item)[1];
  return rangeOf(item.value ?? item.key)[1];
}

/** Return where the dashes of a block list stand. */
export function dashesOf(list: YAMLSeq): number[] {
  const token = list.srcToken;
  const starts = token?.type === "block-seq" ? token.items.map((item) => item.start) : [];
  const dashes = starts.flatMap((parts) => parts.find((part) => part.type === "seq-item-ind")?.offset ?? []);
  if (dashes.length !== list.items.length) throw new EditError(t("this part has no place in the text: edit it there"));
  return dashes;
}

/** Return where the comma behind an item of a `{…}` or `[…]` stands; null: there is none. */
export function commaBehind(text: string, item: Pair | Node): number | null {
  const comma = /(?:\s|#[^\n]*\n)*,/y;
  comma.lastIndex = itemEnd(item);
  return comma.test(text) ? comma.lastIndex - 1 : null;
}

/** Whether a key or an item ends with a text of several lines whose last, empty ones count (`|+`). */
export function keepsEmptyLines(text: string, item: Pair | Node): boolean {
  const value: unknown = isPair(item) ? item.value : item;
  return isScalar(value) && /^[|>]\d?\+/.test(text.slice(...rangeOf(value)));
}

/** Return where each item of a `{…}` or `[…]` begins with the comment lines above it, and where the last one ends with
 * the comment behind it. Where another line follows an item's comma, the item goes up to that line. */
export function flowParts(text: string, items: readonly (Pair | Node)[]): { starts: number[]; end: number } {
  const ends = items.map((item) => {
    const from = (commaBehind(text, item) ?? itemEnd(item) - 1) + 1;
    const rest = /[ \t]*(?:#[^\n]*)?\r?\n/y;
    rest.lastIndex = from;
    return rest.test(text) ? rest.lastIndex : from;
  });
  const starts = items.map((item, index) => {
    const before = ends[index - 1] ?? startOfLines(text, itemStart(item));
    return text[before - 1] === "\n" ? before : itemStart(item);
  });
  return { starts, end: ends[ends.length - 1]! };
}

/** Return where the line of a place begins, with the comment lines above it. */
function startOfLines(text: string, place: number): number {
  let start = text.lastIndexOf("\n", place - 1) + 1;
  if (text.slice(start, place).trim() !== "") return place;
  for (;;) {
    const above = text.lastIndexOf("\n", start - 2) + 1;
    if (above >= start || !text.slice(above, start).trimStart().startsWith("#")) return start;
    start = above;
  }
}
