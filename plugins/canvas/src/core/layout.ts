/**
 * Where the steps of a pipeline stand: in layers from left to right, with few crossings (Sugiyama, 1981).
 *
 * Own code, because ELK is larger than the whole canvas may be (472 kB gzip), and dagre takes 9 s for 500 steps.
 * A group is laid out by itself; it then stands among the others as a block that spans its layers, so that no two
 * frames, and no frame and a step of another, stand on one another. A flow that is too long to be read on one screen
 * goes on in a second row, as lines of a text do.
 */

import { type Catalogue, type Group, type Step, VERDICTS, hasVerdict, orderOf } from "./pipeline";

export interface Point {
  x: number;
  y: number;
}

export interface Box extends Point {
  width: number;
  height: number;
}

export const NODE_WIDTH = 184;
/** As `canvas.css` draws a step: border, head, and the space above and below its ports. */
const HEAD = 46;
const FRAME = 50;
const PORT_HEIGHT = 22;
export const HANDLE = 11;
const LAYER_GAP = 60;
/** With room for what a run writes below a step and on the next one, and for an edge between the two. */
export const NODE_GAP = 56;
const SWEEPS = 12;
/** Space between a group's frame and its steps; above them stands its name. */
export const FRAME_SIDE = 16;
export const FRAME_TOP = 42;
export const FRAME_BOTTOM = 40;

export function nodeHeight(step: Step, catalogue: Catalogue): number {
  const component = catalogue.get(step.component);
  const inputs = component?.inputs.length ?? Object.keys(step.inputs).length;
  const outputs = (component?.outputs.length ?? 0) + (hasVerdict(step, catalogue) ? VERDICTS.length : 0);
  return FRAME + PORT_HEIGHT * Math.max(inputs, outputs, 1);
}

/** Where an edge begins or ends: the middle of a port's line, on the step's left or right. Line -1 is the head. */
export function handlePlace(index: number, side: "inputs" | "outputs"): Box {
  const x = (side === "inputs" ? 0 : NODE_WIDTH) - HANDLE / 2;
  const y = index < 0 ? (HEAD - HANDLE) / 2 : HEAD + PORT_HEIGHT * index + (PORT_HEIGHT - HANDLE) / 2;
  return { x, y, width: HANDLE, height: HANDLE };
}

interface Cell {
  layer: number;
  height: number;
  y: number;
  before: Cell[];
  after: Cell[];
}

/** Return the upper left corner of each step. The same steps always give the same places. */
export function arrange(
  steps: ReadonlyMap<string, Step>,
  catalogue: Catalogue,
  groups: ReadonlyMap<string, Group> = new Map(),
): Map<string, Point> {
  const cells = cellsOf(steps, catalogue);
  const blocks = blocksOf(cells, groups);
  const outer = blocks.flatMap((block) => block.cells);
  connectBlocks(cells, blocks);
  sweep(outer);
  for (const block of blocks) block.y = block.cells.reduce((sum, cell) => sum + cell.y, 0) / block.cells.length;
  separate(blocks);
  const places = new Map<string, Point>();
  for (const { first, blocks: own, top } of rowsOf(blocks)) {
    for (const { y, height, offsets } of own) {
      for (const [id, offset] of offsets) {
        const column = (cells.get(id)?.layer ?? 0) - first;
        places.set(id, { x: column * (NODE_WIDTH + LAYER_GAP), y: Math.round(y - height / 2 + offset + top) });
      }
    }
  }
  return places;
}

/** What the graph is laid out for: the space that it has on a screen of 1440 x 900, with palette and properties. */
const VIEW = { width: 800, height: 620 };
const ROW_GAP = 64;
/** How much larger the steps have to get for another row: an edge that goes back to the left is harder to follow. */
const WORTH = 1.15;

/** Layers side by side. */
interface Row {
  /** Its first layer. */
  first: number;
  blocks: Block[];
  height: number;
  /** What its blocks are moved down by. */
  top: number;
}

