/** What is in an edge: rows at the version of the run, columns, classes; what the step behind it left out, and why. */

import { Text } from "@chakra-ui/react";
import { useCallback, useState } from "react";
import { Link } from "react-router-dom";

import { type OutputRows, type StepResult, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { datasetFacts } from "../core/results";
import type { Edge } from "../core/pipeline";
import { BASE } from "../core/paths";
import { Answered } from "../parts/page";
import { DatasetCard } from "./cards";
import { Figures } from "../parts/Figures";
import { ResultCard } from "./ResultCard";
import { plural, t, word } from "../i18n/t";

interface Props {
  dagId: string;
  runId: string;
  edge: Edge;
  /** Type of what flows in it. */
  type: string;
}

export function EdgePanel({ dagId, runId, edge, type }: Props) {
  const name = `${edge.origin}.${edge.originPort}`;
  return (
    <div className="mm-run-body">
      <strong>
        {name} → {edge.target}.{edge.targetPort}
      </strong>
      <div className="mm-step-panes">
        {type === "table" || type === "dataset" ? (
          <>
            <Rows dagId={dagId} runId={runId} edge={edge} />
            <Fate dagId={dagId} runId={runId} edge={edge} />
          </>
        ) : (
          <ResultCard dagId={dagId} runId={runId} step={edge.origin} />
        )}
      </div>
    </div>
  );
}

function Rows({ dagId, runId, edge }: Omit<Props, "type">) {
  const [label, setLabel] = useState("");
  const ask = useCallback(
    () => api.outputRows(dagId, runId, edge.origin, edge.originPort, label),
    [dagId, runId, edge.origin, edge.originPort, label],
  );
  const answer = useAnswer(ask);
  return (
    <section className="mm-result" tabIndex={0} aria-label={t("Rows")}>
      <Answered answer={answer}>{(rows) => <RowsView rows={rows} onLabel={setLabel} />}</Answered>
    </section>
  );
}

function RowsView({ rows, onLabel }: { rows: OutputRows; onLabel: (column: string) => void }) {
  const more = rows.rows !== null && rows.rows_before !== null ? rows.rows - rows.rows_before : null;
  return (
    <>
      <Text fontSize="sm">
        {rows.rows === null ? t("Rows at version {version}", { version: rows.version }) : plural(rows.rows, "1 row at version {version}", "{n} rows at version {version}", { version: rows.version })}
        {more === null ? "" : t(", {difference}", { difference: differenceText(more) })}{t(". The first {n} are shown.", { n: rows.sample.length })}
      </Text>
      <Text className="mm-uri mm-help">{rows.uri}</Text>
      <Link className="mm-link" to={labelPath(rows)}>
        {t("Label these rows")}
      </Link>
      {Object.entries(rows.balance).map(([label, classes]) => (
        <Text key={label} className="mm-help">
          {label}: {classes.map((item) => `${item.value ?? t("no label")} ${item.rows.toLocaleString()}`).join(", ")}
          {rows.rows !== null && rows.counted < rows.rows ? ` ${t("(counted in the first {counted} rows)", { counted: rows.counted.toLocaleString() })}` : ""}
        </Text>
      ))}
      <table className="mm-figures" aria-label={t("First rows")}>
        <thead>
          <tr>
            {rows.columns.map((column) => (
              <th key={column.name} scope="col">
                <button type="button" title={t("{type}: count its values", { type: column.type })} onClick={() => { onLabel(column.name); }}>
                  {column.name}
                </button>
                <span className="mm-type">{column.type}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.sample.map((row, index) => (
            <tr key={index}>
              {rows.columns.map((column) => (
                <td key={column.name} className="mm-cell">
                  {cellText(row[column.name])}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

/** The form that puts the rows of a table forward, filled in. */
function labelPath({ uri, version, columns }: OutputRows): string {
  const query = new URLSearchParams({ table: uri, version: String(version) });
  for (const column of columns) query.append("column", column.name);
  return `${BASE}/labelling?${query.toString()}`;
}

function cellText(value: unknown): string {
  if (value === null || value === undefined) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}

export function differenceText(rows: number): string {
  if (rows === 0) return t("as many as in the run before");
  return rows > 0
    ? t("{n} more than in the run before", { n: rows.toLocaleString() })
    : t("{n} fewer than in the run before", { n: Math.abs(rows).toLocaleString() });
}

/** What the step at either end of the edge has made of its rows, where it says so. */
function Fate({ dagId, runId, edge }: Omit<Props, "type">) {
  const ask = useCallback(async () => {
    const both = await Promise.allSettled([edge.target, edge.origin].map((step) => api.stepResult(dagId, runId, step)));
    return both.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  }, [dagId, runId, edge.target, edge.origin]);
  const answer = useAnswer(ask);
  return (
    <section className="mm-result" tabIndex={0} aria-label={t("What became of the rows")}>
      <Answered answer={answer}>{(results) => <FateView results={results} />}</Answered>
    </section>
  );
}

function FateView({ results }: { results: readonly StepResult[] }) {
  const counts = (result: StepResult): [string, number][] => Object.entries(result.metrics).filter(([name]) => name.startsWith("rows"));
  for (const result of results) {
    const facts = result.reports.filter((report) => report.step === result.step).map((report) => datasetFacts(report.content)).find((found) => found !== null);
    if (facts) return <DatasetCard facts={facts} />;
  }
  const counted = results.find((result) => counts(result).length > 0);
  if (!counted) return <Text className="mm-help">{t("Neither step reports rows that it left out.")}</Text>;
  return <Figures label={t("Rows of {step}", { step: counted.step })} head={[t("Rows"), t("Number")]} rows={counts(counted).map(([name, value]) => [word(name.replaceAll("_", " ")), value.toLocaleString()])} />;
}
