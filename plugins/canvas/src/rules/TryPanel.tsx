/** A rule set tried on the first rows of a table, alone or beside the one in use. */

import { Badge, Button, Input, NativeSelect, Stack, Table, Text, Textarea } from "@chakra-ui/react";
import { Play } from "lucide-react";
import { useState } from "react";

import { ApiError, type RuleSetDocument, type TriedRuleSet, api } from "../api/client";
import { TablesList } from "../form/TablesList";
import { MONO } from "../form/mono";
import { TABLES_LIST } from "../form/names";
import { Complaint } from "../parts/page";
import { plural, t } from "../i18n/t";

type Other = "none" | "champion" | "saved" | "text";

interface Props {
  text: string;
  saved: RuleSetDocument | null;
  isValid: boolean;
  table: string;
  onTable: (table: string) => void;
}

export function TryPanel({ text, saved, isValid, table, onTable }: Props) {
  const [other, setOther] = useState<Other>("none");
  const [against, setAgainst] = useState("");
  const [tried, setTried] = useState<TriedRuleSet | null>(null);
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);

  const attempt = async (): Promise<void> => {
    const others: Record<Other, string> = {
      none: "",
      champion: `models:/${saved?.name ?? ""}@champion`,
      saved: saved?.text ?? "",
      text: against,
    };
    setBusy(true);
    setError("");
    try {
      setTried(await api.tryRules(text, table, others[other]));
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setTried(null);
      setError(problem.message);
    } finally {
      setBusy(false);
    }
  };

  return (
    <Stack gap={4} minW={0}>
      <section className="mm-card" aria-label={t("Try")}>
        <label className="mm-label" htmlFor="mm-rules-table">
          {t("Table to try it on")}
        </label>
        <Input id="mm-rules-table" size="sm" {...MONO} placeholder="${data}/tickets" list={TABLES_LIST} value={table} onChange={(event) => onTable(event.target.value)} />
        <TablesList />
        <label className="mm-label" htmlFor="mm-rules-other">
          {t("Compare with")}
        </label>
        <NativeSelect.Root size="sm">
          <NativeSelect.Field id="mm-rules-other" value={other} onChange={(event) => setOther(event.target.value as Other)}>
            <option value="none">{t("nothing")}</option>
            {saved === null ? null : <option value="champion">{t("the champion of {name}", { name: saved.name })}</option>}
            {saved === null ? null : <option value="saved">{t("the saved text")}</option>}
            <option value="text">{t("another text")}</option>
          </NativeSelect.Field>
          <NativeSelect.Indicator />
        </NativeSelect.Root>
        {other === "text" ? (
          <Textarea aria-label={t("Other rule set (YAML)")} mt={2} rows={8} fontFamily="mono" fontSize="xs" value={against} onChange={(event) => setAgainst(event.target.value)} />
        ) : null}
        <Button size="sm" mt={2} colorPalette="brand" disabled={table === "" || !isValid} loading={isBusy} onClick={() => void attempt()}>
          <Play size={15} />{" "}{t("Try")}
        </Button>
        {error === "" ? null : <Complaint text={error} />}
      </section>
      {tried === null ? null : <Tried tried={tried} />}
    </Stack>
  );
}

function Tried({ tried }: { tried: TriedRuleSet }) {
  return (
    <section className="mm-card mm-scroll" aria-label={t("Decisions")} tabIndex={0}>
      <h2 className="mm-section-title">
        {t("{table}, version {version}", { table: tried.table, version: tried.version })}
      </h2>
      <Text className="mm-help">
        {tried.counts.map((count) => `${count.decision}${count.rule === null ? "" : ` (${count.rule})`}: ${count.rows}`).join(" · ")}
        {tried.differ === null ? "" : ` · ${plural(tried.differ, "1 row differs", "{n} rows differ")}`}
      </Text>
      <Table.Root size="sm">
        <Table.Body>
          {tried.rows.map((row, index) => (
            <Table.Row key={index}>
              <Table.Cell>
                <pre className="mm-explanation">{row.text}</pre>
                {row.other === null ? null : <Badge colorPalette="orange">{t("other: {other}", { other: row.other })}</Badge>}
                <details className="mm-more">
                  <summary>{t("Row")}</summary>
                  <pre className="mm-uri">{JSON.stringify(row.row, null, 1)}</pre>
                </details>
              </Table.Cell>
            </Table.Row>
          ))}
        </Table.Body>
      </Table.Root>
    </section>
  );
}