/** Break a flow into as many rows as show it largest. Rows do not break a group. */
function rowsOf(blocks: readonly Block[]): Row[] {
  const layers = 1 + Math.max(0, ...blocks.map((block) => block.cells.at(-1)?.layer ?? 0));
  const whole = new Set(blocks.flatMap(({ cells }) => cells.slice(1).map((cell) => cell.layer)));
  let best = stacked(blocks, [0]);
  for (let count = 2; count <= layers; count += 1) {
    const length = Math.ceil(layers / count);
    const starts = [0];
    for (let layer = 1; layer < layers; layer += 1) if (layer - starts.at(-1)! >= length && !whole.has(layer)) starts.push(layer);
    const rows = stacked(blocks, starts);
    if (zoomOf(rows) > WORTH * zoomOf(best)) best = rows;
  }
  return best;
}

function stacked(blocks: readonly Block[], starts: readonly number[]): Row[] {
  let down = 0;
  return starts.map((first, index): Row => {
    const end = starts[index + 1] ?? Infinity;
    const own = blocks.filter(({ cells }) => cells[0]!.layer >= first && cells[0]!.layer < end);
    const upper = Math.min(...own.map((block) => block.y - block.height / 2));
    const height = Math.max(...own.map((block) => block.y + block.height / 2)) - upper;
    const row = { first, blocks: own, height, top: down - upper };
    down += height + ROW_GAP;
    return row;
  });
}

/** Return how large rows can be shown; 1: as they are. */
function zoomOf(rows: readonly Row[]): number {
  const columns = Math.max(...rows.map(({ first, blocks }) => 1 + Math.max(...blocks.map(({ cells }) => cells.at(-1)!.layer)) - first));
  const height = rows.reduce((sum, row) => sum + row.height + ROW_GAP, -ROW_GAP);
  return Math.min(1, VIEW.width / (columns * (NODE_WIDTH + LAYER_GAP) - LAYER_GAP), VIEW.height / height);
}

/** A step, or a group with its steps. It has a cell in each layer that it spans. */
interface Block {
  cells: Cell[];
  height: number;
  y: number;
  /** Of the steps' upper edges, from the block's. */
  offsets: Map<string, number>;
}

function blocksOf(cells: ReadonlyMap<string, Cell>, groups: ReadonlyMap<string, Group>): Block[] {
  const grouped = new Set([...groups.values()].flatMap((group) => group.steps));
  const blocks = [...cells].filter(([id]) => !grouped.has(id)).map(([id, { layer, height }]) => blockOf([layer], height, new Map([[id, 0]])));
  for (const { steps } of groups.values()) {
    const members = steps.flatMap((id) => [[id, cells.get(id)] as const]).filter((pair): pair is [string, Cell] => pair[1] !== undefined);
    if (members.length === 0) continue;
    const inside = new Set(members.map(([, cell]) => cell));
    const inner = new Map(members.map(([id, { layer, height }]): [string, Cell] => [id, { layer, height, y: 0, before: [], after: [] }]));
    const twin = new Map(members.map(([id, cell]) => [cell, inner.get(id)!]));
    for (const [cell, copy] of twin) {
      copy.before = cell.before.filter((other) => inside.has(other)).map((other) => twin.get(other)!);
      copy.after = cell.after.filter((other) => inside.has(other)).map((other) => twin.get(other)!);
    }
    sweep([...inner.values()]);
    const upper = [...inner].map(([id, cell]): [string, number] => [id, cell.y - cell.height / 2]);
    const top = Math.min(...upper.map(([, y]) => y));
    const bottom = Math.max(...[...inner.values()].map((cell) => cell.y + cell.height / 2));
    const layers = [...inner.values()].map((cell) => cell.layer);
    const first = Math.min(...layers);
    const span = Array.from({ length: Math.max(...layers) - first + 1 }, (_, index) => first + index);
    const offsets = new Map(upper.map(([id, y]) => [id, y - top + FRAME_TOP]));
    blocks.push(blockOf(span, bottom - top + FRAME_TOP + FRAME_BOTTOM, offsets));
  }
  return blocks;
}

function blockOf(layers: readonly number[], height: number, offsets: Map<string, number>): Block {
  const cells = layers.map((layer): Cell => ({ layer, height, y: 0, before: [], after: [] }));
  return { cells, height, y: 0, offsets };
}

