/** What the server says of errors and states, in the language of the page: sentence by sentence, as far as they are known. */

import { spoken } from "./t";

/** Marks the server's sentences in a catalogue: they have `{}` where a value stands, and their translations `{1}`, `{2}`. */
const MARK = "server: ";
const SEPARATOR = "; ";

interface Template {
  pattern: RegExp;
  text: string;
}

let templates: readonly Template[] = [];
let made: unknown = null;

/** Say what the server said in English. A sentence that the catalogue lacks stays as it is, and so do all values. */
export function said(message: string): string {
  const catalogue = spoken();
  if (made !== catalogue) {
    made = catalogue;
    templates = templatesOf(catalogue);
  }
  if (templates.length === 0) return message;
  const parts = message.split(SEPARATOR).map((part) => ({ part, text: translated(part) }));
  return parts.reduce((before, { part, text }, index) => {
    const isBetween = text !== null && parts[index - 1]?.text != null;
    return `${before}${index === 0 ? "" : isBetween ? "；" : SEPARATOR}${text ?? part}`;
  }, "");
}

function translated(part: string): string | null {
  for (const { pattern, text } of templates) {
    const values = pattern.exec(part);
    if (values) return text.replace(/\{(\d)\}/g, (_, place: string) => values[Number(place)] ?? "");
  }
  return null;
}

/** The templates of a catalogue, those first that say most. */
function templatesOf(catalogue: Readonly<Record<string, string>>): Template[] {
  return Object.entries(catalogue)
    .filter(([key]) => key.startsWith(MARK))
    .map(([key, text]) => ({ english: key.slice(MARK.length), text }))
    .toSorted((left, right) => literal(right.english) - literal(left.english))
    .map(({ english, text }) => ({ pattern: new RegExp(`^${english.split("{}").map(escaped).join("(.+?)")}$`, "s"), text }));
}

function literal(english: string): number {
  return english.replaceAll("{}", "").length;
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
