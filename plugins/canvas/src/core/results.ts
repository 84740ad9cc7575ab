/** What the reports of a run say, read with care: a report may come from an earlier or later version. */

import { gateWords, notJudgedSentence } from "./gateWords";
import { type Figure, type Rival, baselineName, standingOf } from "./rivals";
import { isObject } from "./value";
import { t } from "../i18n/t";

type Fields = Record<string, unknown>;

const fieldsOf = (value: unknown): Fields => (isObject(value) ? value : {});
const listOf = (value: unknown): Fields[] => (Array.isArray(value) ? value.map(fieldsOf) : []);
const textOf = (value: unknown): string => (typeof value === "string" ? value : "");
const numberOf = (value: unknown): number | null => (typeof value === "number" ? value : null);
const countOf = (value: unknown): number => numberOf(value) ?? 0;

function countsOf(value: unknown): [string, number][] {
  return Object.entries(fieldsOf(value)).map(([name, count]) => [name, countOf(count)]);
}

/** What became of the rows that a dataset was built of. */
export interface DatasetFacts {
  source: string;
  rowsIn: number;
  rowsOut: number;
  /** Where the rest went, and how many rows each way took, the most first. */
  lost: [string, number][];
  splits: [string, number][];
  /** Rows by label and class, the most first. */
  classes: [string, [string, number][]][];
  /** Rows by length of the text: characters, at least. */
  lengths: [number, number][];
}

export function datasetFacts(content: unknown): DatasetFacts | null {
  const report = fieldsOf(content);
  if (numberOf(report.rows_in) === null || numberOf(report.rows_out) === null) return null;
  const near = countOf(report.near_duplicates);
  const leaks = countOf(report.leaks);
  const lost: [string, number][] = [
    ...countsOf(report.reasons).map(([reason, rows]): [string, number] => [t("quarantined: {reason}", { reason }), rows]),
    [t("the same as another row, or as its copy in the test split"), countOf(report.duplicates) - near],
    [t("nearly the same as another row, or as its copy in the test split"), near],
  ];
  const lengths = new Map<number, number>();
  for (const [, byLength] of Object.entries(fieldsOf(report.lengths))) {
    for (const [length, rows] of countsOf(byLength)) lengths.set(Number(length), (lengths.get(Number(length)) ?? 0) + rows);
  }
  const told = lost.filter(([, rows]) => rows > 0);
  if (leaks > 0) told.push([t("of these copies: in the shipped test split"), leaks]);
  return {
    source: textOf(report.source),
    rowsIn: countOf(report.rows_in),
    rowsOut: countOf(report.rows_out),
    lost: told,
    splits: countsOf(report.splits),
    classes: Object.entries(fieldsOf(report.classes)).map(([label, classes]) => [
      label,
      Object.entries(fieldsOf(classes))
        .map(([name, splits]): [string, number] => [name, countsOf(splits).reduce((sum, [, rows]) => sum + rows, 0)])
        .sort((left, right) => right[1] - left[1]),
    ]),
    lengths: [...lengths].sort((left, right) => left[0] - right[0]),
  };
}

/** A model, or a baseline, in an evaluation. */
export interface Judged {
  name: string;
  uri: string;
  metric: string;
  value: number;
  low: number;
  high: number;
  isShare: boolean;
  sizeMb: number | null;
  documentsPerSecond: number | null;
  isBaseline: boolean;
  /** Of a model: by how much it is better than the best baseline; null: the report does not say. */
  over: { value: number; low: number; high: number } | null;
}

export interface ClassFacts {
  name: string;
  rows: number;
  precision: number;
  recall: number;
}

export interface EvaluationFacts {
  label: string;
  rows: number;
  confidence: number;
  /** Models in the order of the step's inputs, then the baselines. */
  judged: Judged[];
  /** Quality by class, by the model's name. */
  classes: ReadonlyMap<string, ClassFacts[]>;
}

const NUMBERS = new Set(["r2", "rmse", "mae"]);

export function evaluationFacts(content: unknown): EvaluationFacts | null {
  const report = fieldsOf(content);
  if (!Array.isArray(report.models) || !Array.isArray(report.baselines)) return null;
  const rows = countOf(report.rows);
  const classes = new Map<string, ClassFacts[]>();
  for (const one of listOf(report.per_class)) classes.set(textOf(one.model), [...(classes.get(textOf(one.model)) ?? []), classOf(one)]);
  const [known = []] = classes.values();
  const models = listOf(report.models);
  const judged = [...models, ...listOf(report.baselines)].flatMap((one, index): Judged[] => {
    const score = scoreOf(one);
    if (score === null) return [];
    const isBaseline = index >= models.length;
    const over = fieldsOf(one.over_baseline);
    const [value, low, high] = [numberOf(over.value), numberOf(over.low), numberOf(over.high)];
    return [
      {
        ...score,
        isBaseline,
        over: value === null || low === null || high === null ? null : { value, low, high },
        name: isBaseline && score.metric === "accuracy" ? baselineName(textOf(one.name), score.value, rows, known) : textOf(one.name),
        uri: textOf(one.uri),
        isShare: !NUMBERS.has(score.metric),
        sizeMb: numberOf(one.size_mb),
        documentsPerSecond: numberOf(one.documents_per_second),
      },
    ];
  });
  return { label: textOf(report.label), rows, confidence: numberOf(report.confidence) ?? 0.95, judged, classes };
}

