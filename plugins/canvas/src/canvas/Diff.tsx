/** Two texts line by line: what goes, what comes, and some lines around. */

import { diffLines } from "diff";
import { useMemo } from "react";
import { t } from "../i18n/t";

const CONTEXT = 3;

interface Line {
  sign: " " | "+" | "-" | "…";
  text: string;
}

export function linesOf(before: string, after: string): Line[] {
  const lines: Line[] = [];
  const parts = diffLines(before, after);
  parts.forEach((part, index) => {
    const texts = part.value.replace(/\n$/, "").split("\n");
    if (part.added || part.removed) {
      lines.push(...texts.map((text): Line => ({ sign: part.added ? "+" : "-", text })));
      return;
    }
    const head = index === 0 ? 0 : CONTEXT;
    const tail = index === parts.length - 1 ? 0 : CONTEXT;
    if (texts.length <= head + tail) lines.push(...texts.map((text): Line => ({ sign: " ", text })));
    else {
      lines.push(...texts.slice(0, head).map((text): Line => ({ sign: " ", text })));
      lines.push({ sign: "…", text: "" });
      if (tail > 0) lines.push(...texts.slice(-tail).map((text): Line => ({ sign: " ", text })));
    }
  });
  return lines;
}

export function Diff({ before, after }: { before: string; after: string }) {
  const lines = useMemo(() => linesOf(before, after), [before, after]);
  if (before === after) return <p className="mm-help">{t("Nothing changes.")}</p>;
  return (
    <div className="mm-diff" role="region" aria-label={t("Changes")} tabIndex={0}>
      {lines.map((line, index) => (
        <div key={index} data-sign={line.sign}>
          <span aria-hidden="true">{line.sign}</span>
          {line.text === "" ? " " : line.text}
        </div>
      ))}
    </div>
  );
}
