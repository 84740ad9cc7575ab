/** How a run goes, as the graph shows it. */

export interface StepRun {
  /** Airflow's state of the task instance; empty: not scheduled yet. */
  state: string;
  /** Seconds; null: not started. */
  duration: number | null;
  /** Share done, 0 to 1; null: not known. */
  progress: number | null;
  /** One line below the step: progress or figures. */
  line: string;
  isReused: boolean;
  /** Page of the step's MLflow run; empty where there is none. */
  runUrl: string;
  /** Number of the attempt, from 1. */
  attempt: number;
}

export function durationText(seconds: number | null): string {
  if (seconds === null) return "";
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Return a step's latest line of progress, and the share that it names: `teacher:  40% (4 of 10), loss 0.1, 0:12 left`. */
export function lineOf(step: string, lines: readonly string[]): { text: string; progress: number | null } {
  const line = lines.findLast((text) => text.startsWith(`${step}: `));
  if (line === undefined) return { text: "", progress: null };
  const text = line.slice(step.length + 2).trim();
  const share = /^(\d+)% \(/.exec(text)?.[1];
  return { text, progress: share === undefined ? null : Number(share) / 100 };
}

/** Whether a text is an address that a link may lead to. */
export function isWebAddress(text: string): boolean {
  try {
    return ["http:", "https:"].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}
