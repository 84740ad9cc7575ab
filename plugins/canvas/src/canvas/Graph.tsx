/** The graph: steps are nodes, inputs are edges, branches dashed ones, groups frames. It shows the store's pipeline and edits it. */

import {
  Background,
  type Connection,
  Controls,
  type Edge as FlowEdge,
  MiniMap,
  Panel,
  ReactFlow,
  type ReactFlowInstance,
  useConnection,
  useReactFlow,
  useStoreApi,
} from "@xyflow/react";
import { type DragEvent, type MouseEvent, type PointerEvent, useCallback, useEffect, useRef, useState } from "react";

import { addStep, connect, setWhen } from "../core/edits";
import { framesOf, groupAt, groupsAfterMove } from "../core/frames";
import { groupOfKey, moveSteps, onlyStep } from "../core/groups";
import type { Point } from "../core/layout";
import { portOf } from "../core/pipeline";
import type { StepRun } from "../run/state";
import { useCanvas } from "../store";
import { deleteSelection, keepFocus } from "./actions";
import { ContextMenu } from "./ContextMenu";
import { connectionProblem, controlOf, edgeOf, useEdges } from "./edges";
import { GroupNode } from "./GroupNode";
import { type CanvasNode, useNodes } from "./nodes";
import { type CanvasEdge, RoutedEdge } from "./RoutedEdge";
import { StepNode } from "./StepNode";
import { useColorMode } from "./useColorMode";
import { useRoutes } from "./useRoutes";
import { useRoving } from "./useRoving";
import { isOfGraph } from "./useShortcuts";
import { t } from "../i18n/t";

export const DRAG_TYPE = "application/x-modelmill-component";
const NODE_TYPES = { step: StepNode, frame: GroupNode };
const EDGE_TYPES = { routed: RoutedEdge };
/** So many steps are seen whole: an overview would only lie over some of them. */
const WHOLE = 16;
const NO_RUN: ReadonlyMap<string, StepRun> = new Map();

interface Props {
  isReadOnly?: boolean;
  run?: ReadonlyMap<string, StepRun>;
}

export function Graph({ isReadOnly = false, run = NO_RUN }: Props) {
  const { nodes, onNodesChange } = useNodes(run);
  const { edges: ends, onEdgesChange } = useEdges();
  const edges = useRoutes(ends);
  const roving = useRoving(nodes, edges);
  const { edit, place, select, steps, catalogue } = useCanvas();
  const flow = useReactFlow();
  const store = useStoreApi();
  const colorMode = useColorMode();
  const [menu, setMenu] = useState<Point | null>(null);
  const moving = useMoving();
  const { onShown, onMoved } = useFitting(run.size > 0);
  useDeleteKey(!isReadOnly);

  const isValid = useCallback(
    (connection: Connection | FlowEdge) => connectionProblem(steps, catalogue, connection) === null,
    [steps, catalogue],
  );
  const onConnect = useCallback(
    (connection: Connection) => {
      const control = controlOf(connection);
      if (control) {
        edit((pipeline) => setWhen(pipeline, control.target, control.origin, control.verdict));
        return;
      }
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
      const pointer = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
      const at = { x: pointer.x - 100, y: pointer.y - 20 };
      const state = useCanvas.getState();
      const group = groupAt(pointer, new Map([...framesOf(state)].filter(([name]) => !state.collapsed.has(name))));
      let added = "";
      const done = edit((pipeline) => {
        const result = addStep(pipeline, catalogue, component);
        added = result.id;
        place(new Map([[added, at]]));
        return group === null ? result.pipeline : moveSteps(result.pipeline, [added], group);
      });
      if (done) select([added]);
    },
    [flow, edit, place, select, catalogue],
  );
  // A click says itself which keys are held; React Flow would only know a little later, and forget what was selected.
  const onPointerDownCapture = useCallback(
    ({ shiftKey, ctrlKey, metaKey }: PointerEvent) => { store.setState({ multiSelectionActive: shiftKey || ctrlKey || metaKey }); },
    [store],
  );
  const onContextMenu = useCallback(
    (event: MouseEvent, node?: CanvasNode) => {
      event.preventDefault();
      if (node && !useCanvas.getState().selection.has(node.id)) select([node.id]);
      setMenu({ x: event.clientX, y: event.clientY });
    },
    [select],
  );

  return (
    <>
      <ReactFlow<CanvasNode, CanvasEdge>
        className="mm-flow"
        nodes={roving.nodes}
        edges={edges}
        nodeTypes={NODE_TYPES}
        edgeTypes={EDGE_TYPES}
        onKeyDownCapture={roving.onKeyDownCapture}
        onFocusCapture={roving.onFocusCapture}
        onMoveStart={(event) => { if (event !== null) onMoved(); }}
        onMoveEnd={roving.settle}
        onNodesChange={onNodesChange}
        onEdgesChange={onEdgesChange}
        onConnect={onConnect}
        isValidConnection={isValid}
        onDrop={onDrop}
        onPointerDownCapture={onPointerDownCapture}
        onDragOver={(event) => { event.preventDefault(); }}
        onDelete={({ edges: cut }) => {
          deleteSelection(cut.filter((edge) => edge.selected === true));
          keepFocus();
        }}
        tabIndex={-1}
        {...(isReadOnly
          ? {}
          : {
              onNodeDragStart: () => {
                onMoved();
                moving.begin();
              },
              onNodeDrag: (_: unknown, __: unknown, moved: CanvasNode[]) => { moving.move(moved); },
              onNodeDragStop: (_: unknown, __: unknown, moved: CanvasNode[]) => { moving.end(moved); },
              onSelectionDragStart: moving.begin,
              onSelectionDrag: (_: unknown, moved: CanvasNode[]) => { moving.move(moved); },
              onSelectionDragStop: (_: unknown, moved: CanvasNode[]) => { moving.end(moved); },
              onNodeContextMenu: onContextMenu,
              onSelectionContextMenu: (event: MouseEvent) => { onContextMenu(event); },
            })}
        deleteKeyCode={null}
        multiSelectionKeyCode={["Shift", "Control", "Meta"]}
        selectionKeyCode="Shift"
        nodesConnectable={!isReadOnly}
        onlyRenderVisibleElements
        minZoom={0.05}
        maxZoom={2}
        onInit={(instance: ReactFlowInstance<CanvasNode, CanvasEdge>) => { requestAnimationFrame(() => { void show(instance).then(onShown); }); }}
        connectionRadius={28}
        colorMode={colorMode}
        ariaLabelConfig={labels()}
        proOptions={{ hideAttribution: true }}
      >
        <Background gap={20} size={1} />
        <Controls
          showInteractive={false}
          position="bottom-left"
          onZoomIn={onMoved}
          onZoomOut={onMoved}
          onFitView={onShown}
        />
        {steps.size > WHOLE ? <MiniMap pannable zoomable position="bottom-right" ariaLabel={t("Overview of the pipeline")} /> : null}
        {isReadOnly ? null : <Refusal />}
      </ReactFlow>
      {menu === null ? null : <ContextMenu at={menu} onClose={() => { setMenu(null); }} />}
    </>
  );
}

