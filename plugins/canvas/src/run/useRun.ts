import { useEffect, useState } from "react";

import { ApiError, type RunView, api } from "../api/client";
import { useCanvas } from "../store";
import { Follower, isFinished } from "./follow";
import type { StepRun } from "./state";

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
    const follower = new Follower(dagId, runId, api, () => useCanvas.getState().selection);
    const follow = async (): Promise<void> => {
      let isOver = false;
      try {
        const { run, steps } = await follower.look(controller.signal);
        setState({ key, view: { run, steps, error: "" } });
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
