/** Two runs side by side: parameters, figures and data versions, what differs first. */

import { t, word } from "../i18n/t";
import { isObject } from "./value";

/** What is compared of a run. */
export interface RunFacts {
  params: Readonly<Record<string, unknown>>;
  digest: string | null;
  /** Figures by step. */
  metrics: Readonly<Record<string, Readonly<Record<string, number>>>>;
  nodes: readonly { step: string; state: string | null; duration: number | null; outputs: Readonly<Record<string, unknown>> }[];
}

export interface Line {
  /** Step; empty: the run as a whole. */
  step: string;
  name: string;
  left: string;
  right: string;
  differs: boolean;
  /** Right less left, where both are numbers and differ. */
  change: number | null;
}

export interface Comparison {
  parameters: Line[];
  data: Line[];
  figures: Line[];
  steps: Line[];
}

export function compareRuns(left: RunFacts, right: RunFacts): Comparison {
  return {
    parameters: lines([["", t("pipeline (digest)"), left.digest?.slice(0, 12), right.digest?.slice(0, 12)], ...pairs("", left.params, right.params)]),
    data: lines(stepPairs(dataOf(left), dataOf(right))),
    figures: lines(stepPairs(left.metrics, right.metrics)),
    steps: lines(stepPairs(statesOf(left), statesOf(right))),
  };
}

type Pair = readonly [string, string, unknown, unknown];

function pairs(step: string, left: Readonly<Record<string, unknown>>, right: Readonly<Record<string, unknown>>): Pair[] {
  return [...new Set([...Object.keys(left), ...Object.keys(right)])].map((name) => [step, name, left[name], right[name]]);
}

type BySteps = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

function stepPairs(left: BySteps, right: BySteps): Pair[] {
  return [...new Set([...Object.keys(left), ...Object.keys(right)])].flatMap((step) => pairs(step, left[step] ?? {}, right[step] ?? {}));
}

/** Tables, datasets and models that left the steps: place and version. */
function dataOf(run: RunFacts): BySteps {
  return Object.fromEntries(
    run.nodes.map(({ step, outputs }) => [
      step,
      Object.fromEntries(
        Object.entries(outputs).flatMap(([port, value]) =>
          isObject(value) && typeof value.uri === "string" ? [[port, typeof value.version === "number" ? t("{uri}, version {version}", { uri: value.uri, version: value.version }) : value.uri]] : [],
        ),
      ),
    ]),
  );
}

function statesOf(run: RunFacts): BySteps {
  return Object.fromEntries(run.nodes.map(({ step, state }) => [step, { state: word(state ?? "waiting") }]));
}

function lines(found: readonly Pair[]): Line[] {
  const all = found.map(([step, name, left, right]): Line => {
    const differs = JSON.stringify(left) !== JSON.stringify(right);
    const change = differs && typeof left === "number" && typeof right === "number" ? right - left : null;
    return { step, name, left: shown(left), right: shown(right), differs, change };
  });
  return [...all.filter((line) => line.differs), ...all.filter((line) => !line.differs)];
}

function shown(value: unknown): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "number") return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(6)));
  return typeof value === "string" ? value : JSON.stringify(value);
}
