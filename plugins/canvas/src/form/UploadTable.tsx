/** A small CSV file becomes a table: for somebody who has no table yet. */

import { Text } from "@chakra-ui/react";
import { useState } from "react";

import { api } from "../api/client";
import { useSending } from "../api/useSending";
import { tableName } from "../core/names";
import { Complaint } from "../parts/page";
import { t } from "../i18n/t";

/** What fits into a request, with room for what JSON adds. */
const MOST_BYTES = 3_000_000;

export function UploadTable({ onDone }: { onDone: (uri: string) => void }) {
  const { isBusy, error, send } = useSending();
  const [refusal, setRefusal] = useState("");
  const take = (file: File): void => {
    const name = tableName(file.name.replace(/\.[^.]*$/, ""));
    const isLong = file.size > MOST_BYTES;
    setRefusal(isLong ? t("A file has at most {size} MB here. For a longer one use the component Ingest files.", { size: MOST_BYTES / 1e6 }) : "");
    if (isLong) return;
    void send(async () => { onDone((await api.upload(name === "" ? "table" : name, await file.text())).uri); });
  };
  return (
    <div className="mm-field mm-upload">
      <label className="mm-label" htmlFor="mm-upload">
        {t("Or a CSV file of yours, up to {size} MB: it becomes a table", { size: MOST_BYTES / 1e6 })}
      </label>
      <input
        id="mm-upload"
        type="file"
        accept=".csv,.tsv,.txt,text/csv"
        disabled={isBusy}
        onChange={(event) => {
          const file = event.target.files?.[0];
          event.target.value = ""; // the same file can be chosen again once it is corrected
          if (file) take(file);
        }}
      />
      {isBusy ? <Text className="mm-help" role="status">{t("Loading")}</Text> : null}
      {refusal === "" && error === "" ? null : <Complaint text={refusal === "" ? error : refusal} />}
    </div>
  );
}
