/** The canvas: palette, graph and text of one pipeline, its properties and problems. */

import { ReactFlowProvider } from "@xyflow/react";
import { useCallback, useEffect, useRef, useState } from "react";
import { Navigate, useLocation, useNavigate, useParams, useSearchParams } from "react-router-dom";

import { ApiError, type ErrorBody, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { Graph } from "../canvas/Graph";
import { Inspector } from "../canvas/Inspector";
import { Palette } from "../canvas/Palette";
import { ProblemList } from "../canvas/ProblemList";
import { TextPane } from "../canvas/TextPane";
import { Toolbar, type View } from "../canvas/Toolbar";
import { SkipLinks, TO_PROPERTIES, TO_RUN, TO_STEPS } from "../canvas/SkipLinks";
import { ConflictDialog, OlderDialog, SaveDialog } from "../canvas/dialogs";
import { useShortcuts } from "../canvas/useShortcuts";
import { positionOf } from "../core/document";
import { groupKey, onlyStep } from "../core/groups";
import { fieldsOfProblem, groupOfProblem } from "../core/problems";
import { Forecast } from "../run/Forecast";
import { RunPanel } from "../run/RunPanel";
import { useRunning } from "../run/useRunning";
import { isDirty, useCanvas } from "../store";
import { canvasPath, newPath } from "../core/paths";
import { Answered } from "../parts/page";
import { useIsHere } from "../parts/useIsHere";
import { useOtherTabs } from "../parts/useOtherTabs";
import { t } from "../i18n/t";

const CHECK_DELAY = 350;
const EMPTY = "pipeline: new_pipeline\nsteps: {}\n";

/** A new pipeline gets an address of its own, so that its draft is found again. */
export function NewPipelinePage() {
  const { draft } = useParams();
  const state: unknown = useLocation().state;
  return draft === undefined ? <Navigate to={newPath()} replace state={state} /> : <CanvasPage key={draft} />;
}

/** The text that made a model, until the canvas of its pipeline shows it. */
let handedOver: { dagId: string; text: string } | null = null;

export function CanvasPage() {
  const { dagId, draft = "" } = useParams();
  // A template hands its text over, and so does a model the text that made it.
  const given = (useLocation().state as { text?: string } | null)?.text;
  return dagId !== undefined && given !== undefined ? <Taking dagId={dagId} text={given} /> : <Opened dagId={dagId} draft={draft} begun={given ?? EMPTY} />;
}

/** Take a text out of the tab's history, where it would come again with each visit. Airflow's page may begin anew with that. */
function Taking({ dagId, text }: { dagId: string; text: string }) {
  const navigate = useNavigate();
  useEffect(() => {
    handedOver = { dagId, text };
    void navigate(".", { replace: true, state: null });
  }, [dagId, text, navigate]);
  return null;
}

function Opened({ dagId, draft, begun }: { dagId: string | undefined; draft: string; begun: string }) {
  const { open, setCatalogue, handOver } = useCanvas();
  const ask = useCallback(async () => {
    const [catalogue, saved] = await Promise.all([api.catalogue(), dagId === undefined ? null : api.pipeline(dagId)]);
    const mayCreate = { may_edit: catalogue.may_create, may_run: catalogue.may_create };
    setCatalogue(new Map(catalogue.components.map((component) => [component.name, component])), catalogue.params);
    open(saved ?? { text: begun, draftName: draft, ...mayCreate });
    if (handedOver !== null && handedOver.dagId === dagId) handOver(handedOver.text);
    handedOver = null;
    return { dagId };
  }, [dagId, draft, begun, open, setCatalogue, handOver]);
  const answer = useAnswer(ask);
  return <Answered answer={answer}>{(opened) => (opened.dagId === dagId ? <Editor key={dagId ?? ""} /> : null)}</Answered>;
}

function Editor() {
  const [view, setView] = useState<View>("graph");
  const [target, setTarget] = useState<{ line: number } | null>(null);
  const { dagId, selection, notice, quiet } = useCanvas();
  const linked = useSearchParams()[0].get("run");
  const running = useRunning(dagId, linked, linked !== null);
  const saving = useSaving(running.begin);
  useChecks();
  useLeaveGuard();
  useOtherTabs(useCanvas().keepAgain);
  useBeginning(running.begin);
  const onKeyDown = useShortcuts(() => saving.ask(false));
  const hasRuns = dagId !== null && running.history.length > 0;
  const skips = [TO_STEPS, TO_PROPERTIES, ...(hasRuns ? [TO_RUN] : [])];
  const run = (): void => {
    if (isDirty(useCanvas.getState())) saving.ask(true);
    else running.begin();
  };
  return (
    <ReactFlowProvider>
      <div className="mm-editor" onKeyDown={onKeyDown}>
        <SkipLinks goals={view === "text" ? skips.slice(1) : skips} />
        <Toolbar view={view} onView={setView} onSave={() => saving.ask(false)} onRun={run} isBusy={running.isBusy || saving.isBusy} />
        {notice === null ? null : (
          <div className={notice.isError ? "mm-notice mm-notice-bad" : "mm-notice"} role={notice.isError ? "alert" : "status"}>
            <span>{notice.text}</span>
            <button type="button" aria-label={t("Dismiss")} onClick={quiet}>
              ×
            </button>
          </div>
        )}
        <div className="mm-panes" data-view={view}>
          {view === "text" ? null : <Palette />}
          {view === "text" ? null : (
            <div className="mm-graph">
              <Graph run={running.view.steps} />
            </div>
          )}
          {view === "graph" ? null : <TextPane target={target} />}
          <Inspector hasRuns={hasRuns} />
        </div>
        <ProblemList
          onOpen={(problem) => {
            const { history, select } = useCanvas.getState();
            const group = groupOfProblem(problem);
            if (problem.step !== null) select([problem.step]);
            else select(group === null ? [] : [groupKey(group)]);
            const line = problem.line > 0 ? problem.line : positionOf(history.present, problem.path.split(".")).line;
            setTarget({ line });
            focusField(fieldsOfProblem(problem));
          }}
        />
        {dagId !== null && hasRuns ? (
          <RunPanel
            dagId={dagId}
            history={running.history}
            runId={running.runId}
            view={running.view}
            step={onlyStep(selection)}
            onChoose={running.choose}
            onAgain={running.again}
            onStop={running.stop}
          />
        ) : null}
      </div>
      {saving.dialog ?? <Older />}
      {running.dialog}
    </ReactFlowProvider>
  );
}

/** Put the cursor into the first of some form fields that is shown, once the form is. */
function focusField(ids: readonly string[]): void {
  setTimeout(() => {
    const field = ids.map((id) => document.getElementById(id)).find((element) => element !== null);
    if (!field) return;
    for (let parent = field.closest("details"); parent; parent = parent.parentElement?.closest("details") ?? null) parent.open = true;
    field.scrollIntoView({ block: "center" });
    field.focus();
  }, 50);
}

/** A pipeline that was saved to be run has its own address from then on: its page starts the run. */
function useBeginning(begin: () => void): void {
  const location = useLocation();
  const navigate = useNavigate();
  const isAsked = (location.state as { run?: boolean } | null)?.run === true;
  const hasBegun = useRef(false);
  useEffect(() => {
    if (!isAsked || hasBegun.current) return;
    hasBegun.current = true;
    void navigate(".", { replace: true, state: null });
    begin();
  }, [isAsked, navigate, begin]);
}

function Older() {
  const { older, history, settle } = useCanvas();
  if (older === null) return null;
  return <OlderDialog older={older} mine={history.present} onTake={() => { settle(true); }} onClose={() => { settle(false); }} />;
}

/** Ask the server for problems, a moment after the last change. */
function useChecks(): void {
  const { history, check } = useCanvas();
  const text = history.present;
  useEffect(() => {
    const controller = new AbortController();
    const timer = setTimeout(() => { void check(controller.signal); }, CHECK_DELAY);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [text, check]);
}

function useLeaveGuard(): void {
  const dirty = useCanvas(isDirty);
  useEffect(() => {
    if (!dirty) return;
    const warn = (event: BeforeUnloadEvent): void => { event.preventDefault(); };
    window.addEventListener("beforeunload", warn);
    return () => { window.removeEventListener("beforeunload", warn); };
  }, [dirty]);
}

type Stage =
  | { name: "none" }
  | { name: "save"; isRun: boolean }
  | { name: "conflict"; isRun: boolean; conflict: Conflict; message: string; isSaving: boolean };
type Conflict = Omit<NonNullable<ErrorBody["conflict"]>, "diff">;

/** Saving: the difference first; on a conflict theirs and mine; then, if asked for, a run. */
function useSaving(run: () => void) {
  const navigate = useNavigate();
  const isHere = useIsHere();
  const { history, savedText, dagId, draft, etag, newer, pipeline, saved, rebase, say } = useCanvas();
  // A draft that was opened beside a newer text is a conflict from the start.
  const [stage, setStage] = useState<Stage>(() =>
    newer === null
      ? { name: "none" }
      : { name: "conflict", isRun: false, conflict: { author: t("Somebody else"), ...newer }, message: "", isSaving: false },
  );
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const close = (): void => { setStage({ name: "none" }); };
  const take = (conflict: Conflict, text: string): void => {
    rebase({ text: conflict.text ?? "", etag: conflict.etag }, text);
    close();
  };

  const save = async (message: string, over: string | null, isRun: boolean): Promise<void> => {
    const name = dagId ?? (typeof pipeline.pipeline === "string" ? pipeline.pipeline : "");
    setBusy(true);
    setProblem("");
    try {
      const document = await api.save(name, history.present, message, over);
      if (!isHere()) {
        // The canvas shows another pipeline by now; of this one only the draft is left.
        draft?.dropSaved(document.text);
        return;
      }
      saved(document);
      say(t("Saved."));
      close();
      if (document.dag_id !== dagId) void navigate(canvasPath(document.dag_id), { replace: true, state: { run: isRun } });
      else if (isRun) run();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.body?.conflict) setStage({ name: "conflict", isRun, conflict: error.body.conflict, message, isSaving: true });
      else {
        setStage({ name: "save", isRun });
        setProblem(error.message);
      }
    } finally {
      setBusy(false);
    }
  };

  const dialog =
    stage.name === "save" ? (
      <SaveDialog
        before={savedText}
        after={history.present}
        isBusy={isBusy}
        isRun={stage.isRun}
        problem={problem}
        onSave={(message) => { void save(message, etag, stage.isRun); }}
        onClose={close}
      >
        {stage.isRun && dagId !== null ? <Forecast dagId={dagId} text={history.present} /> : null}
      </SaveDialog>
    ) : stage.name === "conflict" ? (
      <ConflictDialog
        author={stage.conflict.author}
        base={savedText}
        theirs={stage.conflict.text}
        mine={history.present}
        isSaving={stage.isSaving}
        onMine={() => {
          if (stage.isSaving || stage.conflict.text === null) void save(stage.message, stage.conflict.etag, stage.isRun);
          else take(stage.conflict, history.present);
        }}
        onTake={(text) => { take(stage.conflict, text); }}
        onClose={close}
      />
    ) : null;
  return {
    ask: (isRun: boolean) => {
      setProblem("");
      // Of a new pipeline there is no difference to look at, and no reason to give.
      if (isRun && dagId === null) void save("", etag, isRun);
      else setStage({ name: "save", isRun });
    },
    isBusy,
    dialog,
  };
}
