/** Inputs of the configuration form. */

import { Checkbox, HStack, Input, NativeSelect, Textarea } from "@chakra-ui/react";
import type { FieldProps, RegistryFieldsType, RegistryWidgetsType, WidgetProps } from "@rjsf/utils";
import { use, useState } from "react";

import { NamesContext, OfferedListContext } from "./names";
import { NULLABLE, type Schema, scalarOf } from "../core/schema";
import { type Unfinished, isEmpty } from "../core/unfinished";
import { MONO } from "./mono";
import { UnfinishedContext, readYaml, writeYaml } from "./yaml";
import { t } from "../i18n/t";

function hintOf(schema: Schema): string {
  const fallback = schema.default;
  if (fallback === undefined || fallback === null || typeof fallback === "object") return "";
  return typeof fallback === "string" ? fallback : JSON.stringify(fallback);
}

/** Where null means something else than "not said": a box that says it. */
function NullBox({ schema, value, onChange, id }: Pick<WidgetProps, "schema" | "value" | "onChange" | "id">) {
  const described = schema as Schema;
  if (described[NULLABLE] !== true || described.default === null || described.default === undefined) return null;
  return (
    <Checkbox.Root
      size="sm"
      checked={value === null}
      onCheckedChange={({ checked }) => { onChange(checked === true ? null : undefined); }}
      ids={{ hiddenInput: `${id}_none` }}
    >
      <Checkbox.HiddenInput />
      <Checkbox.Control />
      <Checkbox.Label>{t("none")}</Checkbox.Label>
    </Checkbox.Root>
  );
}

function TextWidget({ id, schema, value, onChange, disabled, required }: WidgetProps) {
  const described = schema as Schema;
  const [typed, setTyped] = useState<string | null>(null);
  const offeredList = use(OfferedListContext);
  const shown = value === undefined || value === null ? "" : String(value as unknown);
  // What is typed stays as it is typed (such as "1." on the way to 1.5) while it means the value.
  const text = typed !== null && sameMeaning(typed, value, described) ? typed : shown;
  return (
    <HStack gap={3}>
      <Input
        id={id}
        size="sm"
        value={text}
        disabled={disabled === true || value === null && described[NULLABLE] === true && described.default !== null && described.default !== undefined}
        placeholder={hintOf(described)}
        list={offeredList(id)}
        aria-required={required}
        aria-describedby={`${id}__description`}
        autoComplete="off"
        spellCheck={false}
        inputMode={described.type === "number" || described.type === "integer" ? "decimal" : "text"}
        onChange={(event) => {
          setTyped(event.target.value);
          onChange(scalarOf(event.target.value, described));
        }}
      />
      <NullBox id={id} schema={schema} value={value as unknown} onChange={onChange} />
    </HStack>
  );
}

function sameMeaning(typed: string, value: unknown, schema: Schema): boolean {
  const meant = scalarOf(typed, schema);
  return meant === value || (meant === undefined && (value === undefined || value === null));
}

function TextareaWidget({ id, value, onChange, disabled }: WidgetProps) {
  return (
    <Textarea
      id={id}
      size="sm"
      rows={4}
      value={(value as string | undefined) ?? ""}
      disabled={disabled === true}
      aria-describedby={`${id}__description`}
      onChange={(event) => { onChange(event.target.value === "" ? undefined : event.target.value); }}
    />
  );
}

/** One of several values. A value that is none of them, such as a parameter, is shown and kept. */
function SelectWidget({ id, schema, value, options, onChange, disabled }: WidgetProps) {
  const names = use(NamesContext).map((name) => `\${${name}}`);
  const choices = [...(options.enumOptions ?? []).map((option) => String(option.value)), ...names];
  const shown = value === undefined || value === null ? "" : String(value);
  const fallback = hintOf(schema);
  return (
    <NativeSelect.Root size="sm" disabled={disabled === true}>
      <NativeSelect.Field
        id={id}
        value={shown}
        aria-describedby={`${id}__description`}
        onChange={(event) => {
          const chosen = (options.enumOptions ?? []).find((option) => String(option.value) === event.target.value);
          onChange(event.target.value === "" ? undefined : (chosen?.value ?? event.target.value));
        }}
      >
        <option value="">{fallback === "" ? "–" : t("{fallback} (default)", { fallback })}</option>
        {shown !== "" && !choices.includes(shown) ? <option value={shown}>{shown}</option> : null}
        {choices.map((choice) => (
          <option key={choice} value={choice}>
            {choice}
          </option>
        ))}
      </NativeSelect.Field>
      <NativeSelect.Indicator />
    </NativeSelect.Root>
  );
}

/** Yes, no, or the default. */
function CheckboxWidget(props: WidgetProps) {
  const enumOptions = [
    { value: true, label: "true" },
    { value: false, label: "false" },
  ];
  return <SelectWidget {...props} options={{ ...props.options, enumOptions }} />;
}

/** A mapping with free keys, or a union of structures: as YAML, which says it shorter than nested forms do. */
function YamlField({ fieldPathId, schema, formData, onChange, rawErrors, disabled }: FieldProps) {
  const [typed, setTyped] = useState<string | null>(null);
  const [own, setOwn] = useState<Unfinished | null>(null);
  const kept = use(UnfinishedContext);
  const { $id: id, path } = fieldPathId;
  const value: unknown = formData;
  const shown = isEmpty(value) ? "" : writeYaml(value);
  const unfinished = kept === null ? own : kept.find(path, value);
  const leave = (typing: Unfinished | null): void => {
    if (kept === null) setOwn(typing);
    else kept.keep(path, value, typing);
  };
  const problem = unfinished?.problem ?? "";
  const label = (schema as Schema).title ?? id;
  return (
    <>
      <Textarea
        id={id}
        aria-label={String(label)}
        aria-invalid={problem !== "" || (rawErrors?.length ?? 0) > 0}
        size="sm"
        {...MONO}
        fontSize="xs"
        rows={Math.min(10, Math.max(2, shown.split("\n").length))}
        value={unfinished?.text ?? typed ?? shown}
        placeholder="key: value"
        disabled={disabled === true}
        spellCheck={false}
        aria-describedby={`${id}__description`}
        onBlur={() => { setTyped(null); }}
        onChange={(event) => {
          const text = event.target.value;
          try {
            const parsed = readYaml(text);
            setTyped(text);
            leave(null);
            onChange(parsed, path);
          } catch (error) {
            setTyped(null);
            leave({ text, problem: (error as Error).message.split("\n")[0] ?? "" });
          }
        }}
      />
      {problem === "" ? null : <span className="mm-field-error">{problem}</span>}
    </>
  );
}

export const widgets: RegistryWidgetsType = {
  TextWidget,
  TextareaWidget,
  SelectWidget,
  CheckboxWidget,
  UpDownWidget: TextWidget,
  RangeWidget: TextWidget,
  PasswordWidget: TextWidget,
};

export const fields: RegistryFieldsType = { YamlField };
