/**
 * A pipeline's text and the value it stands for.
 *
 * The text is what is kept; the graph and the forms are views of it. An edit of the value becomes the smallest
 * edit of the text: comments, order, quotes and spacing stay wherever the value has not changed. Positions come
 * from the parsed document (YAML 1.1, as the loader reads it), changes are spliced into the text.
 */

import {
  Document,
  type Node,
  type Pair,
  Scalar,
  YAMLMap,
  YAMLSeq,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  parseDocument,
} from "yaml";
import { EditError, type Splice, commaBehind, dashesOf, flowParts, isBlock, itemEnd, itemStart, keepsEmptyLines, keyOf, rangeOf, splice } from "./places";
import { type Json, type JsonObject, isObject, sameValue } from "./value";
import { type Context, YAML_OPTIONS, flowText, inline, pairText, render } from "./writing";
import { t } from "../i18n/t";

/** A place in the text: line and column from 1. */
export interface Position {
  line: number;
  column: number;
}

export interface SyntaxProblem extends Position {
  message: string;
}

export interface Parsed {
  /** The value; null if the text is not YAML. */
  value: Json | null;
  problems: SyntaxProblem[];
}

export { EditError };

let latest: { text: string; document: Document.Parsed } | null = null;

/** Parse a text; the latest one is kept, for one edit asks several times. Nobody changes the document. */
function parse(text: string): Document.Parsed {
  if (latest?.text !== text) latest = { text, document: parseDocument(text, { ...YAML_OPTIONS, keepSourceTokens: true }) };
  return latest.document;
}

/** Parse a pipeline's text. */
export function readText(text: string): Parsed {
  const document = parse(text);
  const problems = document.errors.map((error) => {
    const [at] = error.linePos ?? [{ line: 1, col: 1 }];
    return { line: at.line, column: at.col, message: error.message.split("\n")[0] ?? t("the text must be YAML") };
  });
  if (problems.length > 0) return { value: null, problems };
  try {
    return { value: document.toJS({ maxAliasCount: 100 }) as Json, problems };
  } catch (error) {
    return { value: null, problems: [{ line: 1, column: 1, message: String(error) }] };
  }
}

/** Return a new text for a value. */
export function newText(value: JsonObject): string {
  return render(value, 0, 0);
}

/** Return the text with the smallest edit that makes it stand for `next`.
 *
 * @throws EditError where the text uses something (anchors, merge keys, tags) that such an edit would break.
 */
export function reconcile(text: string, next: JsonObject): string {
  const current = readText(text);
  if (current.problems.length > 0) throw new EditError(t("the text must be YAML before the graph can be edited"));
  if (sameValue(current.value, next)) return text;
  const document = parse(text);
  const splices: Splice[] = [];
  if (document.contents === null) splices.push({ start: text.length, end: text.length, text: newText(next) });
  else new Editor(text, splices).change(document.contents, next, 0, { depth: 0, inFlow: false });
  const edited = splice(text, text.includes("\r\n") ? splices.map(withCarriageReturns) : splices);
  const result = readText(edited);
  if (!sameValue(result.value, next)) {
    throw new EditError(
      /[&*!]/.test(text)
        ? t("this part uses anchors, aliases or tags: edit it in the text")
        : t("this edit cannot be written into the text: edit it there"),
    );
  }
  return edited;
}

/** New lines end as those of the text do. */
function withCarriageReturns(item: Splice): Splice {
  return { ...item, text: item.text.replace(/\n/g, "\r\n") };
}

