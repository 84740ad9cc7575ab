/** Nodes of the graph: steps, and frames of groups around them. */

import { type NodeChange, type NodePositionChange, Position, applyNodeChanges } from "@xyflow/react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import type { Problem } from "../api/client";
import { COLLAPSED, framesOf } from "../core/frames";
import { groupKey, groupOfKey } from "../core/groups";
import { type Box, NODE_WIDTH, type Point, handlePlace, nodeHeight } from "../core/layout";
import { type Catalogue, type Step, VERDICTS, hasVerdict } from "../core/pipeline";
import { groupOfProblem } from "../core/problems";
import { type StepRun, foldedRun } from "../run/state";
import { useCanvas } from "../store";
import { WHEN, whenHandle } from "./edges";
import type { GroupData, GroupNodeType } from "./GroupNode";
import { type StepData, type StepNodeType, portsOf } from "./StepNode";
import { t } from "../i18n/t";

export type CanvasNode = StepNodeType | GroupNodeType;

/** Of all steps together one is a stop of the Tab key: see `useRoving.ts`. */
const NO_STOP = { tabIndex: -1 };

export function useNodes(run: ReadonlyMap<string, StepRun>) {
  const { steps, groups, collapsed, catalogue, places, problems, selection } = useCanvas();
  const [nodes, setNodes] = useState<CanvasNode[]>([]);
  const known = useRef(new Map<string, { key: string; data: unknown }>());
  const byOwner = useMemo(() => problemsByOwner(problems), [problems]);
  const frames = useMemo(() => framesOf({ steps, groups, catalogue, places }), [steps, groups, catalogue, places]);

  useEffect(() => {
    // Nodes whose content is the same keep it, so that they are not drawn again.
    const kept = <T>(id: string, data: T, content: unknown): T => {
      const key = JSON.stringify(content);
      const present = known.current.get(id);
      if (present?.key === key) return present.data as T;
      known.current.set(id, { key, data });
      return data;
    };
    const stepNode = ([id, step]: [string, Step]): StepNodeType[] => {
      if (collapsed.has(step.group ?? "")) return [];
      const component = catalogue.get(step.component);
      const data: StepData = { step, component, problems: byOwner.get(id) ?? [], run: run.get(id) };
      const frame = frames.get(step.group ?? "");
      const place = places.get(id) ?? { x: 0, y: 0 };
      return [
        {
          id,
          type: "step",
          position: frame ? { x: place.x - frame.x, y: place.y - frame.y } : place,
          ...(frame ? { parentId: groupKey(step.group ?? "") } : {}),
          ...geometryOf(step, catalogue),
          data: kept(id, data, [step, component?.name, data.problems, data.run]),
          selected: selection.has(id),
          domAttributes: NO_STOP,
          ariaLabel: t("Step {id}, {component}", { id, component: step.component }),
        },
      ];
    };
    const groupNode = ([name, frame]: [string, Box]): GroupNodeType[] => {
      const group = groups.get(name);
      if (!group) return [];
      const tasks = group.steps.flatMap((id) => run.get(id)?.tasks ?? []);
      const data: GroupData = {
        name,
        group,
        isCollapsed: collapsed.has(name),
        problems: byOwner.get(groupKey(name)) ?? [],
        run: tasks.length > 0 ? foldedRun(tasks) : undefined,
      };
      const { width, height } = data.isCollapsed ? COLLAPSED : frame;
      const selected = selection.has(groupKey(name));
      return [
        {
          id: groupKey(name),
          type: "frame",
          position: { x: frame.x, y: frame.y },
          width,
          height,
          measured: { width, height },
          ...(data.isCollapsed ? { handles: collapsedHandles(height) } : {}),
          dragHandle: ".mm-frame-head",
          connectable: false,
          // Behind edges and steps; what is selected is lifted by 1000.
          zIndex: selected ? -1001 : -1,
          data: kept(groupKey(name), data, data),
          selected,
          domAttributes: NO_STOP,
          ariaLabel: group.variable === null
            ? t("Group {name}, {n} steps", { name, n: group.steps.length })
            : t("Group {name}, {n} steps, for each {variable}", { name, n: group.steps.length, variable: group.variable }),
        },
      ];
    };
    setNodes((current) => {
      const before = new Map(current.map((node) => [node.id, node]));
      return [...[...frames].flatMap(groupNode), ...[...steps].flatMap(stepNode)].map((node) => {
        const present = before.get(node.id);
        if (!present) return node;
        if (isSame(present, node)) return present;
        // A step is as high as it was drawn, and stays in the hand that moves it.
        const { measured = node.measured } = node.type === "step" ? present : node;
        const position = present.dragging === true ? present.position : node.position;
        return { ...node, position, ...(measured ? { measured } : {}), dragging: present.dragging === true };
      });
    });
  }, [steps, groups, collapsed, catalogue, places, frames, byOwner, run, selection]);

  const onNodesChange = useCallback((changes: NodeChange<CanvasNode>[]) => {
    // What is removed leaves the pipeline first, and so the nodes.
    setNodes((current) => applyNodeChanges(changes.filter((change) => change.type !== "remove"), current));
    const { selection: present, select, place } = useCanvas.getState();
    const rested = changes.filter((change) => change.type === "position" && change.dragging !== true);
    if (rested.length > 0) place(placesAfter(rested as NodePositionChange[]));
    // The store alone says what is selected; the graph only tells it what a person has done.
    const next = new Set(present);
    for (const change of changes) {
      if (change.type !== "select") continue;
      if (change.selected) next.add(change.id);
      else next.delete(change.id);
    }
    select(next);
  }, []);
  return { nodes, onNodesChange };
}

