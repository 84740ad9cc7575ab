/** Ways for the keyboard past what stands between: they are seen when they have the focus. */

import { type Sentence, t } from "../i18n/t";

interface Goal {
  name: Sentence;
  /** Class of the part of the page. */
  part: string;
}

export const TO_STEPS: Goal = { name: "Go to the steps", part: "react-flow__nodes" };
export const TO_PROPERTIES: Goal = { name: "Go to the properties", part: "mm-inspector" };
export const TO_RUN: Goal = { name: "Go to the run", part: "mm-run" };

/** Focus the first thing in a part of the page that the Tab key would stop at. */
function goTo(part: string): void {
  const inside = [...(document.getElementsByClassName(part)[0]?.getElementsByTagName("*") ?? [])];
  const stop = inside.find((one) => one instanceof HTMLElement && one.tabIndex >= 0 && !one.matches(":disabled") && one.closest(".mm-skip") === null);
  if (stop instanceof HTMLElement) stop.focus();
}

export function SkipLinks({ goals }: { goals: readonly Goal[] }) {
  return (
    <div className="mm-skip">
      {goals.map(({ name, part }) => (
        <button key={name} type="button" onClick={() => { goTo(part); }}>
          {t(name)}
        </button>
      ))}
    </div>
  );
}
