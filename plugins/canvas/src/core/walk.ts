/** Where the arrow keys lead from a step. */

import type { Box } from "./layout";

const WAYS: Readonly<Record<string, readonly [number, number]>> = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
/** What lies aside is as far as what is so many times further ahead. */
const ASIDE = 2;

/** Return the nearest box in the direction of a key, or by Home, End, Page Up and Page Down by reading order; null: there is none. */
export function stepBeside(boxes: ReadonlyMap<string, Box>, id: string, key: string): string | null {
  const own = boxes.get(id);
  const way = WAYS[key];
  if (!own || !way) return inOrder(boxes, id, key);
  const ahead = [...boxes].flatMap(([other, box]): [string, number][] => {
    const [x, y] = [box.x + box.width / 2 - own.x - own.width / 2, box.y + box.height / 2 - own.y - own.height / 2];
    const [along, aside] = [x * way[0] + y * way[1], Math.abs(x * way[1] + y * way[0])];
    return other === id || along <= 0 ? [] : [[other, along + ASIDE * aside]];
  });
  return ahead.toSorted(([, left], [, right]) => left - right)[0]?.[0] ?? null;
}

/** From left to right, and from top to bottom. */
function inOrder(boxes: ReadonlyMap<string, Box>, id: string, key: string): string | null {
  const order = [...boxes].toSorted(([, left], [, right]) => left.x - right.x || left.y - right.y).map(([name]) => name);
  const at = order.indexOf(id);
  const places: Record<string, number> = { Home: 0, End: order.length - 1, PageDown: at + 1, PageUp: at - 1 };
  return order[places[key] ?? -1] ?? null;
}
