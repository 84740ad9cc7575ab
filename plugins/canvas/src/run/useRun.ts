import { useEffect, useState } from "react";

import { ApiError, type RunNode, type RunView, api } from "../api/client";
import { pointsOf } from "../core/pareto";
import { toldOf } from "./progress";
import { type StepRun, type TaskRun, foldedRuns } from "./state";
import { plural, t } from "../i18n/t";

const POLL = 2500;
const NO_STEPS: ReadonlyMap<string, StepRun> = new Map();

export interface FollowedRun {
  run: RunView | null;
  steps: ReadonlyMap<string, StepRun>;
  error: string;
}

const NOTHING: FollowedRun = { run: null, steps: NO_STEPS, error: "" };

/** Follow a run until it has ended; a run from the past is read once. `round` begins anew. */
export function useRun(dagId: string | null, runId: string | null, round = 0): FollowedRun {
  const key = `${dagId ?? ""} ${runId ?? ""}`;
  const [state, setState] = useState<{ key: string; view: FollowedRun }>({ key, view: NOTHING });
  useEffect(() => {
    if (dagId === null || runId === null) return;
    const controller = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let measured = { finished: 0, lines: new Map<string, string>() };
    const follow = async (): Promise<void> => {
      let isOver = false;
      try {
        const run = await api.run(dagId, runId, controller.signal);
        const tasks = await Promise.all(run.nodes.map((node) => taskOf(dagId, runId, node, controller.signal)));
        const finished = run.nodes.filter((node) => node.state === "success").length;
        if (finished !== measured.finished) measured = { finished, lines: await figuresOf(dagId, runId) };
        for (const [, task] of tasks) if (task.line === "") task.line = task.told = measured.lines.get(task.task) ?? "";
        setState({ key, view: { run, steps: foldedRuns(tasks), error: "" } });
        isOver = isFinished(run);
      } catch (error) {
        if (controller.signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        setState((before) => ({ key, view: { ...(before.key === key ? before.view : NOTHING), error: error.message } }));
      }
      if (!isOver) timer = setTimeout(() => void follow(), POLL);
    };
    void follow();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [dagId, runId, key, round]);
  return state.key === key ? state.view : NOTHING;
}

export function isFinished(run: RunView): boolean {
  return run.state === "success" || run.state === "failed";
}

/** Return a task with the name of its step in the pipeline. */
async function taskOf(dagId: string, runId: string, node: RunNode, signal: AbortSignal): Promise<[string, TaskRun]> {
  const isRunning = node.state === "running";
  // A step that waits for others, as for batches of a language model, has said what for.
  const { line, told } = isRunning || node.state === "deferred" ? await saidBy(dagId, runId, node.step, signal) : { line: "", told: "" };
  const sofar = isRunning && node.start !== null ? (Date.now() - Date.parse(node.start)) / 1000 : null;
  return [
    node.of,
    {
      task: node.step,
      value: node.value,
      state: node.state ?? "",
      duration: node.duration ?? sofar,
      line,
      told,
      isReused: node.reused === true,
      runUrl: node.mlflow_url,
      logUrl: node.log_url,
      attempt: node.try_number,
    },
  ];
}

async function saidBy(dagId: string, runId: string, step: string, signal: AbortSignal): Promise<{ line: string; told: string }> {
  try {
    const { progress, said } = await api.log(dagId, runId, step, signal, 1);
    return toldOf(progress, said);
  } catch (error) {
    // A log that is not there yet, or not for this user: the state alone is shown.
    if (error instanceof ApiError) return { line: "", told: "" };
    throw error;
  }
}

/** Return one line for each task that something was measured of: rows of datasets, quality and size of models. */
async function figuresOf(dagId: string, runId: string): Promise<Map<string, string>> {
  const lines = new Map<string, string>();
  try {
    const steps = await api.runMetrics(dagId, runId);
    for (const [name, { metrics }] of Object.entries(steps)) lines.set(name, lineOf(metrics));
    for (const point of pointsOf(steps)) {
      const size = `${point.sizeMb.toFixed(1)} MB`;
      lines.set(point.name, t("{accuracy}, {size}, {speed} docs/s", { accuracy: `${(100 * point.accuracy).toFixed(1)} %`, size, speed: Math.round(point.documentsPerSecond).toLocaleString() }));
    }
  } catch (error) {
    // MLflow does not answer: the run is shown without its figures.
    if (!(error instanceof ApiError)) throw error;
  }
  return lines;
}

function lineOf(metrics: Readonly<Record<string, number>>): string {
  const { rows_in: read, rows_out: rows, validation_accuracy: accuracy, bytes } = metrics;
  if (rows !== undefined && read !== undefined && read > rows) return t("{rows} of {read} rows", { rows: rows.toLocaleString(), read: read.toLocaleString() });
  if (rows !== undefined) return plural(rows, "1 row", "{n} rows");
  if (accuracy !== undefined) return t("validation {share}", { share: `${(100 * accuracy).toFixed(1)} %` });
  if (bytes !== undefined) return `${(bytes / 1e6).toFixed(1)} MB`;
  return "";
}