/** Let the blocks' cells follow one another as the steps do, and as the layers of a block do. */
function connectBlocks(steps: ReadonlyMap<string, Cell>, blocks: readonly Block[]): void {
  const outer = new Map<Cell, Cell>();
  for (const block of blocks) {
    for (const id of block.offsets.keys()) {
      const step = steps.get(id);
      const cell = block.cells.find((item) => item.layer === step?.layer);
      if (step && cell) outer.set(step, cell);
    }
    block.cells.slice(1).forEach((cell, index) => link(block.cells[index], cell));
  }
  for (const [step, cell] of outer) for (const next of step.after) link(cell, outer.get(next));
}

function link(from: Cell | undefined, to: Cell | undefined): void {
  if (!from || !to || from === to || to.before.includes(from)) return;
  to.before.push(from);
  from.after.push(to);
}

/** Order and place the cells of each layer near their neighbours, forth and back. */
function sweep(cells: readonly Cell[]): void {
  const layers: Cell[][] = [];
  for (const cell of cells) (layers[cell.layer] ??= []).push(cell);
  const present = layers.filter((layer) => (layer as Cell[] | undefined) !== undefined);
  for (const layer of present) stack(layer);
  for (let round = 0; round < SWEEPS; round += 1) {
    const forth = round % 2 === 0;
    for (const layer of forth ? present : present.toReversed()) {
      const wanted = new Map(layer.map((cell) => [cell, meanOf(forth ? cell.before : cell.after, cell)]));
      layer.sort((left, right) => (wanted.get(left) ?? 0) - (wanted.get(right) ?? 0));
      settle(layer, wanted);
    }
  }
}

/**
 * Move blocks apart that stand on one another in some layer: once downwards, once upwards, and between the two,
 * where they are apart as well. Blocks that do not touch stay.
 */
function separate(blocks: Block[]): void {
  blocks.sort((left, right) => left.y - right.y);
  const down = pushed(blocks, 1);
  const up = pushed(blocks.toReversed(), -1);
  for (const block of blocks) block.y = ((down.get(block) ?? 0) + (up.get(block) ?? 0)) / 2;
}

function pushed(blocks: readonly Block[], sign: 1 | -1): Map<Block, number> {
  const free: number[] = [];
  const places = new Map<Block, number>();
  for (const block of blocks) {
    const half = block.height / 2;
    const limit = Math.max(-Infinity, ...block.cells.map((cell) => free[cell.layer] ?? -Infinity));
    const y = Math.max(sign * block.y, limit + half);
    places.set(block, sign * y);
    for (const cell of block.cells) free[cell.layer] = y + half + NODE_GAP;
  }
  return places;
}

function cellsOf(steps: ReadonlyMap<string, Step>, catalogue: Catalogue): Map<string, Cell> {
  const cells = new Map<string, Cell>();
  for (const [id, step] of steps) {
    cells.set(id, { layer: 0, height: nodeHeight(step, catalogue), y: 0, before: [], after: [] });
  }
  for (const { origin, target } of orderOf(steps)) link(cells.get(origin), cells.get(target));
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
  groups: ReadonlyMap<string, Group>,
  places: ReadonlyMap<string, Point>,
): ReadonlyMap<string, Point> {
  const missing = [...steps].filter(([id]) => !places.has(id));
  if (missing.length === 0) return places;
  const arranged = arrange(steps, catalogue, groups);
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

/** Return places for copies of steps: as the originals stand to one another, below them where it is free. */
export function placesOfCopies(
  steps: ReadonlyMap<string, Step>,
  catalogue: Catalogue,
  places: ReadonlyMap<string, Point>,
  copies: ReadonlyMap<string, string>,
): Map<string, Point> {
  const boxOf = (id: string): Box[] => {
    const [step, place] = [steps.get(id), places.get(id)];
    return step && place ? [{ ...place, width: NODE_WIDTH, height: nodeHeight(step, catalogue) }] : [];
  };
  const originals = [...copies.keys()].flatMap(boxOf);
  const others = [...steps.keys()].flatMap(boxOf);
  const space = FRAME_TOP + FRAME_BOTTOM;
  const touches = (one: Box, other: Box, down: number): boolean =>
    Math.abs(one.x - other.x) < NODE_WIDTH && one.y + down < other.y + other.height + space && other.y < one.y + down + one.height + space;
  let down = 0;
  while (originals.some((one) => others.some((other) => touches(one, other, down)))) down += NODE_GAP;
  return new Map(
    [...copies].flatMap(([id, copy]) => boxOf(id).map(({ x, y }): [string, Point] => [copy, { x, y: y + down }])),
  );
}
