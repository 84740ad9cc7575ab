/** Registered models: who is champion, what was measured, what each was made from, and all that happened. */

import { Badge, Button, HStack, Input, NativeSelect, Stack, Table, Text } from "@chakra-ui/react";
import { FileClock, Undo2 } from "lucide-react";
import { useCallback, useState } from "react";
import { Link, useNavigate, useParams } from "react-router-dom";

import { ApiError, type HistoryRow, type Lineage, type ModelVersion, type ModelView, type Night, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { useSending } from "../api/useSending";
import { Frame } from "../parts/Frame";
import { figureText } from "../core/results";
import { isWebAddress } from "../run/state";
import { AnswerBox } from "./AnswerBox";
import { Nights } from "./Nights";
import { VerdictBox } from "./VerdictBox";
import { Pareto } from "./Pareto";
import { pointsOf } from "../core/pareto";
import { BASE, canvasPath } from "../core/paths";
import { Answered, Complaint, Page } from "../parts/page";
import { plural, t, word } from "../i18n/t";

export function ModelsPage() {
  const { name } = useParams();
  const answer = useAnswer(api.models);
  return (
    <Page title={t("Models")} help={t("What the pipelines have made, and what is in use.")}>
      <Answered answer={answer}>
        {(models) =>
          models.length === 0 ? (
            <Text className="mm-help">{t("No model is registered yet. A pipeline that ends with Gate and Promote registers one.")}</Text>
          ) : (
            <div className="mm-models">
              <nav aria-label={t("Registered models")}>
                {models.map((model) => (
                  <Link
                    key={model.name}
                    to={`${BASE}/models/${encodeURIComponent(model.name)}`}
                    className="mm-model"
                    aria-current={model.name === (name ?? models[0]?.name) ? "page" : undefined}
                  >
                    <strong>{model.name}</strong>
                    <Text className="mm-help">
                      {model.champion === null ? t("no champion") : t("champion: version {champion}", { champion: model.champion })} · {plural(model.versions, "1 version", "{n} versions")}
                    </Text>
                    {model.alias === model.champion ? null : <Badge colorPalette="orange">{t("alias moved by hand")}</Badge>}
                  </Link>
                ))}
              </nav>
              <Model key={name ?? models[0]?.name} name={name ?? models[0]?.name ?? ""} onChanged={answer.reload} />
            </div>
          )
        }
      </Answered>
    </Page>
  );
}

function Model({ name, onChanged }: { name: string; onChanged: () => void }) {
  const answer = useAnswer(useCallback(() => api.model(name), [name]));
  const reload = (): void => {
    answer.reload();
    onChanged();
  };
  return <Answered answer={answer}>{(model) => <ModelDetails model={model} onChanged={reload} />}</Answered>;
}

function ModelDetails({ model, onChanged }: { model: ModelView; onChanged: () => void }) {
  const newest = model.all_versions[0];
  const [chosen, setChosen] = useState(model.champion ?? newest?.version ?? null);
  const version = model.all_versions.find((item) => item.version === chosen);
  const [isRollingBack, setRollingBack] = useState(false);
  const nights = useAnswer(useCallback(() => api.nights(model.name), [model.name]));
  const changed = (): void => {
    nights.reload(); // there is one row more in the ledger
    onChanged();
  };
  const rollbackProblem = !model.may_roll_back
    ? t("Your role in Airflow may not say which version is in use")
    : model.all_versions.length < 2
      ? t("There is no other version")
      : "";
  return (
    <Stack gap={4} minW={0}>
      <section className="mm-card" aria-label={t("Versions")}>
        <HStack justify="space-between" mb={2}>
          <h2 className="mm-section-title">{model.name}</h2>
          <Button
            size="xs"
            variant="outline"
            disabled={rollbackProblem !== ""}
            title={rollbackProblem === "" ? undefined : rollbackProblem}
            onClick={() => setRollingBack(true)}
          >
            <Undo2 size={13} />{" "}{t("Roll back")}
          </Button>
        </HStack>
        <Table.Root size="sm">
          <Table.Header>
            <Table.Row>
              {[t("Version"), t("Made"), t("Role"), t("Pipeline"), t("Dataset"), t("Figures")].map((title) => (
                <Table.ColumnHeader key={title}>{title}</Table.ColumnHeader>
              ))}
            </Table.Row>
          </Table.Header>
          <Table.Body>
            {model.all_versions.map((item) => (
              <Table.Row key={item.version} data-selected={item.version === chosen ? "" : undefined}>
                <Table.Cell>
                  <button type="button" className="mm-link" onClick={() => setChosen(item.version)}>
                    {item.version}
                  </button>{" "}
                  {item.version === model.champion ? <Badge colorPalette="green">{t("champion")}</Badge> : null}
                </Table.Cell>
                <Table.Cell>{timeText(item.created)}</Table.Cell>
                <Table.Cell>{word(item.role)}</Table.Cell>
                <Table.Cell>{item.pipeline}</Table.Cell>
                <Table.Cell className="mm-cell" title={item.dataset}>
                  {item.dataset.split("/").at(-1)}
                </Table.Cell>
                <Table.Cell fontSize="xs">{figuresOf(item.metrics, nights.data?.findLast((night) => night.action === "promote" && night.to_version === item.version))}</Table.Cell>
              </Table.Row>
            ))}
          </Table.Body>
        </Table.Root>
      </section>
      {version ? <VerdictBox key={`verdict ${version.version}`} name={model.name} version={version.version} /> : null}
      {version ? <VersionCards key={version.version} name={model.name} version={version} /> : null}
      {chosen === null ? null : <AnswerBox key={chosen} name={model.name} first={chosen} versions={model.all_versions.map((item) => item.version)} />}
      <Nights answer={nights} />
      <Ledger rows={model.history} />
      {isRollingBack ? <RollbackDialog model={model} onClose={() => setRollingBack(false)} onDone={changed} /> : null}
    </Stack>
  );
}

function VersionCards({ name, version }: { name: string; version: ModelVersion }) {
  const lineage = useAnswer(useCallback(() => api.lineage(name, version.version), [name, version.version]));
  const ask = useCallback(async () => {
    if (version.pipeline === "" || version.dag_run === "") return [];
    return pointsOf(await api.runMetrics(version.pipeline, version.dag_run));
  }, [version.pipeline, version.dag_run]);
  const points = useAnswer(ask);
  return (
    <div className="mm-two">
      <section className="mm-card" aria-label={t("Lineage")}>
        <HStack justify="space-between" mb={2}>
          <h2 className="mm-section-title">{t("Made from")}</h2>
          <SourceButton name={name} version={version} />
        </HStack>
        <Answered answer={lineage}>{(tree) => <ul className="mm-tree"><Branch tree={tree} /></ul>}</Answered>
        {isWebAddress(version.url) ? (
          <a className="mm-link" href={version.url} target="_blank" rel="noreferrer">
            {t("Version in MLflow")}
          </a>
        ) : null}
      </section>
      <section className="mm-card" aria-label={t("Accuracy and speed")}>
        <h2 className="mm-section-title">{t("Accuracy and speed")}</h2>
        <Answered answer={points}>{(found) => <Pareto points={found} />}</Answered>
      </section>
    </div>
  );
}

/** From a model back to the very pipeline that made it. */
function SourceButton({ name, version }: { name: string; version: ModelVersion }) {
  const navigate = useNavigate();
  const [error, setError] = useState("");
  const open = async (): Promise<void> => {
    try {
      const source = await api.modelSource(name, version.version);
      const state = source.number === null ? null : { text: source.text };
      void navigate(canvasPath(source.dag_id), { state });
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(problem.message);
    }
  };
  return (
    <div>
      <Button size="xs" variant="outline" onClick={() => void open()}>
        <FileClock size={13} />{" "}{t("Open what made this")}
      </Button>
      {error === "" ? null : <Complaint text={error} />}
    </div>
  );
}

function Branch({ tree }: { tree: Lineage }) {
  return (
    <li>
      <Badge variant="outline">{tree.role === "" ? t("model") : word(tree.role)}</Badge> <span className="mm-uri">{tree.uri}</span>
      {tree.digest === "" ? null : <span className="mm-help" title={tree.digest}> {t("fingerprint {digest}", { digest: tree.digest.slice(0, 12) })}</span>}
      {tree.missing.length > 0 ? <Badge colorPalette="orange">{t("does not say: {missing}", { missing: tree.missing.join(", ") })}</Badge> : null}
      {tree.made_from.length > 0 ? (
        <ul>
          {tree.made_from.map((part) => (
            <Branch key={part.uri} tree={part} />
          ))}
        </ul>
      ) : null}
    </li>
  );
}

function Ledger({ rows }: { rows: readonly HistoryRow[] }) {
  return (
    <section className="mm-card" aria-label={t("Ledger")}>
      <h2 className="mm-section-title">{t("Ledger")}</h2>
      <Table.Root size="sm">
        <Table.Header>
          <Table.Row>
            {[t("When"), t("What"), t("From"), t("To"), t("Who"), t("Why"), t("Evidence")].map((title) => (
              <Table.ColumnHeader key={title}>{title}</Table.ColumnHeader>
            ))}
          </Table.Row>
        </Table.Header>
        <Table.Body>
          {rows.toReversed().map((row) => (
            <Table.Row key={row.number}>
              <Table.Cell>{timeText(row.time)}</Table.Cell>
              <Table.Cell>{word(row.action)}</Table.Cell>
              <Table.Cell>{row.from_version ?? "–"}</Table.Cell>
              <Table.Cell>{row.to_version ?? "–"}</Table.Cell>
              <Table.Cell>{row.who}</Table.Cell>
              <Table.Cell>{row.reasons.join("; ")}</Table.Cell>
              <Table.Cell>
                {isWebAddress(row.evidence_url) ? (
                  <a className="mm-link" href={row.evidence_url} target="_blank" rel="noreferrer">
                    {t("Gate's report")}
                  </a>
                ) : null}
              </Table.Cell>
            </Table.Row>
          ))}
        </Table.Body>
      </Table.Root>
    </section>
  );
}

interface RollbackProps {
  model: ModelView;
  onClose: () => void;
  onDone: () => void;
}

function RollbackDialog({ model, onClose, onDone }: RollbackProps) {
  const [why, setWhy] = useState("");
  const [to, setTo] = useState("");
  const { isBusy, error, send } = useSending();
  const others = model.all_versions.filter((version) => version.version !== model.champion);
  const roll = async (): Promise<void> => {
    await api.rollBack(model.name, why, to === "" ? null : Number(to));
    onDone();
    onClose();
  };
  return (
    <Frame
      title={t("Roll {name} back", { name: model.name })}
      onClose={onClose}
      footer={
        <Button size="sm" colorPalette="brand" disabled={why.trim() === ""} loading={isBusy} onClick={() => void send(roll)}>
          {t("Roll back")}
        </Button>
      }
    >
      <label className="mm-label" htmlFor="mm-rollback-to">
        {t("To")}
      </label>
      <NativeSelect.Root size="sm" mb={3}>
        <NativeSelect.Field id="mm-rollback-to" value={to} onChange={(event) => setTo(event.target.value)}>
          <option value="">{t("the champion before")}</option>
          {others.map((version) => (
            <option key={version.version} value={version.version}>
              {t("version {version}", { version: version.version })}
            </option>
          ))}
        </NativeSelect.Field>
        <NativeSelect.Indicator />
      </NativeSelect.Root>
      <label className="mm-label" htmlFor="mm-rollback-why">
        {t("Why (goes into the ledger)")}
      </label>
      <Input id="mm-rollback-why" size="sm" maxLength={500} value={why} onChange={(event) => setWhy(event.target.value)} />
      <Text className="mm-help" mt={2}>
        {t("The version's files and its lineage are verified first.")}
      </Text>
      {error === "" ? null : <Complaint text={error} />}
    </Frame>
  );
}

function timeText(time: string | null): string {
  return time === null ? "" : new Date(time).toLocaleString();
}

/** Return the figures that somebody compares models by, as far as the gate and the step have measured them. */
function figuresOf(metrics: Readonly<Record<string, number>>, judged: Night | undefined): string {
  const isJudged = judged !== undefined && judged.value !== null;
  const shown = [
    ["accuracy", (value: number) => `${(100 * value).toFixed(1)} %`],
    ["validation_accuracy", (value: number) => t("validation {share}", { share: `${(100 * value).toFixed(1)} %` })],
    ["bytes", (value: number) => `${(value / 1e6).toFixed(1)} MB`],
    ["size_ratio", (value: number) => `${value.toFixed(1)}× smaller`],
    ["drift", (value: number) => t("drift {value}", { value: value.toPrecision(2) })],
  ] as const;
  const own = shown.flatMap(([name, write]) => (metrics[name] === undefined || isJudged && name === "accuracy" ? [] : [write(metrics[name])]));
  return [...(isJudged ? [`${judged.metric} ${figureText(judged.value, judged.unit)}`] : []), ...own].join(" · ");
}
