/** The graph: steps are nodes, inputs are edges. It shows the store's pipeline and edits it. */

import {
  Background,
  type Connection,
  Controls,
  type EdgeChange,
  type Edge as FlowEdge,
  MiniMap,
  type NodeChange,
  Panel,
  Position,
  ReactFlow,
  type ReactFlowInstance,
  applyNodeChanges,
  useConnection,
  useReactFlow,
} from "@xyflow/react";
import { type DragEvent, useCallback, useEffect, useMemo, useRef, useState } from "react";

import type { Problem } from "../api/client";
import { NODE_WIDTH, handlePlace, nodeHeight } from "../core/layout";
import {
  type Catalogue,
  type Edge,
  type Step,
  addStep,
  connect,
  disconnect,
  edgeProblem,
  edgesOf,
  portOf,
  removeSteps,
} from "../core/pipeline";
import type { StepRun } from "../run/state";
import { useCanvas } from "../store";
import { type StepData, StepNode, type StepNodeType, portsOf } from "./StepNode";
import { useColorMode } from "./useColorMode";

export const DRAG_TYPE = "application/x-modelmill-component";
const NODE_TYPES = { step: StepNode };
const NO_RUN: ReadonlyMap<string, StepRun> = new Map();

interface Props {
  isReadOnly?: boolean;
  run?: ReadonlyMap<string, StepRun>;
}

export function Graph({ isReadOnly = false, run = NO_RUN }: Props) {
  const { nodes, onNodesChange } = useNodes(run);
  const { edges, onEdgesChange } = useEdges();
  const { edit, place, select, steps, catalogue } = useCanvas();
  const flow = useReactFlow();
  const colorMode = useColorMode();

  const isValid = useCallback(
    (connection: Connection | FlowEdge) => edgeProblem(steps, catalogue, edgeOf(connection)) === null,
    [steps, catalogue],
  );
  const onConnect = useCallback(
    (connection: Connection) => {
      const edge = edgeOf(connection);
      const many = portOf(steps, catalogue, edge.target, edge.targetPort, "inputs")?.many ?? false;
      edit((pipeline) => connect(pipeline, edge, many));
    },
    [edit, steps, catalogue],
  );
  const onDrop = useCallback(
    (event: DragEvent) => {
      const component = event.dataTransfer.getData(DRAG_TYPE);
      if (component === "") return;
      event.preventDefault();
      const at = flow.screenToFlowPosition({ x: event.clientX - 100, y: event.clientY - 20 });
      let added = "";
      const done = edit((pipeline) => {
        const result = addStep(pipeline, catalogue, component);
        added = result.id;
        place(new Map([[added, at]]));
        return result.pipeline;
      });
      if (done) select([added]);
    },
    [flow, edit, place, select, catalogue],
  );

  return (
    <ReactFlow<StepNodeType>
      className="mm-flow"
      nodes={nodes}
      edges={edges}
      nodeTypes={NODE_TYPES}
      onNodesChange={onNodesChange}
      onEdgesChange={onEdgesChange}
      onConnect={onConnect}
      isValidConnection={isValid}
      onDrop={onDrop}
      onDragOver={(event) => { event.preventDefault(); }}
      onNodeDragStop={(_, __, moved) => { place(new Map(moved.map((node) => [node.id, node.position]))); }}
      onDelete={({ nodes: gone, edges: cut }) => {
        const ids = new Set(gone.map((node) => node.id));
        const loose = cut.filter((edge) => !ids.has(edge.source) && !ids.has(edge.target)).map(edgeOf);
        edit((pipeline) => removeSteps(disconnect(pipeline, loose), ids));
      }}
      deleteKeyCode={isReadOnly ? null : ["Delete", "Backspace"]}
      multiSelectionKeyCode={["Shift", "Control", "Meta"]}
      selectionKeyCode="Shift"
      nodesConnectable={!isReadOnly}
      onlyRenderVisibleElements
      minZoom={0.05}
      maxZoom={2}
      onInit={(instance) => { requestAnimationFrame(() => { void show(instance); }); }}
      connectionRadius={28}
      colorMode={colorMode}
      proOptions={{ hideAttribution: true }}
    >
      <Background gap={20} size={1} />
      <Controls showInteractive={false} position="bottom-left" />
      {steps.size > 8 ? <MiniMap pannable zoomable position="bottom-right" ariaLabel="Overview of the pipeline" /> : null}
      {isReadOnly ? null : <Refusal />}
    </ReactFlow>
  );
}

/** Says why the edge that is being drawn would be refused here. */
function Refusal() {
  const { fromHandle, toHandle } = useConnection();
  const { steps, catalogue } = useCanvas();
  if (!fromHandle || !toHandle || fromHandle === toHandle) return null;
  const [source, target] = fromHandle.type === "source" ? [fromHandle, toHandle] : [toHandle, fromHandle];
  const problem = edgeProblem(steps, catalogue, {
    origin: source.nodeId,
    originPort: source.id ?? "",
    target: target.nodeId,
    targetPort: target.id ?? "",
  });
  if (problem === null) return null;
  return (
    <Panel position="top-center" className="mm-refusal">
      <span role="status">{problem}</span>
    </Panel>
  );
}

