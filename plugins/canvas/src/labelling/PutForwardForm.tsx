/** Put the first rows of a table forward; the address may fill the form in (`?table=…&version=…&column=…`). */

import { Button, HStack, Input, NativeSelect, Text } from "@chakra-ui/react";
import { type ReactNode, useState } from "react";
import { Link, useSearchParams } from "react-router-dom";

import { type PutForwardAnswer, api } from "../api/client";
import { useSending } from "../api/useSending";
import { nameProblem } from "../core/pipeline";
import { Complaint } from "../parts/page";
import { queuePath } from "./SendWrongRows";
import { plural, t } from "../i18n/t";

const KINDS = { class: "one of several classes", set: "any of several classes", number: "a number" } as const;
type Kind = keyof typeof KINDS;
const NO_EDIT = "Your role in Airflow may look at the queues, not put rows into them";
const MOST_ROWS = 10_000;

interface Props {
  mayEdit: boolean;
  onDone: (queue: string) => void;
}

export function PutForwardForm({ mayEdit, onDone }: Props) {
  const [params] = useSearchParams();
  const columns = params.getAll("column");
  const [typed, setTyped] = useState({
    name: "",
    table: params.get("table") ?? "",
    key: columns.find((column) => /^(id|key)$|_id$/iu.test(column)) ?? "",
    text: columns.find((column) => /text|message|body|title/iu.test(column) && !/_id$|^id$|^key$/iu.test(column)) ?? "",
    label: "",
    classes: "",
    second: "0",
    rows: "1000",
  });
  const [kind, setKind] = useState<Kind>("class");
  const { isBusy, error, send } = useSending();
  const [partly, setPartly] = useState<PutForwardAnswer | null>(null);
  const wrongName = typed.name === "" ? null : nameProblem(typed.name, []);
  const [second, rows] = [Number(typed.second), Number(typed.rows)];
  const isRight = wrongName === null && second >= 0 && second <= 100 && Number.isInteger(rows) && rows >= 1 && rows <= MOST_ROWS;
  const isComplete = [typed.name, typed.table, typed.key, typed.text].every((text) => text.trim() !== "") && isRight;
  const field = (name: keyof typeof typed, label: string, help: string, list?: string): ReactNode => (
    <div className="mm-field">
      <label className="mm-label" htmlFor={`mm-forward-${name}`}>
        {label}
      </label>
      <Input
        id={`mm-forward-${name}`}
        size="sm"
        list={list}
        value={typed[name]}
        onChange={(event) => {
          setTyped({ ...typed, [name]: event.target.value });
        }}
      />
      <Text className="mm-help">{help}</Text>
    </div>
  );
  const putForward = async (): Promise<void> => {
    setPartly(null);
    const version = params.get("version");
    const answer = await api.putForward({
      name: typed.name,
      table: typed.table.trim(),
      version: version !== null && params.get("table") === typed.table ? Number(version) : null,
      key: typed.key.trim(),
      text: typed.text.trim(),
      label: typed.label.trim(),
      kind,
      classes: kind === "number" ? [] : typed.classes.split(",").map((one) => one.trim()).filter((one) => one !== ""),
      second_opinion: second / 100,
      rows,
    });
    // What was not taken is read before the queue opens.
    if (answer.left_out > 0 || answer.second_opinion_not_taken !== null) setPartly(answer);
    else onDone(answer.queue.queue.name);
  };
  return (
    <form
      className="mm-card"
      aria-label={t("Put rows forward")}
      onSubmit={(event) => {
        event.preventDefault();
        if (isComplete && mayEdit) void send(putForward);
      }}
    >
      <h2 className="mm-section-title">{t("Put rows forward")}</h2>
      <datalist id="mm-forward-columns">
        {columns.map((column) => (
          <option key={column} value={column} />
        ))}
      </datalist>
      {field("table", t("Table"), t("Such as disagreements of label_rows, or what rank_label_errors lists."))}
      {field("name", t("Name of the queue"), wrongName ?? t("Rows of the same name come together."))}
      {field("key", t("Column with the key"), t("The labels are found again by it."), "mm-forward-columns")}
      {field("text", t("Column to read"), t("What people see of a row."), "mm-forward-columns")}
      <div className="mm-field">
        <label className="mm-label" htmlFor="mm-forward-kind">
          {t("A label is")}
        </label>
        <NativeSelect.Root size="sm">
          <NativeSelect.Field id="mm-forward-kind" value={kind} onChange={(event) => { setKind(event.target.value as Kind); }}>
            {Object.entries(KINDS).map(([name, words]) => (
              <option key={name} value={name}>
                {t(words)}
              </option>
            ))}
          </NativeSelect.Field>
          <NativeSelect.Indicator />
        </NativeSelect.Root>
      </div>
      {kind === "number" ? null : field("classes", t("Classes"), t("Separated by commas; empty: the labels and suggestions in the table."))}
      <details className="mm-more">
        <summary>{t("More")}</summary>
        {field("label", t("What is labelled"), t("Empty: the first label that the table has suggestions for."))}
        {field("second", t("Second opinion, percent of the rows"), t("Two people label these, and their agreement is shown."))}
        {field("rows", t("Rows"), t("The first rows of the table, {most} at most.", { most: MOST_ROWS.toLocaleString() }))}
      </details>
      {error === "" ? null : <Complaint text={error} />}
      {partly === null ? null : <Partly answer={partly} />}
      <HStack mt={2}>
        <Button type="submit" size="sm" colorPalette="brand" loading={isBusy} disabled={!isComplete || !mayEdit} title={mayEdit ? undefined : t(NO_EDIT)}>
          {t("Put forward")}
        </Button>
        {mayEdit ? null : <Text className="mm-help">{t(NO_EDIT)}.</Text>}
      </HStack>
    </form>
  );
}

/** What became of rows that were put forward, where not all was taken as it was asked. */
function Partly({ answer }: { answer: PutForwardAnswer }) {
  const { queue } = answer.queue;
  return (
    <div role="status">
      <Text fontSize="sm">
        {answer.added === 0 ? t("They are there already.") : plural(answer.added, "1 row was added.", "{n} rows were added.")}{" "}
        <Link className="mm-link" to={queuePath(queue.name)}>
          {t("Label them")}
        </Link>
      </Text>
      {answer.left_out > 0 ? <Text fontSize="sm">{plural(answer.left_out, "1 row was left out: it has no key or no text, or the key of an earlier row.", "{n} rows were left out: they have no key or no text, or the key of an earlier row.")}</Text> : null}
      {answer.second_opinion_not_taken === null ? null : (
        <Text fontSize="sm">{t("{queue} keeps its second opinion of {share} percent. For another share, choose another name.", { queue: queue.name, share: String(Math.round(1000 * queue.second_opinion) / 10) })}</Text>
      )}
    </div>
  );
}