/** Return the best baseline beside one of the models; null: none was measured. */
export function rivalOf({ judged }: EvaluationFacts, own: Judged): Rival | null {
  const baselines = judged.filter((one) => one.isBaseline && one.metric === own.metric);
  const [best] = baselines.toSorted((left, right) => right.value - left.value);
  if (best === undefined || own.isBaseline) return null;
  // Reports of one class a row leave the interval of the difference out: the model's own says less.
  const rough = standingOf(best.value - own.value, best.low - own.high, best.value - own.low);
  const standing = own.over ? standingOf(-own.over.value, -own.over.high, -own.over.low) : rough === "close" ? "near" : rough;
  return { name: best.name, value: best.isShare ? shareText(best.value) : best.value.toPrecision(3), standing };
}

/** Return a model's figure, written out. */
export function figureOf({ metric, value, low, high, isShare }: Judged): Figure {
  const texts = [value, low, high].map((one) => (isShare ? (100 * one).toFixed(1) : one.toPrecision(3)));
  return { metric, value: isShare ? shareText(value) : texts[0]!, low: texts[1]!, high: texts[2]! };
}

/** The first metric of a result: in a list of scores, or, where a row has one class, as fields of its own. */
function scoreOf(one: Fields): Pick<Judged, "metric" | "value" | "low" | "high"> | null {
  const [first] = listOf(one.scores);
  const metric = first ? textOf(first.metric) : (Object.keys(one).find((name) => `${name}_low` in one) ?? "");
  const [value, low, high] = first ? [first.value, first.low, first.high] : [one[metric], one[`${metric}_low`], one[`${metric}_high`]];
  if (typeof value !== "number") return null;
  return { metric, value, low: numberOf(low) ?? value, high: numberOf(high) ?? value };
}

function classOf(one: Fields): ClassFacts {
  return { name: textOf(one.name), rows: countOf(one.rows), precision: countOf(one.precision), recall: countOf(one.recall) };
}

/** One thing that a gate looked at. */
export interface Check {
  check: string;
  name: string;
  verdict: "passed" | "refused" | "warning" | "too small to judge";
  figure: string;
  other: string;
  limit: string;
  sentence: string;
}

export interface Mistake {
  /** By which the row is found in its table; empty: the report is from before they were told. */
  key: string;
  text: string;
  label: string;
  answer: string;
  score: number | null;
}

export interface GateFacts {
  passed: boolean;
  challenger: string;
  champion: string;
  note: string;
  rows: number;
  /** The challenger's figure; null: nothing was measured. */
  figure: Figure | null;
  /** The best baseline; null: none was measured. */
  rival: Rival | null;
  /** What was not judged, and why: a sentence each. */
  notJudged: string[];
  /** Those that refuse first, then warnings. */
  checks: Check[];
  classes: ClassFacts[];
  /** Label, answer, rows. */
  confusions: [string, string, number][];
  /** The worst first. */
  mistakes: Mistake[];
}

export function gateFacts(content: unknown): GateFacts | null {
  const report = fieldsOf(content);
  if (typeof report.passed !== "boolean" || !Array.isArray(report.checks)) return null;
  const rows = countOf(report.rows);
  const classes = listOf(report.classes).map(classOf);
  const given = listOf(report.checks).map((one) => ({ ...one, name: one.check === "baseline" && one.metric === "accuracy" ? baselineName(textOf(one.name), countOf(one.other), rows, classes) : one.name }));
  const checks = given.map(checkOf);
  const rank = (check: Check): number => ["refused", "warning", "too small to judge", "passed"].indexOf(check.verdict);
  return {
    passed: report.passed,
    challenger: textOf(report.challenger),
    champion: textOf(report.champion),
    note: textOf(report.note),
    rows,
    figure: challengerOf(listOf(report.chain).at(-1)),
    rival: gateRival(given),
    notJudged: [
      ...listOf(report.not_judged).map((one) => notJudgedSentence(textOf(one.name), textOf(one.reason))),
      ...given.filter((one: Fields) => one.too_small === true).map((one: Fields) => t("{name}: too small to judge: {rows} test rows", { name: gateWords(textOf(one.name)), rows: countOf(one.rows).toLocaleString() })),
    ],
    checks: checks.toSorted((left, right) => rank(left) - rank(right)),
    classes,
    confusions: (Array.isArray(report.confusions) ? report.confusions : []).flatMap((one): [string, string, number][] =>
      Array.isArray(one) ? [[textOf(one[0]), textOf(one[1]), countOf(one[2])]] : [],
    ),
    mistakes: listOf(report.mistakes).map((one) => ({
      key: textOf(one.key),
      text: unquoted(textOf(one.text)),
      label: textOf(one.label),
      answer: textOf(one.answer),
      score: numberOf(one.score),
    })),
  };
}

