/** A group on the canvas: a frame around its steps, or one node in their place. */

import { Handle, type Node, type NodeProps, Position } from "@xyflow/react";
import { AlertTriangle, ChevronsDownUp, ChevronsUpDown } from "lucide-react";
import { memo } from "react";

import type { Group } from "../core/pipeline";
import type { StepRun } from "../run/state";
import { RunBadge } from "../run/RunBadge";
import { useCanvas } from "../store";
import { plural, t } from "../i18n/t";

export interface GroupData extends Record<string, unknown> {
  name: string;
  group: Group;
  isCollapsed: boolean;
  problems: readonly string[];
  /** Of all its steps together. */
  run: StepRun | undefined;
}

export type GroupNodeType = Node<GroupData, "frame">;

export const GroupNode = memo(function GroupNode({ data, selected }: NodeProps<GroupNodeType>) {
  const { name, group, isCollapsed, problems, run } = data;
  const toggle = useCanvas((state) => state.toggle);
  const isTarget = useCanvas((state) => state.target === name);
  const classes = ["mm-frame", isCollapsed ? "mm-collapsed" : "", selected ? "mm-selected" : "", isTarget ? "mm-target" : "", problems.length > 0 ? "mm-bad" : ""];
  const Icon = isCollapsed ? ChevronsUpDown : ChevronsDownUp;
  const label = isCollapsed ? t("Expand group {name}", { name }) : t("Collapse group {name}", { name });
  return (
    <div className={classes.join(" ")} data-frame={name} title={group.description}>
      <div className="mm-frame-head">
        <span className="mm-node-id">{name}</span>
        <ForEach group={group} />
        <span className="mm-grow" />
        {problems.length > 0 ? (
          <span className="mm-node-problem" title={problems.join("\n")} role="img" aria-label={plural(problems.length, "1 problem", "{n} problems")}>
            <AlertTriangle size={14} />
          </span>
        ) : null}
        {run && !isCollapsed ? <RunBadge run={run} /> : null}
        <button type="button" className="mm-frame-button nodrag" aria-label={label} title={label} aria-expanded={!isCollapsed} onClick={() => { toggle(name); }}>
          <Icon size={14} />
        </button>
      </div>
      {isCollapsed ? (
        <>
          <div className="mm-frame-line">
            <span>{plural(group.steps.length, "1 step", "{n} steps")}</span>
            {run ? <RunBadge run={run} /> : null}
          </div>
          <Handle type="target" position={Position.Left} id="in" className="mm-handle mm-handle-none" />
          <Handle type="source" position={Position.Right} id="out" className="mm-handle mm-handle-none" />
        </>
      ) : null}
    </div>
  );
});

function ForEach({ group }: { group: Group }) {
  if (group.variable === null) return null;
  const values = group.values.map(String).join(", ");
  return (
    <>
      <span className="mm-frame-each" title={values}>
        {t("for each {variable}:", { variable: group.variable })}{" "}{values === "" ? t("no value yet") : values}
      </span>
      <span className="mm-frame-count">× {group.values.length}</span>
    </>
  );
}
