/** Cards of what a step has made: a dataset, an evaluation, a gate, a compression. Texts of data are shown as text. */

import { Badge, Text } from "@chakra-ui/react";
import type { ReactNode } from "react";

import {
  type ClassFacts,
  type CompressionFacts,
  type DatasetFacts,
  type EvaluationFacts,
  type GateFacts,
  figureOf,
  rivalOf,
  scoreText,
  shareText,
} from "../core/results";
import { gateWords } from "../core/gateWords";
import { type Figure, type Rival, figureSentence, rivalSentence } from "../core/rivals";
import { Figures } from "../parts/Figures";
import { plural, t } from "../i18n/t";

const MOST = 12;

/** A part of a card. It is no landmark: a model's node has two of the same name, the evaluation's and the gate's. */
function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <div className="mm-part" role="group" aria-label={title}>
      <h3 className="mm-label">{title}</h3>
      {children}
    </div>
  );
}

function Bars({ rows }: { rows: readonly (readonly [string, number])[] }) {
  const most = Math.max(1, ...rows.map(([, count]) => count));
  return (
    <>
      {rows.slice(0, MOST).map(([name, count]) => (
        <div key={name} className="mm-bar">
          <span title={name}>{name}</span>
          <span className="mm-bar-track">
            <span style={{ width: `${(100 * count) / most}%` }} />
          </span>
          <span>{count.toLocaleString()}</span>
        </div>
      ))}
      {rows.length > MOST ? <Text className="mm-help">{t("and {value} more", { value: rows.length - MOST })}</Text> : null}
    </>
  );
}

export function DatasetCard({ facts }: { facts: DatasetFacts }) {
  return (
    <>
      <Part title={t("What became of the rows")}>
        <Text fontSize="sm">
          {t("{rowsIn} rows came in, {rowsOut} went on", { rowsIn: facts.rowsIn.toLocaleString(), rowsOut: facts.rowsOut.toLocaleString() })}
          {facts.lost.length === 0 ? t("; none was left out.") : t(":")}
        </Text>
        <ul className="mm-lines">
          {facts.lost.map(([why, rows]) => (
            <li key={why}>
              {rows.toLocaleString()} {why}
            </li>
          ))}
        </ul>
        <Text className="mm-help">{facts.splits.map(([name, rows]) => `${rows.toLocaleString()} ${name}`).join(", ")}</Text>
      </Part>
      {facts.classes.map(([label, classes]) => (
        <Part key={label} title={t("Classes of {label}", { label })}>
          <Bars rows={classes} />
        </Part>
      ))}
      {facts.lengths.length === 0 ? null : (
        <Part title={t("Length of the texts, characters at least")}>
          <Bars rows={facts.lengths.map(([from, rows]) => [String(from), rows] as const)} />
        </Part>
      )}
    </>
  );
}

function Classes({ classes }: { classes: readonly ClassFacts[] }) {
  const worst = classes.toSorted((left, right) => left.recall - right.recall);
  return (
    <Part title={t("By class, the least found first")}>
      <Figures
        label={t("Quality by class")}
        head={[t("Class"), t("Rows"), t("Found"), t("Right")]}
        rows={worst.slice(0, MOST).map(({ name, rows, recall, precision }) => [name, rows.toLocaleString(), shareText(recall), shareText(precision)])}
      />
      <Text className="mm-help">
        {t("Found: of the rows of this class. Right: of the rows that were given it.")}
        {worst.length > MOST ? ` ${t("{n} more classes are not shown.", { n: worst.length - MOST })}` : ""}
      </Text>
    </Part>
  );
}

interface HeadlineProps {
  figure: Figure | null;
  rows: number;
  rival: Rival | null;
  /** Which model it is about, where there are several. */
  name?: string;
}

/** How good a model is, and whether something simpler does as well: the sentence that nobody should miss. */
export function Headline({ figure, rows, rival, name = "" }: HeadlineProps) {
  if (figure === null) return null;
  return (
    <Text fontSize="sm" mb={1}>
      {name === "" ? null : t("{name}:", { name })}{name === "" ? null : " "}<strong>{figureSentence(figure, rows)}</strong>{" "}
      {rival === null ? null : <span className={rival.standing === "behind" ? undefined : "mm-amber"}>{rivalSentence(rival)}</span>}
    </Text>
  );
}

/** Models and baselines side by side; the model that the card is about is marked. */
export function EvaluationCard({ facts, uri, more }: { facts: EvaluationFacts; uri: string | null; more?: ReactNode }) {
  const own = facts.judged.findIndex((one) => one.uri !== "" && one.uri === uri);
  const shown = facts.judged[own] ?? facts.judged.findLast((one) => facts.classes.has(one.name));
  const classes = facts.classes.get(shown?.name ?? "") ?? [];
  return (
    <>
      {shown ? <Headline figure={figureOf(shown)} rows={facts.rows} rival={rivalOf(facts, shown)} name={shown.name} /> : null}
      {more}
      <Part title={t("{label} on {rows} test rows", { label: facts.label, rows: facts.rows.toLocaleString() })}>
        <Figures
          label={t("Evaluation")}
          head={[t("Model or baseline"), gateWords(facts.judged[0]?.metric ?? "") || t("Quality"), t("Size"), t("Texts a second")]}
          own={own}
          rows={facts.judged.map((one) => [
            one.isBaseline ? gateWords(one.name) : one.name,
            scoreText(one),
            one.sizeMb === null ? "" : `${one.sizeMb.toFixed(1)} MB`,
            one.documentsPerSecond?.toFixed(0) ?? "",
          ])}
        />
        <Text className="mm-help">{t("In brackets: the {confidence} interval.", { confidence: shareText(facts.confidence) })}</Text>
      </Part>
      {classes.length > 0 ? <Classes classes={classes} /> : null}
    </>
  );
}

