/** A step's group, and the verdicts that it waits for. */

import { Button, HStack, NativeSelect, Text } from "@chakra-ui/react";
import { useMemo } from "react";

import { setWhen } from "../core/edits";
import { groupSteps, moveSteps } from "../core/groups";
import { type Step, VERDICTS, controlProblem } from "../core/pipeline";
import { useCanvas } from "../store";
import { FieldProblems } from "./parts";
import { t } from "../i18n/t";

const NEW = "+"; // no group has such a name

export function GroupField({ id, step }: { id: string; step: Step }) {
  const { groups, edit } = useCanvas();
  const choose = (chosen: string): void => {
    edit((pipeline) =>
      chosen === NEW ? groupSteps(pipeline, new Set([id])).pipeline : moveSteps(pipeline, [id], chosen === "" ? null : chosen),
    );
  };
  return (
    <div className="mm-field">
      <label htmlFor="mm-group" className="mm-label">
        {t("Group")}
      </label>
      <NativeSelect.Root size="sm">
        <NativeSelect.Field id="mm-group" value={step.group ?? ""} onChange={(event) => { choose(event.target.value); }}>
          <option value="">{t("none")}</option>
          {[...groups.keys()].map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
          <option value={NEW}>{t("a new one")}</option>
        </NativeSelect.Field>
        <NativeSelect.Indicator />
      </NativeSelect.Root>
    </div>
  );
}

interface WhenProps {
  id: string;
  step: Step;
  problems: readonly string[];
}

/** Branches by keyboard: the same ones as can be drawn. */
export function WhenField({ id, step, problems }: WhenProps) {
  const { steps, catalogue, edit } = useCanvas();
  const choices = useMemo(
    () =>
      [...steps.keys()].flatMap((origin) =>
        VERDICTS.filter((verdict) => controlProblem(steps, catalogue, { origin, verdict, target: id }) === null).map(
          (verdict) => ({ origin, verdict }),
        ),
      ),
    [steps, catalogue, id],
  );
  const present = Object.entries(step.when);
  return (
    <div className={problems.length > 0 ? "mm-field mm-field-bad" : "mm-field"}>
      <label htmlFor="mm-when" className="mm-label">
        {t("Runs if")}
      </label>
      {present.map(([gate, verdict]) => (
        <HStack key={gate} justify="space-between" className="mm-source">
          <span>
            {gate} {verdict}
          </span>
          <Button size="2xs" variant="ghost" aria-label={t("Whatever {gate} says", { gate })} onClick={() => edit((pipeline) => setWhen(pipeline, id, gate, undefined))}>
            ×
          </Button>
        </HStack>
      ))}
      <NativeSelect.Root size="sm">
        <NativeSelect.Field
          id="mm-when"
          value=""
          onChange={(event) => {
            const chosen = choices[Number(event.target.value)];
            if (chosen && event.target.value !== "") edit((pipeline) => setWhen(pipeline, id, chosen.origin, chosen.verdict));
          }}
        >
          <option value="">{present.length > 0 ? t("and …") : choices.length > 0 ? t("always") : t("always: there is no gate here")}</option>
          {choices.map(({ origin, verdict }, index) => (
            <option key={`${origin} ${verdict}`} value={index}>
              {origin} {verdict}
            </option>
          ))}
        </NativeSelect.Field>
        <NativeSelect.Indicator />
      </NativeSelect.Root>
      <FieldProblems messages={problems} />
      {present.length > 0 ? <Text className="mm-help">{t("Otherwise it is skipped, and so is what needs it.")}</Text> : null}
    </div>
  );
}