/** What those hear who do not see the graph: React Flow's own sentences, in the page's language. */
function labels() {
  return {
    "node.a11yDescription.default": t("Arrow keys go from step to step, E goes to the edges of a step. Enter selects a step, Escape goes back."),
    "node.a11yDescription.keyboardDisabled": t("Arrow keys go from step to step, E goes to the edges of a step. Enter selects a step, Shift and an arrow key move it. Delete removes it, Escape goes back."),
    "edge.a11yDescription.default": t("E goes to the next edge of the step, arrow keys to the steps at its ends. Enter selects an edge. Delete removes it, Escape goes back."),
    "controls.ariaLabel": t("View"),
    "controls.zoomIn.ariaLabel": t("Zoom in"),
    "controls.zoomOut.ariaLabel": t("Zoom out"),
    "controls.fitView.ariaLabel": t("Fit View"),
  };
}

/** Delete what is selected. React Flow's own key would do so wherever on the page it is pressed. */
function useDeleteKey(mayDelete: boolean): void {
  const flow = useReactFlow();
  const store = useStoreApi();
  useEffect(() => {
    if (!mayDelete) return;
    const onKeyDown = (event: KeyboardEvent): void => {
      const hasOthers = event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.repeat;
      if (hasOthers || !["Delete", "Backspace"].includes(event.key) || !isOfGraph(event.target)) return;
      const { nodes, edges } = flow.toObject();
      void flow.deleteElements({ nodes: nodes.filter((node) => node.selected), edges: edges.filter((edge) => edge.selected) });
      store.setState({ nodesSelectionActive: false });
    };
    document.addEventListener("keydown", onKeyDown);
    return () => { document.removeEventListener("keydown", onKeyDown); };
  }, [flow, store, mayDelete]);
}

/**
 * When the pane changes its size, as when a result opens below it, show all again, unless somebody has moved the view.
 * Without a run nothing moves: who draws finds each step where it was dropped.
 */
function useFitting(hasRun: boolean) {
  const flow = useReactFlow<CanvasNode, CanvasEdge>();
  const isAsShown = useRef(false);
  const onShown = useCallback(() => { isAsShown.current = true; }, []);
  const onMoved = useCallback(() => { isAsShown.current = false; }, []);
  useEffect(() => {
    const pane = document.querySelector(".mm-flow");
    if (pane === null || !hasRun) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isHeld = false;
    let isDue = false;
    const settle = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        if (isHeld) return; // what somebody drags stays under the hand: its end settles
        isDue = false;
        const shown = isAsShown.current ? show(flow) : Promise.resolve();
        void shown.then(() => { reveal(flow, pane); });
      }, SETTLED);
    };
    const onPointer = ({ type }: Event): void => {
      const wasHeld = isHeld;
      isHeld = type === "pointerdown";
      if (wasHeld && !isHeld && isDue) settle();
    };
    const observer = new ResizeObserver(() => {
      isDue = true;
      settle();
    });
    observer.observe(pane);
    for (const name of POINTER) window.addEventListener(name, onPointer, true);
    return () => {
      clearTimeout(timer);
      observer.disconnect();
      for (const name of POINTER) window.removeEventListener(name, onPointer, true);
    };
  }, [flow, hasRun]);
  return { onShown, onMoved };
}

