/** What is said first of a model: how often it is right, and whether something simpler does as well. */

import { gateWords } from "./gateWords";
import { t } from "../i18n/t";

/** A figure with its interval, written out. */
export interface Figure {
  metric: string;
  value: string;
  low: string;
  high: string;
}

/**
 * The best baseline beside a model. `ahead`: better beyond chance; `close`: worse, within chance; `near`: worse, within
 * the model's own interval, and nobody has measured the interval of the difference.
 */
export interface Rival {
  name: string;
  value: string;
  standing: "ahead" | "level" | "close" | "near" | "behind";
}

/**
 * Return where a baseline stands, by how much worse than it the model is.
 *
 * `low` and `high` are the ends of the interval of that; null: nobody has measured them.
 */
export function standingOf(drop: number, low: number | null, high: number | null): Rival["standing"] {
  if (low !== null && low > 0) return "ahead";
  if (drop >= 0) return "level";
  return high !== null && high >= 0 ? "close" : "behind";
}

export function figureSentence({ metric, value, low, high }: Figure, rows: number): string {
  const values = { metric, value, low, high, rows: rows.toLocaleString() };
  if (metric === "accuracy") return t("{value} right on {rows} test rows ({low} to {high}).", values);
  return t("{metric} {value} on {rows} test rows ({low} to {high}).", { ...values, metric: gateWords(metric) });
}

export function rivalSentence({ name, value, standing }: Rival): string {
  const values = { name: gateWords(name), value };
  if (standing === "ahead") return t("{name} does better on these rows: {value}.", values);
  if (standing === "level") return t("{name} does as well on these rows: {value}.", values);
  if (standing === "close") return t("{name} may do as well: {value}, and these rows do not tell them apart.", values);
  if (standing === "near") return t("{name} comes near: {value}, within the interval of the model.", values);
  return t("The best baseline, {name}: {value}.", values);
}

/**
 * Return a baseline's name, with its class where it gives the same answer to every row.
 *
 * It is right on the rows of that class alone, so its share names the class, unless two have as many rows.
 */
export function baselineName(name: string, share: number, rows: number, classes: readonly { name: string; rows: number }[]): string {
  if (name !== "majority class") return name;
  const given = classes.filter((one) => Math.abs(one.rows - share * rows) < 1e-6 * Math.max(1, rows));
  return given.length === 1 ? t("majority class ({name})", { name: given[0]!.name }) : name;
}
