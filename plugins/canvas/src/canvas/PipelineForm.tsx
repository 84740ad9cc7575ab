/** The pipeline itself: name, description, schedule, tags, parameters. */

import { Button, HStack, Input, NativeSelect, Text, Textarea } from "@chakra-ui/react";
import { Plus, X } from "lucide-react";
import { useState } from "react";

import { type Json, type JsonObject, isObject, textOf } from "../core/value";
import { setKey } from "../core/edits";
import { groupOfProblem } from "../core/problems";
import { useCanvas } from "../store";
import { Section, ValueInput } from "./parts";
import { MONO } from "../form/mono";
import { type Sentence, t } from "../i18n/t";

export function PipelineForm() {
  const { pipeline, problems } = useCanvas();
  const mine = problems.filter((problem) => problem.step === null && groupOfProblem(problem) === null);
  return (
    <>
      <Section title={t("Pipeline")}>
        <TextField name="pipeline" label={t("Name")} isMono problems={messages(mine, "pipeline")} help={t("Name of the DAG, too.")} />
        <TextField name="description" label={t("Description")} isLong problems={messages(mine, "description")} />
        <TagsField tags={pipeline.tags} />
      </Section>
      <Section title={t("Schedule")}>
        <ScheduleField problems={messages(mine, "schedule")} />
      </Section>
      <Section title={t("Parameters")}>
        <Text className="mm-help">{t("${name} in a configuration stands for the value. Without a default, the deployment or whoever starts the run gives it.")}</Text>
        <ParamsField params={pipeline.params} />
      </Section>
    </>
  );
}

function messages(problems: { field: string | null; message: string }[], field: string): string[] {
  return problems.filter((problem) => problem.field?.split(".")[0] === field).map((problem) => problem.message);
}

function Problems({ messages: found }: { messages: readonly string[] }) {
  return found.map((message) => (
    <Text key={message} className="mm-field-error" role="alert">
      {message}
    </Text>
  ));
}

interface TextFieldProps {
  name: "pipeline" | "description";
  label: string;
  isMono?: boolean;
  isLong?: boolean;
  help?: string;
  problems: string[];
}

function TextField({ name, label, isMono = false, isLong = false, help = "", problems }: TextFieldProps) {
  const { pipeline, edit } = useCanvas();
  const value = typeof pipeline[name] === "string" ? pipeline[name] : "";
  const change = (text: string): void => {
    edit((current) => setKey(current, name, text === "" && name !== "pipeline" ? undefined : text), name);
  };
  const id = `mm-${name}`;
  return (
    <div className={problems.length > 0 ? "mm-field mm-field-bad" : "mm-field"}>
      <label htmlFor={id} className="mm-label">
        {label}
      </label>
      {isLong ? (
        <Textarea id={id} size="sm" rows={3} value={value} onChange={(event) => { change(event.target.value); }} />
      ) : (
        <Input id={id} size="sm" {...(isMono ? MONO : {})} value={value} onChange={(event) => { change(event.target.value); }} />
      )}
      <Problems messages={problems} />
      {help === "" ? null : <Text className="mm-help">{help}</Text>}
    </div>
  );
}

function TagsField({ tags }: { tags: Json | undefined }) {
  const { edit } = useCanvas();
  const list = Array.isArray(tags) ? tags.map(textOf) : [];
  const [typed, setTyped] = useState<string | null>(null);
  return (
    <div className="mm-field">
      <label htmlFor="mm-tags" className="mm-label">
        {t("Tags")}
      </label>
      <Input
        id="mm-tags"
        size="sm"
        value={typed ?? list.join(", ")}
        placeholder={t("text, nightly")}
        onBlur={() => { setTyped(null); }}
        onChange={(event) => {
          setTyped(event.target.value);
          const next = event.target.value.split(",").map((tag) => tag.trim()).filter((tag) => tag !== "");
          edit((pipeline) => setKey(pipeline, "tags", next.length > 0 ? next : undefined), "tags");
        }}
      />
    </div>
  );
}

const KINDS = ["none", "cron", "table", "assets"] as const;
type Kind = (typeof KINDS)[number];
const KIND_NAMES: Record<Kind, Sentence> = {
  none: "By hand only",
  cron: "At times (cron, UTC)",
  table: "When a Delta table has a new version",
  assets: "When assets are updated",
};
const FIRST: Record<Kind, Json | undefined> = { none: undefined, cron: "0 2 * * *", table: { table: "" }, assets: { assets: [] } };

