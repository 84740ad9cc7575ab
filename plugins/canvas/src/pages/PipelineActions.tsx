/** What can be done with a pipeline in the list: its schedule off or on, a copy, a file, away with it. */

import { Button, HStack, IconButton, Input, Text } from "@chakra-ui/react";
import { CalendarOff, CalendarSync, Copy, Download, Trash2 } from "lucide-react";
import { useState } from "react";
import { useNavigate } from "react-router-dom";

import { ApiError, type PipelineSummary, api } from "../api/client";
import { Frame } from "../parts/Frame";
import { copyName, renamedText } from "../core/copies";
import { dropDraft } from "../core/drafts";
import { dropUnfinished } from "../core/unfinished";
import { type Sentence, t } from "../i18n/t";
import { newPath } from "../core/paths";
import { Complaint } from "../parts/page";
import { MONO } from "../form/mono";

const NO_EDIT: Sentence = "Your role in Airflow may look at this pipeline, not change it";

interface Props {
  pipeline: PipelineSummary;
  /** Names of all pipelines: a copy gets another one. */
  taken: readonly string[];
  mayCreate: boolean;
  onChanged: () => void;
  onError: (message: string) => void;
}

export function PipelineActions({ pipeline, taken, mayCreate, onChanged, onError }: Props) {
  const navigate = useNavigate();
  const [isDeleting, setDeleting] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const name = pipeline.dag_id;
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    setBusy(true);
    onError("");
    try {
      await work();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      onError(error.message);
    } finally {
      setBusy(false);
    }
  };
  const isPaused = pipeline.paused === true;
  const pause = isPaused ? t("Resume the schedule of {name}", { name }) : t("Pause the schedule of {name}", { name });
  return (
    <HStack gap={0} justify="flex-end">
      {pipeline.paused === null || pipeline.schedule === null ? null : (
        <IconButton
          size="xs"
          variant="ghost"
          aria-label={pause}
          title={pipeline.may_edit ? pause : t(NO_EDIT)}
          aria-pressed={isPaused}
          disabled={!pipeline.may_edit || isBusy}
          onClick={() => void attempt(async () => { await api.pause(name, !isPaused); onChanged(); })}
        >
          {isPaused ? <CalendarSync size={15} /> : <CalendarOff size={15} />}
        </IconButton>
      )}
      {mayCreate ? (
        <IconButton
          size="xs"
          variant="ghost"
          aria-label={t("Duplicate {name}", { name })}
          title={t("Duplicate {name}", { name })}
          disabled={isBusy}
          onClick={() => void attempt(async () => {
            const { text } = await api.pipeline(name);
            void navigate(newPath(), { state: { text: renamedText(text, copyName(name, taken)) } });
          })}
        >
          <Copy size={15} />
        </IconButton>
      ) : null}
      <IconButton
        size="xs"
        variant="ghost"
        aria-label={t("Export {name}", { name })}
        title={t("Export {name}", { name })}
        disabled={isBusy}
        onClick={() => void attempt(async () => { download(`${name}.yaml`, (await api.pipeline(name)).text); })}
      >
        <Download size={15} />
      </IconButton>
      <IconButton
        size="xs"
        variant="ghost"
        aria-label={t("Delete {name}", { name })}
        title={pipeline.may_edit ? t("Delete {name}", { name }) : t(NO_EDIT)}
        disabled={!pipeline.may_edit || isBusy}
        onClick={() => { setDeleting(true); }}
      >
        <Trash2 size={15} />
      </IconButton>
      {isDeleting ? <DeleteDialog pipeline={pipeline} onClose={() => { setDeleting(false); }} onDone={onChanged} /> : null}
    </HStack>
  );
}

interface DeleteProps {
  pipeline: PipelineSummary;
  onClose: () => void;
  onDone: () => void;
}

/** Deleting asks for the name: the schedule ends with it, though all versions stay. */
function DeleteDialog({ pipeline, onClose, onDone }: DeleteProps) {
  const [typed, setTyped] = useState("");
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const name = pipeline.dag_id;
  const remove = async (): Promise<void> => {
    setBusy(true);
    try {
      await api.remove(name, pipeline.etag);
      dropDraft("pipeline", name);
      dropUnfinished(name);
      onClose();
      onDone();
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(problem.message);
      setBusy(false);
    }
  };
  return (
    <Frame
      title={t("Delete {name}", { name })}
      onClose={onClose}
      footer={
        <>
          <Button size="sm" variant="outline" onClick={onClose}>
            {t("Cancel")}
          </Button>
          <Button size="sm" colorPalette="red" disabled={typed !== name} loading={isBusy} onClick={() => void remove()}>
            {t("Delete")}
          </Button>
        </>
      }
    >
      {error === "" ? null : <Complaint text={error} />}
      <Text fontSize="sm" mb={2}>
        {t("It no longer runs. Its saved versions, its models and their ledger stay.")}
      </Text>
      <label className="mm-label" htmlFor="mm-delete-name">
        {t("Type the name to delete it: {name}", { name })}
      </label>
      <Input id="mm-delete-name" size="sm" {...MONO} autoComplete="off" value={typed} onChange={(event) => { setTyped(event.target.value); }} />
    </Frame>
  );
}

function download(file: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = file;
  link.click();
  URL.revokeObjectURL(url);
}
