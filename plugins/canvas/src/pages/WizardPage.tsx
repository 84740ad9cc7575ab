/** One click from a table to a model: choose the table, two columns and a budget; the rest is a template. */

import { Box, Button, Checkbox, HStack, Input, NativeSelect, Stack, Table, Text } from "@chakra-ui/react";
import { ArrowRight, Play, Table2 } from "lucide-react";
import { type ReactNode, useCallback, useEffect, useState } from "react";
import { useNavigate } from "react-router-dom";

import { ApiError, type TableView, type Template, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { ConfigForm } from "../form/ConfigForm";
import { TablesList } from "../form/TablesList";
import { UploadTable } from "../form/UploadTable";
import { TABLES_LIST } from "../form/names";
import { newText } from "../core/document";
import { tableName } from "../core/names";
import type { JsonObject } from "../core/value";
import { BASE, canvasPath } from "../core/paths";
import { Answered, Complaint, Page } from "../parts/page";
import { MONO } from "../form/mono";
import { plural, t } from "../i18n/t";

/** What has a field of its own here; the template's other fields follow as its schema describes them. */
const OWN_FIELDS = ["table", "text", "label", "labels", "name", "max_drop"];
const ONE = "one_click";
const EACH = "each_signal";

export function WizardPage() {
  const ask = useCallback(async () => {
    const templates = new Map((await api.templates()).map((item) => [item.name, item]));
    const [one, each] = [templates.get(ONE), templates.get(EACH)];
    if (!one || !each) throw new ApiError(404, null, t("The templates {one} and {each} are missing.", { one: ONE, each: EACH }));
    return { one, each };
  }, []);
  const answer = useAnswer(ask);
  return (
    <Page title={t("One click: table to model")} help={t("Choose a table, its text, and its label or labels. You get a pipeline that you can still change.")}>
      <Answered answer={answer}>{({ one, each }) => <Wizard one={one} each={each} />}</Answered>
    </Page>
  );
}

function Wizard({ one, each }: { one: Template; each: Template }) {
  const navigate = useNavigate();
  const [isEach, setEach] = useState(false);
  const template = isEach ? each : one;
  const [values, setValues] = useState<JsonObject>({});
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const set = (more: JsonObject): void => setValues((before) => ({ ...before, ...more }));
  const table = usePreview(textOf(values.table), textOf(values.label));
  const view = table.view;

  // The name follows the table until somebody types another.
  const isNamed = textOf(values.name) !== tableName(textOf(values.table));
  const chooseTable = (uri: string): void => set(isNamed ? { table: uri } : { table: uri, name: tableName(uri) });
  const make = async (isRun: boolean): Promise<void> => {
    setBusy(true);
    setError("");
    try {
      const { document } = await api.fill(template.name, filled(values, template));
      const text = newText(document as JsonObject);
      if (!isRun) {
        void navigate(`${BASE}/new`, { state: { text } });
        return;
      }
      const saved = await api.save(textOf(values.name), text, "Made from the template", null);
      void navigate(canvasPath(saved.dag_id), { state: { run: true } });
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(problem.message);
    } finally {
      setBusy(false);
    }
  };
  const labels = Array.isArray(values.labels) ? values.labels.map(textOf) : [];
  const isLabelled = isEach ? labels.length > 0 : textOf(values.label) !== "";
  const isComplete = isLabelled && ["table", "text", "name"].every((name) => textOf(values[name]) !== "");

  return (
    <div className="mm-wizard">
      <Stack gap={4}>
        <Step number={1} title={t("Table")}>
          <Labelled id="mm-table" label={t("Path or URI of the Delta table")} help={t("${data} stands for the deployment's folder of tables.")}>
            <Input
              id="mm-table"
              size="sm"
              {...MONO}
              placeholder="${data}/tickets"
              list={TABLES_LIST}
              autoComplete="off"
              autoFocus
              value={textOf(values.table)}
              onChange={(event) => chooseTable(event.target.value)}
            />
          </Labelled>
          <TablesList onChoose={textOf(values.table) === "" ? chooseTable : undefined} />
          {textOf(values.table) === "" ? <UploadTable onDone={chooseTable} /> : null}
          {table.error === "" ? null : <Complaint text={table.error} />}
        </Step>
        <Step number={2} title={t("Columns")}>
          <HStack gap={4} align="flex-start">
            <ColumnField name="text" label={t("Text")} view={view} value={textOf(values.text)} onChange={(text) => set({ text })} />
            {isEach ? (
              <LabelsField view={view} text={textOf(values.text)} labels={labels} onChange={(chosen) => set({ labels: chosen })} />
            ) : (
              <ColumnField name="label" label={t("Label")} view={view} value={textOf(values.label)} onChange={(label) => set({ label })} />
            )}
          </HStack>
          <Box mb={2}>
            <Tick label={t("A small model for each of several columns")} isOn={isEach} onChange={setEach} />
          </Box>
          {view === null || isEach ? null : <Balance view={view} label={textOf(values.label)} />}
        </Step>
        <Step number={3} title={t("Budget and name")}>
          <HStack gap={4} align="flex-start">
            <Labelled id="mm-budget" label={t("Accuracy that may be lost")} help={t("Against the champion, and against the large model. 0.01 is one point.")}>
              <Input
                id="mm-budget"
                size="sm"
                inputMode="decimal"
                placeholder="0.01"
                value={textOf(values.max_drop)}
                onChange={(event) => set({ max_drop: event.target.value })}
              />
            </Labelled>
            <Labelled id="mm-pipeline-name" label={t("Name of the pipeline")} help={t("Of the DAG and the registered model, too.")}>
              <Input id="mm-pipeline-name" size="sm" {...MONO} value={textOf(values.name)} onChange={(event) => set({ name: event.target.value })} />
            </Labelled>
          </HStack>
          <details className="mm-more">
            <summary>{t("More settings")}</summary>
            <ConfigForm id="template" schema={otherFields(template.form_schema)} value={values} problems={[]} onChange={setValues} />
          </details>
        </Step>
        {error === "" ? null : <Complaint text={error} />}
        <HStack>
          <Button size="sm" colorPalette="brand" disabled={!isComplete} loading={isBusy} onClick={() => void make(true)}>
            <Play size={15} />{" "}{t("Save and run")}
          </Button>
          <Button size="sm" variant="outline" disabled={!isComplete || isBusy} onClick={() => void make(false)}>
            {t("Open on the canvas")}{" "}<ArrowRight size={15} />
          </Button>
        </HStack>
      </Stack>
      <Preview view={view} />
    </div>
  );
}

function Step({ number, title, children }: { number: number; title: string; children: ReactNode }) {
  return (
    <section className="mm-card" aria-label={title}>
      <h2 className="mm-section-title">
        <span className="mm-number">{number}</span> {title}
      </h2>
      {children}
    </section>
  );
}

function Labelled({ id, label, help, children }: { id: string; label: string; help: string; children: ReactNode }) {
  return (
    <div className="mm-field mm-wide">
      <label className="mm-label" htmlFor={id}>
        {label}
      </label>
      {children}
      <Text className="mm-help">{help}</Text>
    </div>
  );
}

interface ColumnProps {
  name: string;
  label: string;
  view: TableView | null;
  value: string;
  onChange: (column: string) => void;
}

function ColumnField({ name, label, view, value, onChange }: ColumnProps) {
  const columns = view?.columns ?? [];
  const id = `mm-column-${name}`;
  return (
    <div className="mm-field mm-wide">
      <label className="mm-label" htmlFor={id}>
        {label}
      </label>
      <NativeSelect.Root size="sm" disabled={columns.length === 0}>
        <NativeSelect.Field id={id} value={value} onChange={(event) => onChange(event.target.value)}>
          <option value="">{columns.length === 0 ? t("choose a table first") : t("choose a column")}</option>
          {columns.map((column) => (
            <option key={column.name} value={column.name}>
              {column.name} ({column.type})
            </option>
          ))}
        </NativeSelect.Field>
        <NativeSelect.Indicator />
      </NativeSelect.Root>
    </div>
  );
}

interface LabelsProps {
  view: TableView | null;
  /** Column with the text, which is not a label. */
  text: string;
  labels: readonly string[];
  onChange: (labels: string[]) => void;
}

function LabelsField({ view, text, labels, onChange }: LabelsProps) {
  const columns = (view?.columns ?? []).map((column) => column.name).filter((name) => name !== text);
  return (
    <Box as="fieldset" className="mm-field mm-wide">
      <legend className="mm-label">{t("Labels")}</legend>
      {columns.length === 0 ? <Text className="mm-help">{t("choose a table first")}</Text> : null}
      {columns.map((name) => (
        <div key={name}>
          <Tick
            label={name}
            isOn={labels.includes(name)}
            onChange={(isOn) => onChange(columns.filter((column) => (column === name ? isOn : labels.includes(column))))}
          />
        </div>
      ))}
    </Box>
  );
}

function Tick({ label, isOn, onChange }: { label: string; isOn: boolean; onChange: (isOn: boolean) => void }) {
  return (
    <Checkbox.Root size="sm" checked={isOn} onCheckedChange={({ checked }) => { onChange(checked === true); }}>
      <Checkbox.HiddenInput />
      <Checkbox.Control />
      <Checkbox.Label>{label}</Checkbox.Label>
    </Checkbox.Root>
  );
}

const MOST_CLASSES = 12;

/** How many rows each class has: who sees that one class has ten rows collects more before training. */
function Balance({ view, label }: { view: TableView; label: string }) {
  const classes = view.balance[label];
  if (!classes) return null;
  const most = Math.max(...classes.map((item) => item.rows), 1);
  const named = classes.filter((item) => item.value !== null);
  return (
    <div aria-label={t("Rows by class")} role="group">
      <Text className="mm-help" mb={1}>
        {t("{n} classes in {counted} rows", { n: named.length.toLocaleString(), counted: view.counted.toLocaleString() })}
      </Text>
      {classes.slice(0, MOST_CLASSES).map((item) => (
        <div key={item.value ?? ""} className="mm-bar">
          <span title={item.value ?? t("no label")}>{item.value ?? t("no label")}</span>
          <span className="mm-bar-track">
            <span style={{ width: `${(100 * item.rows) / most}%` }} />
          </span>
          <span>{item.rows.toLocaleString()}</span>
        </div>
      ))}
      {classes.length > MOST_CLASSES ? <Text className="mm-help">{t("and {value} more", { value: classes.length - MOST_CLASSES })}</Text> : null}
    </div>
  );
}

function Preview({ view }: { view: TableView | null }) {
  if (view === null) {
    return (
      <Box className="mm-card mm-empty">
        <Table2 size={28} aria-hidden="true" />
        <Text className="mm-help">{t("The first rows of the table are shown here.")}</Text>
      </Box>
    );
  }
  return (
    <section className="mm-card mm-scroll" tabIndex={0} aria-label={t("Preview of the table")}>
      <h2 className="mm-section-title">
        {t("Version {version}", { version: view.version })}
        {view.rows === null ? "" : ` · ${plural(view.rows, "1 row", "{n} rows")}`}
      </h2>
      <Table.Root size="sm">
        <Table.Header>
          <Table.Row>
            {view.columns.map((column) => (
              <Table.ColumnHeader key={column.name}>
                {column.name}
                <Text className="mm-help">{column.type}</Text>
              </Table.ColumnHeader>
            ))}
          </Table.Row>
        </Table.Header>
        <Table.Body>
          {view.sample.map((row, index) => (
            <Table.Row key={index}>
              {view.columns.map((column) => (
                <Table.Cell key={column.name} className="mm-cell">
                  {textOf(row[column.name])}
                </Table.Cell>
              ))}
            </Table.Row>
          ))}
        </Table.Body>
      </Table.Root>
    </section>
  );
}

const PREVIEW_DELAY = 400;

/** Look at a table, a moment after its name was typed; and count the classes of a label once one is chosen. */
function usePreview(uri: string, label: string): { view: TableView | null; error: string } {
  const [state, setState] = useState<{ uri: string; view: TableView | null; error: string }>({ uri: "", view: null, error: "" });
  useEffect(() => {
    if (uri.trim() === "") return;
    const controller = new AbortController();
    const timer = setTimeout(() => {
      api.preview(uri.trim(), label, controller.signal).then(
        (view) => setState({ uri, view, error: "" }),
        (error: unknown) => {
          if (error instanceof ApiError) setState({ uri, view: null, error: error.message });
        },
      );
    }, PREVIEW_DELAY);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [uri, label]);
  return state.uri === uri ? state : { view: null, error: "" };
}

function otherFields(schema: Record<string, unknown>): Record<string, unknown> {
  const properties = Object.entries((schema.properties ?? {})).filter(([name]) => !OWN_FIELDS.includes(name));
  return { ...schema, required: [], properties: Object.fromEntries(properties) };
}

/** Return what was said for a template; an empty field says nothing, and a number is a number. */
function filled(values: JsonObject, template: Template): JsonObject {
  const known = Object.keys(template.form_schema.properties ?? {});
  const said = Object.entries(values).filter(([name, value]) => known.includes(name) && value !== "");
  return Object.fromEntries(said.map(([name, value]) => [name, name === "max_drop" && !Number.isNaN(Number(value)) ? Number(value) : value]));
}

function textOf(value: unknown): string {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
