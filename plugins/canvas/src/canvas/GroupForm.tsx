/** A group: its name, its steps, and the values for which there is a copy of it. */

import { Button, HStack, Input, NativeSelect, Text, Textarea } from "@chakra-ui/react";
import { ChevronsDownUp, Copy, Plus, Ungroup, X } from "lucide-react";
import { type ClipboardEvent, useMemo, useState } from "react";

import { describeGroup, labelsBefore, moveSteps, setForEach, valuesIn } from "../core/groups";
import { type Group, NAME } from "../core/pipeline";
import { groupOfProblem } from "../core/problems";
import type { Json } from "../core/value";
import { useCanvas } from "../store";
import { duplicate, ungroupSelection } from "./actions";
import { FieldProblems, NameField, Section, ValueInput } from "./parts";
import { MONO } from "../form/mono";
import { t } from "../i18n/t";

export function GroupForm({ name, group }: { name: string; group: Group }) {
  const { groups, steps, problems, collapsed, edit, renameGroup, toggle } = useCanvas();
  const mine = problems.filter((problem) => groupOfProblem(problem) === name);
  const messages = (isWanted: (part: string) => boolean): string[] =>
    mine.filter(({ path }) => isWanted(path.split(".")[2] ?? "")).map(({ message }) => message);
  return (
    <>
      <Section title={t("Group")}>
        <NameField label={t("Name")} name={name} taken={[...groups.keys(), ...steps.keys()]} onRename={(to) => { renameGroup(name, to); }} />
        <FieldProblems messages={messages((part) => part !== "steps" && part !== "for_each")} />
        <div className="mm-field">
          <label htmlFor="mm-group-description" className="mm-label">
            {t("Description")}
          </label>
          <Textarea
            id="mm-group-description"
            size="sm"
            rows={2}
            value={group.description}
            onChange={(event) => { edit((pipeline) => describeGroup(pipeline, name, event.target.value), `describe ${name}`); }}
          />
        </div>
      </Section>
      <Section title={t("For each")}>
        <ForEachFields name={name} group={group} />
        <FieldProblems messages={messages((part) => part === "for_each")} />
      </Section>
      <Section title={t("Steps")}>
        <Members name={name} group={group} />
        <FieldProblems messages={messages((part) => part === "steps")} />
      </Section>
      <HStack px={4} pb={4}>
        <Button size="xs" variant="outline" onClick={() => { toggle(name); }}>
          <ChevronsDownUp size={13} /> {collapsed.has(name) ? t("Expand") : t("Collapse")}
        </Button>
        <Button size="xs" variant="outline" onClick={duplicate}>
          <Copy size={13} />{" "}{t("Duplicate")}
        </Button>
        <Button size="xs" variant="outline" title={t("The steps stay (Ctrl+Shift+G, Delete)")} onClick={ungroupSelection}>
          <Ungroup size={13} />{" "}{t("Ungroup")}
        </Button>
      </HStack>
    </>
  );
}

function ForEachFields({ name, group }: { name: string; group: Group }) {
  const { edit, pipeline, steps } = useCanvas();
  const [draft, setDraft] = useState<string | null>(null);
  const typed = draft ?? group.variable ?? "";
  const labels = useMemo(() => labelsBefore(steps, name), [steps, name]);
  const params = Object.keys((pipeline.params ?? {}) as object);
  const isClean = typed === "" || NAME.test(typed);
  const problem = !isClean
    ? t("a variable's name has at most 63 of a-z, 0-9 and _, and begins with a letter")
    : params.includes(typed)
      ? t("there is a parameter {typed} already", { typed })
      : "";
  const set = (variable: string, values: Json[], key = ""): void => {
    edit((before) => setForEach(before, name, { variable, values }), key);
  };
  const commit = (): void => {
    if (problem !== "" || draft === null) return;
    setDraft(null);
    if (typed === (group.variable ?? "")) return;
    if (typed === "") edit((before) => setForEach(before, name, null));
    else set(typed, group.values);
  };
  const add = (values: readonly Json[]): void => {
    const fresh = values.filter((value, index) => !group.values.includes(value) && values.indexOf(value) === index);
    if (fresh.length > 0 && group.variable !== null) set(group.variable, [...group.values, ...fresh]);
  };
  const offered = labels.filter((label) => !group.values.includes(label));
  return (
    <>
      <div className={problem === "" ? "mm-field" : "mm-field mm-field-bad"}>
        <label htmlFor="mm-variable" className="mm-label">
          {t("Variable")}
        </label>
        <Input
          id="mm-variable"
          size="sm"
          {...MONO}
          placeholder={t("none: the steps are there once")}
          value={typed}
          aria-invalid={problem !== ""}
          onChange={(event) => { setDraft(event.target.value); }}
          onBlur={commit}
          onKeyDown={(event) => {
            if (event.key === "Enter") commit();
            if (event.key === "Escape") setDraft(null);
          }}
        />
        <FieldProblems messages={problem === "" ? [] : [problem]} />
        <Text className="mm-help">
          {group.variable === null
            ? t("With a variable there is a copy of the steps for each of its values.")
            : t("${{variable}} in a configuration of these steps stands for the value.", { variable: group.variable })}
        </Text>
      </div>
      {group.variable === null ? null : (
        <>
          <Values variable={group.variable} values={group.values} onChange={(values, key) => { set(group.variable ?? "", values, key); }} onAdd={add} />
          {offered.length > 0 ? (
            <HStack mt={2} gap={1} flexWrap="wrap" role="group" aria-label={t("Labels of the dataset")}>
              <Text className="mm-help">{t("Labels of the dataset:")}</Text>
              {offered.map((label) => (
                <Button key={label} size="2xs" variant="outline" aria-label={t("Add {label}", { label })} onClick={() => { add([label]); }}>
                  + {label}
                </Button>
              ))}
              {offered.length > 1 ? (
                <Button size="2xs" variant="ghost" onClick={() => { add(offered); }}>
                  {t("all")}
                </Button>
              ) : null}
            </HStack>
          ) : null}
        </>
      )}
    </>
  );
}

