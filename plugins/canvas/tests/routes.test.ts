import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { type Box, type Point } from "../src/core/layout";
import { type Way, anchored, crossesCurve, pathOf, routesOf } from "../src/core/routes";

const box = (x: number, y: number, height = 120): Box => ({ x, y, width: 184, height });
const way = (id: string, source: [string, Box], target: [string, Box], port = source[0]): Way => ({
  id,
  source: source[0],
  target: target[0],
  port,
  from: { x: source[1].x + 189.5, y: source[1].y + 57 },
  to: { x: target[1].x - 5.5, y: target[1].y + 57 },
});

/** Whether a way of lines runs over a box. */
function runsOver(points: readonly Point[], { x, y, width, height }: Box): boolean {
  return points.slice(1).some((to, index) => {
    const from = points[index]!;
    return Math.max(from.x, to.x) > x && Math.min(from.x, to.x) < x + width && Math.max(from.y, to.y) > y && Math.min(from.y, to.y) < y + height;
  });
}

describe("ways of edges", () => {
  it("an edge over a step between its ends goes around it, and one with nothing in its way stays a curve", () => {
    const [dataset, teacher, student] = [box(0, 0), box(244, 0), box(488, 0)];
    const boxes = new Map([["dataset", dataset], ["teacher", teacher], ["student", student]]);
    const long = way("long", ["dataset", dataset], ["student", student]);
    expect(crossesCurve(teacher, long)).toBe(true);
    const routes = routesOf([long, way("short", ["dataset", dataset], ["teacher", teacher])], boxes);
    expect([...routes.keys()]).toEqual(["long"]);
    for (const one of boxes.values()) expect(runsOver(routes.get("long")!, one)).toBe(false);
  });

  it("an edge to the left leaves its step, goes around all, and comes in from the left", () => {
    const boxes = new Map([["b", box(0, 0)], ["between", box(244, 0)], ["a", box(488, 20)]]);
    const back = way("back", ["a", boxes.get("a")!], ["b", boxes.get("b")!]);
    const route = routesOf([back], boxes).get("back")!;
    for (const one of boxes.values()) expect(runsOver(route, one)).toBe(false);
    expect(route[1]!.x).toBeGreaterThan(route[0]!.x);
    expect(route.at(-2)!.x).toBeLessThan(route.at(-1)!.x);
  });

  it("edges of two ports do not lie on one another; those of one port may", () => {
    const boxes = new Map([["a", box(0, 0)], ["b", box(0, 168)], ["wall", box(244, 40, 300)], ["c", box(488, 0)], ["d", box(488, 168)]]);
    const end = (name: string): [string, Box] => [name, boxes.get(name)!];
    const routes = routesOf([way("ac", end("a"), end("c")), way("bd", end("b"), end("d")), way("bc", end("b"), end("c"))], boxes);
    const lines = (id: string) => (routes.get(id) ?? []).slice(1).map((to, index) => [routes.get(id)![index]!, to] as const);
    for (const [from, to] of lines("ac")) {
      for (const [begin, stop] of lines("bd")) {
        const isSameRow = from.y === to.y && begin.y === stop.y && Math.abs(from.y - begin.y) < 3;
        const shared = Math.min(Math.max(from.x, to.x), Math.max(begin.x, stop.x)) - Math.max(Math.min(from.x, to.x), Math.min(begin.x, stop.x));
        expect(isSameRow && shared > 0).toBe(false);
      }
    }
  });

  it("wherever steps stand apart, no way runs over one", () => {
    const places = fc.uniqueArray(fc.tuple(fc.nat(5), fc.nat(4)), { minLength: 2, maxLength: 12, selector: ([x, y]) => `${x} ${y}` });
    const edges = fc.array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(places, edges, fc.nat(30), (cells, pairs, shift) => {
        const boxes = new Map(cells.map(([x, y], index): [string, Box] => [`s${index}`, box(244 * x, 168 * y + (x % 2) * shift)]));
        const names = [...boxes.keys()];
        const ways = pairs
          .map(([from, to]) => [names[from % names.length]!, names[to % names.length]!] as const)
          .filter(([from, to]) => from !== to)
          .map(([from, to], index) => way(`e${index}`, [from, boxes.get(from)!], [to, boxes.get(to)!]));
        const routes = routesOf(ways, boxes);
        for (const one of ways) {
          const route = routes.get(one.id);
          for (const [id, obstacle] of boxes) {
            if (route) expect(runsOver(route, obstacle)).toBe(false);
            else if (id !== one.source && id !== one.target) expect(crossesCurve(obstacle, one)).toBe(false);
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  it("five hundred steps take no second", () => {
    const boxes = new Map(Array.from({ length: 500 }, (_, index): [string, Box] => [`s${index}`, box(244 * (index % 25), 168 * Math.floor(index / 25))]));
    const ways = Array.from({ length: 1000 }, (_, index) => {
      const [from, to] = [`s${index % 500}`, `s${(index * 7 + 3) % 500}`];
      return way(`e${index}`, [from, boxes.get(from)!], [to, boxes.get(to)!]);
    });
    const begin = process.cpuUsage();
    routesOf(ways, boxes);
    expect(process.cpuUsage(begin).user / 1e6).toBeLessThan(3);
  });

  it("a way follows its ports by some pixels, and is none while a step is moved", () => {
    const points = [{ x: 0, y: 0 }, { x: 20, y: 0 }, { x: 20, y: 80 }, { x: 90, y: 80 }];
    expect(anchored(points, { x: 1, y: 2 }, { x: 88, y: 79 })).toEqual([{ x: 1, y: 2 }, { x: 20, y: 2 }, { x: 20, y: 79 }, { x: 88, y: 79 }]);
    expect(anchored(points, { x: 30, y: 0 }, { x: 90, y: 80 })).toBeNull();
    expect(pathOf(points)).toBe("M0,0 L12,0 Q20,0 20,8 L20,72 Q20,80 28,80 L90,80");
  });
});
