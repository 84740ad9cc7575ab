/** The tab on a DAG and on a run: the pipeline's graph with live states. */

import { ReactFlowProvider } from "@xyflow/react";
import { useCallback } from "react";
import { Link } from "react-router-dom";

import { ApiError, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { Graph } from "../canvas/Graph";
import { onlyStep } from "../core/groups";
import { RunPanel } from "../run/RunPanel";
import { useRunning } from "../run/useRunning";
import { useCanvas } from "../store";
import { canvasPath } from "../core/paths";
import { Answered } from "../parts/page";
import { t } from "../i18n/t";

export function RunPage({ dagId, runId }: { dagId: string; runId: string | undefined }) {
  const { open, setCatalogue } = useCanvas();
  const ask = useCallback(async () => {
    const [catalogue, document, runs] = await Promise.all([api.catalogue(), textOf(dagId, runId), api.runs(dagId)]);
    setCatalogue(new Map(catalogue.components.map((component) => [component.name, component])), catalogue.params);
    open({ ...document, draftName: null });
    return { dagId, newest: runs[0]?.run_id ?? null };
  }, [dagId, runId, open, setCatalogue]);
  const answer = useAnswer(ask);
  return (
    <div className="mm-root mm-tab">
      <Answered answer={answer}>{({ newest }) => <RunGraph key={dagId} dagId={dagId} first={runId ?? newest} />}</Answered>
    </div>
  );
}

function RunGraph({ dagId, first }: { dagId: string; first: string | null }) {
  const selection = useCanvas((state) => state.selection);
  const running = useRunning(dagId, first);
  return (
    <ReactFlowProvider>
      <div className="mm-editor">
        <div className="mm-graph mm-grow">
          <Graph isReadOnly run={running.view.steps} />
          <Link className="mm-link mm-corner" to={canvasPath(dagId)}>
            {t("Open on the canvas")}
          </Link>
        </div>
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
      </div>
    </ReactFlowProvider>
  );
}

/** Text of the pipeline that a run is of: of its own version where that was saved here, else the present one. */
async function textOf(dagId: string, runId: string | undefined) {
  const { text, digest: now, may_edit, may_run } = await api.pipeline(dagId);
  const present = { text, may_edit, may_run };
  if (runId === undefined) return present;
  try {
    const { digest } = await api.run(dagId, runId, new AbortController().signal);
    if (digest === null || digest === now) return present;
    return { ...present, text: (await api.digest(dagId, digest)).text };
  } catch (error) {
    if (error instanceof ApiError) return present;
    throw error;
  }
}
