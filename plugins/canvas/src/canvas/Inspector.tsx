/** What is selected, as a form: a step, a group, or the pipeline itself. */

import { Box, Button, HStack, Input, NativeSelect, Text } from "@chakra-ui/react";
import { Copy, Group, Trash2 } from "lucide-react";
import { useMemo } from "react";

import { connect, declareParams, disconnect, setStep } from "../core/edits";
import { groupOfKey, stepsIn } from "../core/groups";
import { type Edge, type Port, type Step, accepts, edgeProblem } from "../core/pipeline";
import { unfinishedOf } from "../core/unfinished";
import { tableBefore } from "../core/upstream";
import { isObject } from "../core/value";
import { ConfigForm } from "../form/ConfigForm";
import { UnfinishedContext, type UnfinishedStore } from "../form/yaml";
import { useColumns } from "../api/names";
import { useCanvas } from "../store";
import { deleteSelection, duplicate, groupSelection } from "./actions";
import { GroupForm } from "./GroupForm";
import { NameField, Section } from "./parts";
import { PipelineForm } from "./PipelineForm";
import { SkipLinks, TO_RUN } from "./SkipLinks";
import { GroupField, WhenField } from "./StepFlow";
import { plural, t, word } from "../i18n/t";

interface Props {
  /** Whether the pipeline has runs: the keyboard may go there past the form. */
  hasRuns: boolean;
}

export function Inspector({ hasRuns }: Props) {
  const { selection, steps, groups } = useCanvas();
  const [key = ""] = selection;
  const [step, name] = [steps.get(key), groupOfKey(key)];
  const group = groups.get(name ?? "");
  let form = <PipelineForm />;
  if (selection.size > 1) form = <Several />;
  else if (step) form = <StepForm key={key} id={key} step={step} />;
  else if (name !== null && group) form = <GroupForm key={key} name={name} group={group} />;
  return (
    <Box as="aside" className="mm-inspector" aria-label={t("Properties")}>
      {hasRuns ? <SkipLinks goals={[TO_RUN]} /> : null}
      {form}
    </Box>
  );
}

function Several() {
  const { selection, groups } = useCanvas();
  const ids = stepsIn(groups, selection);
  return (
    <Section title={plural(ids.size, "1 step", "{n} steps")}>
      <Text className="mm-help">{[...ids].join(", ")}</Text>
      <HStack mt={3}>
        <Button size="xs" variant="outline" onClick={groupSelection}>
          <Group size={13} />{" "}{t("Group")}
        </Button>
        <Button size="xs" variant="outline" onClick={duplicate}>
          <Copy size={13} />{" "}{t("Duplicate")}
        </Button>
        <Button size="xs" variant="outline" colorPalette="red" onClick={() => { deleteSelection(); }}>
          <Trash2 size={13} />{" "}{t("Delete")}
        </Button>
      </HStack>
    </Section>
  );
}

function StepForm({ id, step }: { id: string; step: Step }) {
  const { catalogue, problems, pipeline: { params }, deploymentParams, steps, groups, unfinished, edit, rename, leaveUnfinished } = useCanvas();
  const component = catalogue.get(step.component);
  const mine = useMemo(() => problems.filter((problem) => problem.step === id), [problems, id]);
  const ofConfig = useMemo(() => mine.filter((problem) => problem.field?.startsWith("config") === true), [mine]);
  const ofWhen = mine.filter((problem) => problem.field?.startsWith("when") === true);
  const others = mine.filter((problem) => !ofConfig.includes(problem) && !ofWhen.includes(problem));
  const names = useMemo(
    () => [...new Set([...(step.variable === null ? [] : [step.variable]), ...Object.keys(isObject(params) ? params : {}), ...Object.keys(deploymentParams)])],
    [step.variable, params, deploymentParams],
  );
  const texts = useMemo<UnfinishedStore>(
    () => ({
      find: (path, value) => unfinishedOf(unfinished, id, path, value),
      keep: (path, value, typing) => { leaveUnfinished(id, path, value, typing); },
    }),
    [unfinished, id, leaveUnfinished],
  );
  const table = tableBefore(steps, params, id) ?? "";
  const known = useColumns(table);
  const columns = useMemo(() => known.map((column) => column.name), [known]);
  const deployed = Object.keys(deploymentParams).filter((name) => name !== step.variable);
  return (
    <>
      <Section title={component ? word(component.title) : step.component}>
        {component ? <Text className="mm-help" mb={2}>{word(component.help)}</Text> : null}
        <NameField label={t("Step")} name={id} taken={[...steps.keys(), ...groups.keys()]} onRename={(to) => { rename(id, to); }} />
        <GroupField id={id} step={step} />
        {others.map((problem) => (
          <Text key={problem.path + problem.message} className="mm-field-error">
            {problem.message}
          </Text>
        ))}
      </Section>
      {component && component.inputs.length > 0 ? (
        <Section title={t("Inputs")}>
          {component.inputs.map((port) => (
            <InputField key={port.name} id={id} port={port} sources={step.inputs[port.name] ?? []} />
          ))}
        </Section>
      ) : null}
      {component && hasFields(component.config_schema) ? (
        <Section title={t("Configuration")}>
          {step.variable === null ? null : (
            <Text className="mm-help" mb={2}>
              {t("{name} stands for each of {values}.", { name: `\${${step.variable}}`, values: groups.get(step.group ?? "")?.values.map(String).join(", ") })}
            </Text>
          )}
          <UnfinishedContext value={texts}>
            <ConfigForm
              id={id}
              schema={component.config_schema}
              value={step.config}
              problems={ofConfig}
              names={names}
              columns={columns}
              onChange={(config) => edit((pipeline) => declareParams(setStep(pipeline, id, "config", config), config, deployed), `config ${id}`)}
            />
          </UnfinishedContext>
        </Section>
      ) : null}
      <Section title={t("Running")}>
        <WhenField id={id} step={step} problems={ofWhen.map((problem) => problem.message)} />
        <RetriesField id={id} retries={step.retries} />
        {component ? (
          <Text className="mm-help">
            {component.resources.gpus > 0
              ? t("Asks for {cpus} CPU, {memory} GB, {gpus} GPU where there is one.", { cpus: component.resources.cpus, memory: component.resources.memory_gb, gpus: component.resources.gpus })
              : t("Asks for {cpus} CPU, {memory} GB.", { cpus: component.resources.cpus, memory: component.resources.memory_gb })}
          </Text>
        ) : null}
      </Section>
      <HStack px={4} pb={4}>
        <Button size="xs" variant="outline" onClick={duplicate}>
          <Copy size={13} />{" "}{t("Duplicate")}
        </Button>
        <Button size="xs" variant="outline" colorPalette="red" onClick={() => { deleteSelection(); }}>
          <Trash2 size={13} />{" "}{t("Delete")}
        </Button>
      </HStack>
    </>
  );
}