function useNodes(run: ReadonlyMap<string, StepRun>) {
  const { steps, catalogue, places, problems, selection } = useCanvas();
  const [nodes, setNodes] = useState<StepNodeType[]>([]);
  const known = useRef(new Map<string, { key: string; data: StepData }>());
  const byStep = useMemo(() => problemsByStep(problems), [problems]);

  useEffect(() => {
    const dataOf = (id: string): StepData => {
      const step = steps.get(id);
      const component = catalogue.get(step?.component ?? "");
      const data = { step, component, problems: byStep.get(id) ?? [], run: run.get(id) } as StepData;
      // Nodes whose content is the same keep it, so that they are not drawn again.
      const key = JSON.stringify([data.step, component?.name, data.problems, data.run]);
      const present = known.current.get(id);
      if (present?.key === key) return present.data;
      known.current.set(id, { key, data });
      return data;
    };
    setNodes((current) => {
      const before = new Map(current.map((node) => [node.id, node]));
      return [...steps.keys()].map((id) => {
        const present = before.get(id);
        const node = {
          id,
          type: "step" as const,
          position: places.get(id) ?? { x: 0, y: 0 },
          ...geometryOf(steps.get(id), catalogue),
          ...(present?.measured ? { measured: present.measured } : {}),
          data: dataOf(id),
          selected: selection.has(id),
          ariaLabel: `Step ${id}, ${steps.get(id)?.component ?? ""}`,
        };
        const isSame =
          present?.data === node.data && present.selected === node.selected && present.position === node.position;
        return isSame ? present : { ...present, ...node };
      });
    });
  }, [steps, catalogue, places, byStep, run, selection]);

  const onNodesChange = useCallback((changes: NodeChange<StepNodeType>[]) => {
    // What is removed leaves the pipeline first, and so the nodes.
    setNodes((current) => applyNodeChanges(changes.filter((change) => change.type !== "remove"), current));
    // The store alone says what is selected; the graph only tells it what a person has done.
    const next = new Set(useCanvas.getState().selection);
    for (const change of changes) {
      if (change.type !== "select") continue;
      if (change.selected) next.add(change.id);
      else next.delete(change.id);
    }
    useCanvas.getState().select(next);
  }, []);
  return { nodes, onNodesChange };
}

/**
 * Size and ports of a step, known before it is drawn: so only the steps on the screen are ever drawn. Without
 * them each step would have to be drawn once to be measured.
 */
function geometryOf(step: Step | undefined, catalogue: Catalogue) {
  if (!step) return {};
  const { inputs, outputs } = portsOf({ step, component: catalogue.get(step.component) });
  return {
    measured: { width: NODE_WIDTH, height: nodeHeight(step, catalogue) },
    handles: [
      ...inputs.map((port, index) => ({ id: port.name, type: "target" as const, position: Position.Left, ...handlePlace(index, "inputs") })),
      ...outputs.map((port, index) => ({ id: port.name, type: "source" as const, position: Position.Right, ...handlePlace(index, "outputs") })),
    ],
  };
}

const MARGIN = 32;
const READABLE = 0.7;

/** Show all of the graph, or if that would be too small to read, its beginning. */
async function show(flow: ReactFlowInstance<StepNodeType>): Promise<void> {
  const pane = document.querySelector(".mm-flow");
  const { x, y, width, height } = flow.getNodesBounds(flow.getNodes());
  if (!pane || width === 0) return;
  const fitting = Math.min((pane.clientWidth - 2 * MARGIN) / width, (pane.clientHeight - 2 * MARGIN) / height);
  const zoom = Math.min(1, Math.max(READABLE, fitting));
  const left = width * zoom > pane.clientWidth ? MARGIN : (pane.clientWidth - width * zoom) / 2;
  const top = height * zoom > pane.clientHeight ? MARGIN : (pane.clientHeight - height * zoom) / 2;
  await flow.setViewport({ x: left - x * zoom, y: top - y * zoom, zoom });
}

function useEdges() {
  const { steps, catalogue } = useCanvas();
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
  const edges = useMemo(
    (): FlowEdge[] =>
      edgesOf(steps)
        .filter((edge) => steps.has(edge.origin))
        .map((edge) => {
          const id = `${edge.origin}.${edge.originPort}>${edge.target}.${edge.targetPort}`;
          const type = portOf(steps, catalogue, edge.origin, edge.originPort, "outputs")?.type ?? "";
          return {
            id,
            source: edge.origin,
            sourceHandle: edge.originPort,
            target: edge.target,
            targetHandle: edge.targetPort,
            selected: selected.has(id),
            className: `mm-edge mm-type-${type}`,
          };
        }),
    [steps, catalogue, selected],
  );
  return { edges, onEdgesChange };
}

function problemsByStep(problems: readonly Problem[]): Map<string, string[]> {
  const result = new Map<string, string[]>();
  for (const { step, message } of problems) {
    if (step !== null) result.set(step, [...(result.get(step) ?? []), message]);
  }
  return result;
}

function edgeOf(connection: Connection | FlowEdge): Edge {
  return {
    origin: connection.source,
    originPort: connection.sourceHandle ?? "",
    target: connection.target,
    targetPort: connection.targetHandle ?? "",
  };
}
