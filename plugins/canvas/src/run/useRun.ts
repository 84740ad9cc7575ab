import { useEffect, useState } from "react";

import { ApiError } from "../api/client";
import { type DagRun, type TaskInstance, runs } from "./airflow";
import { type StepRun, lineOf } from "./state";

const POLL = 2500;
const OVER = new Set(["success", "failed"]);
const NO_STEPS: ReadonlyMap<string, StepRun> = new Map();

export interface RunView {
  run: DagRun | null;
  steps: ReadonlyMap<string, StepRun>;
  tasks: readonly TaskInstance[];
  error: string;
}

const NOTHING: RunView = { run: null, steps: NO_STEPS, tasks: [], error: "" };

interface StepFacts {
  isReused: boolean;
  runUrl: string;
}

/** Follow a run until it has ended; a run from the past is read once. `round` begins anew. */
export function useRun(dagId: string | null, runId: string | null, round = 0): RunView {
  const [view, setView] = useState<{ key: string; view: RunView }>({ key: "", view: NOTHING });
  const key = `${dagId ?? ""} ${runId ?? ""}`;
  useEffect(() => {
    if (dagId === null || runId === null) return;
    const controller = new AbortController();
    const facts = new Map<string, StepFacts>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const follow = async (): Promise<void> => {
      try {
        const [run, tasks] = await Promise.all([
          runs.read(dagId, runId, controller.signal),
          runs.tasks(dagId, runId, controller.signal),
        ]);
        const steps = new Map<string, StepRun>();
        for (const task of tasks) steps.set(task.task_id, await stepOf(dagId, runId, task, facts, controller.signal));
        setView({ key, view: { run, steps, tasks, error: "" } });
        if (OVER.has(run.state) && tasks.every((task) => task.state !== "running")) return;
      } catch (error) {
        if (controller.signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        setView((before) => ({ key, view: { ...(before.key === key ? before.view : NOTHING), error: error.message } }));
      }
      timer = setTimeout(() => void follow(), POLL);
    };
    void follow();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [dagId, runId, key, round]);
  return view.key === key ? view.view : NOTHING;
}

async function stepOf(
  dagId: string,
  runId: string,
  task: TaskInstance,
  facts: Map<string, StepFacts>,
  signal: AbortSignal,
): Promise<StepRun> {
  const state = task.state ?? "";
  let line = { text: "", progress: null as number | null };
  if (state === "running") line = lineOf(task.task_id, await tailOf(dagId, runId, task, signal));
  const known = `${task.task_id} ${task.try_number}`;
  if (state === "success" && !facts.has(known)) {
    const step = (await runs.xcom(dagId, runId, task.task_id, "modelmill_step")) as { reused?: boolean; run_url?: string } | null;
    facts.set(known, { isReused: step?.reused === true, runUrl: step?.run_url ?? "" });
  }
  const running = state === "running" && task.start_date !== null ? (Date.now() - Date.parse(task.start_date)) / 1000 : null;
  return {
    state,
    duration: task.duration ?? running,
    progress: line.progress,
    line: line.text,
    isReused: facts.get(known)?.isReused === true,
    runUrl: facts.get(known)?.runUrl ?? "",
    attempt: task.try_number,
  };
}

async function tailOf(dagId: string, runId: string, task: TaskInstance, signal: AbortSignal): Promise<string[]> {
  try {
    return (await runs.log(dagId, runId, task.task_id, Math.max(1, task.try_number), signal)).slice(-40);
  } catch (error) {
    // A log that is not there yet: the state alone is shown.
    if (error instanceof ApiError) return [];
    throw error;
  }
}
