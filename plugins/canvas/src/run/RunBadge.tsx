import { type StepRun, countsText, runWord } from "./state";

/** State of a step's run in a word. */
export function RunBadge({ run }: { run: StepRun }) {
  return (
    <span className="mm-badge" data-state={run.state} title={run.tasks.length > 1 ? countsText(run.tasks) : undefined}>
      {runWord(run)}
    </span>
  );
}
