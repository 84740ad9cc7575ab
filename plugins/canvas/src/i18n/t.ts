/**
 * What the page says, in the language that Airflow shows its own pages in.
 *
 * The English sentences in the code are the keys of the catalogue: a sentence that it lacks does not compile.
 */

import type sentences from "./zh-CN.json";

export type Sentence = keyof typeof sentences;
export type Values = Readonly<Record<string, string | number | null | undefined>>;

let catalogue: Readonly<Record<string, string>> = {};

/** Speak another language: its sentences by the English ones; none: English. */
export function speak(sentencesByKey: Readonly<Record<string, string>>): void {
  catalogue = sentencesByKey;
}

/** Return the catalogue of the language that is spoken; of English it is empty. */
export function spoken(): Readonly<Record<string, string>> {
  return catalogue;
}

/** Say a sentence, with values where its `{names}` stand. */
export function t(sentence: Sentence, values: Values = {}): string {
  return filled(catalogue[sentence] ?? sentence, values);
}

/** Say how many: `one` for 1, `many` for every other number, which is their `{n}`. */
export function plural(n: number, one: Sentence, many: Sentence, values: Values = {}): string {
  return t(n === 1 ? one : many, { n: n.toLocaleString(), ...values });
}

/** Say a word that comes from Python or from Airflow, such as a component's title; one that is not known stays. */
export function word(text: string): string {
  return catalogue[text] ?? text;
}

function filled(text: string, values: Values): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name] ?? "") : whole));
}