function isSame(present: CanvasNode, node: CanvasNode): boolean {
  return (
    present.data === node.data &&
    present.selected === node.selected &&
    present.position.x === node.position.x &&
    present.position.y === node.position.y &&
    present.parentId === node.parentId &&
    present.width === node.width &&
    present.height === node.height
  );
}

/** Return where steps stand after nodes have moved: a step in a frame stands in it, and a frame takes its steps along. */
function placesAfter(changes: readonly NodePositionChange[]): Map<string, Point> {
  const state = useCanvas.getState();
  const frames = framesOf(state);
  const result = new Map<string, Point>();
  for (const { id, position } of changes) {
    const name = groupOfKey(id);
    const frame = frames.get(name ?? state.steps.get(id)?.group ?? "");
    if (!position) continue;
    if (name === null) result.set(id, { x: position.x + (frame?.x ?? 0), y: position.y + (frame?.y ?? 0) });
    else if (frame) {
      for (const step of state.groups.get(name)?.steps ?? []) {
        const place = state.places.get(step);
        if (place) result.set(step, { x: place.x + position.x - frame.x, y: place.y + position.y - frame.y });
      }
    }
  }
  return result;
}

/**
 * Size and ports of a step, known before it is drawn: so only the steps on the screen are ever drawn. Without
 * them each step would have to be drawn once to be measured.
 */
function geometryOf(step: Step, catalogue: Catalogue) {
  const { inputs, outputs } = portsOf({ step, component: catalogue.get(step.component) });
  const branches = hasVerdict(step, catalogue) ? VERDICTS.map(whenHandle) : [];
  const sources = [...outputs.map((port) => port.name), ...branches];
  return {
    measured: { width: NODE_WIDTH, height: nodeHeight(step, catalogue) },
    handles: [
      { id: WHEN, type: "target" as const, position: Position.Left, ...handlePlace(-1, "inputs") },
      ...inputs.map((port, index) => ({ id: port.name, type: "target" as const, position: Position.Left, ...handlePlace(index, "inputs") })),
      ...sources.map((id, index) => ({ id, type: "source" as const, position: Position.Right, ...handlePlace(index, "outputs") })),
    ],
  };
}

function collapsedHandles(height: number) {
  const at = { y: height / 2, width: 1, height: 1 };
  return [
    { id: "in", type: "target" as const, position: Position.Left, x: 0, ...at },
    { id: "out", type: "source" as const, position: Position.Right, x: NODE_WIDTH, ...at },
  ];
}

/** Messages by step, and by key of a group. */
function problemsByOwner(problems: readonly Problem[]): Map<string, string[]> {
  const result = new Map<string, string[]>();
  for (const problem of problems) {
    const group = groupOfProblem(problem);
    const owner = problem.step ?? (group === null ? null : groupKey(group));
    if (owner !== null) result.set(owner, [...(result.get(owner) ?? []), problem.message]);
  }
  return result;
}
