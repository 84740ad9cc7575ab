/** A step on the canvas: its component, its ports, what is wrong with it, and how its run goes. */

import { Handle, type Node, type NodeProps, Position } from "@xyflow/react";
import { AlertTriangle, Box, ClipboardCheck, Database, GraduationCap, type LucideIcon, Minimize2, Rocket } from "lucide-react";
import { memo } from "react";

import { type Component, type Port, type Step, VERDICTS } from "../core/pipeline";
import type { StepRun } from "../run/state";
import { RunBadge } from "../run/RunBadge";
import { WHEN, whenHandle } from "./edges";
import { plural, t, word } from "../i18n/t";

export interface StepData extends Record<string, unknown> {
  step: Step;
  component: Component | undefined;
  problems: readonly string[];
  run: StepRun | undefined;
}

export type StepNodeType = Node<StepData, "step">;

const ICONS: Record<string, LucideIcon> = {
  Data: Database,
  Train: GraduationCap,
  Compress: Minimize2,
  Check: ClipboardCheck,
  Release: Rocket,
};

export function groupIcon(group: string | undefined): LucideIcon {
  return ICONS[group ?? ""] ?? Box;
}

/** Place of a group in the palette: the way from table to model, then what others add. */
export function groupRank(group: string): number {
  const rank = Object.keys(ICONS).indexOf(group);
  return rank < 0 ? Number.MAX_SAFE_INTEGER : rank;
}

/** Ports of a step: the component's, or for an unknown component those that are in use. */
export function portsOf({ step, component }: Pick<StepData, "step" | "component">): { inputs: Port[]; outputs: Port[] } {
  if (component) return component;
  const inputs = Object.keys(step.inputs).map((name) => ({ name, type: "", required: false, many: true, accepts: [] }));
  return { inputs, outputs: [] };
}

export const StepNode = memo(function StepNode({ id, data, selected }: NodeProps<StepNodeType>) {
  const { component, problems, run } = data;
  const { inputs, outputs } = portsOf(data);
  const Icon = groupIcon(component?.group);
  const state = run?.state ?? "";
  const classes = ["mm-node", selected ? "mm-selected" : "", problems.length > 0 ? "mm-bad" : "", state === "" ? "" : `mm-run-${state}`];
  return (
    <div className={classes.join(" ")} data-group={component?.group ?? "unknown"} data-step={id}>
      <div className="mm-node-head">
        <Handle type="target" position={Position.Left} id={WHEN} className="mm-handle mm-handle-when" title={t("Runs if: a branch of a gate ends here")} />
        <span className="mm-node-icon" aria-hidden="true">
          <Icon size={15} />
        </span>
        <span className="mm-node-names">
          <span className="mm-node-id" title={id}>{id}</span>
          <span className="mm-node-title">{component ? word(component.title) : data.step.component || t("no component")}</span>
        </span>
        {problems.length > 0 ? (
          <span className="mm-node-problem" title={problems.join("\n")} role="img" aria-label={plural(problems.length, "1 problem", "{n} problems")}>
            <AlertTriangle size={14} />
          </span>
        ) : null}
      </div>
      <div className="mm-node-ports">
        <div>
          {inputs.map((port) => (
            <div key={port.name} className="mm-port mm-port-in" title={`${port.name}: ${port.type}${port.many ? `, ${t("several")}` : ""}`}>
              <Handle type="target" position={Position.Left} id={port.name} data-type={port.type} className="mm-handle" />
              {port.name}
              {port.required ? "" : "?"}
            </div>
          ))}
        </div>
        <div>
          {outputs.map((port) => (
            <div key={port.name} className="mm-port mm-port-out" title={`${port.name}: ${port.type}`}>
              {port.name}
              <Handle type="source" position={Position.Right} id={port.name} data-type={port.type} className="mm-handle" />
            </div>
          ))}
          {outputs.some((port) => port.type === "verdict")
            ? VERDICTS.map((verdict) => (
                <div key={verdict} className="mm-port mm-port-out" title={t("The next step runs only if the verdict is {verdict}", { verdict: word(verdict) })}>
                  {t("if {verdict}", { verdict: word(verdict) })}
                  <Handle type="source" position={Position.Right} id={whenHandle(verdict)} className="mm-handle mm-handle-when" />
                </div>
              ))
            : null}
        </div>
      </div>
      {run ? (
        <div className="mm-node-state">
          <RunBadge run={run} />
        </div>
      ) : null}
      {run && run.line !== "" ? (
        <div className="mm-node-line" title={run.told}>
          {run.line}
        </div>
      ) : null}
    </div>
  );
});