/** Reports hold texts as Python writes them; a text with no sign of that inside is shown without its quotes. */
function unquoted(text: string): string {
  const [, quote = "", inside = text] = /^(['"])(.*)\1$/s.exec(text) ?? [];
  return quote !== "" && (inside.includes("\\") || inside.includes(quote)) ? text : inside;
}

/** The challenger is the last model of its chain. */
function challengerOf(link: Fields | undefined): Figure | null {
  const [value, low, high] = [numberOf(link?.value), numberOf(link?.low), numberOf(link?.high)];
  if (link === undefined || value === null || low === null || high === null) return null;
  const unit = textOf(link.unit);
  const end = (one: number): string => (unit === "share" ? (100 * one).toFixed(1) : figureText(one, unit));
  return { metric: textOf(link.metric), value: figureText(value, unit), low: end(low), high: end(high) };
}

/** Return the baseline that the challenger does worst against, whichever way its metric counts. */
function gateRival(checks: readonly Fields[]): Rival | null {
  const baselines = checks.filter((one) => one.check === "baseline" && numberOf(one.other) !== null && numberOf(one.drop) !== null);
  const [best] = baselines.toSorted((left, right) => countOf(right.drop) - countOf(left.drop));
  if (best === undefined) return null;
  const standing = standingOf(countOf(best.drop), numberOf(best.low), numberOf(best.high));
  return { name: textOf(best.name), value: figureText(numberOf(best.other), textOf(best.unit)), standing };
}

function checkOf(one: Fields): Check {
  const unit = textOf(one.unit);
  const other = numberOf(one.other);
  const limit = numberOf(one.limit);
  const isTooSmall = one.too_small === true;
  return {
    check: gateWords(textOf(one.check)),
    name: gateWords(textOf(one.name)),
    verdict: one.passed !== true ? "refused" : isTooSmall ? "too small to judge" : one.warning === true ? "warning" : "passed",
    figure: `${gateWords(textOf(one.metric))} ${figureText(numberOf(one.challenger), unit)}`.trim(),
    other: other === null ? "" : figureText(other, unit),
    limit: limit === null ? "" : other === null ? (one.at_least === true ? t("at least {limit}", { limit: figureText(limit, unit) }) : t("at most {limit}", { limit: figureText(limit, unit) })) : t("{limit} worse", { limit: figureText(limit, unit) }),
    sentence: textOf(one.sentence),
  };
}

/** Return a number of a gate with its unit. */
export function figureText(value: number | null, unit: string): string {
  if (value === null) return "";
  if (unit === "share") return shareText(value);
  if (unit === "score") return value.toFixed(3);
  return unit === "count" ? value.toFixed(0) : `${value.toPrecision(3)} ${unit}`.trim();
}

export function shareText(value: number): string {
  return `${(100 * value).toFixed(1)} %`;
}

/** Return a score with its confidence interval. */
export function scoreText({ value, low, high, isShare }: Pick<Judged, "value" | "low" | "high" | "isShare">): string {
  if (!isShare) return t("{value} ({low} to {high})", { value: value.toPrecision(3), low: low.toPrecision(3), high: high.toPrecision(3) });
  return t("{value} ({low} to {high})", { value: shareText(value), low: (100 * low).toFixed(1), high: (100 * high).toFixed(1) });
}

/** A model that a search for a small one has made and measured. */
export interface Candidate {
  name: string;
  quality: string;
  sizeMb: number;
  speedRatio: number;
  isChosen: boolean;
  /** On the front: no other is at least as good, fast and small, and better in one of them. */
  isBest: boolean;
  /** The limits that it breaks. */
  broken: string[];
}

export interface CompressionFacts {
  candidates: number;
  trained: number;
  points: Candidate[];
}

export function compressionFacts(content: unknown): CompressionFacts | null {
  const report = fieldsOf(content);
  if (!Array.isArray(report.points)) return null;
  const isShare = report.is_share !== false;
  return {
    candidates: countOf(report.candidates),
    trained: countOf(report.trained),
    points: listOf(report.points).map((point) => ({
      name: textOf(point.name),
      quality: scoreText({ value: countOf(point.quality), low: countOf(point.quality_low), high: countOf(point.quality_high), isShare }),
      sizeMb: countOf(point.size_mb),
      speedRatio: countOf(point.speed_ratio),
      isChosen: point.chosen === true,
      isBest: point.pareto === true,
      broken: Array.isArray(point.broken) ? point.broken.map(textOf) : [],
    })),
  };
}

/** Lines that a report has for people: alarms of monitoring, reasons of a gate of rules. */
export function saidLines(content: unknown): string[] {
  const report = fieldsOf(content);
  return [report.alarms, report.reasons].flatMap((lines) => (Array.isArray(lines) ? lines.map(textOf) : [])).filter((line) => line !== "");
}
