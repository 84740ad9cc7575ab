/** Everything that is wrong with the pipeline, below the canvas. */

import { useState } from "react";

import type { Problem } from "../api/client";
import { placeOfProblem } from "../core/problems";
import { type UnfinishedField, unfinishedFields } from "../core/unfinished";
import { useCanvas } from "../store";
import { plural, t } from "../i18n/t";

export function ProblemList({ onOpen }: { onOpen: (problem: Problem) => void }) {
  const { problems, syntax, steps, unfinished } = useCanvas();
  const [isOpen, setOpen] = useState(true);
  const shown: Problem[] =
    syntax.length > 0
      ? syntax.map((problem) => ({ ...problem, path: "", step: null, field: null }))
      : [...problems, ...unfinishedFields(unfinished, steps).map(problemOf)];
  if (shown.length === 0) return null;
  return (
    <section className="mm-problems" aria-label={t("Problems")}>
      <button type="button" className="mm-problems-head" aria-expanded={isOpen} onClick={() => { setOpen(!isOpen); }}>
        {isOpen ? "▾" : "▸"} {plural(shown.length, "1 problem", "{n} problems")}
        {syntax.length > 0 ? t("; the graph shows the latest text that could be read") : ""}
      </button>
      {isOpen ? (
        <ul>
          {shown.map((problem, index) => (
            <li key={index}>
              <button type="button" onClick={() => { onOpen(problem); }}>
                <span className="mm-place">{placeOfProblem(problem)}</span>
                {problem.line > 0 ? <span className="mm-place-line">{t("line {line}", { line: problem.line })}</span> : null}
                <span>{problem.message}</span>
              </button>
            </li>
          ))}
        </ul>
      ) : null}
    </section>
  );
}

function problemOf({ step, path, problem }: UnfinishedField): Problem {
  const field = ["config", ...path].join(".");
  const message = t("what is typed here is not YAML, and so not part of the pipeline: {problem}", { problem });
  return { step, field, path: `steps.${step}.${field}`, line: 0, column: 0, message };
}
