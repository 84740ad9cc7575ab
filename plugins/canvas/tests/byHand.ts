/** Lists as people write them: an item a line, or several lines in brackets, with comments and quotes. */

import fc from "fast-check";
import { isMap, isPair, isScalar, isSeq, parseDocument, visit } from "yaml";

import { YAML_OPTIONS } from "../src/core/writing";

/** Return a text whose lists on one line are as a person might have written them; what it says stays. */
export function byHand(text: string, style: number): string {
  const places: { start: number; end: number; text: string }[] = [];
  const isInFlow = (path: readonly unknown[]): boolean => path.some((node) => (isSeq(node) || isMap(node)) && node.flow === true);
  visit(parseDocument(text, YAML_OPTIONS), {
    Seq: (_, list, path) => {
      const pair = path.at(-1);
      if (!isPair(pair) || !isScalar(pair.key) || list.flow !== true || list.items.length === 0 || isInFlow(path)) return;
      const isConfig = path.some((node) => isPair(node) && isScalar(node.key) && node.key.value === "config");
      const [start, end] = list.range!;
      const key = pair.key.range![0];
      const column = key - (text.lastIndexOf("\n", key - 1) + 1);
      const items = list.items.map((item) => {
        const [from, to] = (item as { range: [number, number] }).range;
        const written = text.slice(from, to);
        return isScalar(item) && item.value === written && (style >> from % 7) & 1 ? `'${written}'` : written;
      });
      const lines = listLines(items.map((item, index) => ({ lines: [item], note: (style >> index % 5) & 2 ? (isConfig ? "own" : "item") : null })), style + start);
      const pad = " ".repeat(column + (style & 8 ? 2 : 0));
      const body = lines.map((line) => (line === "]" ? " ".repeat(column + 1) + line : pad + line)).join("\n");
      places.push({ start: lines[0] === "[" ? start : start - 1, end, text: lines[0] === "[" ? body.trimStart() : `\n${body}` });
    },
  });
  return places.toReversed().reduce((result, place) => result.slice(0, place.start) + place.text + result.slice(place.end), text);
}

interface Item {
  lines: readonly string[];
  /** A comment above it or behind it. */
  note: string | null;
}

function listLines(items: readonly Item[], style: number): string[] {
  const isFlow = style % 3 === 0;
  const lines = items.flatMap(({ lines: [first = "", ...rest], note }, index) => {
    const comma = isFlow && index < items.length - 1 ? "," : "";
    const isAbove = (style >> index % 4) & 1;
    const behind = note !== null && !isAbove ? `   # ${note}` : "";
    const whole = isFlow ? [`  ${first}${comma}${behind}`] : [`- ${first}${behind}`, ...rest.map((line) => `  ${line}`)];
    return note !== null && isAbove ? [`${isFlow ? "  " : ""}# ${note}`, ...whole] : whole;
  });
  return isFlow ? ["[", ...lines, "]"] : lines;
}

/** A list in a text, with what stands before it and behind it. */
export interface Written {
  isFlow: boolean;
  /** Whether a comma stands behind the last item, too. */
  isCommaLast: boolean;
  indent: number;
  isInList: boolean;
  lineEnd: string;
  items: { kind: number; isNoteAbove: boolean; isNoteBehind: boolean; isNoteBelow: boolean }[];
  /** Which items stay. */
  stay: boolean[];
  more: number;
}

const item = fc.record({ kind: fc.nat(7), isNoteAbove: fc.boolean(), isNoteBehind: fc.boolean(), isNoteBelow: fc.boolean() });
export const writtenList: fc.Arbitrary<Written> = fc.record({
  isFlow: fc.boolean(),
  isCommaLast: fc.boolean(),
  indent: fc.constantFrom(0, 2, 5),
  isInList: fc.boolean(),
  lineEnd: fc.constantFrom("\n", "\r\n"),
  items: fc.array(item, { minLength: 1, maxLength: 6 }),
  stay: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
  more: fc.nat(2),
});

/** Return the text of a list in which only some items stand, with as many new ones behind them. */
export function textOfList(list: Written, stays: (index: number) => boolean, more: number): string {
  const found = list.items.flatMap((described, index) => (stays(index) ? [itemLines(described, index, list.isFlow)] : []));
  for (let index = 0; index < more; index += 1) found.push({ above: [], lines: [`new${index}`], behind: "", below: [] });
  const pad = " ".repeat((list.isInList ? 8 : list.isFlow ? 6 : 4) + list.indent);
  const lines = found.flatMap(({ above, lines: [first = "", ...rest], behind, below }, index) => {
    const comma = list.isFlow && (list.isCommaLast || index < found.length - 1) ? "," : "";
    const dash = list.isFlow ? "" : "- ";
    return [...above, `${dash}${first}${comma}${behind}`, ...rest.map((line) => (line === "" ? "" : `  ${line}`)), ...below].map((line) => (line === "" ? "" : pad + line));
  });
  const key = list.isInList ? "    lists: # these\n      -" : "    list:";
  const head = list.isFlow ? `${key} [  # these` : `${key} # these`;
  const body = [`steps:\n  a: # here\n${head}`, ...lines, ...(list.isFlow ? [`${" ".repeat(8)}]  # those`] : []), "    # below", "    other: 'x' # other", ""];
  return body.join("\n").replaceAll("\n", list.lineEnd);
}

function itemLines({ kind, isNoteAbove, isNoteBehind, isNoteBelow }: Written["items"][number], index: number, isFlow: boolean) {
  const inLines = [
    [`t${index}`],
    [`'t${index}'`],
    [`"t${index}"`],
    [`{a: 't${index}',  b: [1,2]}`],
    [`name: t${index}  # name`, `when: "now"`],
    [`- ${index}`, `# inner`, `- 'b'`],
    [`|`, `line ${index}`, `  # no comment`],
    [`&a${index} 't${index}'`],
  ];
  const lines = inLines[isFlow ? kind % 4 : kind]!;
  return {
    above: isNoteAbove ? [`# above ${index}`, `#  - and more`] : [],
    lines,
    behind: isNoteBehind && lines.length === 1 ? `   # behind ${index}` : "",
    below: isNoteBelow && !isFlow && lines[0] !== "|" ? [`  # below ${index}`] : [],
  };
}
