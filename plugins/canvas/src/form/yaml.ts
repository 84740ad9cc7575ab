/** What is typed into YAML fields, read and written as the pipeline's text is. */

import { createContext } from "react";
import { parse, stringify } from "yaml";

import type { FieldPath, Unfinished } from "../core/unfinished";
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

/** Where a form's unfinished texts are kept. */
export interface UnfinishedStore {
  find: (path: FieldPath, value: unknown) => Unfinished | null;
  keep: (path: FieldPath, value: unknown, unfinished: Unfinished | null) => void;
}

/** null: they go with their form. */
export const UnfinishedContext = createContext<UnfinishedStore | null>(null);
