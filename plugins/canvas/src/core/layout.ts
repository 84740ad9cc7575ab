/**
 * Where the steps of a pipeline stand: in layers from left to right, with few crossings (Sugiyama, 1981).
 *
 * Own code, because ELK is larger than the whole canvas may be (472 kB gzip), and dagre takes 9 s for 500 steps.
 */

import { type Catalogue, type Step, edgesOf } from "./pipeline";

export interface Point {
  x: number;
  y: number;
}

export const NODE_WIDTH = 184;
/** As `canvas.css` draws a step: border, head, and the space above and below its ports. */
const HEAD = 46;
const FRAME = 50;
const PORT_HEIGHT = 22;
const HANDLE = 11;
const LAYER_GAP = 60;
const NODE_GAP = 28;
const SWEEPS = 12;

export function nodeHeight(step: Step, catalogue: Catalogue): number {
  const component = catalogue.get(step.component);
  const ports = Math.max(component?.inputs.length ?? Object.keys(step.inputs).length, component?.outputs.length ?? 0, 1);
  return FRAME + PORT_HEIGHT * ports;
}

/** Where an edge begins or ends: the middle of a port's line, on the step's left or right. */
export function handlePlace(index: number, side: "inputs" | "outputs"): { x: number; y: number; width: number; height: number } {
  const x = (side === "inputs" ? 0 : NODE_WIDTH) - HANDLE / 2;
  return { x, y: HEAD + PORT_HEIGHT * index + (PORT_HEIGHT - HANDLE) / 2, width: HANDLE, height: HANDLE };
}

interface Cell {
  layer: number;
  height: number;
  y: number;
  before: Cell[];
  after: Cell[];
}

/** Return the upper left corner of each step. The same steps always give the same places. */
export function arrange(steps: ReadonlyMap<string, Step>, catalogue: Catalogue): Map<string, Point> {
  const cells = cellsOf(steps, catalogue);
  const layers: Cell[][] = [];
  for (const cell of cells.values()) (layers[cell.layer] ??= []).push(cell);
  for (const layer of layers) stack(layer);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forth = sweep % 2 === 0;
    for (const layer of forth ? layers : layers.toReversed()) {
      const wanted = new Map(layer.map((cell) => [cell, meanOf(forth ? cell.before : cell.after, cell)]));
      layer.sort((left, right) => (wanted.get(left) ?? 0) - (wanted.get(right) ?? 0));
      settle(layer, wanted);
    }
  }
  const top = Math.min(0, ...[...cells.values()].map((cell) => cell.y - cell.height / 2));
  return new Map(
    [...cells].map(([id, cell]) => [
      id,
      { x: cell.layer * (NODE_WIDTH + LAYER_GAP), y: Math.round(cell.y - cell.height / 2 - top) },
    ]),
  );
}

function cellsOf(steps: ReadonlyMap<string, Step>, catalogue: Catalogue): Map<string, Cell> {
  const cells = new Map<string, Cell>();
  for (const [id, step] of steps) {
    cells.set(id, { layer: 0, height: nodeHeight(step, catalogue), y: 0, before: [], after: [] });
  }
  for (const { origin, target } of edgesOf(steps)) {
    const [from, to] = [cells.get(origin), cells.get(target)];
    if (!from || !to || from === to || to.before.includes(from)) continue;
    to.before.push(from);
    from.after.push(to);
  }
  // Longest way from a beginning; steps on a cycle, which validation reports, stay in the first layer.
  const waiting = new Map([...cells.values()].map((cell) => [cell, cell.before.length]));
  const ready = [...cells.values()].filter((cell) => cell.before.length === 0);
  for (const cell of ready) {
    for (const next of cell.after) {
      next.layer = Math.max(next.layer, cell.layer + 1);
      const left = (waiting.get(next) ?? 0) - 1;
      waiting.set(next, left);
      if (left === 0) ready.push(next);
    }
  }
  return cells;
}

function meanOf(neighbours: readonly Cell[], cell: Cell): number {
  if (neighbours.length === 0) return cell.y;
  return neighbours.reduce((sum, item) => sum + item.y, 0) / neighbours.length;
}

function stack(layer: Cell[]): void {
  let y = 0;
  for (const cell of layer) {
    cell.y = y + cell.height / 2;
    y += cell.height + NODE_GAP;
  }
}

/**
 * Place a layer's cells as near to where they are wanted as their order and heights allow: pool adjacent
 * violators (Ayer et al., 1955), so the sum of squared distances is the smallest one.
 */
function settle(layer: readonly Cell[], wanted: ReadonlyMap<Cell, number>): void {
  const blocks: { cells: Cell[]; sum: number; offset: number[] }[] = [];
  let depth = 0;
  for (const cell of layer) {
    const offset = depth + cell.height / 2;
    depth += cell.height + NODE_GAP;
    let block = { cells: [cell], sum: (wanted.get(cell) ?? 0) - offset, offset: [offset] };
    for (let last = blocks.at(-1); last && last.sum / last.cells.length > block.sum / block.cells.length; last = blocks.at(-1)) {
      blocks.pop();
      block = {
        cells: [...last.cells, ...block.cells],
        sum: last.sum + block.sum,
        offset: [...last.offset, ...block.offset],
      };
    }
    blocks.push(block);
  }
  for (const { cells, sum, offset } of blocks) {
    cells.forEach((cell, index) => {
      cell.y = sum / cells.length + (offset[index] ?? 0);
    });
  }
}

/** Return the places of all steps, where those that have one stay and new ones stand beside what they need. */
export function withPlaces(
  steps: ReadonlyMap<string, Step>,
  catalogue: Catalogue,
  places: ReadonlyMap<string, Point>,
): ReadonlyMap<string, Point> {
  const missing = [...steps].filter(([id]) => !places.has(id));
  if (missing.length === 0) return places;
  const arranged = arrange(steps, catalogue);
  if (missing.length === steps.size) return arranged;
  const result = new Map(places);
  for (const [id, step] of missing) {
    const origin = Object.values(step.inputs).flat()[0]?.split(".")[0] ?? "";
    const beside = result.get(origin);
    const wanted = beside ? { x: beside.x + NODE_WIDTH + LAYER_GAP, y: beside.y } : (arranged.get(id) ?? { x: 0, y: 0 });
    const others = [...steps.keys()].filter((other) => other !== id).flatMap((other) => result.get(other) ?? []);
    const height = nodeHeight(step, catalogue) + NODE_GAP;
    while (others.some((other) => Math.abs(other.x - wanted.x) < NODE_WIDTH && Math.abs(other.y - wanted.y) < height)) {
      wanted.y += height;
    }
    result.set(id, wanted);
  }
  return result;
}
