/** The row above the canvas: name and state, undo and redo, layout, views, save. */

import { Badge, Button, HStack, IconButton, Text } from "@chakra-ui/react";
import { useReactFlow } from "@xyflow/react";
import { Columns2, FileText, Group, History, LayoutDashboard, ListChecks, Play, Redo2, Save, Undo2, Ungroup, Workflow } from "lucide-react";
import { useCallback, useState } from "react";

import { api } from "../api/client";
import { groupOfKey } from "../core/groups";
import { isDirty, useCanvas } from "../store";
import { groupSelection, ungroupSelection } from "./actions";
import { NO_EDIT, NO_RUN } from "../parts/may";
import { ForecastDialog } from "../run/Forecast";
import { VersionsDialog } from "./VersionsDialog";
import { plural, t } from "../i18n/t";

export type View = "graph" | "split" | "text";

const VIEWS = [
  { view: "graph", name: "Graph", Icon: Workflow },
  { view: "split", name: "Graph and text", Icon: Columns2 },
  { view: "text", name: "Text", Icon: FileText },
] as const;

interface Props {
  view: View;
  onView: (view: View) => void;
  onSave: () => void;
  onRun: () => void;
  /** Whether a run is being started. */
  isBusy: boolean;
}

export function Toolbar({ view, onView, onSave, onRun, isBusy }: Props) {
  const { dagId, pipeline, may, history, undo, redo, arrange, selection, steps } = useCanvas();
  const isGrouped = [...selection].some((key) => groupOfKey(key) !== null || steps.get(key)?.group != null);
  const [isShowingVersions, setShowingVersions] = useState(false);
  const [isForecasting, setForecasting] = useState(false);
  const name = dagId ?? (typeof pipeline.pipeline === "string" ? pipeline.pipeline : "");
  const dirty = useCanvas(isDirty);
  const count = useCanvas((state) => state.syntax.length + state.problems.length);
  const flow = useReactFlow();
  const runProblem = !may.run ? t(NO_RUN) : dirty && !may.edit ? t(NO_EDIT) : count > 0 ? t("A pipeline with problems cannot run") : "";
  return (
    <HStack className="mm-toolbar" role="toolbar" aria-label={t("Canvas")} gap={2}>
      <Text as="h1" className="mm-name" title={String(pipeline.pipeline ?? "")}>
        {typeof pipeline.pipeline === "string" ? pipeline.pipeline : t("pipeline")}
      </Text>
      <State isDirty={dirty} />
      <span className="mm-grow" />
      <IconButton size="xs" variant="ghost" aria-label={t("Undo")} title={t("Undo (Ctrl+Z)")} disabled={history.past.length === 0} onClick={undo}>
        <Undo2 size={16} />
      </IconButton>
      <IconButton size="xs" variant="ghost" aria-label={t("Redo")} title={t("Redo (Ctrl+Shift+Z)")} disabled={history.future.length === 0} onClick={redo}>
        <Redo2 size={16} />
      </IconButton>
      <IconButton
        size="xs"
        variant="ghost"
        aria-label={t("Arrange automatically")}
        title={t("Arrange automatically")}
        onClick={() => {
          arrange();
          setTimeout(() => { void flow.fitView({ padding: 0.12, maxZoom: 1, duration: 200 }); }, 50);
        }}
      >
        <LayoutDashboard size={16} />
      </IconButton>
      <IconButton size="xs" variant="ghost" aria-label={t("Group")} title={t("Group the selected steps (Ctrl+G)")} disabled={selection.size === 0} onClick={groupSelection}>
        <Group size={16} />
      </IconButton>
      <IconButton size="xs" variant="ghost" aria-label={t("Ungroup")} title={t("Ungroup (Ctrl+Shift+G)")} disabled={!isGrouped} onClick={ungroupSelection}>
        <Ungroup size={16} />
      </IconButton>
      <HStack gap={0} role="group" aria-label={t("View")} className="mm-views">
        {VIEWS.map(({ view: name, name: label, Icon }) => (
          <IconButton key={name} size="xs" variant={view === name ? "subtle" : "ghost"} aria-label={t(label)} title={t(label)} aria-pressed={view === name} onClick={() => { onView(name); }}>
            <Icon size={16} />
          </IconButton>
        ))}
      </HStack>
      {dagId === null ? null : (
        <IconButton size="xs" variant="ghost" aria-label={t("Versions")} title={t("Versions")} onClick={() => setShowingVersions(true)}>
          <History size={16} />
        </IconButton>
      )}
      {dagId !== null && isShowingVersions ? <Versions dagId={dagId} onClose={() => setShowingVersions(false)} /> : null}
      <Button size="xs" variant="outline" disabled={!dirty || !may.edit} title={may.edit ? t("Save (Ctrl+S)") : t(NO_EDIT)} onClick={onSave}>
        <Save size={14} />{" "}{t("Save")}
      </Button>
      <IconButton
        size="xs"
        variant="ghost"
        aria-label={t("What a run will do")}
        title={runProblem === "" ? t("What a run will do") : runProblem}
        disabled={runProblem !== ""}
        onClick={() => { setForecasting(true); }}
      >
        <ListChecks size={16} />
      </IconButton>
      {isForecasting ? (
        <ForecastDialog dagId={name} text={dirty || dagId === null ? history.present : null} onRun={onRun} onClose={() => { setForecasting(false); }} />
      ) : null}
      <Button size="xs" colorPalette="brand" disabled={runProblem !== ""} loading={isBusy} onClick={onRun} title={runProblem === "" ? t("Run all steps; what has not changed is reused") : runProblem}>
        <Play size={14} />{" "}{t("Run")}
      </Button>
    </HStack>
  );
}

function State({ isDirty: dirty }: { isDirty: boolean }) {
  const { problems, syntax, isChecked } = useCanvas();
  const count = syntax.length > 0 ? syntax.length : problems.length;
  return (
    <HStack gap={1}>
      {dirty ? <Badge variant="outline">{t("not saved")}</Badge> : null}
      {count > 0 ? (
        <Badge colorPalette="red">
          {plural(count, "1 problem", "{n} problems")}
        </Badge>
      ) : isChecked ? (
        <Badge colorPalette="green">{t("valid")}</Badge>
      ) : null}
    </HStack>
  );
}

function Versions({ dagId, onClose }: { dagId: string; onClose: () => void }) {
  const { history, setText, say } = useCanvas();
  return (
    <VersionsDialog
      present={history.present}
      list={useCallback(() => api.versions(dagId), [dagId])}
      read={useCallback((number: number) => api.version(dagId, number), [dagId])}
      onTake={(text, number) => {
        setText(text, "");
        say(t("The canvas shows version {number}. Save it to make it the newest one.", { number }));
      }}
      onClose={onClose}
    />
  );
}
