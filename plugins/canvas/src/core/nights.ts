/** Where the nights of a model stand in a plot: one column for each, the figure from bottom to top. */

export interface NightFacts {
  number: number;
  action: string;
  value: number | null;
  low: number | null;
  high: number | null;
}

export interface Mark<Night> {
  night: Night;
  x: number;
  /** Null: no gate judged it. */
  y: number | null;
  top: number;
  bottom: number;
}

export interface Plot<Night> {
  marks: Mark<Night>[];
  /** Figures at the bottom, the middle and the top. */
  ticks: { value: number; y: number }[];
}

export interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Return the marks in a box; null if no night has a figure. Shares have no ticks below 0 or above 1. */
export function plotOf<Night extends NightFacts>(nights: readonly Night[], box: Box, isShare = false): Plot<Night> | null {
  const known = nights.flatMap(({ value, low, high }) => (value === null ? [] : [low ?? value, high ?? value]));
  if (known.length === 0) return null;
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const margin = Math.max((most - least) * 0.1, Math.abs(most) * 0.005, 1e-9);
  const [from, to] = isShare ? [Math.max(least - margin, 0), Math.min(most + margin, 1)] : [least - margin, most + margin];
  const y = (value: number): number => box.bottom - ((value - from) / (to - from)) * (box.bottom - box.top);
  const step = (box.right - box.left) / nights.length;
  return {
    marks: nights.map((night, index) => ({
      night,
      x: box.left + step * (index + 0.5),
      y: night.value === null ? null : y(night.value),
      top: night.value === null ? box.top : y(night.high ?? night.value),
      bottom: night.value === null ? box.bottom : y(night.low ?? night.value),
    })),
    ticks: [from, (from + to) / 2, to].map((value) => ({ value, y: y(value) })),
  };
}
