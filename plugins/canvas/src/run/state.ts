/** How a run goes, as the graph shows it. */

import { type Sentence, t } from "../i18n/t";

/** A task of a run: a step, or a copy of it for a value. */
export interface TaskRun {
  task: string;
  /** Value that it is the copy for; null: there is one of the step. */
  value: string | null;
  /** Airflow's state of the task instance; empty: not scheduled yet. */
  state: string;
  /** Seconds; null: not started. */
  duration: number | null;
  /** What the node says of it: progress or figures, short enough for it. */
  line: string;
  /** The same with all that is known. */
  told: string;
  isReused: boolean;
  /** Page of the task's MLflow run; empty if it has none. */
  runUrl: string;
  /** Page of the task in Airflow, relative to its base. */
  logUrl: string;
  /** Number of the attempt, from 1. */
  attempt: number;
}

/** A step of a run: what its tasks are together. */
export interface StepRun {
  /** State of the first task below. */
  state: string;
  /** How many tasks are done. */
  done: number;
  /** One, or one for each value; those first that most need to be looked at. */
  tasks: readonly TaskRun[];
  line: string;
  told: string;
}

/** States that need to be looked at, the worst first; a skipped task needs nothing. */
const RANKS = ["failed", "upstream_failed", "awaiting_input", "up_for_retry", "running", "deferred", "queued", "scheduled", "", "success", "skipped"];

function rankOf({ state }: TaskRun): number {
  const rank = RANKS.indexOf(state);
  return rank < 0 ? RANKS.indexOf("scheduled") : rank;
}

/** Return what tasks are together. There is at least one. */
export function foldedRun(tasks: readonly TaskRun[]): StepRun {
  const ordered = tasks.toSorted((left, right) => rankOf(left) - rankOf(right));
  const told = ordered.find((task) => task.line !== "");
  return {
    state: ordered[0]?.state ?? "",
    done: tasks.filter((task) => task.state === "success").length,
    tasks: ordered,
    line: told ? [told.value, told.line].filter((part) => part !== null).join(": ") : "",
    told: told ? [told.value, told.told].filter((part) => part !== null).join(": ") : "",
  };
}

/** Return the runs of steps by their names in the pipeline. */
export function foldedRuns(tasks: readonly (readonly [string, TaskRun])[]): Map<string, StepRun> {
  const byStep = new Map<string, TaskRun[]>();
  for (const [step, task] of tasks) byStep.set(step, [...(byStep.get(step) ?? []), task]);
  return new Map([...byStep].map(([step, found]) => [step, foldedRun(found)]));
}

const WORDS: Record<string, Sentence> = {
  "": "waits",
  success: "done",
  running: "running",
  failed: "failed",
  queued: "queued",
  scheduled: "scheduled",
  up_for_retry: "retries",
  upstream_failed: "not run",
  skipped: "skipped",
  deferred: "waiting",
  awaiting_input: "waits for an answer",
};

export function stateWord(state: string): string {
  const known = WORDS[state];
  return known === undefined ? state : t(known);
}

/** Return a step's state in a word: of one task with its time, of several with how many are done. */
export function runWord({ state, tasks, done }: StepRun): string {
  const [first] = tasks;
  if (tasks.length > 1) return `${stateWord(state)} ${done}/${tasks.length}`;
  const word = first?.isReused === true ? t("reused") : stateWord(state);
  return first?.duration == null || state === "skipped" ? word : `${word} ${durationText(first.duration)}`;
}

/** Return how many tasks are in which state, such as "1 failed, 2 done". */
export function countsText(tasks: readonly TaskRun[]): string {
  const counts = new Map<string, number>();
  for (const { state } of tasks) counts.set(stateWord(state), (counts.get(stateWord(state)) ?? 0) + 1);
  return [...counts].map(([word, count]) => `${count} ${word}`).join(", ");
}

export function durationText(seconds: number | null): string {
  if (seconds === null) return "";
  if (seconds < 60) return t("{n} s", { n: seconds.toFixed(seconds < 10 ? 1 : 0) });
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  return t("{hours} h {minutes} min", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}

/** Whether a text is an address that a link may lead to. */
export function isWebAddress(text: string): boolean {
  try {
    return ["http:", "https:"].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}
