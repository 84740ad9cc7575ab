/** Frames around the steps of groups: where they are, and what stands in them. */

import { type Box, FRAME_BOTTOM, FRAME_SIDE, FRAME_TOP, NODE_WIDTH, type Point, nodeHeight } from "./layout";
import type { Catalogue, Group, Step } from "./pipeline";

/** Size of a collapsed group. */
export const COLLAPSED = { width: NODE_WIDTH, height: 64 };

/** What is drawn, and where. */
export interface Picture {
  steps: ReadonlyMap<string, Step>;
  groups: ReadonlyMap<string, Group>;
  catalogue: Catalogue;
  places: ReadonlyMap<string, Point>;
}

/** Return the frame of each group that has a step with a place. */
export function framesOf({ steps, groups, catalogue, places }: Picture): Map<string, Box> {
  const frames = new Map<string, Box>();
  for (const [name, group] of groups) {
    const boxes = group.steps.flatMap((id) => {
      const [step, place] = [steps.get(id), places.get(id)];
      return step && place ? [{ ...place, bottom: place.y + nodeHeight(step, catalogue) }] : [];
    });
    if (boxes.length === 0) continue;
    const x = Math.min(...boxes.map((box) => box.x)) - FRAME_SIDE;
    const y = Math.min(...boxes.map((box) => box.y)) - FRAME_TOP;
    const right = Math.max(...boxes.map((box) => box.x)) + NODE_WIDTH + FRAME_SIDE;
    frames.set(name, { x, y, width: right - x, height: Math.max(...boxes.map((box) => box.bottom)) + FRAME_BOTTOM - y });
  }
  return frames;
}

/** Return the group in whose frame a point lies; null: in none. Later ones lie above. */
export function groupAt(point: Point, frames: ReadonlyMap<string, Box>): string | null {
  return [...frames].findLast(([, frame]) => isIn(point, frame))?.[0] ?? null;
}

/**
 * Return the group that each step changes to by a move of it, null for none; steps that stay in theirs are left out.
 *
 * A step joins the group whose frame its middle has come into, and leaves its own where its middle has left the
 * frame. A group all of whose steps have moved has moved itself. A frame that is not drawn takes no step.
 */
export function groupsAfterMove(
  moved: readonly string[],
  before: Picture & { collapsed: ReadonlySet<string> },
  places: ReadonlyMap<string, Point>,
): Map<string, string | null> {
  const { steps, groups, catalogue, collapsed } = before;
  const frames = new Map([...framesOf(before)].filter(([name]) => !collapsed.has(name)));
  const changes = new Map<string, string | null>();
  for (const id of moved) {
    const [step, from, to] = [steps.get(id), before.places.get(id), places.get(id)];
    if (!step || !from || !to) continue;
    const middle = (place: Point): Point => ({ x: place.x + NODE_WIDTH / 2, y: place.y + nodeHeight(step, catalogue) / 2 });
    const own = frames.get(step.group ?? "");
    const together = groups.get(step.group ?? "")?.steps.every((member) => moved.includes(member)) ?? false;
    if (together || (own && isIn(middle(to), own))) continue;
    const entered = new Map([...frames].filter(([name, frame]) => name !== step.group && !isIn(middle(from), frame)));
    const group = groupAt(middle(to), entered);
    if (group !== step.group) changes.set(id, group);
  }
  return changes;
}

function isIn(point: Point, { x, y, width, height }: Box): boolean {
  return point.x >= x && point.x <= x + width && point.y >= y && point.y <= y + height;
}