/** Move the view so far that the selected step is in it. */
function reveal(flow: ReactFlowInstance<CanvasNode, CanvasEdge>, pane: Element): void {
  const id = onlyStep(useCanvas.getState().selection);
  const node = id === null ? undefined : flow.getInternalNode(id);
  if (!node) return;
  const { x, y, zoom } = flow.getViewport();
  const { positionAbsolute: at } = node.internals;
  const { width = 0, height = 0 } = node.measured;
  const over = (begin: number, size: number, room: number): number =>
    Math.min(Math.max(0, begin + size + MARGIN / 2 - room), Math.max(0, begin - MARGIN / 2));
  const right = over(at.x * zoom + x, width * zoom, pane.clientWidth);
  const below = over(at.y * zoom + y, height * zoom, pane.clientHeight);
  if (right + below > 0) void flow.setViewport({ x: x - right, y: y - below, zoom });
}

/** A step that is dropped in another frame, or out of its own, changes its group. */
function useMoving() {
  const flow = useReactFlow();
  const before = useRef(useCanvas.getState());
  const begin = useCallback(() => { before.current = useCanvas.getState(); }, []);
  const changesOf = useCallback(
    (moved: readonly CanvasNode[]) => {
      const ids = moved.map((node) => node.id).filter((id) => groupOfKey(id) === null);
      const now = ids.map((id): [string, Point | undefined] => [id, flow.getInternalNode(id)?.internals.positionAbsolute]);
      const known = now.filter((item): item is [string, Point] => item[1] !== undefined);
      return groupsAfterMove(ids, before.current, new Map(known));
    },
    [flow],
  );
  const move = useCallback(
    (moved: readonly CanvasNode[]) => {
      const [target = null] = [...changesOf(moved).values()].filter((name) => name !== null);
      useCanvas.getState().aim(target);
    },
    [changesOf],
  );
  const end = useCallback(
    (moved: readonly CanvasNode[]) => {
      const { edit, say, aim } = useCanvas.getState();
      aim(null);
      const changes = changesOf(moved);
      if (changes.size === 0) return;
      edit((pipeline) => [...changes].reduce((result, [id, group]) => moveSteps(result, [id], group), pipeline));
      say([...changes].map(([id, group]) => (group === null ? t("{id} has left its group", { id }) : t("{id} is now in {group}", { id, group }))).join("; "));
    },
    [changesOf],
  );
  return { begin, move, end };
}

/** Says why the edge that is being drawn would be refused here. */
function Refusal() {
  const { fromHandle, toHandle } = useConnection();
  const { steps, catalogue } = useCanvas();
  if (!fromHandle || !toHandle || fromHandle === toHandle) return null;
  const [source, target] = fromHandle.type === "source" ? [fromHandle, toHandle] : [toHandle, fromHandle];
  const problem = connectionProblem(steps, catalogue, {
    source: source.nodeId,
    sourceHandle: source.id ?? null,
    target: target.nodeId,
    targetHandle: target.id ?? null,
  });
  if (problem === null) return null;
  return (
    <Panel position="top-center" className="mm-refusal">
      <span role="status">{problem}</span>
    </Panel>
  );
}

const MARGIN = 32;
const POINTER = ["pointerdown", "pointerup", "pointercancel"] as const;
/** Milliseconds after which a pane that is pulled has its size. */
const SETTLED = 120;
const READABLE = 0.7;

/** Show all of the graph, or if that would be too small to read, its beginning. */
async function show(flow: ReactFlowInstance<CanvasNode, CanvasEdge>): Promise<void> {
  const pane = document.querySelector(".mm-flow");
  const { x, y, width, height } = flow.getNodesBounds(flow.getNodes());
  if (!pane || width === 0) return;
  const fitting = Math.min((pane.clientWidth - 2 * MARGIN) / width, (pane.clientHeight - 2 * MARGIN) / height);
  const zoom = Math.min(1, Math.max(READABLE, fitting));
  const left = width * zoom > pane.clientWidth ? MARGIN : (pane.clientWidth - width * zoom) / 2;
  const top = height * zoom > pane.clientHeight ? MARGIN : (pane.clientHeight - height * zoom) / 2;
  await flow.setViewport({ x: left - x * zoom, y: top - y * zoom, zoom });
}
