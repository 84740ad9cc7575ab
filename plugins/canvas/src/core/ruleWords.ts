/** Completion in a rule set's text: which words fit at the cursor. */

import { parseDocument } from "yaml";

import type { Schema } from "./schema";
import { isObject } from "./value";
import { t } from "../i18n/t";

export interface Suggestion {
  text: string;
  /** What it is, or how it is called. */
  detail: string;
}

export interface Completion {
  /** What is replaced: from here to the cursor. */
  from: number;
  suggestions: Suggestion[];
}

/** What a rule set can be made of, beside its own signals. */
export interface Vocabulary {
  functions: readonly { name: string; usage: string }[];
  measures: readonly { name: string; help: string }[];
  /** Kinds of signal: a field's format says whether it names columns or models, or is an expression. */
  kinds: readonly { name: string; config_schema: Schema }[];
  /** Columns of the table that it is tried on. */
  columns: readonly { name: string; type: string }[];
  /** Names of registered models. */
  models: readonly string[];
}

const MOST = 12;
const KEYWORDS = ["AND", "OR", "NOT", "IS NULL", "IS NOT NULL", "IN (", "BETWEEN", "LIKE", "ILIKE", "RLIKE", "CASE WHEN", "THEN", "ELSE", "END", "TRUE", "FALSE", "NULL"];
const RULE_KEYS = ["name", "when", "then", "severity", "reason", "description"];
/** What the keys of a rule set and of its rules take; those of signals are in the schemas of their kinds. */
const FORMATS: ReadonlyMap<string, string> = new Map([["when", "sql"], ["key", "column"]]);

/** Return the names of a rule set's signals, of a text that is not finished as well. */
export function signalNames(text: string): string[] {
  try {
    const value: unknown = parseDocument(text, { logLevel: "silent" }).toJS();
    return isObject(value) && isObject(value.signals) ? Object.keys(value.signals) : [];
  } catch {
    return [];
  }
}

/** Return what fits at the cursor; null: nothing does. `isAsked`: also before anything is typed. */
export function complete(
  text: string,
  caret: number,
  signals: readonly string[],
  words: Vocabulary,
  isAsked = false,
): Completion | null {
  const line = text.slice(text.lastIndexOf("\n", caret - 1) + 1, caret);
  const { key, value, isFlow } = placeIn(line);
  const prefix = /[A-Za-z_][\w.]*$|$/.exec(value)![0];
  if (key === "reason") {
    const open = /\{(\w*)$/.exec(value);
    return open ? fitting(caret, open[1]!, named(signals, t("signal")), true) : null;
  }
  const format = key === null ? undefined : (FORMATS.get(key) ?? formatOf(words, key));
  if (format === "model") {
    const known = words.models.map((name) => ({ text: `models:/${name}@champion`, detail: t("registered model") }));
    return fitting(caret, /[^\s"']*$/.exec(value)![0], known, true);
  }
  if (key === null) {
    const kind = /\bkind:\s*(\w+)/.exec(line)?.[1];
    const keys = kind === undefined ? (/^\s*- /.test(line) ? RULE_KEYS : []) : keysOf(words, kind);
    return isFlow ? fitting(caret, prefix, named(keys.filter((name) => !line.includes(`${name}:`)), "", ": "), isAsked) : null;
  }
  if (key === "kind") return fitting(caret, prefix, named(words.kinds.map((kind) => kind.name), t("kind of signal")), true);
  if (format === "measure") return fitting(caret, prefix, words.measures.map(({ name, help }) => ({ text: name, detail: help })), true);
  if (format === "column") {
    return fitting(caret, prefix, words.columns.map(({ name, type }) => ({ text: name, detail: type })), true);
  }
  if (format !== "sql" || isQuoted(value)) return null;
  const functions = words.functions.map(({ name, usage }) => ({ text: `${name}(`, detail: usage }));
  return fitting(caret, prefix, [...named(signals, t("signal")), ...functions, ...named(KEYWORDS, "")], isAsked);
}

function propertiesOf(schema: Schema): Record<string, unknown> {
  return isObject(schema.properties) ? schema.properties : {};
}

/** Return the keys of a kind of signal. */
function keysOf(words: Vocabulary, kind: string): string[] {
  const found = words.kinds.find(({ name }) => name === kind);
  return found === undefined ? [] : Object.keys(propertiesOf(found.config_schema)).filter((name) => name !== "kind");
}

/** Return what a key of a signal takes: the format of its text, or of the texts in its list. */
function formatOf(words: Vocabulary, key: string): string | undefined {
  for (const { config_schema } of words.kinds) {
    const format = textFormat(propertiesOf(config_schema)[key]);
    if (format !== undefined) return format;
  }
  return undefined;
}

function textFormat(schema: unknown): string | undefined {
  if (!isObject(schema)) return undefined;
  return typeof schema.format === "string" ? schema.format : textFormat(schema.items);
}

/** Return the key whose value the end of a line is in, and that value so far. */
function placeIn(line: string): { key: string | null; value: string; isFlow: boolean } {
  let key: string | null = null;
  let start = 0;
  let depth = 0;
  let quote = "";
  for (let index = 0; index < line.length; index += 1) {
    const sign = line[index]!;
    if (quote !== "") {
      if (sign === "\\" && quote === '"') index += 1;
      else if (sign === quote) quote = "";
    } else if (sign === "{" || sign === "}" || (sign === "," && depth > 0 && !line.slice(start, index).includes("["))) {
      depth += sign === "{" ? 1 : sign === "}" ? -1 : 0;
      [key, start] = [null, index + 1];
    } else if (sign === ":" && key === null && (line[index + 1] === " " || index === line.length - 1)) {
      const name = /([A-Za-z_]\w*)$/.exec(line.slice(start, index))?.[1];
      if (name !== undefined) [key, start] = [name, index + 1];
    } else if ((sign === '"' || sign === "'") && line.slice(start, index).trim() === "" && key !== null) {
      // Quotes count at the value's beginning; within an expression they are SQL's.
      quote = sign;
    }
  }
  return { key, value: line.slice(start), isFlow: depth > 0 };
}

/** Whether the end of an expression is inside a text of SQL. */
function isQuoted(value: string): boolean {
  const inside = value.trimStart().replace(/^["']/, "");
  return (inside.match(/'/g)?.length ?? 0) % 2 === 1;
}

function named(names: readonly string[], detail: string, after = ""): Suggestion[] {
  return names.map((name) => ({ text: name + after, detail }));
}

function fitting(caret: number, prefix: string, all: readonly Suggestion[], isEmptyFine: boolean): Completion | null {
  if (prefix === "" && !isEmptyFine) return null;
  const wanted = prefix.toLowerCase();
  const starts = all.filter(({ text }) => text.toLowerCase().startsWith(wanted));
  const contains = all.filter(({ text }) => !starts.some((item) => item.text === text) && text.toLowerCase().includes(wanted));
  const suggestions = [...starts, ...contains].slice(0, MOST);
  const isDone = suggestions.length === 1 && suggestions[0]!.text === prefix;
  return suggestions.length === 0 || isDone ? null : { from: caret - prefix.length, suggestions };
}
