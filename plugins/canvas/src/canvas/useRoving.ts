/** The graph by keyboard: one stop of the Tab key, from which arrow keys go from step to step, and E to edges. */

import { type Edge as FlowEdge, useReactFlow } from "@xyflow/react";
import { type KeyboardEvent, useCallback, useEffect, useMemo, useRef, useState } from "react";

import type { Box } from "../core/layout";
import { stepBeside } from "../core/walk";
import type { CanvasNode } from "./nodes";

const STOP = { tabIndex: 0 };
/** As high as what a person sees of a frame: its head. */
const FRAME_HEAD = 32;
/** Frames until a step that was out of sight is drawn. */
const PATIENCE = 20;

function elementOf(id: string): HTMLElement | SVGElement | null {
  return document.querySelector<HTMLElement | SVGElement>(`.mm-flow [data-id="${CSS.escape(id)}"]`);
}

/** Focus a step as soon as it is drawn. */
function focusSoon(id: string, patience: number): void {
  const element = elementOf(id);
  if (element) element.focus({ preventScroll: true });
  else if (patience > 0) requestAnimationFrame(() => { focusSoon(id, patience - 1); });
}

export function useRoving(nodes: readonly CanvasNode[], edges: readonly FlowEdge[]) {
  const flow = useReactFlow<CanvasNode>();
  const [chosen, setChosen] = useState<string | null>(null);
  const origin = useRef<string | null>(null);
  const at = nodes.some((node) => node.id === chosen) ? chosen : (nodes.find((node) => node.type === "step")?.id ?? null);
  const shown = useMemo(() => nodes.map((node) => (node.id === at ? { ...node, domAttributes: STOP } : node)), [nodes, at]);

  const go = useCallback(
    (id: string): void => {
      setChosen(id);
      const node = flow.getInternalNode(id);
      // Only what is in sight is drawn.
      if (node && !elementOf(id)) void flow.setCenter(node.internals.positionAbsolute.x, node.internals.positionAbsolute.y, { zoom: flow.getZoom() });
      focusSoon(id, PATIENCE);
    },
    [flow],
  );
  /** The stop must be a step that is drawn. */
  const settle = useCallback((): void => {
    requestAnimationFrame(() => {
      if (document.querySelector('.mm-flow .react-flow__node[tabindex="0"]')) return;
      const first = document.querySelector<HTMLElement>(".mm-flow .react-flow__node")?.dataset.id;
      if (first !== undefined) setChosen(first);
    });
  }, []);
  useEffect(settle, [nodes, settle]);

  const boxes = useCallback((): Map<string, Box> => {
    const known = nodes.flatMap((node): [string, Box][] => {
      const place = flow.getInternalNode(node.id)?.internals.positionAbsolute;
      const height = node.type === "frame" ? FRAME_HEAD : (node.measured?.height ?? 0);
      return place ? [[node.id, { ...place, width: node.measured?.width ?? 0, height }]] : [];
    });
    return new Map(known);
  }, [nodes, flow]);

  const onKeyDownCapture = useCallback(
    (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || !(event.target instanceof Element)) return;
      const id = event.target.getAttribute("data-id");
      const isNode = event.target.classList.contains("react-flow__node");
      const edge = event.target.classList.contains("react-flow__edge") ? edges.find((item) => item.id === id) : undefined;
      if (id === null || (!isNode && !edge)) return;
      const next = event.key.toLowerCase() === "e" ? edgeBeside(edges, edge ? (origin.current ?? edge.source) : id, edge?.id) : edge ? endOf(edge, event.key) : stepBeside(boxes(), id, event.key);
      if (isNode) origin.current = id;
      // An arrow key that leads nowhere must not move the step either: with Shift it does.
      if (next === null && !event.key.startsWith("Arrow")) return;
      event.preventDefault();
      event.stopPropagation();
      if (next === null) return;
      if (edges.some((item) => item.id === next)) elementOf(next)?.focus({ preventScroll: true });
      else go(next);
    },
    [edges, boxes, go],
  );
  const onFocusCapture = useCallback((event: { target: EventTarget }): void => {
    if (!(event.target instanceof Element) || !event.target.classList.contains("react-flow__node")) return;
    setChosen(event.target.getAttribute("data-id"));
  }, []);
  return { nodes: shown, onKeyDownCapture, onFocusCapture, settle };
}

/** The edge of a step that comes after one; null: it has none. */
function edgeBeside(edges: readonly FlowEdge[], step: string, present: string | undefined): string | null {
  const own = edges.filter((edge) => edge.focusable !== false && (edge.source === step || edge.target === step)).map((edge) => edge.id);
  return own[(own.indexOf(present ?? "") + 1) % own.length] ?? null;
}

function endOf(edge: FlowEdge, key: string): string | null {
  return { ArrowLeft: edge.source, ArrowRight: edge.target }[key] ?? null;
}
