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
