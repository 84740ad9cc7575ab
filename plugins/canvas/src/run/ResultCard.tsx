/** What a step of a run has made: its reports as cards, its figures where there is no report. */

import { Text } from "@chakra-ui/react";
import { type ReactNode, useCallback } from "react";

import { type StepResult, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { compressionFacts, datasetFacts, evaluationFacts, gateFacts, saidLines } from "../core/results";
import { isObject } from "../core/value";
import { Answered } from "../parts/page";
import { SendWrongRows } from "../labelling/SendWrongRows";
import { useCanvas } from "../store";
import { CompressionCard, DatasetCard, EvaluationCard, GateCard } from "./cards";
import { Figures } from "../parts/Figures";
import { t } from "../i18n/t";

interface Props {
  dagId: string;
  runId: string;
  step: string;
}

export function ResultCard({ dagId, runId, step }: Props) {
  const answer = useAnswer(useCallback(() => api.stepResult(dagId, runId, step), [dagId, runId, step]));
  return (
    <section className="mm-result" tabIndex={0} aria-label={t("Result of {step}", { step })}>
      <Answered answer={answer}>{(result) => <Result result={result} wrong={<SendWrongRows key={step} dagId={dagId} runId={runId} step={step} />} />}</Answered>
    </section>
  );
}

/** The URI of the model that a step has made; null: it has made none, or several. */
export function modelOf(outputs: Record<string, unknown>): string | null {
  const models = Object.values(outputs).filter((output) => isObject(output) && output.kind === "model" && typeof output.uri === "string");
  return models.length === 1 ? (models[0] as { uri: string }).uri : null;
}

function Result({ result, wrong }: { result: StepResult; wrong: ReactNode }) {
  const uri = modelOf(result.outputs);
  const cards = result.reports.map((report) => (
    <Report key={`${report.step} ${report.file}`} report={report} uri={uri} isTextHidden={result.texts_hidden} wrong={wrong} />
  ));
  const metrics = Object.entries(result.metrics);
  return (
    <>
      {cards}
      {uri === null ? null : <Text className="mm-help">{uri}</Text>}
      {metrics.length === 0 ? null : (
        <details className="mm-more" open={cards.length === 0}>
          <summary>{t("{n} figures of this step", { n: metrics.length })}</summary>
          <Figures label={t("Figures")} head={[t("Figure"), t("Value")]} rows={metrics.map(([name, value]) => [name, String(Number(value.toPrecision(6)))])} />
        </details>
      )}
      {cards.length + metrics.length === 0 ? <Text className="mm-help">{t("This step has measured nothing: look at the edges that leave it.")}</Text> : null}
    </>
  );
}

/** An evaluation has no rows in its report: the gate's card has them. */
function ToTheGate() {
  const { steps, select } = useCanvas();
  const gates = [...steps].flatMap(([id, { component }]) => (component === "gate" ? [id] : []));
  if (gates.length === 0) return null;
  return (
    <Text className="mm-help">
      {t("What it takes for what, and the rows that it gets wrong:")}{" "}
      {gates.map((id) => (
        <button key={id} type="button" className="mm-link" onClick={() => { select([id]); }}>
          {t("card of {step}", { step: id })}
        </button>
      ))}
    </Text>
  );
}

interface ReportProps {
  report: StepResult["reports"][number];
  uri: string | null;
  isTextHidden: boolean;
  wrong: ReactNode;
}

function Report({ report, uri, isTextHidden, wrong }: ReportProps) {
  const { content } = report;
  if (content === null) return <Text className="mm-help">{t("{file} is longer than is shown here: it is among the files of the MLflow run.", { file: report.file })}</Text>;
  const dataset = datasetFacts(content);
  if (dataset) return <DatasetCard facts={dataset} />;
  const gate = gateFacts(content);
  if (gate) return <GateCard facts={gate} isTextHidden={isTextHidden} actions={wrong} />;
  const evaluation = evaluationFacts(content);
  if (evaluation) return <EvaluationCard facts={evaluation} uri={uri} more={uri === null ? <ToTheGate /> : null} />;
  const compression = compressionFacts(content);
  if (compression) return <CompressionCard facts={compression} />;
  return (
    <ul className="mm-lines">
      {saidLines(content).map((line) => (
        <li key={line}>{line}</li>
      ))}
    </ul>
  );
}
