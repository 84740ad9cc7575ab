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
  /** Page of the task in Airflow, relative to its base. */
  logUrl: string;
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

/** Whether a text is an address that a link may lead to. */
export function isWebAddress(text: string): boolean {
  try {
    return ["http:", "https:"].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}
