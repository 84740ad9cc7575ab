/** What a gate's report names, in the language of the page: reports are written in English. */

import { type Sentence, t } from "../i18n/t";

/** Kinds of checks, what they measure, and what they compare with. */
const NAMES: ReadonlySet<string> = new Set<Sentence>([
  ...(["metric", "class", "baseline", "recall", "floor", "quarter", "drift", "slice", "latency", "size"] as const),
  ...(["calibration", "decisions", "classes", "scores", "lineage", "accuracy", "exact", "bias"] as const),
  ...(["challenger", "champion", "parent", "start of the chain", "majority class", "mean"] as const),
  ...(["calibration error", "p95 of one text", "share of right decisions"] as const),
  ...(["accepted size", "accepted latency", "accepted calibration error"] as const),
  ...(["answers", "labels by hand", "accuracy on labels by hand"] as const),
  "mean error in standard deviations of the labels",
  "lowest and highest quarter",
  "the lowest quarter of labels",
  "the highest quarter of labels",
  "number of classes that are lost",
  "number of rows whose scores are no numbers",
  "number of things that the model does not say of its origin",
]);
const isName = (text: string): text is Sentence => NAMES.has(text);

/** Names with a part of the user's own, such as a class. */
const PATTERNS: readonly (readonly [RegExp, (name: string, more: string) => string])[] = [
  [/^class (.+)$/s, (name) => t("class {name}", { name })],
  [/^labeller (.+)$/s, (name) => t("labeller {name}", { name })],
  [/^version (\d+)$/, (version) => t("version {version}", { version })],
  [/^drop since (.+)$/s, (name) => t("drop since {name}", { name: gateWords(name) })],
  [/^better than (.+)$/s, (name) => t("better than {name}", { name: gateWords(name) })],
  [/^(.+) \+ linear SVM \((.+)\)$/s, (source, counted) => t("{source} + linear SVM ({counted})", { source: counts(source), counted: counts(counted) })],
  [/^(.+) \+ ridge regression \((.+)\)$/s, (source, counted) => t("{source} + ridge regression ({counted})", { source: counts(source), counted: counts(counted) })],
];

/**
 * Say what a check compares and with what: `class sport, champion`.
 *
 * Names that come from the user's data stay as they are, and so does what a later version has added.
 */
export function gateWords(text: string): string {
  if (isName(text)) return t(text);
  // A class may have a comma in its name: what it is compared with comes last, and is a name of the gate's.
  const [, part, other] = /^(.+), ([^,]+)$/s.exec(text) ?? [];
  if (part !== undefined && other !== undefined && said(other) !== null) return t("{part}, {other}", { part: said(part) ?? part, other: said(other) });
  return said(text) ?? text;
}

function said(text: string): string | null {
  if (isName(text)) return t(text);
  for (const [pattern, say] of PATTERNS) {
    const [, own, more = ""] = pattern.exec(text) ?? [];
    if (own !== undefined) return say(own, more);
  }
  return null;
}

const COUNTED: ReadonlySet<string> = new Set<Sentence>(["words", "pixels", "statistics", "statistics and a thumbnail"]);
const isCounted = (text: string): text is Sentence => COUNTED.has(text);

/** Say what a baseline counts in a text or an image. */
function counts(name: string): string {
  const [, least, most] = /^characters (\d+) to (\d+)$/.exec(name) ?? [];
  if (least !== undefined) return t("characters {least} to {most}", { least, most });
  return isCounted(name) ? t(name) : name;
}

const TOO_SMALL = /^too small to judge: (\d+) test rows, and (\d+) are needed$/;

/** Say what was not judged, and why. */
export function notJudgedSentence(name: string, reason: string): string {
  const [, rows, needed] = TOO_SMALL.exec(reason) ?? [];
  const part = gateWords(name);
  if (rows === undefined) return t("{name}: {reason}", { name: part, reason });
  return t("{name}: too small to judge: {rows} test rows, and {needed} are needed", { name: part, rows, needed });
}
