/** Below the canvas: which run is shown, how it goes, and the log of the selected step. */

import { Button, HStack, NativeSelect } from "@chakra-ui/react";
import { ChevronsDown, ChevronsUp } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { Link } from "react-router-dom";

import { ApiError, type RunSummary, api } from "../api/client";
import { NO_RUN } from "../parts/may";
import { portOf } from "../core/pipeline";
import { useCanvas } from "../store";
import { CompareDialog, runName } from "./CompareDialog";
import { EdgePanel } from "./EdgePanel";
import { NOT_COUNTED } from "./progress";
import { QuestionForm } from "./QuestionForm";
import { ResultCard } from "./ResultCard";
import { RunBadge } from "./RunBadge";
import { type StepRun, countsText, foldedRun, isWebAddress, stateWord } from "./state";
import { isFinished } from "./follow";
import type { FollowedRun } from "./useRun";
import { t, word } from "../i18n/t";

const LOG_POLL = 3000;
const LOG_LINES = 300;

interface Props {
  dagId: string;
  history: readonly RunSummary[];
  runId: string | null;
  view: FollowedRun;
  /** Step whose log is shown; null: none is selected. */
  step: string | null;
  onChoose: (runId: string | null) => void;
  onAgain: (task: string, isWithFollowing: boolean) => void;
  onStop: () => void;
}

/** The run that an edge or a step is asked about: the one that is shown, else the newest. */
function askedRun(runId: string | null, history: readonly RunSummary[]): string | null {
  return runId ?? history[0]?.run_id ?? null;
}

export function RunPanel({ dagId, history, runId, view, step, onChoose, onAgain, onStop }: Props) {
  const state = step === null ? undefined : view.steps.get(step);
  const isOver = view.run !== null && isFinished(view.run);
  const { edge, steps, catalogue, may: { run: mayRun } } = useCanvas();
  const asked = askedRun(runId, history);
  const [isComparing, setComparing] = useState(false);
  const [isHigher, setHigher] = useState(false);
  const hasPanes = asked !== null && (edge !== null || step !== null);
  const type = edge === null ? "" : (portOf(steps, catalogue, edge.origin, edge.originPort, "outputs")?.type ?? "");
  return (
    <section className="mm-run" aria-label={t("Run")} {...(isHigher ? { "data-higher": "" } : {})}>
      <HStack className="mm-run-head" gap={3}>
        <NativeSelect.Root size="xs" width="320px">
          <NativeSelect.Field aria-label={t("Run")} value={runId ?? ""} onChange={(event) => onChoose(event.target.value === "" ? null : event.target.value)}>
            <option value="">{t("no run shown")}</option>
            {history.map((run) => (
              <option key={run.run_id} value={run.run_id}>
                {runName(run)}
              </option>
            ))}
          </NativeSelect.Field>
          <NativeSelect.Indicator />
        </NativeSelect.Root>
        {view.run === null ? null : (
          <>
            <span className="mm-badge" data-state={view.run.state}>{word(view.run.state)}</span>
            <Link className="mm-link" to={`/dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(view.run.run_id)}`}>
              {t("Run in Airflow")}
            </Link>
            {history.length < 2 ? null : (
              <Button size="2xs" variant="outline" onClick={() => { setComparing(true); }}>
                {t("Compare")}
              </Button>
            )}
            {isOver ? null : (
              <Button size="2xs" variant="outline" colorPalette="red" disabled={!mayRun} title={mayRun ? undefined : t(NO_RUN)} onClick={onStop}>
                {t("Stop")}
              </Button>
            )}
          </>
        )}
        {isComparing && runId !== null ? <CompareDialog dagId={dagId} history={history} runId={runId} onClose={() => { setComparing(false); }} /> : null}
        <span className="mm-grow" />
        {view.error === "" ? null : <span className="mm-field-error">{view.error}</span>}
        {hasPanes ? (
          <Button size="2xs" variant="outline" aria-pressed={isHigher} onClick={() => { setHigher(!isHigher); }}>
            {isHigher ? <ChevronsDown size={14} /> : <ChevronsUp size={14} />} {t("Higher")}
          </Button>
        ) : null}
      </HStack>
      {edge !== null && asked !== null ? (
        <EdgePanel key={`${asked} ${JSON.stringify(edge)}`} dagId={dagId} runId={asked} edge={edge} type={type} />
      ) : step !== null && runId === null && asked !== null ? (
        <div className="mm-run-body">
          <strong>{step}</strong> <span className="mm-help">{t("in the newest run")}</span>
          <div className="mm-step-panes">
            <ResultCard key={`${asked} ${step}`} dagId={dagId} runId={asked} step={step} />
          </div>
        </div>
      ) : step === null || runId === null ? null : state === undefined ? (
        <p className="mm-help mm-run-body">{t("{step} is not in this run.", { step })}</p>
      ) : (
        <StepPanel key={step} dagId={dagId} runId={runId} step={step} run={state} isOver={isOver} onAgain={onAgain} />
      )}
    </section>
  );
}

