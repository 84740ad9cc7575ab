/** A form for one signal of a rule set: every kind that the server knows has one, made of its JSON Schema. */

import { Button, Input, NativeSelect, Text } from "@chakra-ui/react";
import { useMemo, useState } from "react";

import type { LanguageView } from "../api/client";
import { EditError } from "../core/document";
import { nameProblem, signalForm, signalsOf, withSignal } from "../core/signals";
import type { JsonObject } from "../core/value";
import { Frame } from "../parts/Frame";
import { ConfigForm } from "../form/ConfigForm";
import { MONO } from "../form/mono";
import { t, word } from "../i18n/t";

interface Props {
  text: string;
  language: LanguageView;
  onChange: (text: string) => void;
  onClose: () => void;
}

const NEW = "";

export function SignalDialog({ text, language, onChange, onClose }: Props) {
  const signals = useMemo(() => signalsOf(text), [text]);
  const [edited, setEdited] = useState(NEW);
  const [name, setName] = useState("");
  const [kind, setKind] = useState(language.kinds[0]?.name ?? "");
  const [value, setValue] = useState<JsonObject>({});
  const [problem, setProblem] = useState("");
  const chosen = language.kinds.find((one) => one.name === kind);

  const edit = (signal: string): void => {
    const { kind: known, ...rest } = signals[signal] ?? {};
    setEdited(signal);
    setName(signal);
    setKind(typeof known === "string" ? known : kind);
    setValue(rest);
    setProblem("");
  };
  const write = (): void => {
    const wrong = nameProblem(name) || (edited === NEW && name in signals ? t("There is a signal of this name.") : "");
    setProblem(wrong);
    if (wrong !== "") return;
    try {
      onChange(withSignal(text, name, { kind, ...value }));
      onClose();
    } catch (error) {
      if (!(error instanceof EditError)) throw error;
      setProblem(error.message);
    }
  };
  return (
    <Frame
      title={t("Signal")}
      onClose={onClose}
      footer={
        <Button size="sm" colorPalette="brand" onClick={write}>
          {t("Write it into the text")}
        </Button>
      }
    >
      <Choice id="mm-signal" label={t("Signal")} value={edited} onChange={edit} options={[[NEW, t("a new one")], ...Object.keys(signals).map((one): Option => [one, one])]} />
      {edited === NEW ? (
        <div className="mm-field">
          <label className="mm-label" htmlFor="mm-signal-name">
            {t("Name")}
          </label>
          <Input id="mm-signal-name" size="sm" {...MONO} value={name} onChange={(event) => setName(event.target.value)} />
        </div>
      ) : null}
      <Choice
        id="mm-signal-kind"
        label={t("Kind")}
        value={kind}
        onChange={(next) => { setKind(next); setValue({}); }}
        options={language.kinds.map((one): Option => [one.name, word(one.title)])}
      />
      {chosen === undefined ? null : (
        <>
          <Text className="mm-help" mb={3}>
            {word(chosen.help)}
          </Text>
          <ConfigForm key={`${edited} ${kind}`} id="signal" schema={signalForm(chosen.config_schema)} value={value} problems={[]} onChange={setValue} />
        </>
      )}
      {problem === "" ? null : (
        <Text className="mm-field-error" role="alert">
          {problem}
        </Text>
      )}
    </Frame>
  );
}

type Option = readonly [value: string, title: string];

interface ChoiceProps {
  id: string;
  label: string;
  value: string;
  options: readonly Option[];
  onChange: (value: string) => void;
}

function Choice({ id, label, value, options, onChange }: ChoiceProps) {
  return (
    <div className="mm-field">
      <label className="mm-label" htmlFor={id}>
        {label}
      </label>
      <NativeSelect.Root size="sm">
        <NativeSelect.Field id={id} value={value} onChange={(event) => onChange(event.target.value)}>
          {options.map(([option, title]) => (
            <option key={option} value={option}>
              {title}
            </option>
          ))}
        </NativeSelect.Field>
        <NativeSelect.Indicator />
      </NativeSelect.Root>
    </div>
  );
}
