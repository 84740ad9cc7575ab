/** Submitting a rule set to the gate: a pipeline that judges it on past rows is made, or run again. */

import { Button, Checkbox, Input, Stack, Text } from "@chakra-ui/react";
import { Play } from "lucide-react";
import { useState } from "react";
import { useNavigate } from "react-router-dom";

import { ApiError, type RuleSetDocument, api } from "../api/client";
import { Frame } from "../parts/Frame";
import { newText } from "../core/document";
import type { JsonObject } from "../core/value";
import { canvasPath } from "../core/paths";
import { t } from "../i18n/t";

interface Props {
  ruleSet: RuleSetDocument;
  table: string;
  onClose: () => void;
}

export function GateDialog({ ruleSet, table, onClose }: Props) {
  const navigate = useNavigate();
  const [values, setValues] = useState({ table, label: "", max_changed: "", name: `${ruleSet.name}_gate`.slice(0, 63) });
  const [approval, setApproval] = useState(false);
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);
  const run = (dagId: string): void => void navigate(canvasPath(dagId), { state: { run: true } });
  const make = async (): Promise<void> => {
    setBusy(true);
    setProblem("");
    const { max_changed, label, ...others } = values;
    try {
      const { document } = await api.fill("rule_gate", {
        ...others,
        rule_set: ruleSet.place,
        model: ruleSet.name,
        approval,
        ...(label === "" ? {} : { label }),
        ...(max_changed === "" ? {} : { max_changed: Number.isNaN(Number(max_changed)) ? max_changed : Number(max_changed) }),
      });
      await api.save(values.name, newText(document as JsonObject), `Made to judge ${ruleSet.name}`, null);
      run(values.name);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(error.message);
    } finally {
      setBusy(false);
    }
  };
  const field = (name: keyof typeof values, label: string, placeholder = "") => (
    <div className="mm-field">
      <label className="mm-label" htmlFor={`mm-gate-${name}`}>
        {label}
      </label>
      <Input
        id={`mm-gate-${name}`}
        size="sm"
        placeholder={placeholder}
        value={values[name]}
        onChange={(event) => setValues({ ...values, [name]: event.target.value })}
      />
    </div>
  );
  return (
    <Frame
      title={t("Submit {name} to the gate", { name: ruleSet.name })}
      onClose={onClose}
      footer={
        <Button size="sm" colorPalette="brand" disabled={values.table === "" || values.name === ""} loading={isBusy} onClick={() => void make()}>
          {t("Make the pipeline and run it")}
        </Button>
      }
    >
      <Stack gap={2} mb={4}>
        {ruleSet.judged_by.map((dagId) => (
          <Button key={dagId} size="sm" variant="outline" onClick={() => run(dagId)}>
            <Play size={14} />{" "}{t("Run {dagId}, which judges it", { dagId })}
          </Button>
        ))}
      </Stack>
      <Text className="mm-help" mb={3}>
        {ruleSet.judged_by.length > 0 ? `${t("Or make another pipeline.")} ` : ""}
        {t("It compares the saved rule set with the champion on past rows. If too many decisions change, or labelled rows get worse, it is refused; else it becomes the champion.")}
      </Text>
      {field("table", t("Table with past rows"), "${data}/tickets")}
      {field("label", t("Column with labels by hand (empty: there is none)"))}
      {field("max_changed", t("Largest share of rows with another decision"), "0.05")}
      {field("name", t("Name of the pipeline"))}
      <Checkbox.Root size="sm" checked={approval} onCheckedChange={({ checked }) => setApproval(checked === true)}>
        <Checkbox.HiddenInput />
        <Checkbox.Control />
        <Checkbox.Label>{t("A person has to approve it, too")}</Checkbox.Label>
      </Checkbox.Root>
      {problem === "" ? null : (
        <Text className="mm-field-error" role="alert">
          {problem}
        </Text>
      )}
    </Frame>
  );
}