/** Rename a step: its key, and every input, branch and group that names it. Comments and order stay. */
export function renameStep(text: string, from: string, to: string): string {
  const document = parse(text);
  const steps = document.get("steps", true);
  if (!isMap(steps)) throw new EditError(t("the text has no steps"));
  const renaming = new Renaming(text, to);
  renaming.key(steps, from);
  for (const { value: step } of steps.items) {
    if (!isMap(step)) continue;
    renaming.key(step.get("when", true), from);
    const inputs = step.get("inputs", true);
    if (!isMap(inputs)) continue;
    for (const { value: sources } of inputs.items) {
      for (const source of isSeq(sources) ? sources.items : [sources]) {
        const value = isScalar(source) ? source.value : null;
        if (typeof value === "string" && value.startsWith(`${from}.`)) renaming.scalar(source, to + value.slice(from.length));
      }
    }
  }
  const groups = document.get("groups", true);
  for (const { value: group } of isMap(groups) ? groups.items : []) {
    const members = isMap(group) ? group.get("steps", true) : null;
    for (const member of isSeq(members) ? members.items : []) {
      if (isScalar(member) && member.value === from) renaming.scalar(member, to);
    }
  }
  return renaming.text();
}

/** Rename a group. Comments and order stay. */
export function renameGroup(text: string, from: string, to: string): string {
  const renaming = new Renaming(text, to);
  renaming.key(parse(text).get("groups", true), from);
  return renaming.text();
}

/** Collects the splices that put another name in the place of one. */
class Renaming {
  private readonly splices: Splice[] = [];

  constructor(
    private readonly before: string,
    private readonly to: string,
  ) {}

  /** Rename a key of a mapping, where it has it. */
  key(map: unknown, from: string): void {
    for (const pair of isMap(map) ? map.items : []) if (keyOf(pair) === from) this.scalar(pair.key, this.to);
  }

  scalar(node: unknown, value: string): void {
    if (!isScalar(node) || !node.range) throw new EditError(t("an anchor stands here: edit it in the text"));
    this.splices.push({ start: node.range[0], end: node.range[1], text: flowText(value, node.type, false) });
  }

  text(): string {
    return splice(this.before, this.splices);
  }
}

/** Return where a path of the document stands, or its nearest parent that does. */
export function positionOf(text: string, path: readonly (string | number)[]): Position {
  let node: unknown = parse(text).contents;
  let offset = 0;
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => keyOf(item) === String(part));
      if (!pair) break;
      offset = rangeOf(pair.key)[0];
      node = pair.value;
    } else if (isSeq(node)) {
      const item: unknown = node.items[Number(part)];
      if (item === undefined) break;
      offset = rangeOf(item)[0];
      node = item;
    } else break;
  }
  const before = text.slice(0, offset);
  return { line: before.split("\n").length, column: offset - before.lastIndexOf("\n") };
}

/** Collects the splices that turn nodes into values. */
class Editor {
  constructor(
    private readonly text: string,
    private readonly splices: Splice[],
  ) {}

  change(node: Node, next: Json, indent: number, context: Context): void {
    if (isMap(node) && isObject(next)) this.changeMap(node, next, indent, context);
    else if (isSeq(node) && Array.isArray(next)) this.changeSeq(node, next, indent, context);
    else if (sameValue(plain(node), next)) return;
    else if (isBlock(node)) this.refill(node, next, indent, context);
    else this.replace(node, next, indent, context);
  }

  private replace(node: Node, next: Json, indent: number, context: Context): void {
    const [start, end] = rangeOf(node);
    const type = isScalar(node) ? node.type : undefined;
    const block = type === Scalar.BLOCK_LITERAL || type === Scalar.BLOCK_FOLDED;
    // A text of several lines has no place for the comment behind it: it goes on one line, in quotes.
    const isFollowed = typeof next === "string" && /^[ \t]+#/.test(this.text.slice(end));
    let text = isFollowed || inline(next, type, context)
      ? flowText(next, block ? undefined : type, context.inFlow)
      : `\n${render(next, indent, context.depth)}`.replace(/\n$/, "");
    // An empty value stands right behind its colon or dash.
    if (start === end && /[:-]$/.test(this.text.slice(0, start)) && !text.startsWith("\n")) text = ` ${text}`;
    const from = text.startsWith("\n") && this.text[start - 1] === " " ? start - 1 : start;
    this.splices.push({ start: from, end: block && end > start ? end - 1 : end, text });
  }

