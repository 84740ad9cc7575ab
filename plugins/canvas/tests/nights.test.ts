import { describe, expect, it } from "vitest";

import { plotOf } from "../src/core/nights";

const BOX = { left: 0, right: 100, top: 0, bottom: 50 };
const night = (number: number, action: string, value: number | null) => ({ number, action, value, low: value === null ? null : value - 0.1, high: null });

describe("the nights of a model", () => {
  it("stand side by side, the better the higher, within the box", () => {
    const plot = plotOf([night(1, "promote", 0.8), night(2, "refuse", 0.6), night(3, "rollback", null)], BOX);
    const [good, bad, moved] = plot!.marks;
    expect(plot?.marks.map(({ x }) => Math.round(x))).toEqual([17, 50, 83]);
    expect(good!.y!).toBeLessThan(bad!.y!);
    expect(good!.bottom).toBeGreaterThan(good!.y!);
    expect(good!.top).toBe(good!.y);
    expect([moved!.y, moved!.top, moved!.bottom]).toEqual([null, 0, 50]);
    for (const { top, bottom } of plot!.marks) expect([top >= 0, bottom <= 50]).toEqual([true, true]);
    expect(plot?.ticks.map(({ y }) => Math.round(y))).toEqual([50, 25, 0]);
  });

  it("have no ticks beyond 0 and 1 where they are shares", () => {
    const nights = [{ ...night(1, "promote", 1), low: 0.98 }, { ...night(2, "refuse", 0.97), high: 1 }];
    const values = (isShare: boolean) => plotOf(nights, BOX, isShare)!.ticks.map(({ value }) => value);
    expect(values(true)[2]).toBe(1);
    expect(values(false)[2]).toBeGreaterThan(1);
    expect(plotOf([{ ...night(1, "promote", 0), low: 0 }], BOX, true)!.ticks[0]!.value).toBe(0);
  });

  it("are no plot where no gate has judged, and one point is", () => {
    expect(plotOf([night(1, "rollback", null)], BOX)).toBeNull();
    expect(plotOf([], BOX)).toBeNull();
    expect(Number.isFinite(plotOf([{ ...night(1, "promote", 0), low: 0 }], BOX)!.marks[0]!.y!)).toBe(true);
  });
});
