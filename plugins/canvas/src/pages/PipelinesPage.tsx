/** Every pipeline: its schedule, its last run, the champions that it makes, whether it is valid. */

import { Badge, Button, HStack, Table, Text } from "@chakra-ui/react";
import { Plus, WandSparkles } from "lucide-react";
import { type ReactNode, useEffect, useState } from "react";
import { Link, useNavigate } from "react-router-dom";

import { type PipelineSummary, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { dropUnfinished } from "../core/unfinished";
import { chooseDraft, dropDraft, isNewDraft, keepDraft, listDrafts, newDraftName, ownerOf, readDraft } from "../core/drafts";
import { readText } from "../core/document";
import { isPipeline, stepsOf } from "../core/pipeline";
import { scheduleText } from "../core/schedule";
import { BASE, canvasPath, newPath } from "../core/paths";
import { PipelineActions } from "./PipelineActions";
import { Answered, Complaint, Page } from "../parts/page";
import { plural, t, word } from "../i18n/t";

export function PipelinesPage() {
  const answer = useAnswer(api.pipelines);
  const navigate = useNavigate();
  const champions = useChampions();
  const [error, setError] = useState("");
  const mayCreate = answer.data?.store.may_create === true;
  const actions = mayCreate ? (
    <>
      <Button size="sm" variant="outline" onClick={() => { void navigate(newPath()); }}>
        <Plus size={15} />{" "}{t("Empty pipeline")}
      </Button>
      <Button size="sm" colorPalette="brand" onClick={() => { void navigate(`${BASE}/one-click`); }}>
        <WandSparkles size={15} />{" "}{t("One click: table to model")}
      </Button>
    </>
  ) : null;
  return (
    <Page title={t("Pipelines")} help={t("From tables to small models. Each pipeline is one DAG.")} actions={actions}>
      <Answered answer={answer}>
        {({ pipelines, store }) => (
          <>
            {error === "" ? null : <Complaint text={error} />}
            {store.writable ? null : <Complaint text={t("Nothing can be saved. {reason}", { reason: store.reason })} />}
            <Drafts key={pipelines.map((pipeline) => pipeline.dag_id).join(" ")} known={pipelines.map((pipeline) => pipeline.dag_id)} />
            <Table.Root size="sm" variant="outline" className="mm-table">
              <Table.Header>
                <Table.Row>
                  {[t("Pipeline"), t("Schedule"), t("Steps"), t("Last run"), t("Champion of"), t("State"), ""].map((name) => (
                    <Table.ColumnHeader key={name}>{name === "" ? <span className="mm-unseen">{t("Actions")}</span> : name}</Table.ColumnHeader>
                  ))}
                </Table.Row>
              </Table.Header>
              <Table.Body>
                {pipelines.map((pipeline) => (
                  <Row
                    key={pipeline.dag_id}
                    pipeline={pipeline}
                    champions={champions}
                    actions={<PipelineActions pipeline={pipeline} taken={pipelines.map((item) => item.dag_id)} mayCreate={mayCreate} onChanged={answer.reload} onError={setError} />}
                  />
                ))}
              </Table.Body>
            </Table.Root>
            {pipelines.length === 0 ? <Text className="mm-help">{t("There is no pipeline yet.")}</Text> : null}
          </>
        )}
      </Answered>
    </Page>
  );
}

/** New pipelines that are not saved yet, second drafts, and drafts of pipelines that are gone: each can go on. */
function Drafts({ known }: { known: readonly string[] }) {
  const navigate = useNavigate();
  const [drafts, setDrafts] = useState(() => listDrafts("pipeline"));
  const left = drafts.filter(({ name }) => !known.includes(name));
  if (left.length === 0) return null;
  const open = (name: string): void => {
    const draft = drafts.find((item) => item.name === name)?.draft;
    const owner = ownerOf(name);
    if (known.includes(owner)) {
      chooseDraft("pipeline", name);
      void navigate(canvasPath(owner));
      return;
    }
    const isNew = isNewDraft(name);
    const target = isNew ? name : newDraftName();
    // The pipeline of this draft has been deleted: it goes on as a new one.
    if (draft && !isNew && keepDraft("pipeline", target, draft.text, { text: "", etag: null })) dropDraft("pipeline", name);
    void navigate(newPath(target));
  };
  return (
    <section className="mm-card" aria-label={t("Not saved yet")}>
      <h2 className="mm-section-title">{t("Not saved yet, kept in this browser")}</h2>
      {left.map(({ name, draft }) => (
        <HStack key={name} gap={2}>
          <Button size="xs" variant="plain" className="mm-link" onClick={() => { open(name); }}>
            {draftTitle(draft.text)}
          </Button>
          <Text className="mm-help mm-wide">{new Date(draft.time).toLocaleString()}</Text>
          <Button
            size="xs"
            variant="ghost"
            aria-label={t("Discard {text}", { text: draftTitle(draft.text) })}
            onClick={() => {
              dropDraft("pipeline", name);
              dropUnfinished(name);
              setDrafts(listDrafts("pipeline"));
            }}
          >
            {t("Discard")}
          </Button>
        </HStack>
      ))}
    </section>
  );
}

function draftTitle(text: string): string {
  const { value } = readText(text);
  if (!isPipeline(value)) return t("a text that is not a pipeline yet");
  const count = stepsOf(value).size;
  const name = typeof value.pipeline === "string" ? value.pipeline : "pipeline";
  return `${name}, ${plural(count, "1 step", "{n} steps")}`;
}

/** The version of each registered model that is in use; none while MLflow has not answered. */
function useChampions(): ReadonlyMap<string, number | null> {
  const [champions, setChampions] = useState<ReadonlyMap<string, number | null>>(new Map());
  useEffect(() => {
    let isCurrent = true;
    api.models().then(
      (models) => { if (isCurrent) setChampions(new Map(models.map((model) => [model.name, model.champion]))); },
      () => undefined, // the page of the models says why
    );
    return () => { isCurrent = false; };
  }, []);
  return champions;
}

function LastRun({ dagId, run }: { dagId: string; run: PipelineSummary["last_run"] }) {
  if (run === null) return null;
  const time = run.start ?? run.queued;
  return (
    <Link to={`/dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(run.run_id)}`}>
      <span className="mm-badge" data-state={run.state}>
        {word(run.state)}
      </span>
      <Text className="mm-help">{time === null ? "" : new Date(time).toLocaleString()}</Text>
    </Link>
  );
}

interface RowProps {
  pipeline: PipelineSummary;
  champions: ReadonlyMap<string, number | null>;
  actions: ReactNode;
}

function Row({ pipeline, champions, actions }: RowProps) {
  const [isDraft] = useState(() => readDraft("pipeline", pipeline.dag_id) !== null);
  return (
    <Table.Row>
      <Table.Cell>
        <Link to={canvasPath(pipeline.dag_id)} className="mm-link">
          {pipeline.dag_id}
        </Link>
        {isDraft ? <Badge variant="outline" ml={2}>{t("changes not saved")}</Badge> : null}
        <Text color="fg.muted" fontSize="xs">
          {pipeline.description}
        </Text>
      </Table.Cell>
      <Table.Cell fontSize="xs" title={typeof pipeline.schedule === "string" ? pipeline.schedule : undefined}>
        {scheduleText(pipeline.schedule)}
        {pipeline.paused === true && pipeline.schedule !== null ? <Badge ml={2}>{t("paused")}</Badge> : null}
      </Table.Cell>
      <Table.Cell>{pipeline.steps}</Table.Cell>
      <Table.Cell>
        <LastRun dagId={pipeline.dag_id} run={pipeline.last_run} />
      </Table.Cell>
      <Table.Cell>
        <HStack gap={1} wrap="wrap">
          {pipeline.models.map((model) => (
            <Link key={model} to={`${BASE}/models/${encodeURIComponent(model)}`}>
              <Badge variant="outline">
                {model}
                {champions.get(model) == null ? "" : ` · ${t("version {version}", { version: champions.get(model) })}`}
              </Badge>
            </Link>
          ))}
        </HStack>
      </Table.Cell>
      <Table.Cell>
        {pipeline.valid ? (
          <Badge colorPalette="green">{t("valid")}</Badge>
        ) : (
          <Badge colorPalette="red" title={pipeline.problems.map((problem) => problem.message).join("\n")}>
            {plural(pipeline.problems.length, "1 problem", "{n} problems")}
          </Badge>
        )}
      </Table.Cell>
      <Table.Cell>{actions}</Table.Cell>
    </Table.Row>
  );
}
