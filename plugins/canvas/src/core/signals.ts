/** The signals of a rule set's text: read, and edited with the smallest edit of the text. */

import { readText, reconcile } from "./document";
import type { Schema } from "./schema";
import { type JsonObject, isObject } from "./value";
import { t } from "../i18n/t";

const NAME = /^[a-z][a-z0-9_]{0,62}$/;

/** Return the signals of a text by name; none of a text that is not YAML. */
export function signalsOf(text: string): Record<string, JsonObject> {
  const { value } = readText(text);
  if (!isObject(value) || !isObject(value.signals)) return {};
  return Object.fromEntries(Object.entries(value.signals).filter((entry): entry is [string, JsonObject] => isObject(entry[1])));
}

/** Return a text in which a signal has this configuration.
 *
 * @throws EditError where the text is not YAML, or uses anchors or tags there.
 */
export function withSignal(text: string, name: string, signal: JsonObject): string {
  const { value } = readText(text);
  const content = isObject(value) ? (value) : {};
  const signals = isObject(content.signals) ? (content.signals) : {};
  return reconcile(text, { ...content, signals: { ...signals, [name]: signal } });
}

/** Say what is wrong with a signal's name; empty: nothing. */
export function nameProblem(name: string): string {
  return NAME.test(name) ? "" : t("a name has at most 63 of a-z, 0-9 and _, and begins with a letter");
}

/** Return the schema of a kind's form: the kind itself is chosen beside it. */
export function signalForm(schema: Schema): Schema {
  const { kind: _kind, ...properties } = isObject(schema.properties) ? schema.properties : {};
  return { ...schema, properties };
}
