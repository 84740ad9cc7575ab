/**
 * The ways of edges around steps: a curve where nothing is in its way, else lines with corners.
 *
 * An edge behind a step looks as if it ended there, so that no edge may pass one. The lines run between the steps, on a
 * grid of lanes beside them, along the cheapest way of few corners (Dijkstra's algorithm). Edges of different ports take
 * different lanes; those of one port may share theirs, as they carry the same.
 */

import { type Box, HANDLE, type Point } from "./layout";

/** An edge between two ports of boxes. */
export interface Way {
  id: string;
  source: string;
  target: string;
  /** What it carries: edges of the same may lie on one another. */
  port: string;
  from: Point;
  to: Point;
}

/** What a run writes on a step: its state on the upper edge, its figures below the lower one. */
const ABOVE = 9;
const BELOW = 36;
/** Where lanes run: so far from a box, and from what a run writes on it. Two find room between two steps of a layer. */
const BESIDE = [12, 22];
const AROUND = [3, 8];
const SIDE = 8;
const STUB = 12;
const CORNER = 40;
/** What it costs to run over a step, or upon another port's edge, for each pixel: less than no way at all. */
const OVER = 60;
const UPON = 4;
/** Boxes further away than this are in nobody's way. */
const REACH = 260;
/** Places of grids, times what lies around them: some tenths of a second. What is left then of a pipeline of hundreds of steps is drawn as a curve. */
const MOST = 4_000_000;

/** Return the corners of those edges that cannot be drawn as a curve, from port to port. */
export function routesOf(ways: readonly Way[], boxes: ReadonlyMap<string, Box>): Map<string, Point[]> {
  const routes = new Map<string, Point[]>();
  const taken: Segment[] = [];
  const all = [...boxes].map(([id, box]): [string, Box] => [id, withRun(box)]);
  let left = MOST;
  // Short ones first: they have the least choice.
  for (const given of ways.toSorted((one, other) => reachOf(one) - reachOf(other))) {
    const way = { ...given, from: rounded(given.from), to: rounded(given.to) };
    const near = all.filter(([, box]) => touches(box, way, REACH));
    const others = near.filter(([id]) => id !== way.source && id !== way.target).map(([, box]) => box);
    if (isForward(way) && !others.some((box) => crossesCurve(box, way))) continue;
    const grid = gridOf(way, near.map(([, box]) => box));
    const beside = taken.filter((one) => one.port !== way.port && meets(one, way));
    left -= grid.xs.length * grid.ys.length * (near.length + beside.length);
    if (left < 0) break;
    const route = cheapest(way, grid, beside);
    if (route === null) continue;
    routes.set(way.id, route);
    route.slice(1).forEach((end, index) => taken.push({ port: way.port, from: route[index]!, to: end }));
  }
  return routes;
}

interface Segment {
  port: string;
  from: Point;
  to: Point;
}

function withRun({ x, y, width, height }: Box): Box {
  return { x, y: y - ABOVE, width, height: height + ABOVE + BELOW };
}

function rounded({ x, y }: Point): Point {
  return { x: Math.round(x), y: Math.round(y) };
}

function reachOf({ from, to }: Way): number {
  return Math.abs(to.x - from.x) + Math.abs(to.y - from.y);
}

/** Whether there is room for a curve from left to right. */
function isForward({ from, to }: Way): boolean {
  return to.x - from.x >= 2 * STUB;
}

function touches(box: Box, { from, to }: Pick<Way, "from" | "to">, margin: number): boolean {
  return (
    box.x < Math.max(from.x, to.x) + margin &&
    box.x + box.width > Math.min(from.x, to.x) - margin &&
    box.y < Math.max(from.y, to.y) + margin &&
    box.y + box.height > Math.min(from.y, to.y) - margin
  );
}

function meets({ from, to }: Segment, way: Way): boolean {
  const [x, y] = [Math.min(from.x, to.x), Math.min(from.y, to.y)];
  return touches({ x, y, width: Math.abs(to.x - from.x), height: Math.abs(to.y - from.y) }, way, REACH);
}

const PIECES = 32;

