/** Two runs of a pipeline side by side: parameters, data versions, figures; what differs first, the rest on request. */

import { NativeSelect, Text } from "@chakra-ui/react";
import { useCallback, useState } from "react";

import { type RunSummary, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { Frame } from "../parts/Frame";
import { type Line, type RunFacts, compareRuns } from "../core/compare";
import { t, word } from "../i18n/t";
import { Answered } from "../parts/page";
import { Figures } from "../parts/Figures";

interface Props {
  dagId: string;
  history: readonly RunSummary[];
  /** The run that is shown. */
  runId: string;
  onClose: () => void;
}

export function CompareDialog({ dagId, history, runId, onClose }: Props) {
  const place = history.findIndex((run) => run.run_id === runId);
  const [other, setOther] = useState(() => (history[place + 1] ?? history.find((run) => run.run_id !== runId))?.run_id ?? "");
  return (
    <Frame title={t("Compare two runs")} isWide onClose={onClose}>
      <label className="mm-label" htmlFor="mm-compare-with">
        {t("Compare with")}
      </label>
      <NativeSelect.Root size="sm" mb={3}>
        <NativeSelect.Field id="mm-compare-with" value={other} onChange={(event) => { setOther(event.target.value); }}>
          {history
            .filter((run) => run.run_id !== runId)
            .map((run) => (
              <option key={run.run_id} value={run.run_id}>
                {runName(run)}
              </option>
            ))}
        </NativeSelect.Field>
        <NativeSelect.Indicator />
      </NativeSelect.Root>
      {other === "" ? <Text>{t("There is no other run yet.")}</Text> : <Compared key={other} dagId={dagId} left={other} right={runId} />}
    </Frame>
  );
}

export function runName(run: RunSummary): string {
  const time = run.queued === null ? run.run_id : new Date(run.queued).toLocaleString();
  return [time, run.user ?? run.run_type, word(run.state)].join(" · ");
}

async function factsOf(dagId: string, runId: string): Promise<RunFacts> {
  const [run, metrics] = await Promise.all([api.run(dagId, runId, new AbortController().signal), api.runMetrics(dagId, runId)]);
  return { ...run, metrics: Object.fromEntries(Object.entries(metrics).map(([step, one]) => [step, one.metrics])) };
}

function Compared({ dagId, left, right }: { dagId: string; left: string; right: string }) {
  const ask = useCallback(async () => {
    const [one, other] = await Promise.all([factsOf(dagId, left), factsOf(dagId, right)]);
    return compareRuns(one, other);
  }, [dagId, left, right]);
  const answer = useAnswer(ask);
  return (
    <Answered answer={answer}>
      {(found) => (
        <>
          <Part title={t("Parameters")} lines={found.parameters} />
          <Part title={t("Data versions")} lines={found.data} />
          <Part title={t("Figures")} lines={found.figures} />
          <Part title={t("States")} lines={found.steps} />
        </>
      )}
    </Answered>
  );
}

function Part({ title, lines }: { title: string; lines: readonly Line[] }) {
  const [isWhole, setWhole] = useState(false);
  const differing = lines.filter((line) => line.differs);
  const shown = isWhole ? lines : differing;
  const same = lines.length - differing.length;
  return (
    <section className="mm-part" aria-label={title}>
      <h3 className="mm-label">{title}</h3>
      {shown.length === 0 ? null : (
        <Figures
          label={title}
          head={[t("Step"), t("Name"), t("The other run"), t("The run that is shown"), t("Change")]}
          rows={shown.map(({ step, name, left, right, change }) => [step, name, left, right, change === null ? "" : changeText(change)])}
        />
      )}
      {same === 0 ? null : (
        <button type="button" className="mm-help" aria-expanded={isWhole} onClick={() => { setWhole(!isWhole); }}>
          {isWhole ? t("Hide what is the same") : t("{n} are the same: show them", { n: same })}
        </button>
      )}
      {lines.length === 0 ? <Text className="mm-help">{t("Neither run has any.")}</Text> : null}
    </section>
  );
}

function changeText(change: number): string {
  return `${change > 0 ? "+" : ""}${Number(change.toPrecision(4))}`;
}
