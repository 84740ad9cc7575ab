/** Models that a run has measured side by side, and those of them that no other beats. */

export interface Measured {
  name: string;
  accuracy: number;
  /** Bounds of the accuracy's confidence interval. */
  low: number;
  high: number;
  documentsPerSecond: number;
  sizeMb: number;
}

/** Return what an evaluation has measured, from the metrics of a run's steps: `accuracy/NAME`, …. */
export function pointsOf(steps: Readonly<Record<string, { metrics: Record<string, number> }>>): Measured[] {
  const points: Measured[] = [];
  for (const { metrics } of Object.values(steps)) {
    for (const [key, speed] of Object.entries(metrics)) {
      const name = /^documents_per_second\/(.+)$/.exec(key)?.[1];
      const accuracy = metrics[`accuracy/${name ?? ""}`];
      if (name === undefined || accuracy === undefined) continue;
      points.push({
        name,
        accuracy,
        low: metrics[`accuracy_low/${name}`] ?? accuracy,
        high: metrics[`accuracy_high/${name}`] ?? accuracy,
        documentsPerSecond: speed,
        sizeMb: metrics[`size_mb/${name}`] ?? 0,
      });
    }
  }
  return points;
}

/** Return the points that no other is as accurate and as fast as, the slowest first. */
export function frontOf(points: readonly Measured[]): Measured[] {
  return points
    .filter(
      (point) =>
        !points.some(
          (other) =>
            other.accuracy >= point.accuracy &&
            other.documentsPerSecond >= point.documentsPerSecond &&
            (other.accuracy > point.accuracy || other.documentsPerSecond > point.documentsPerSecond),
        ),
    )
    .sort((left, right) => left.documentsPerSecond - right.documentsPerSecond);
}