  private changeMap(node: YAMLMap, next: JsonObject, indent: number, context: Context): void {
    const kept = new Set<string>();
    const items = node.items.filter((item) => isPair(item));
    const inner = { depth: context.depth + 1, inFlow: context.inFlow || node.flow === true };
    for (const pair of items) {
      const key = keyOf(pair);
      if (!Object.hasOwn(next, key)) continue;
      kept.add(key);
      const value = next[key] as Json;
      if (pair.value === null) {
        if (value !== null) {
          const at = rangeOf(pair.key)[1];
          const colon = this.text.indexOf(":", at) + 1;
          const written = inline(value, undefined, inner)
            ? ` ${flowText(value, undefined, inner.inFlow)}`
            : `\n${render(value, this.column(pair) + 2, inner.depth)}`.replace(/\n$/, "");
          this.splices.push({ start: colon, end: colon, text: written });
        }
      } else if (isBlock(pair.value) && !continues(pair.value, value)) this.exchange(pair, pair.value, value, inner);
      else this.change(pair.value as Node, value, this.column(pair) + 2, inner);
    }
    const added = Object.entries(next).filter(([key]) => !kept.has(key));
    if (kept.size === 0) {
      if (items.length === 0 && !context.inFlow) this.replace(node, next, indent, context);
      else this.refill(node, next, indent, context);
      return;
    }
    if (node.flow === true) this.changeFlow(items, (pair) => kept.has(keyOf(pair)), added.map(pairText));
    else this.changeBlockMap(items, kept, next, inner.depth);
  }

  /** A key's block collection becomes empty or a value of another kind: it stands behind the colon if it fits there. */
  private exchange(pair: Pair, node: YAMLMap | YAMLSeq, next: Json, context: Context): void {
    const colon = this.text.indexOf(":", rangeOf(pair.key)[1]) + 1;
    const [start, end] = rangeOf(node);
    const isAlone = this.text.slice(colon, start).trim() === "";
    if (!isAlone || !isShort(next, context)) {
      this.refill(node, next, this.column(pair) + 2, context);
      return;
    }
    this.splices.push({ start: colon, end, text: ` ${flowText(next, undefined, false)}${this.lineEnd(start, end)}` });
  }

  /** Nothing of a collection is left: what takes its place is written anew. */
  private refill(node: YAMLMap | YAMLSeq, next: Json, indent: number, context: Context): void {
    const [start, end] = rangeOf(node);
    if (node.flow === true) {
      this.splices.push({ start, end, text: flowText(next, undefined, context.inFlow) });
      return;
    }
    // A list may stand as far left as its key. What takes its place may not.
    const column = Math.max(this.lineColumn(start), indent);
    const body = isShort(next, context) ? flowText(next, undefined, false) : render(next, column, context.depth);
    const lead = " ".repeat(column - this.lineColumn(start));
    this.splices.push({ start, end, text: lead + body.trimStart().replace(/\n$/, "") + this.lineEnd(start, end) });
  }

  /** What a block collection spans ends with a line, unless the text ends there: so must what takes its place. */
  private lineEnd(start: number, end: number): string {
    return this.text.slice(start, end).endsWith("\n") ? "\n" : "";
  }

  private changeBlockMap(items: Pair[], kept: Set<string>, next: JsonObject, depth: number): void {
    const column = this.column(items[0]!);
    const ends = items.map((pair) => this.endOfLines(pair, column));
    items.forEach((pair, index) => {
      if (!kept.has(keyOf(pair))) this.remove(itemStart(pair), ends[index]!, ends[index - 1] ?? 0);
    });
    let anchor = items.findLast((pair) => kept.has(keyOf(pair)))!;
    const added = new Map<Pair, string[]>();
    const byKey = new Map(items.map((pair) => [keyOf(pair), pair]));
    for (const [key, value] of Object.entries(next)) {
      if (kept.has(key)) {
        // A new key follows the one it follows in the value, if the value says so at all.
        anchor = byKey.get(key)!;
        continue;
      }
      const lines = added.get(anchor) ?? [];
      added.set(anchor, [...lines, render({ [key]: value }, column, depth - 1)]);
    }
    const isSpaced = this.isSpaced(items.map(itemStart), ends);
    for (const [pair, texts] of added) this.addLines(ends[items.indexOf(pair)]!, texts, isSpaced);
  }