const COLOURS = { passed: "green", refused: "red", warning: "orange", "too small to judge": "orange" } as const;

interface GateProps {
  facts: GateFacts;
  isTextHidden: boolean;
  /** What can be done with the rows that are wrong. */
  actions?: ReactNode;
}

/** What a gate could not judge is no pass: it is counted, and told. */
export function NotJudged({ lines }: { lines: readonly string[] }) {
  if (lines.length === 0) return null;
  return (
    <Part title={t("Not judged: {n}", { n: lines.length.toLocaleString() })}>
      <ul className="mm-lines mm-amber">
        {lines.map((line) => (
          <li key={line}>{line}</li>
        ))}
      </ul>
    </Part>
  );
}

export function Checks({ facts }: { facts: GateFacts }) {
  if (facts.checks.length === 0) return null; // the challenger is the champion already
  return (
    <Figures
      label={t("Checks")}
      head={[t("Check"), t("Verdict"), t("Figure"), t("Against"), t("Accepted")]}
      rows={facts.checks.map((check) => [
        <span title={check.sentence}>{[check.check, check.name].filter((part) => part !== "").join(": ")}</span>,
        <Badge colorPalette={COLOURS[check.verdict]}>{t(check.verdict)}</Badge>,
        check.figure,
        check.other,
        check.limit,
      ])}
    />
  );
}

/** What the rows of a dataset without a key column are found by: a digest of their text. */
const DIGEST = /^[0-9a-f]{64}$/;
const SHORT = 8;

/** What a model gets wrong: the rows themselves for those who may see them, what it takes for what, and by class. */
export function GateMistakes({ facts, isTextHidden, actions }: GateProps) {
  const keys = facts.mistakes.map(({ key }) => key);
  const hasKeys = keys.some((key) => key !== "");
  const isOfTexts = hasKeys && keys.every((key) => DIGEST.test(key));
  return (
    <>
      {facts.mistakes.length > 0 ? (
        <Part title={t("Rows that it gets wrong, the worst first")}>
          {actions}
          <Figures
            label={t("Mistakes")}
            head={[...(hasKeys ? [isOfTexts ? t("Fingerprint of the text") : t("Key")] : []), t("Text"), t("Label"), t("Answer"), t("Score")]}
            rows={facts.mistakes.map(({ key, text, label, answer, score }) => [...(hasKeys ? [<span className="mm-key" title={key}>{isOfTexts ? key.slice(0, SHORT) : key}</span>] : []), text, label, answer, score?.toFixed(2) ?? ""])}
          />
        </Part>
      ) : isTextHidden ? (
        <Text className="mm-help">{t("The rows that it gets wrong are shown to those who may edit the pipeline.")}</Text>
      ) : null}
      {facts.confusions.length > 0 ? (
        <Part title={t("What it takes for what")}>
          <Figures label={t("Confusions")} head={[t("Label"), t("Answer"), t("Rows")]} rows={facts.confusions.map(([label, answer, rows]) => [label, answer, rows.toLocaleString()])} />
        </Part>
      ) : null}
      {facts.classes.length > 0 ? <Classes classes={facts.classes} /> : null}
    </>
  );
}

export function GateCard({ facts, isTextHidden, actions }: GateProps) {
  const open = facts.notJudged.length;
  const mistakes = (
    <div key="mistakes">
      <GateMistakes facts={facts} isTextHidden={isTextHidden} actions={actions} />
    </div>
  );
  const checks = (
    <div key="checks">
      <NotJudged lines={facts.notJudged} />
      <Checks facts={facts} />
    </div>
  );
  return (
    <>
      <Part title={t("The gate")}>
        <Headline figure={facts.figure} rows={facts.rows} rival={facts.rival} />
        <Text fontSize="sm">
          <Badge colorPalette={facts.passed ? "green" : "red"}>{facts.passed ? t("passed") : t("refused")}</Badge>{" "}
          {open === 0 ? null : <Badge colorPalette="orange">{plural(open, "1 part not judged", "{n} parts not judged")}</Badge>}{" "}
          {facts.champion === "" ? t("No model is in use yet.") : t("Compared with {champion}, the model in use.", { champion: facts.champion })} {facts.note}
        </Text>
        <Text className="mm-help">{facts.challenger}</Text>
      </Part>
      {/* What decided comes first where there is room for one column: what it gets wrong, or why it was refused. */}
      <div className="mm-halves">{facts.passed ? [mistakes, checks] : [checks, mistakes]}</div>
    </>
  );
}

export function CompressionCard({ facts }: { facts: CompressionFacts }) {
  const own = facts.points.findIndex((point) => point.isChosen);
  return (
    <Part title={t("{n} of {candidates} recipes were measured", { n: facts.points.length, candidates: facts.candidates.toLocaleString() })}>
      <Figures
        label={t("Candidates")}
        head={[t("Recipe"), t("Quality"), t("Size"), t("Speed"), t("Why")]}
        own={own}
        rows={facts.points.map((point) => [
          point.name,
          point.quality,
          `${point.sizeMb.toFixed(1)} MB`,
          `${point.speedRatio.toFixed(1)} ×`,
          point.isChosen ? t("chosen") : point.broken.length > 0 ? point.broken.join("; ") : point.isBest ? t("keeps the budget") : t("another is better"),
        ])}
      />
    </Part>
  );
}
