/** A model over the nights: the figure of each challenger with its interval; promotions and refusals are marked. */

import { Text } from "@chakra-ui/react";

import type { Night } from "../api/client";
import type { Answer } from "../api/useAnswer";
import { gateWords } from "../core/gateWords";
import { plotOf } from "../core/nights";
import { figureText } from "../core/results";
import { Answered } from "../parts/page";
import { type Sentence, t } from "../i18n/t";

const WIDTH = 900;
const HEIGHT = 200;
const BOX = { left: 60, right: WIDTH - 20, top: 14, bottom: HEIGHT - 26 };

const WORDS: Record<string, Sentence> = {
  promote: "promoted",
  refuse: "refused",
  rollback: "rolled back",
  hand_move: "moved by hand",
  revert: "moved back by the guard",
};

export function Nights({ answer }: { answer: Answer<Night[]> }) {
  return (
    <section className="mm-card" aria-label={t("Nights")}>
      <h2 className="mm-section-title">{t("Over the nights")}</h2>
      <Answered answer={answer}>{(nights) => <Plot nights={nights} />}</Answered>
    </section>
  );
}

function Plot({ nights }: { nights: readonly Night[] }) {
  const judged = nights.find((night) => night.value !== null);
  const plot = plotOf(nights, BOX, judged?.unit === "share");
  if (plot === null) return <Text className="mm-help">{t("No gate has judged this model yet, or the reports are gone.")}</Text>;
  return (
    <>
      <svg className="mm-plot" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={nights.map(sentenceOf).join("; ")}>
        {plot.ticks.map(({ value, y }) => (
          <g key={y}>
            <line x1={BOX.left} x2={BOX.right} y1={y} y2={y} className="mm-grid" />
            <text x={BOX.left - 6} y={y + 4} textAnchor="end">
              {figureText(value, judged?.unit ?? "")}
            </text>
          </g>
        ))}
        {plot.marks.map(({ night, x, y, top, bottom }) => (
          <g key={night.number} data-action={night.action}>
            <title>{sentenceOf(night)}</title>
            <line x1={x} x2={x} y1={top} y2={bottom} className={y === null ? "mm-front" : "mm-interval"} />
            {y === null ? null : <circle cx={x} cy={y} r={6} className={night.action === "promote" ? "mm-night-good" : "mm-night-bad"} />}
          </g>
        ))}
        <text x={BOX.left} y={HEIGHT - 6}>
          {dayOf(nights[0])}
        </text>
        <text x={BOX.right} y={HEIGHT - 6} textAnchor="end">
          {dayOf(nights.at(-1))}
        </text>
      </svg>
      <Text className="mm-help">
        {t("{metric} on the gate's test rows, with its interval. Filled: promoted. Hollow: refused. A line from top to bottom: moved without a gate.", { metric: gateWords(judged?.metric ?? "") })}
      </Text>
    </>
  );
}

function dayOf(night: Night | undefined): string {
  return night ? new Date(night.time).toLocaleDateString() : "";
}

function sentenceOf(night: Night): string {
  const figure = night.value === null ? "" : `, ${gateWords(night.metric)} ${figureText(night.value, night.unit)}`;
  const action = WORDS[night.action];
  const champion = night.to_version === null ? t("no champion") : t("champion is version {version}", { version: night.to_version });
  return `${dayOf(night)}: ${action === undefined ? night.action : t(action)}${figure}; ${champion}`;
}
