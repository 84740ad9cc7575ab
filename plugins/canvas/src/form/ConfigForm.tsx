/** The form of a step's configuration, made of its JSON Schema, in the looks of Airflow. */

import { withTheme } from "@rjsf/core";
import type { ErrorSchema } from "@rjsf/utils";
import { useCallback, useMemo } from "react";

import type { Problem } from "../api/client";
import type { JsonObject } from "../core/value";
import { cleaned } from "../core/edits";
import { formHints, formSchema, spokenSchema } from "../core/schema";
import { templates } from "./templates";
import { validator } from "./validator";
import { columnFields, tableFields } from "../core/upstream";
import { COLUMNS_LIST, NAMES_LIST, NamesContext, OfferedListContext, TABLES_LIST } from "./names";
import { TablesList } from "./TablesList";
import { fields, widgets } from "./widgets";

const Form = withTheme({ templates, widgets, fields });

interface Props {
  id: string;
  schema: Record<string, unknown>;
  value: JsonObject;
  /** Problems of this configuration: their `field` begins with `config`. */
  problems: readonly Problem[];
  /** Parameters, and the variable of the step's group: offered as `${name}`. */
  names?: readonly string[];
  /** Columns of the table before the step: offered where a field asks for one. */
  columns?: readonly string[];
  onChange: (value: JsonObject) => void;
}

/** Fields show what the text says; a default is a hint in an empty field, not a value. */
export function ConfigForm({ id, schema, value, problems, names = [], columns = [], onChange }: Props) {
  const simple = useMemo(() => withoutHeading(formSchema(schema)), [schema]);
  const hints = useMemo(() => formHints(simple), [simple]);
  // Only the form speaks another language: which fields are columns is read from the English descriptions.
  const said = useMemo(() => spokenSchema(simple), [simple]);
  const extraErrors = useMemo(() => errorsOf(problems), [problems]);
  const tables = useMemo(() => tableFields(simple), [simple]);
  const offeredList = useCallback(
    (field: string) => {
      const isOneOf = (fieldNames: readonly string[]): boolean => fieldNames.some((name) => `${field}_`.startsWith(`form_${id}_${name}_`));
      if (isOneOf(tables)) return TABLES_LIST;
      return columns.length > 0 && isOneOf(columnFields(simple)) ? COLUMNS_LIST : NAMES_LIST;
    },
    [columns, tables, simple, id],
  );
  const form = (
    <Form
      idPrefix={`form_${id}`}
      schema={said}
      formData={value}
      validator={validator}
      extraErrors={extraErrors}
      onChange={({ formData }) => {
        const next = cleaned((formData ?? {}) as JsonObject, value);
        if (JSON.stringify(next) !== JSON.stringify(value)) onChange(next);
      }}
      experimental_defaultFormStateBehavior={{ emptyObjectFields: "skipDefaults", allOf: "skipDefaults", constAsDefaults: "always", arrayMinItems: { populate: "never" } }}
      uiSchema={hints}
      showErrorList={false}
      noHtml5Validate
      tagName="div"
    />
  );
  return (
    <NamesContext value={names}>
      <datalist id={COLUMNS_LIST}>
        {columns.map((name) => <option key={name} value={name} />)}
        {names.map((name) => <option key={`\${${name}}`} value={`\${${name}}`} />)}
      </datalist>
      <datalist id={NAMES_LIST}>
        {names.map((name) => <option key={name} value={`\${${name}}`} />)}
      </datalist>
      {tables.length > 0 ? <TablesList /> : null}
      <OfferedListContext value={offeredList}>{form}</OfferedListContext>
    </NamesContext>
  );
}

function withoutHeading(schema: Record<string, unknown>): Record<string, unknown> {
  const { title: _title, description: _description, ...rest } = schema;
  return rest;
}

function errorsOf(problems: readonly Problem[]): ErrorSchema {
  const root: Record<string, unknown> = {};
  for (const problem of problems) {
    let at = root;
    for (const part of (problem.field ?? "").split(".").slice(1)) {
      at[part] ??= {};
      at = at[part] as Record<string, unknown>;
    }
    const errors = (at.__errors ??= []) as string[];
    errors.push(problem.message);
  }
  return root as ErrorSchema;
}
