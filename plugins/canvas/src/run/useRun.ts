import { useEffect, useState } from "react";

import { ApiError, type RunNode, type RunView, api } from "../api/client";
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
    const follow = async (): Promise<void> => {
      let isOver = false;
      try {
        const run = await api.run(dagId, runId, controller.signal);
        const steps = await Promise.all(run.nodes.map((node) => stepOf(dagId, runId, node, controller.signal)));
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