interface ValuesProps {
  variable: string;
  values: readonly Json[];
  /** `key`: what is edited, so that quick edits of the same are one undo step. */
  onChange: (values: Json[], key?: string) => void;
  onAdd: (values: readonly Json[]) => void;
}

/** The values, one a line. Several can be pasted, or typed with commas between. */
function Values({ variable, values, onChange, onAdd }: ValuesProps) {
  const [typed, setTyped] = useState("");
  const add = (text: string): void => {
    onAdd(valuesIn(text));
    setTyped("");
  };
  const onPaste = (event: ClipboardEvent): void => {
    const text = event.clipboardData.getData("text");
    if (valuesIn(text).length < 2) return;
    event.preventDefault();
    add(text);
  };
  return (
    <div role="group" aria-label={t("Values of {variable}", { variable })}>
      {values.map((value, index) => (
        <HStack key={index} gap={1} mb={1}>
          <ValueInput
            label={t("Value {value}", { value: index + 1 })}
            value={value}
            onChange={(next) => { onChange(values.map((item, place) => (place === index ? next : item)), `value ${variable} ${index}`); }}
          />
          <Button size="2xs" variant="ghost" aria-label={t("Remove {value}", { value: String(value) })} onClick={() => { onChange(values.filter((_, place) => place !== index)); }}>
            <X size={12} />
          </Button>
        </HStack>
      ))}
      <HStack gap={1}>
        <Input
          size="xs"
          aria-label={t("New values")}
          placeholder={t("add, or paste a list")}
          value={typed}
          onChange={(event) => { setTyped(event.target.value); }}
          onPaste={onPaste}
          onKeyDown={(event) => { if (event.key === "Enter") add(typed); }}
        />
        <Button size="xs" variant="ghost" disabled={typed.trim() === ""} onClick={() => { add(typed); }}>
          <Plus size={12} />{" "}{t("Add")}
        </Button>
      </HStack>
    </div>
  );
}

function Members({ name, group }: { name: string; group: Group }) {
  const { steps, edit, select } = useCanvas();
  const others = [...steps.keys()].filter((id) => !group.steps.includes(id));
  return (
    <>
      {group.steps.map((id) => (
        <HStack key={id} justify="space-between" className="mm-source">
          <button type="button" className="mm-link" onClick={() => { select([id]); }}>
            {id}
          </button>
          <Button size="2xs" variant="ghost" aria-label={t("Take {id} out", { id })} onClick={() => { edit((pipeline) => moveSteps(pipeline, [id], null)); }}>
            ×
          </Button>
        </HStack>
      ))}
      <NativeSelect.Root size="sm">
        <NativeSelect.Field
          aria-label={t("Add a step to the group")}
          value=""
          onChange={(event) => {
            if (event.target.value !== "") edit((pipeline) => moveSteps(pipeline, [event.target.value], name));
          }}
        >
          <option value="">{t("add …")}</option>
          {others.map((id) => (
            <option key={id} value={id}>
              {id}
            </option>
          ))}
        </NativeSelect.Field>
        <NativeSelect.Indicator />
      </NativeSelect.Root>
    </>
  );
}
