import { type StepRun, durationText } from "./state";

const WORDS: Record<string, string> = {
  success: "done",
  running: "running",
  failed: "failed",
  queued: "queued",
  scheduled: "scheduled",
  up_for_retry: "retries",
  upstream_failed: "not run",
  skipped: "skipped",
  deferred: "waiting",
};

/** State of a step's run in a word, with its time. */
export function RunBadge({ run }: { run: StepRun }) {
  const word = run.isReused ? "reused" : (WORDS[run.state] ?? run.state);
  return (
    <span className="mm-badge" data-state={run.state}>
      {word || "waits"}
      {run.duration === null ? "" : ` ${durationText(run.duration)}`}
    </span>
  );
}
