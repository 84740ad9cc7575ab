/** The pipeline's text, with line numbers and a mark at each line that has a problem. */

import { useEffect, useMemo, useRef } from "react";

import { useCanvas } from "../store";

interface Props {
  /** Line that the cursor goes to when this changes; null: stay. */
  target: { line: number } | null;
}

export function TextPane({ target }: Props) {
  const { history, problems, syntax, setText } = useCanvas();
  const area = useRef<HTMLTextAreaElement>(null);
  const gutter = useRef<HTMLDivElement>(null);
  const text = history.present;
  const marks = useMemo(() => {
    const found = new Map<number, string[]>();
    for (const { line, message } of syntax.length > 0 ? syntax : problems) {
      found.set(line, [...(found.get(line) ?? []), message]);
    }
    return found;
  }, [problems, syntax]);

  useEffect(() => {
    const element = area.current;
    if (!target || !element) return;
    const lines = element.value.split("\n");
    const start = lines.slice(0, target.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
    element.focus();
    element.setSelectionRange(start, start + (lines[target.line - 1]?.length ?? 0));
    element.scrollTop = Math.max(0, (target.line - 6) * LINE_HEIGHT);
  }, [target]);

  return (
    <div className="mm-text">
      <div className="mm-gutter" ref={gutter} aria-hidden="true">
        {text.split("\n").map((_, index) => {
          const messages = marks.get(index + 1);
          return (
            <div key={index} className={messages ? "mm-line-bad" : undefined} title={messages?.join("\n")}>
              {index + 1}
            </div>
          );
        })}
      </div>
      <textarea
        ref={area}
        aria-label="Text of the pipeline (YAML)"
        value={text}
        spellCheck={false}
        wrap="off"
        onChange={(event) => { setText(event.target.value); }}
        onScroll={(event) => {
          if (gutter.current) gutter.current.scrollTop = event.currentTarget.scrollTop;
        }}
      />
    </div>
  );
}

const LINE_HEIGHT = 20;
