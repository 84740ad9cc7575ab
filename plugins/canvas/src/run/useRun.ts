import { useEffect, useState } from "react";

import { ApiError, type RunNode, type RunView, api } from "../api/client";
import { pointsOf } from "../pages/Pareto";
import { type StepRun } from "./state";

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
        const steps = await Promise.all(run.nodes.map((node) => stepOf(dagId, runId, node, controller.signal)));
        const finished = run.nodes.filter((node) => node.state === "success").length;
        if (finished !== measured.finished) measured = { finished, lines: await figuresOf(dagId, runId) };
        for (const [name, step] of steps) if (step.line === "") step.line = measured.lines.get(name) ?? "";
        setState({ key, view: { run, steps: new Map(steps), error: "" } });
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

async function stepOf(dagId: string, runId: string, node: RunNode, signal: AbortSignal): Promise<[string, StepRun]> {
  const isRunning = node.state === "running";
  const progress = isRunning ? await progressOf(dagId, runId, node.step, signal) : null;
  const sofar = isRunning && node.start !== null ? (Date.now() - Date.parse(node.start)) / 1000 : null;
  return [
    node.step,
    {
      state: node.state ?? "",
      duration: node.duration ?? sofar,
      progress: progress?.share ?? null,
      line: progress?.text ?? "",
      isReused: node.reused === true,
      runUrl: node.mlflow_url,
      logUrl: node.log_url,
      attempt: node.try_number,
    },
  ];
}

async function progressOf(dagId: string, runId: string, step: string, signal: AbortSignal) {
  try {
    return (await api.log(dagId, runId, step, signal, 200)).progress;
  } catch (error) {
    // A log that is not there yet, or not for this user: the state alone is shown.
    if (error instanceof ApiError) return null;
    throw error;
  }
}

/** Return one line for each step that something was measured of: rows of datasets, quality and size of models. */
async function figuresOf(dagId: string, runId: string): Promise<Map<string, string>> {
  const lines = new Map<string, string>();
  try {
    const steps = await api.runMetrics(dagId, runId);
    for (const [name, { metrics }] of Object.entries(steps)) lines.set(name, lineOf(metrics));
    for (const point of pointsOf(steps)) {
      const size = `${point.sizeMb.toFixed(1)} MB`;
      lines.set(point.name, `${(100 * point.accuracy).toFixed(1)} %, ${size}, ${point.documentsPerSecond.toFixed(0)} docs/s`);
    }
  } catch (error) {
    // MLflow does not answer: the run is shown without its figures.
    if (!(error instanceof ApiError)) throw error;
  }
  return lines;
}

function lineOf(metrics: Readonly<Record<string, number>>): string {
  const { rows_out: rows, validation_accuracy: accuracy, bytes } = metrics;
  if (rows !== undefined) return `${rows.toLocaleString()} rows`;
  if (accuracy !== undefined) return `validation ${(100 * accuracy).toFixed(1)} %`;
  if (bytes !== undefined) return `${(bytes / 1e6).toFixed(1)} MB`;
  return "";
}