  private addLines(at: number, texts: string[], isSpaced: boolean): void {
    const lead = at > 0 && this.text[at - 1] !== "\n" ? "\n" : "";
    const body = texts.map((text) => (isSpaced ? `\n${text}` : text)).join("");
    this.splices.push({ start: at, end: at, text: lead + body });
  }

  private changeSeq(node: YAMLSeq, next: Json[], indent: number, context: Context): void {
    const current = node.items.map((item) => plain(item as Node));
    if (sameValue(current, next)) return;
    const inner = { depth: context.depth + 1, inFlow: context.inFlow || node.flow === true };
    if (current.length === next.length) {
      node.items.forEach((item, index) => {
        const start = rangeOf(item)[0];
        this.change(item as Node, next[index] as Json, this.lineColumn(start), inner);
      });
      return;
    }
    const items = node.items as Node[];
    const keep = kept(current, next);
    const added = next.slice(keep.size);
    if (keep.size === 0) this.refill(node, next, indent, context);
    else if (node.flow === true) {
      this.changeFlow(items, (item) => keep.has(items.indexOf(item)), added.map((value) => flowText(value, undefined, true)));
    } else this.changeBlockSeq(node, keep, added, context.depth);
  }

  /** Take the lines of items out of a list, and write others behind the last one that stays. */
  private changeBlockSeq(node: YAMLSeq, keep: ReadonlySet<number>, added: Json[], depth: number): void {
    const dashes = dashesOf(node);
    const column = this.lineColumn(dashes[0]!);
    const ends = node.items.map((item) => this.endOfLines(item as Node, column));
    dashes.forEach((dash, index) => {
      if (!keep.has(index)) this.remove(dash, ends[index]!, ends[index - 1] ?? 0);
    });
    const lines = added.map((value) => render([value], column, depth));
    if (lines.length > 0) this.addLines(ends[Math.max(...keep)]!, lines, this.isSpaced(dashes, ends));
  }

  /** Take items out of a `{…}` or `[…]`, and add others behind the last one that stays. */
  private changeFlow<T extends Pair | Node>(items: T[], stays: (item: T) => boolean, added: string[]): void {
    const { starts, end } = flowParts(this.text, items);
    const lastKept = items.findLastIndex(stays);
    items.slice(0, lastKept).forEach((item, index) => {
      const [from, to] = [starts[index]!, starts[index + 1]!];
      // What follows on the same line takes the item's place there.
      const isLineKept = this.lineColumn(from) === 0 && this.lineColumn(to) > 0;
      if (!stays(item)) this.splices.push({ start: from, end: to, text: isLineKept ? this.indentation(itemStart(item)) : "" });
    });
    if (lastKept < items.length - 1 || added.length > 0) this.changeFlowEnd(items, lastKept, added, starts[lastKept + 1] ?? end, end);
  }

  /** Put what is added in the place of all items behind the last one that stays; they stand in `from` … `end`. */
  private changeFlowEnd(items: (Pair | Node)[], lastKept: number, added: string[], from: number, end: number): void {
    const [kept, last] = [items[lastKept]!, items[items.length - 1]!];
    const isLineEnded = this.text[end - 1] === "\n";
    if (!isLineEnded && (kept === last || !this.text.slice(itemEnd(kept), itemStart(last)).includes("#"))) {
      this.splices.push({ start: itemEnd(kept), end: itemEnd(last), text: added.map((text) => `, ${text}`).join("") });
      return;
    }
    // Comments stay behind their items: commas are put before them, and what is new on lines of its own.
    const comma = commaBehind(this.text, kept);
    const isCommaLast = commaBehind(this.text, last) !== null;
    if (comma === null) this.splices.push({ start: itemEnd(kept), end: itemEnd(kept), text: "," });
    else if (added.length === 0 && !isCommaLast) this.splices.push({ start: comma, end: comma + 1, text: "" });
    const indent = this.indentation(itemStart(last));
    const lines = added.map((text, index) => `${indent}${text}${isCommaLast || index < added.length - 1 ? "," : ""}\n`).join("");
    if (isLineEnded) this.splices.push({ start: from, end, text: lines });
    else this.splices.push({ start: from, end: itemEnd(last), text: indent + added.join(", ") });
  }