/** Whether the curve that React Flow draws between two ports runs over a box. */
export function crossesCurve(box: Box, { from, to }: Pick<Way, "from" | "to">): boolean {
  if (!touches(box, { from, to }, 0)) return false;
  const bend = (to.x - from.x) / 2;
  for (let piece = 1; piece < PIECES; piece += 1) {
    const at = piece / PIECES;
    const [a, b, c, d] = [(1 - at) ** 3, 3 * (1 - at) ** 2 * at, 3 * (1 - at) * at ** 2, at ** 3];
    const x = a * from.x + b * (from.x + bend) + c * (to.x - bend) + d * to.x;
    const y = (a + b) * from.y + (c + d) * to.y;
    if (x > box.x && x < box.x + box.width && y > box.y && y < box.y + box.height) return true;
  }
  return false;
}

/** Length of the part of a line between two corners that runs over a box. */
function lengthIn(box: Box, from: Point, to: Point): number {
  const [left, right] = [Math.max(Math.min(from.x, to.x), box.x - SIDE), Math.min(Math.max(from.x, to.x), box.x + box.width + SIDE)];
  const [top, bottom] = [Math.max(Math.min(from.y, to.y), box.y), Math.min(Math.max(from.y, to.y), box.y + box.height)];
  return right >= left && bottom >= top && (right > left || bottom > top) ? right - left + bottom - top : 0;
}

/** Length along which two lines lie on one another. */
function lengthUpon(one: Segment, from: Point, to: Point): number {
  const along = (name: "x" | "y", across: "x" | "y"): number => {
    if (from[across] !== to[across] || one.from[across] !== one.to[across] || Math.abs(from[across] - one.from[across]) > 4) return 0;
    const begin = Math.max(Math.min(from[name], to[name]), Math.min(one.from[name], one.to[name]));
    return Math.max(0, Math.min(Math.max(from[name], to[name]), Math.max(one.from[name], one.to[name])) - begin);
  };
  return along("x", "y") + along("y", "x");
}

/** The lanes that a way may take, and what is in them. */
interface Grid {
  xs: number[];
  ys: number[];
  boxes: readonly Box[];
}

function gridOf({ from, to }: Way, boxes: readonly Box[]): Grid {
  const sorted = (places: readonly number[]): number[] => [...new Set(places.map(Math.round))].toSorted((left, right) => left - right);
  const beside = BESIDE.map((lane) => lane + HANDLE / 2);
  return {
    xs: sorted([from.x + STUB, to.x - STUB, ...boxes.flatMap(({ x, width }) => beside.flatMap((lane) => [x - lane, x + width + lane]))]),
    ys: sorted([from.y, to.y, ...boxes.flatMap(({ y, height }) => AROUND.flatMap((lane) => [y - lane, y + height + lane]))]),
    boxes,
  };
}

/** Return the cheapest way of horizontal and vertical lines, which leaves to the right and comes in from the left. */
function cheapest(way: Way, { xs, ys, boxes }: Grid, others: readonly Segment[]): Point[] | null {
  const costOf = (from: Point, to: Point): number => {
    const length = Math.abs(to.x - from.x) + Math.abs(to.y - from.y);
    const over = boxes.reduce((sum, box) => sum + lengthIn(box, from, to), 0);
    const upon = others.reduce((sum, one) => sum + lengthUpon(one, from, to), 0);
    return length + OVER * over + UPON * upon;
  };
  const across = ys.map((y) => xs.slice(1).map((x, index) => costOf({ x: xs[index]!, y }, { x, y })));
  const down = xs.map((x) => ys.slice(1).map((y, index) => costOf({ x, y: ys[index]! }, { x, y })));
  const begin: Cell = [xs.indexOf(way.from.x + STUB), ys.indexOf(way.from.y)];
  const end: Cell = [xs.indexOf(way.to.x - STUB), ys.indexOf(way.to.y)];
  const found = search(begin, end, across, down);
  return found === null ? null : straightened([way.from, ...found.map(([column, row]) => ({ x: xs[column]!, y: ys[row]! })), way.to]);
}

/** Column and row of the grid. */
type Cell = [number, number];