function kindOf(schedule: Json | undefined): Kind {
  if (typeof schedule === "string") return "cron";
  if (isObject(schedule)) return "table" in schedule ? "table" : "assets";
  return "none";
}

function ScheduleField({ problems }: { problems: string[] }) {
  const { pipeline, edit } = useCanvas();
  const schedule = pipeline.schedule;
  const kind = kindOf(schedule);
  const set = (value: Json | undefined): void => {
    edit((current) => setKey(current, "schedule", value), "schedule");
  };
  const uris = isObject(schedule) ? [schedule[kind === "table" ? "table" : "assets"] ?? []].flat().map(textOf) : [];
  return (
    <div className={problems.length > 0 ? "mm-field mm-field-bad" : "mm-field"}>
      <NativeSelect.Root size="sm">
        <NativeSelect.Field aria-label={t("Schedule")} value={kind} onChange={(event) => { set(FIRST[event.target.value as Kind]); }}>
          {KINDS.map((name) => (
            <option key={name} value={name}>
              {t(KIND_NAMES[name])}
            </option>
          ))}
        </NativeSelect.Field>
        <NativeSelect.Indicator />
      </NativeSelect.Root>
      {kind === "cron" ? (
        <Input mt={2} size="sm" {...MONO} aria-label={t("Cron expression")} value={textOf(schedule ?? "")} onChange={(event) => { set(event.target.value); }} />
      ) : null}
      {kind === "table" || kind === "assets" ? (
        <Textarea
          mt={2}
          size="sm"
          rows={2}
          {...MONO}
          fontSize="xs"
          aria-label={kind === "table" ? t("Tables, one a line") : t("Assets, one a line")}
          placeholder={kind === "table" ? "${data}/tickets" : "s3://bucket/key"}
          value={uris.join("\n")}
          onChange={(event) => {
            const lines = event.target.value.split("\n");
            set({ [kind]: kind === "table" && lines.length === 1 ? (lines[0] ?? "") : lines });
          }}
        />
      ) : null}
      <Problems messages={problems} />
    </div>
  );
}

function ParamsField({ params }: { params: Json | undefined }) {
  const { edit, deploymentParams } = useCanvas();
  const known = isObject(params) ? (params) : {};
  const set = (next: JsonObject): void => {
    edit((pipeline) => setKey(pipeline, "params", Object.keys(next).length > 0 ? next : undefined), "params");
  };
  const [name, setName] = useState("");
  const canAdd = /^[a-z][a-z0-9_]{0,62}$/.test(name) && !Object.hasOwn(known, name);
  const add = (): void => {
    if (!canAdd) return;
    set({ ...known, [name]: {} });
    setName("");
  };
  return (
    <>
      {Object.entries(known).map(([param, value]) => {
        const declared = isObject(value) ? (value) : {};
        return (
          <HStack key={param} mt={2} gap={1}>
            <label className="mm-param" htmlFor={`mm-param-${param}`} title={textOf(declared.description ?? "")}>{param}</label>
            <ValueInput
              id={`mm-param-${param}`}
              placeholder={deploymentParams[param] ?? t("no default")}
              value={declared.default}
              onChange={(next) => {
                const { default: _, ...rest } = declared;
                set({ ...known, [param]: next === "" ? rest : { ...rest, default: next } });
              }}
            />
            <Button size="2xs" variant="ghost" aria-label={t("Remove parameter {param}", { param })} onClick={() => {
              const { [param]: _, ...rest } = known;
              set(rest);
            }}>
              <X size={12} />
            </Button>
          </HStack>
        );
      })}
      <HStack mt={2} gap={1}>
        <Input size="xs" aria-label={t("Name of a new parameter")} placeholder={t("new parameter")} value={name} onChange={(event) => { setName(event.target.value); }} onKeyDown={(event) => { if (event.key === "Enter") add(); }} />
        <Button size="xs" variant="ghost" disabled={!canAdd} onClick={add}>
          <Plus size={12} />{" "}{t("Add")}
        </Button>
      </HStack>
    </>
  );
}
