/** Decisions: find a row by its key, and read why it was decided so. The address holds the question. */

import { Badge, Button, Input, Stack, Text } from "@chakra-ui/react";
import { Search } from "lucide-react";
import { useCallback, useState } from "react";
import { useSearchParams } from "react-router-dom";

import { type FoundDecision, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { isObject } from "../core/value";
import { TablesList } from "../form/TablesList";
import { TABLES_LIST } from "../form/names";
import { Answered, Page } from "../parts/page";
import { plural, t } from "../i18n/t";

const FIELDS = [
  { name: "table", label: "Table of decisions", placeholder: "${data}/decisions" },
  { name: "column", label: "Column with the key", placeholder: "id" },
  { name: "key", label: "Key of the row", placeholder: "" },
] as const;

export function DecisionsPage() {
  const [params, setParams] = useSearchParams();
  const [typed, setTyped] = useState<Record<string, string>>(() =>
    Object.fromEntries(FIELDS.map(({ name }) => [name, params.get(name) ?? ""])),
  );
  const isComplete = FIELDS.every(({ name }) => (typed[name] ?? "").trim() !== "");
  const isAsked = FIELDS.every(({ name }) => (params.get(name) ?? "") !== "");
  return (
    <Page title={t("Decisions")} help={t("Find a row by its key, and read which rule settled it and why.")}>
      <form
        className="mm-find"
        onSubmit={(event) => {
          event.preventDefault();
          if (isComplete) setParams(typed);
        }}
      >
        {FIELDS.map(({ name, label, placeholder }) => (
          <div key={name} className="mm-wide">
            <label className="mm-label" htmlFor={`mm-find-${name}`}>
              {t(label)}
            </label>
            <Input
              id={`mm-find-${name}`}
              size="sm"
              placeholder={placeholder}
              list={name === "table" ? TABLES_LIST : undefined}
              value={typed[name] ?? ""}
              onChange={(event) => setTyped({ ...typed, [name]: event.target.value })}
            />
          </div>
        ))}
        <TablesList />
        <Button type="submit" size="sm" colorPalette="brand" disabled={!isComplete}>
          <Search size={15} />{" "}{t("Find")}
        </Button>
      </form>
      {isAsked ? <Found key={params.toString()} table={params.get("table") ?? ""} column={params.get("column") ?? ""} rowKey={params.get("key") ?? ""} /> : null}
    </Page>
  );
}

function Found({ table, column, rowKey }: { table: string; column: string; rowKey: string }) {
  const answer = useAnswer(useCallback(() => api.decisions(table, column, rowKey), [table, column, rowKey]));
  return (
    <Answered answer={answer}>
      {(found) => (
        <Stack gap={4}>
          <Text className="mm-help">
            {t("{table}, version {version}:", { table: found.table, version: found.version })}{" "}
            {found.is_cut ? t("the first {n} rows of more", { n: found.rows.length }) : plural(found.rows.length, "1 found", "{n} found")}
          </Text>
          {found.rows.map((row, index) => (
            <Decision key={index} row={row} />
          ))}
        </Stack>
      )}
    </Answered>
  );
}

function Decision({ row }: { row: FoundDecision }) {
  const { explanation, ...columns } = row.decision as Record<string, unknown>;
  return (
    <section className="mm-card" aria-label={t("Decision")}>
      {row.text === "" ? null : <pre className="mm-explanation">{row.text}</pre>}
      <Value value={columns} none="–" />
      {explanation === undefined || explanation === null ? null : (
        <details className="mm-more">
          <summary>{t("Everything that the explanation holds")}</summary>
          <Value value={explanation} none={t("unknown")} />
        </details>
      )}
    </section>
  );
}

/** Any JSON as nested lists. `none`: what stands for null. In an explanation a signal is unknown; a column just has nothing. */
function Value({ value, none }: { value: unknown; none: string }) {
  if (Array.isArray(value)) {
    return (
      <ul className="mm-tree">
        {(value as unknown[]).map((item, index) => (
          <li key={index}>
            <Value value={item} none={none} />
          </li>
        ))}
      </ul>
    );
  }
  if (!isObject(value)) return <span className="mm-uri">{value === null ? none : String(value)}</span>;
  return (
    <ul className="mm-tree">
      {Object.entries(value).map(([name, item]) => (
        <li key={name}>
          <Badge variant="outline">{name}</Badge> <Value value={item} none={none} />
        </li>
      ))}
    </ul>
  );
}
