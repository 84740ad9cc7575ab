/** Accuracy against speed of the models that a run has measured side by side; those that no other beats are joined. */

import { Text } from "@chakra-ui/react";

import { type Measured, frontOf } from "../core/pareto";
import { shareText } from "../core/results";
import { Figures } from "../parts/Figures";
import { t } from "../i18n/t";

const WIDTH = 460;
const HEIGHT = 260;
const LEFT = 52;
const BOTTOM = 58;
const TOP = 22;
const RIGHT = 40;

export function Pareto({ points }: { points: readonly Measured[] }) {
  if (points.length === 0) {
    return <Text className="mm-help">{t("Nothing has been measured side by side: add the component Evaluate to the pipeline.")}</Text>;
  }
  const speeds = points.map((point) => Math.log10(Math.max(point.documentsPerSecond, 1e-3)));
  const [slow, fast] = widened(Math.min(...speeds), Math.max(...speeds), 0.15);
  const [bad, best] = widened(Math.min(...points.map((point) => point.low)), Math.max(...points.map((point) => point.high)), 0.01);
  const good = Math.min(best, 1);
  const x = (speed: number): number => LEFT + ((Math.log10(Math.max(speed, 1e-3)) - slow) / (fast - slow)) * (WIDTH - LEFT - RIGHT);
  const y = (accuracy: number): number => TOP + ((good - accuracy) / (good - bad)) * (HEIGHT - TOP - BOTTOM);
  const biggest = Math.max(...points.map((point) => point.sizeMb), 1e-9);
  const front = frontOf(points);
  const ordered = points.toSorted((left, right) => left.documentsPerSecond - right.documentsPerSecond);
  const ticks = [bad, (bad + good) / 2, good];
  return (
    <>
      <svg className="mm-plot" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={points.map(sentenceOf).join("; ")}>
        {ticks.map((tick) => (
          <g key={tick}>
            <line x1={LEFT} x2={WIDTH - RIGHT} y1={y(tick)} y2={y(tick)} className="mm-grid" />
            <text x={LEFT - 6} y={y(tick) + 4} textAnchor="end">
              {(100 * tick).toFixed(1)} %
            </text>
          </g>
        ))}
        <text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 6} textAnchor="middle">
          {t("documents per second, logarithmic")}
        </text>
        {[Math.min(...speeds), Math.max(...speeds)].map((speed) => (
          <text key={speed} x={x(10 ** speed)} y={HEIGHT - 20} textAnchor="middle">
            {(10 ** speed).toFixed(0)}
          </text>
        ))}
        <polyline className="mm-front" points={front.map((point) => `${x(point.documentsPerSecond)},${y(point.accuracy)}`).join(" ")} />
        {ordered.map((point, index) => (
          <g key={point.name}>
            <title>{sentenceOf(point)}</title>
            <line x1={x(point.documentsPerSecond)} x2={x(point.documentsPerSecond)} y1={y(point.low)} y2={y(point.high)} className="mm-interval" />
            <circle cx={x(point.documentsPerSecond)} cy={y(point.accuracy)} r={4 + 7 * Math.sqrt(point.sizeMb / biggest)} className={front.includes(point) ? "mm-best" : "mm-beaten"} />
            <text x={x(point.documentsPerSecond)} y={y(point.accuracy) + (index % 2 === 0 ? 25 : 38)} textAnchor="middle">
              {point.name}
            </text>
          </g>
        ))}
      </svg>
      <Figures
        label={t("Accuracy and speed")}
        head={[t("Models"), t("Quality"), t("Size"), t("Texts a second")]}
        rows={ordered.map((point) => [point.name, accuracyOf(point), `${point.sizeMb.toFixed(1)} MB`, point.documentsPerSecond.toFixed(0)])}
      />
    </>
  );
}

function widened(low: number, high: number, least: number): [number, number] {
  const margin = Math.max((high - low) * 0.12, least);
  return [low - margin, high + margin];
}

function accuracyOf(point: Measured): string {
  return t("{value} ({low} to {high})", { value: shareText(point.accuracy), low: (100 * point.low).toFixed(1), high: (100 * point.high).toFixed(1) });
}

function sentenceOf(point: Measured): string {
  const accuracy = t("{value} ({low} to {high})", { value: `${(100 * point.accuracy).toFixed(2)} %`, low: (100 * point.low).toFixed(1), high: (100 * point.high).toFixed(1) });
  return t("{name}: {accuracy}, {speed} documents a second, {size} MB", { name: point.name, accuracy, speed: point.documentsPerSecond.toFixed(0), size: point.sizeMb.toFixed(1) });
}
