/** Edges of the graph: what steps take, and what they wait for. */

import { type Connection, type EdgeChange, type Edge as FlowEdge } from "@xyflow/react";
import { useCallback, useEffect, useMemo, useState } from "react";

import { groupKey } from "../core/groups";
import {
  type Catalogue,
  type Control,
  type Edge,
  type Step,
  VERDICTS,
  controlProblem,
  controlsOf,
  edgeProblem,
  edgesOf,
  hasVerdict,
  portOf,
} from "../core/pipeline";
import { useCanvas } from "../store";
import { t, word } from "../i18n/t";

/** By keyboard an edge is reached from its steps: see `useRoving.ts`. */
const NO_STOP = { tabIndex: -1 };

/** Where a branch ends; no port has such a name. */
export const WHEN = "when:";

/** Where a branch begins. */
export function whenHandle(verdict: string): string {
  return WHEN + verdict;
}

type Ends = Pick<Connection, "source" | "sourceHandle" | "target" | "targetHandle">;

export function edgeOf(connection: Ends | FlowEdge): Edge {
  return {
    origin: connection.source,
    originPort: connection.sourceHandle ?? "",
    target: connection.target,
    targetPort: connection.targetHandle ?? "",
  };
}

/** Return the branch that a connection stands for; null: it is not a branch. */
export function controlOf(connection: Ends | FlowEdge): Control | null {
  const verdict = VERDICTS.find((item) => connection.sourceHandle === whenHandle(item));
  if (!verdict || connection.targetHandle !== WHEN) return null;
  return { origin: connection.source, verdict, target: connection.target };
}

/** Return why a connection cannot be drawn, or null. */
export function connectionProblem(steps: ReadonlyMap<string, Step>, catalogue: Catalogue, connection: Ends | FlowEdge): string | null {
  const control = controlOf(connection);
  if (control) return controlProblem(steps, catalogue, control);
  if (connection.targetHandle === WHEN) {
    const origin = steps.get(connection.source);
    if (origin && !hasVerdict(origin, catalogue)) return t("{step} gives no verdict: a branch begins at a gate", { step: connection.source });
    return t("a branch begins at “if accepted” or “if refused” of a gate");
  }
  if (connection.sourceHandle?.startsWith(WHEN) === true) return t("a branch ends beside the name of a step");
  return edgeProblem(steps, catalogue, edgeOf(connection));
}

export function useEdges() {
  const { steps, collapsed, catalogue } = useCanvas();
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const onEdgesChange = useCallback((changes: EdgeChange[]) => {
    setSelected((current) => {
      const next = new Set(current);
      for (const change of changes) {
        if (change.type !== "select") continue;
        if (change.selected) next.add(change.id);
        else next.delete(change.id);
      }
      return next;
    });
  }, []);
  useEffect(() => {
    const [only] = selected.size === 1 ? selected : [];
    useCanvas.getState().look(edgesOf(steps).find((edge) => idOf(edge) === only) ?? null);
  }, [selected, steps]);
  const edges = useMemo((): FlowEdge[] => {
    const isHidden = (id: string): boolean => collapsed.has(steps.get(id)?.group ?? "");
    const all = [...dataEdges(steps, catalogue), ...controlEdges(steps)].filter((edge) => steps.has(edge.source));
    const shown = all.filter((edge) => !isHidden(edge.source) && !isHidden(edge.target)).map((edge) => ({ ...edge, selected: selected.has(edge.id) }));
    const folded = new Map<string, FlowEdge>();
    for (const edge of all.filter((item) => isHidden(item.source) || isHidden(item.target))) {
      const end = edgeOfCollapsed(edge, steps, isHidden);
      if (end.source !== end.target) folded.set(end.id, end);
    }
    return [...shown, ...folded.values()];
  }, [steps, collapsed, catalogue, selected]);
  return { edges, onEdgesChange };
}

function idOf(edge: Edge): string {
  return `${edge.origin}.${edge.originPort}>${edge.target}.${edge.targetPort}`;
}

function dataEdges(steps: ReadonlyMap<string, Step>, catalogue: Catalogue): FlowEdge[] {
  return edgesOf(steps).map((edge) => {
    const type = portOf(steps, catalogue, edge.origin, edge.originPort, "outputs")?.type ?? "";
    return {
      id: idOf(edge),
      ariaLabel: t("What flows from {origin} to {target}", { origin: `${edge.origin}.${edge.originPort}`, target: `${edge.target}.${edge.targetPort}` }),
      source: edge.origin,
      sourceHandle: edge.originPort,
      target: edge.target,
      targetHandle: edge.targetPort,
      domAttributes: NO_STOP,
      className: `mm-edge mm-type-${type}`,
    };
  });
}

function controlEdges(steps: ReadonlyMap<string, Step>): FlowEdge[] {
  return controlsOf(steps).map(({ origin, verdict, target }) => ({
    id: `${origin} ${verdict}>${target}`,
    source: origin,
    sourceHandle: whenHandle(verdict),
    target,
    targetHandle: WHEN,
    label: word(verdict),
    labelBgPadding: [2, 1] as [number, number],
    ariaLabel: t("{target} runs if {origin} has {verdict}", { target, origin, verdict: word(verdict) }),
    domAttributes: NO_STOP,
    className: `mm-edge mm-when mm-when-${verdict}`,
  }));
}

/** Lead an edge to the one node that a collapsed group is. Several edges become one. */
function edgeOfCollapsed(edge: FlowEdge, steps: ReadonlyMap<string, Step>, isHidden: (id: string) => boolean): FlowEdge {
  const keyOf = (id: string): string | null => (isHidden(id) ? groupKey(steps.get(id)?.group ?? "") : null);
  const [source, target] = [keyOf(edge.source), keyOf(edge.target)];
  const from = source === null ? { source: edge.source, sourceHandle: edge.sourceHandle ?? null } : { source, sourceHandle: "out" };
  const to = target === null ? { target: edge.target, targetHandle: edge.targetHandle ?? null } : { target, targetHandle: "in" };
  const id = [from.source, from.sourceHandle, to.target, to.targetHandle].join(" ");
  return { ...edge, ...from, ...to, id, selectable: false, deletable: false, focusable: false };
}
