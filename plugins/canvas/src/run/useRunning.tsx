/** Running from the canvas: wait for Airflow to read what was saved, ask for parameters that nobody has given, start, follow. */

import { Button, Input, Text } from "@chakra-ui/react";
import { useEffect, useRef, useState } from "react";

import { ApiError, type RunSummary, api } from "../api/client";
import { Frame } from "../parts/Frame";
import { openParams, resultStep } from "../core/pipeline";
import { useCanvas } from "../store";
import { Forecast } from "./Forecast";
import { durationText } from "./state";
import { isFinished } from "./follow";
import { type FollowedRun, useRun } from "./useRun";
import { t } from "../i18n/t";

const POLL = 1500;
const SETTLED = 600;

/** `first`: the run that is shown at first, else the newest; `isLinked`: somebody came to see what it found. */
export function useRunning(dagId: string | null, first: string | null = null, isLinked = false) {
  const { say } = useCanvas();
  const [runId, setRunId] = useState(first);
  const [history, setHistory] = useState<RunSummary[]>([]);
  const [round, setRound] = useState(0);
  const [isBusy, setBusy] = useState(false);
  const [asked, setAsked] = useState<string[]>([]);
  const isHere = useRef(true);
  const isChosen = useRef(first !== null);
  const view = useRun(dagId, runId, round);

  useEffect(() => {
    isHere.current = true;
    return () => { isHere.current = false; };
  }, []);
  const runState = view.run?.state;
  useEffect(() => {
    if (dagId === null) return;
    let isCurrent = true;
    api.runs(dagId).then(
      (list) => {
        if (!isCurrent) return;
        setHistory(list);
        // A page that is opened shows the newest run; which one is shown later is the user's choice.
        if (!isChosen.current && list[0] !== undefined) setRunId(list[0].run_id);
        isChosen.current = true;
      },
      () => { if (isCurrent) setHistory([]); }, // not parsed yet, or not for this user: there is no past to show
    );
    return () => { isCurrent = false; };
  }, [dagId, runId, runState]);

  useAnnouncedEnd(runId, view, isLinked ? first : null);

  const attempt = async (work: () => Promise<void>): Promise<void> => {
    setBusy(true);
    try {
      await work();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      say(error.message, true);
    } finally {
      setBusy(false);
    }
  };

  const start = (params: Record<string, string>): void => {
    setAsked([]);
    void attempt(async () => {
      const id = useCanvas.getState().dagId; // a pipeline that has just been saved has one
      if (id === null) return;
      await waitUntilReady(id, say, () => isHere.current);
      if (!isHere.current) return;
      const started = await api.startRun(id, { mode: "all", params, unpause: true });
      say(t("The run has started."));
      isChosen.current = true;
      setRunId(started.run_id);
    });
  };

  const begin = (): void => {
    const { pipeline, deploymentParams } = useCanvas.getState();
    const missing = openParams(pipeline, deploymentParams);
    if (missing.length > 0) setAsked(missing);
    else start({});
  };

  return {
    runId,
    history,
    view,
    isBusy,
    choose: (run: string | null) => {
      isChosen.current = true;
      setRunId(run);
    },
    begin,
    again: (step: string, isWithFollowing: boolean) => {
      void attempt(async () => {
        if (dagId === null || runId === null) return;
        await api.startRun(dagId, { mode: isWithFollowing ? "from" : "only", step, run_id: runId, unpause: true });
        setRound((before) => before + 1);
      });
    },
    stop: () => {
      void attempt(async () => {
        if (dagId !== null && runId !== null) await api.stopRun(dagId, runId);
      });
    },
    dialog: asked.length > 0 ? <ParamsDialog names={asked} onStart={start} onClose={() => setAsked([])} /> : null,
  };
}

/** Say how a run ended that was under way when it was first seen, and show what it found; of one that was linked to, too. */
function useAnnouncedEnd(runId: string | null, { run, steps: states }: FollowedRun, linked: string | null): void {
  const followed = useRef<string | null>(null);
  const unseen = useRef(linked);
  useEffect(() => {
    if (run?.run_id !== runId) return;
    if (!isFinished(run)) {
      followed.current = runId;
      return;
    }
    const wasUnderWay = followed.current === runId;
    if (!wasUnderWay && unseen.current !== runId) return;
    followed.current = unseen.current = null;
    const { say, select, selection, edge, steps, catalogue } = useCanvas.getState();
    if (wasUnderWay) {
      const seconds = run.start && run.end ? (Date.parse(run.end) - Date.parse(run.start)) / 1000 : null;
      const time = durationText(seconds);
      if (run.state === "success") say(t("The run is done: {time}.", { time }));
      else say(t("The run has failed after {time}: the steps in red say why.", { time }), true);
    }
    const told = run.state === "success" ? resultStep(steps, catalogue) : [...states].find(([, step]) => step.state === "failed")?.[0];
    if (told !== undefined && selection.size === 0 && edge === null) select([told]);
  }, [runId, run, states]);
}

/** Wait until Airflow's DAG is the pipeline that was saved, and say so meanwhile. */
async function waitUntilReady(dagId: string, say: (text: string) => void, isWanted: () => boolean): Promise<void> {
  const began = Date.now();
  let isAsked = false;
  while (isWanted()) {
    const state = await api.dagState(dagId);
    if (state.ready) return;
    if (state.saved_digest === null) throw new ApiError(409, null, state.message);
    say(`${state.message} (${Math.round((Date.now() - began) / 1000)} s)`);
    if (!isAsked) await api.parse(dagId);
    isAsked = true;
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

/** Return a value once nobody has changed it for a moment; until then the one before. */
function useSettled<T>(value: T): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => { setSettled(value); }, SETTLED);
    return () => { clearTimeout(timer); };
  }, [value]);
  return settled;
}

interface ParamsProps {
  names: string[];
  onStart: (params: Record<string, string>) => void;
  onClose: () => void;
}

function ParamsDialog({ names, onStart, onClose }: ParamsProps) {
  const [values, setValues] = useState<Record<string, string>>({});
  const settled = useSettled(values);
  const dagId = useCanvas((state) => state.dagId);
  const isComplete = names.every((name) => (values[name] ?? "") !== "");
  const submit = (event: { preventDefault: () => void }): void => {
    event.preventDefault();
    if (isComplete) onStart(values);
  };
  return (
    <Frame title={t("Run")} onClose={onClose}>
      <form onSubmit={submit}>
        <Text className="mm-help" mb={3}>
          {t("Nobody has given these parameters a value yet.")}
        </Text>
        {names.map((name) => (
          <div key={name} className="mm-field">
            <label className="mm-label" htmlFor={`mm-run-${name}`}>
              {name}
            </label>
            <Input
              id={`mm-run-${name}`}
              size="sm"
              value={values[name] ?? ""}
              onChange={(event) => setValues({ ...values, [name]: event.target.value })}
            />
          </div>
        ))}
        {dagId !== null && isComplete && settled === values ? <Forecast dagId={dagId} text={null} params={settled} /> : null}
        <Button type="submit" size="sm" colorPalette="brand" disabled={!isComplete}>
          {t("Run")}
        </Button>
      </form>
    </Frame>
  );
}
