/** The pipeline's text, with a mark at each line that has a problem. */

import { useMemo } from "react";

import { CodeArea } from "../form/CodeArea";
import { useCanvas } from "../store";
import { t } from "../i18n/t";

interface Props {
  /** Line that the cursor goes to when this changes; null: stay. */
  target: { line: number } | null;
}

export function TextPane({ target }: Props) {
  const { history, problems, syntax, setText } = useCanvas();
  const marks = useMemo(() => marksOf(syntax.length > 0 ? syntax : problems), [problems, syntax]);
  return (
    <CodeArea
      label={t("Text of the pipeline (YAML)")}
      text={history.present}
      marks={marks}
      target={target}
      onChange={(text) => { setText(text); }}
    />
  );
}

export function marksOf(problems: readonly { line: number; message: string }[]): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const { line, message } of problems) found.set(line, [...(found.get(line) ?? []), message]);
  return found;
}
