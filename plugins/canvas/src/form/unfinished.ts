/** What is typed into YAML fields: read as the pipeline's text is, and kept while it is not YAML yet. */

import { createContext } from "react";
import { parse, stringify } from "yaml";

import { YAML_OPTIONS } from "../core/writing";

/** Return what a text stands for, a date as a text; nothing: undefined.
 *
 * @throws Error where it is not YAML.
 */
export function readYaml(text: string): unknown {
  return text.trim() === "" ? undefined : parse(text, YAML_OPTIONS);
}

export function writeYaml(value: unknown): string {
  return stringify(value, { ...YAML_OPTIONS, lineWidth: 0 });
}

/** A text that is not YAML yet, and what is wrong with it. */
export interface Unfinished {
  text: string;
  problem: string;
}

/** Unfinished texts by the id of their field, each as long as the field has the value that it had. */
export class UnfinishedTexts {
  private readonly texts = new Map<string, Unfinished & { beside: string | undefined }>();

  keep(field: string, value: unknown, unfinished: Unfinished): void {
    this.texts.set(field, { ...unfinished, beside: JSON.stringify(value) });
  }

  of(field: string, value: unknown): Unfinished | null {
    const found = this.texts.get(field);
    if (found === undefined) return null;
    return found.beside === JSON.stringify(value) ? found : null;
  }

  drop(field: string): void {
    this.texts.delete(field);
  }
}

/** Where unfinished texts are kept when their form goes away; null: they go with it. */
export const UnfinishedContext = createContext<UnfinishedTexts | null>(null);