interface StepPanelProps {
  dagId: string;
  runId: string;
  step: string;
  run: StepRun;
  isOver: boolean;
  onAgain: (task: string, isWithFollowing: boolean) => void;
}

/** A step of the run; where there is a copy for each value, all of them or one. */
function StepPanel({ dagId, runId, step, run, isOver, onAgain }: StepPanelProps) {
  const [chosen, setChosen] = useState("");
  const mayRun = useCanvas((state) => state.may.run);
  const one = run.tasks.find((task) => task.task === chosen);
  const task = one ?? run.tasks[0];
  if (!task) return null;
  const again = one?.task ?? step;
  const said = task.told === "" && task.state === "running" ? t(NOT_COUNTED) : task.told;
  return (
    <div className="mm-run-body">
      <HStack gap={3} mb={1}>
        <strong>{step}</strong>
        {run.tasks.length > 1 ? (
          <NativeSelect.Root size="xs" width="220px">
            <NativeSelect.Field aria-label={t("Copy of {step}", { step })} value={one?.task ?? ""} onChange={(event) => setChosen(event.target.value)}>
              <option value="">
                {t("all {n}: {tasks}", { n: run.tasks.length, tasks: countsText(run.tasks) })}
              </option>
              {run.tasks.map(({ task: id, value, state }) => (
                <option key={id} value={id}>
                  {value} · {stateWord(state)}
                </option>
              ))}
            </NativeSelect.Field>
            <NativeSelect.Indicator />
          </NativeSelect.Root>
        ) : null}
        <RunBadge run={one ? foldedRun([one]) : run} />
        {said === "" ? null : <span className="mm-help">{said}</span>}
        <Link className="mm-link" to={`/${task.logUrl}`}>
          {one || run.tasks.length === 1 ? t("Task and log") : t("Task and log of {value}", { value: task.value })}
        </Link>
        {isWebAddress(task.runUrl) ? (
          <a className="mm-link" href={task.runUrl} target="_blank" rel="noreferrer">
            {t("MLflow run")}
          </a>
        ) : null}
        {isOver ? (
          <>
            <Button size="2xs" variant="outline" disabled={!mayRun} title={mayRun ? undefined : t(NO_RUN)} onClick={() => onAgain(again, true)}>
              {t("Run from here")}
            </Button>
            <Button size="2xs" variant="outline" disabled={!mayRun} title={mayRun ? undefined : t(NO_RUN)} onClick={() => onAgain(again, false)}>
              {t("Run only this")}
            </Button>
          </>
        ) : null}
      </HStack>
      {task.state === "awaiting_input" ? <QuestionForm key={task.task} dagId={dagId} runId={runId} task={task.task} /> : null}
      <div className="mm-step-panes">
        {task.state === "success" ? <ResultCard key={`${runId} ${task.task}`} dagId={dagId} runId={runId} step={task.task} /> : null}
        {task.attempt > 0 ? <Log key={`${runId} ${task.task} ${task.attempt}`} dagId={dagId} runId={runId} step={task.task} isLive={task.state === "running"} /> : null}
      </div>
    </div>
  );
}

interface LogProps {
  dagId: string;
  runId: string;
  step: string;
  isLive: boolean;
}

function Log({ dagId, runId, step, isLive }: LogProps) {
  const [lines, setLines] = useState<string[]>([]);
  const box = useRef<HTMLPreElement>(null);
  useEffect(() => {
    const controller = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const read = async (): Promise<void> => {
      try {
        const tail = await api.log(dagId, runId, step, controller.signal, LOG_LINES);
        setLines(tail.lines.map((line) => line.text));
      } catch (error) {
        if (controller.signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        setLines([error.message]);
      }
      if (isLive) timer = setTimeout(() => void read(), LOG_POLL);
    };
    void read();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [dagId, runId, step, isLive]);
  useEffect(() => {
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  return (
    <pre ref={box} className="mm-log" role="region" tabIndex={0} aria-label={t("Log of {step}", { step })}>
      {lines.join("\n")}
    </pre>
  );
}