function hasFields(schema: Record<string, unknown>): boolean {
  return Object.keys((schema.properties ?? {})).length > 0;
}

/** An input by keyboard: the outputs that fit, the same edges as can be drawn. */
function InputField({ id, port, sources }: { id: string; port: Port; sources: string[] }) {
  const { steps, catalogue, edit } = useCanvas();
  const edges = useMemo(() => {
    const found: Edge[] = [];
    for (const [origin, step] of steps) {
      for (const output of catalogue.get(step.component)?.outputs ?? []) {
        if (!accepts(port, output)) continue;
        const edge = { origin, originPort: output.name, target: id, targetPort: port.name };
        const present = sources.includes(`${origin}.${output.name}`);
        if (present || edgeProblem(steps, catalogue, edge) === null) found.push(edge);
      }
    }
    return found;
  }, [steps, catalogue, id, port, sources]);
  const nameOf = (edge: Edge): string => `${edge.origin}.${edge.originPort}`;
  const edgeOf = (source: string): Edge => {
    const [origin = "", originPort = ""] = source.split(".");
    return { origin, originPort, target: id, targetPort: port.name };
  };
  const field = `mm-input-${port.name}`;
  const choices = edges.filter((edge) => !port.many || !sources.includes(nameOf(edge)));
  const shown = port.many ? "" : (sources[0] ?? "");
  return (
    <div className="mm-field">
      <label htmlFor={field} className="mm-label">
        {port.name} <span className="mm-type" data-type={port.type}>{port.type}</span>
        {port.required ? <span aria-hidden="true"> *</span> : null}
      </label>
      {port.many
        ? sources.map((source) => (
            <HStack key={source} justify="space-between" className="mm-source">
              <span>{source}</span>
              <Button size="2xs" variant="ghost" aria-label={t("Disconnect {source}", { source })} onClick={() => edit((pipeline) => disconnect(pipeline, [edgeOf(source)]))}>
                ×
              </Button>
            </HStack>
          ))
        : null}
      <NativeSelect.Root size="sm">
        <NativeSelect.Field
          id={field}
          value={shown}
          onChange={(event) => {
            const chosen = event.target.value;
            edit((pipeline) =>
              chosen === "" ? disconnect(pipeline, sources.map(edgeOf)) : connect(pipeline, edgeOf(chosen), port.many),
            );
          }}
        >
          <option value="">{port.many ? t("add …") : choices.length > 0 ? t("not connected") : t("no step here yields a {type}", { type: port.type })}</option>
          {shown !== "" && !choices.some((edge) => nameOf(edge) === shown) ? <option value={shown}>{shown}</option> : null}
          {choices.map((edge) => (
            <option key={nameOf(edge)} value={nameOf(edge)}>
              {nameOf(edge)}
            </option>
          ))}
        </NativeSelect.Field>
        <NativeSelect.Indicator />
      </NativeSelect.Root>
    </div>
  );
}

function RetriesField({ id, retries }: { id: string; retries: number | null }) {
  const { edit } = useCanvas();
  return (
    <div className="mm-field">
      <label htmlFor="mm-retries" className="mm-label">
        {t("Retries")}
      </label>
      <Input
        id="mm-retries"
        size="sm"
        inputMode="numeric"
        value={retries === null ? "" : String(retries)}
        placeholder={t("the deployment's default")}
        onChange={(event) => {
          const text = event.target.value.trim();
          if (!/^\d*$/.test(text)) return;
          edit((pipeline) => setStep(pipeline, id, "retries", text === "" ? undefined : Number(text)), `retries ${id}`);
        }}
      />
      <Text className="mm-help">{t("Tries after the first one, for errors that a retry can help (0 to 20).")}</Text>
    </div>
  );
}