/** Dijkstra's algorithm over places and the direction that a way has come from; null: there is no way. */
function search(begin: Cell, end: Cell, across: readonly number[][], down: readonly number[][]): Cell[] | null {
  const [wide, high] = [down.length, across.length];
  const stateOf = ([column, row]: Cell, upright: number): number => 2 * (row * wide + column) + upright;
  const cellOf = (state: number): Cell => [(state >> 1) % wide, Math.floor((state >> 1) / wide)];
  const [first, last] = [stateOf(begin, 0), stateOf(end, 0)];
  const costs = new Float64Array(2 * wide * high).fill(Infinity);
  const before = new Int32Array(2 * wide * high).fill(-1);
  const heap = new Heap();
  costs[first] = 0;
  heap.push(first, 0);
  for (let top = heap.pop(); top !== null; top = heap.pop()) {
    const [state, cost] = top;
    if (state === last) break;
    if (cost > costs[state]!) continue;
    const [column, row] = cellOf(state);
    const move = (to: Cell, upright: number, price: number | undefined): void => {
      if (price === undefined) return;
      const next = stateOf(to, upright);
      const after = cost + price + ((state & 1) === upright ? 0 : CORNER);
      if (after >= costs[next]!) return;
      costs[next] = after;
      before[next] = state;
      heap.push(next, after);
    };
    move([column + 1, row], 0, across[row]![column]);
    // Out of the port to the right only: a line would run back upon itself.
    if (state !== first) move([column - 1, row], 0, across[row]![column - 1]);
    move([column, row - 1], 1, down[column]![row - 1]);
    move([column, row + 1], 1, down[column]![row]);
  }
  if (costs[last] === Infinity) return null;
  const found: Cell[] = [];
  for (let state = last; state !== -1; state = before[state]!) found.unshift(cellOf(state));
  return found;
}

/** Leave out the places at which a way does not turn. */
function straightened(points: readonly Point[]): Point[] {
  return points.filter((point, index) => {
    const [before, after] = [points[index - 1], points[index + 1]];
    return !before || !after || !((before.x === point.x && point.x === after.x) || (before.y === point.y && point.y === after.y));
  });
}

/** The cheapest first: a binary heap. */
class Heap {
  private readonly items: [number, number][] = [];

  push(state: number, cost: number): void {
    const { items } = this;
    let at = items.push([state, cost]) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent]![1] <= cost) break;
      [items[at], items[parent]] = [items[parent]!, items[at]!];
      at = parent;
    }
  }

  pop(): [number, number] | null {
    const { items } = this;
    const [top] = items;
    const moved = items.pop();
    if (top === undefined || moved === undefined) return null;
    if (items.length === 0) return top;
    items[0] = moved;
    for (let at = 0; ; ) {
      const children = [2 * at + 1, 2 * at + 2].filter((child) => child < items.length);
      const child = children.length === 2 && items[children[1]!]![1] < items[children[0]!]![1] ? children[1]! : children[0];
      if (child === undefined || items[child]![1] >= items[at]![1]) return top;
      [items[at], items[child]] = [items[child]!, items[at]!];
      at = child;
    }
  }
}

const RADIUS = 8;

/** Return the path of SVG along a way, with round corners. */
export function pathOf(points: readonly Point[]): string {
  const [first, ...rest] = points;
  if (!first) return "";
  const toward = (from: Point, to: Point, length: number): Point => {
    const whole = Math.hypot(to.x - from.x, to.y - from.y) || 1;
    return { x: from.x + ((to.x - from.x) * length) / whole, y: from.y + ((to.y - from.y) * length) / whole };
  };
  const parts = rest.map((point, index) => {
    const [before, after] = [points[index]!, rest[index + 1]];
    if (!after) return `L${point.x},${point.y}`;
    const radius = Math.min(RADIUS, Math.hypot(point.x - before.x, point.y - before.y) / 2, Math.hypot(after.x - point.x, after.y - point.y) / 2);
    const [into, out] = [toward(point, before, radius), toward(point, after, radius)];
    return `L${into.x},${into.y} Q${point.x},${point.y} ${out.x},${out.y}`;
  });
  return [`M${first.x},${first.y}`, ...parts].join(" ");
}

/**
 * Return a way with its ends where the ports are drawn: by some pixels elsewhere than planned. Null: a step is being
 * moved, and the way is no longer one.
 */
export function anchored(points: readonly Point[], from: Point, to: Point): Point[] | null {
  const [first, last] = [points[0], points.at(-1)];
  const isNear = (one: Point | undefined, other: Point): boolean => one !== undefined && Math.abs(one.x - other.x) <= NEAR && Math.abs(one.y - other.y) <= NEAR;
  if (!first || !last || !isNear(first, from) || !isNear(last, to)) return null;
  const moved = points.map((point, index) => (index === 1 && points.length > 2 ? { x: point.x, y: from.y } : index === points.length - 2 && index > 1 ? { x: point.x, y: to.y } : point));
  return [from, ...moved.slice(1, -1), to];
}

const NEAR = 8;
