/** Parts of the forms beside the canvas. */

import { Input, Text } from "@chakra-ui/react";
import { type ReactNode, useState } from "react";

import { plainValue, shownValue } from "../core/groups";
import { nameProblem } from "../core/pipeline";
import type { Json } from "../core/value";
import { MONO } from "../form/mono";

export function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="mm-section" aria-label={title}>
      <h2 className="mm-section-title">{title}</h2>
      {children}
    </section>
  );
}

export function FieldProblems({ messages }: { messages: readonly string[] }) {
  return messages.map((message) => (
    <Text key={message} className="mm-field-error" role="alert">
      {message}
    </Text>
  ));
}

interface NameProps {
  label: string;
  name: string;
  /** Names of the same kind that there are. */
  taken: Iterable<string>;
  onRename: (to: string) => void;
}

/** The name of what is selected: Enter, or leaving the field, renames it wherever it is named. */
export function NameField({ label, name, taken, onRename }: NameProps) {
  const [typed, setTyped] = useState(name);
  const problem = typed === name ? null : nameProblem(typed, taken);
  const commit = (): void => {
    if (typed !== name && problem === null) onRename(typed);
  };
  return (
    <div className={problem === null ? "mm-field" : "mm-field mm-field-bad"}>
      <label htmlFor="mm-own-name" className="mm-label">
        {label}
      </label>
      <Input
        id="mm-own-name"
        size="sm"
        {...MONO}
        value={typed}
        aria-invalid={problem !== null}
        onChange={(event) => { setTyped(event.target.value); }}
        onBlur={commit}
        onKeyDown={(event) => {
          if (event.key === "Enter") commit();
          if (event.key === "Escape") setTyped(name);
        }}
      />
      <FieldProblems messages={problem === null ? [] : [problem]} />
    </div>
  );
}

interface ValueProps {
  id?: string;
  label?: string;
  placeholder?: string;
  /** undefined: it has none, and so has a field where nothing is typed. */
  value: Json | undefined;
  onChange: (value: Json) => void;
}

/** A number, yes or no, or a text, as it is typed. */
export function ValueInput({ id, label, placeholder, value, onChange }: ValueProps) {
  const [typed, setTyped] = useState<string | null>(null);
  return (
    <Input
      {...(id === undefined ? {} : { id })}
      size="xs"
      flex={1}
      aria-label={label}
      placeholder={placeholder}
      value={shownValue(typed, value)}
      onChange={(event) => {
        setTyped(event.target.value);
        onChange(plainValue(event.target.value));
      }}
    />
  );
}
