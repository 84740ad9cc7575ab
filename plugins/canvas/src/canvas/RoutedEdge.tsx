/** An edge: a curve, or where a step is in its way, lines around the steps. */

import { BaseEdge, type Edge as FlowEdge, type EdgeProps, getBezierPath, getSmoothStepPath } from "@xyflow/react";
import { memo } from "react";

import type { Point } from "../core/layout";
import { anchored, pathOf } from "../core/routes";

export interface EdgeData extends Record<string, unknown> {
  /** Corners of the way around steps; undefined: nothing is in the way of a curve. */
  points: readonly Point[] | undefined;
}

export type CanvasEdge = FlowEdge<EdgeData, "routed">;

export const RoutedEdge = memo(function RoutedEdge(props: EdgeProps<CanvasEdge>) {
  const { id, sourceX, sourceY, targetX, targetY, data, label, labelBgPadding, interactionWidth = 20 } = props;
  const points = data?.points ? anchored(data.points, { x: sourceX, y: sourceY }, { x: targetX, y: targetY }) : null;
  const [path, labelX, labelY] = points === null ? freePath(props) : [pathOf(points), ...middleOf(points)];
  return (
    <BaseEdge
      id={id}
      path={path}
      labelX={labelX}
      labelY={labelY}
      label={label}
      interactionWidth={interactionWidth}
      {...(labelBgPadding ? { labelBgPadding } : {})}
    />
  );
});

function freePath(props: EdgeProps<CanvasEdge>): [string, number, number] {
  const { sourceX, sourceY, targetX, targetY, sourcePosition, targetPosition } = props;
  const ends = { sourceX, sourceY, targetX, targetY, sourcePosition, targetPosition };
  const [path, x, y] = targetX > sourceX ? getBezierPath(ends) : getSmoothStepPath(ends);
  return [path, x, y];
}

/** The middle of the longest line, where a word has room. */
function middleOf(points: readonly Point[]): [number, number] {
  let [from, to] = [points[0]!, points[1]!];
  points.slice(1).forEach((end, index) => {
    const begin = points[index]!;
    if (Math.hypot(end.x - begin.x, end.y - begin.y) > Math.hypot(to.x - from.x, to.y - from.y)) [from, to] = [begin, end];
  });
  return [(from.x + to.x) / 2, (from.y + to.y) / 2];
}