  /** Take out what stands at `at` up to the end of its lines, with the comment above it and an empty line, down from `floor`. */
  private remove(at: number, end: number, floor: number): void {
    const line = this.lineStart(at);
    if (this.text.slice(line, at).trim() !== "") {
      // It stands behind the dash of the list around its own.
      this.splices.push({ start: this.text.slice(0, at).trimEnd().length, end: this.text.slice(0, end).trimEnd().length, text: "" });
      return;
    }
    let start = this.startOfComment(line, floor);
    const above = this.lineStart(start - 1);
    if (start > floor && this.text.slice(above, start).trim() === "") start = above;
    this.splices.push({ start, end, text: "" });
  }

  /** Comment lines right above a key or an item belong to it, if they do not belong to what ends at `floor`. */
  private startOfComment(start: number, floor: number): number {
    let from = start;
    while (from > floor) {
      const above = this.lineStart(from - 1);
      if (!this.text.slice(above, from).trimStart().startsWith("#")) break;
      from = above;
    }
    return from;
  }

  /** Return the end of the last line that belongs to a key or an item at a column; of comments behind it, those that are
   * indented deeper do. */
  private endOfLines(item: Pair | Node, column: number): number {
    let end = itemEnd(item);
    if (this.text[end - 1] === "\n" && end > itemStart(item)) {
      if (keepsEmptyLines(this.text, item)) return end;
      end = this.text.slice(0, end).trimEnd().length;
    }
    for (;;) {
      const newline = this.text.indexOf("\n", end);
      if (newline < 0) return this.text.length;
      end = newline + 1;
      const comment = / *(?=#)/y;
      comment.lastIndex = end;
      if ((comment.exec(this.text)?.[0].length ?? 0) <= column) return end;
    }
  }

  /** Whether an empty line stands between two of what begins and ends at these places. */
  private isSpaced(starts: number[], ends: number[]): boolean {
    return starts.some((offset, index) => {
      const floor = ends[index - 1];
      if (floor === undefined) return false;
      const start = this.startOfComment(this.lineStart(offset), floor);
      return start > floor && this.text.slice(this.lineStart(start - 1), start).trim() === "";
    });
  }

  private column(pair: Pair): number {
    return this.lineColumn(itemStart(pair));
  }

  /** Return the spaces before a place, if it is the first of its line; else as many as it has letters before it. */
  private indentation(offset: number): string {
    return " ".repeat(this.lineColumn(offset));
  }

  private lineColumn(offset: number): number {
    return offset - this.lineStart(offset);
  }

  private lineStart(offset: number): number {
    return this.text.lastIndexOf("\n", offset - 1) + 1;
  }
}

/** Whether a value goes on one line where a collection was; a text of several lines does so in quotes. */
function isShort(value: Json, context: Context): boolean {
  return typeof value === "string" || inline(value, undefined, context);
}

/** Whether a value is of a block collection's own kind, and not empty. */
function continues(node: YAMLMap | YAMLSeq, next: Json): boolean {
  return (isMap(node) ? isObject(next) : Array.isArray(next)) && Object.keys(next as object).length > 0;
}

/** Return the indices of `current` that stay if `next` is `current` with items taken out and others appended. */
function kept(current: Json[], next: Json[]): Set<number> {
  const stays = new Set<number>();
  let position = 0;
  current.forEach((item, index) => {
    if (position < next.length && sameValue(item, next[position])) {
      stays.add(index);
      position += 1;
    }
  });
  return stays;
}

function plain(node: Node | null): Json {
  if (node === null) return null;
  if (isAlias(node)) throw new EditError(t("this part uses anchors or aliases: edit it in the text"));
  return node.toJS(new Document()) as Json;
}
