/** Edges with their ways around the steps, as they stand now. */

import type { Edge as FlowEdge } from "@xyflow/react";
import { useMemo } from "react";

import { COLLAPSED, type Picture, framesOf } from "../core/frames";
import { groupKey } from "../core/groups";
import { type Box, NODE_WIDTH, type Point, handlePlace, nodeHeight } from "../core/layout";
import { VERDICTS, hasVerdict } from "../core/pipeline";
import { type Way, routesOf } from "../core/routes";
import { useCanvas } from "../store";
import { WHEN, whenHandle } from "./edges";
import type { CanvasEdge } from "./RoutedEdge";
import { portsOf } from "./StepNode";

type Shown = Picture & { collapsed: ReadonlySet<string> };

export function useRoutes(edges: readonly FlowEdge[]): CanvasEdge[] {
  const { steps, groups, catalogue, places, collapsed } = useCanvas();
  const key = useMemo(() => {
    const picture = { steps, groups, catalogue, places, collapsed };
    return JSON.stringify([edges.flatMap((edge) => wayOf(edge, picture)), [...boxesOf(picture)]]);
  }, [edges, steps, groups, catalogue, places, collapsed]);
  // What is typed into a form, or selected, moves nothing.
  const routes = useMemo(() => {
    const [ways, boxes] = JSON.parse(key) as [Way[], [string, Box][]];
    return routesOf(ways, new Map(boxes));
  }, [key]);
  return useMemo(() => edges.map((edge): CanvasEdge => ({ ...edge, type: "routed", data: { points: routes.get(edge.id) } })), [edges, routes]);
}

/** Steps that are drawn, and collapsed groups in the place of theirs. */
function boxesOf(picture: Shown): Map<string, Box> {
  const { steps, catalogue, places, collapsed } = picture;
  const boxes = new Map<string, Box>();
  for (const [id, step] of steps) {
    const place = places.get(id);
    if (place && !collapsed.has(step.group ?? "")) boxes.set(id, { ...place, width: NODE_WIDTH, height: nodeHeight(step, catalogue) });
  }
  for (const [name, { x, y }] of framesOf(picture)) if (collapsed.has(name)) boxes.set(groupKey(name), { x, y, ...COLLAPSED });
  return boxes;
}

function wayOf(edge: FlowEdge, picture: Shown): Way[] {
  const from = portPlace(edge.source, edge.sourceHandle ?? "", "outputs", picture);
  const to = portPlace(edge.target, edge.targetHandle ?? "", "inputs", picture);
  if (!from || !to) return [];
  return [{ id: edge.id, source: edge.source, target: edge.target, port: `${edge.source} ${edge.sourceHandle ?? ""}`, from, to }];
}

/** Where an edge begins or ends; null: nowhere, since the component is unknown. */
function portPlace(id: string, port: string, side: "inputs" | "outputs", picture: Shown): Point | null {
  const { steps, catalogue, places } = picture;
  const [step, place] = [steps.get(id), places.get(id)];
  if (!step || !place) {
    const frame = [...framesOf(picture)].find(([name]) => groupKey(name) === id)?.[1];
    return frame ? { x: frame.x + (side === "outputs" ? NODE_WIDTH : 0), y: frame.y + COLLAPSED.height / 2 } : null;
  }
  const { inputs, outputs } = portsOf({ step, component: catalogue.get(step.component) });
  const branches = hasVerdict(step, catalogue) ? VERDICTS.map(whenHandle) : [];
  const names = side === "inputs" ? inputs.map(({ name }) => name) : [...outputs.map(({ name }) => name), ...branches];
  const index = names.indexOf(port);
  if (index < 0 && port !== WHEN) return null;
  const at = handlePlace(index, side);
  return { x: place.x + at.x + (side === "outputs" ? at.width : 0), y: place.y + at.y + at.height / 2 };
}
