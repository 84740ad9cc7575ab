/** What is asked about a run while it is under way: little enough of a run of hundreds of steps, for every open page asks. */

import { ApiError, type RunNode, type RunView, type api } from "../api/client";
import { pointsOf } from "../core/pareto";
import { toldOf } from "./progress";
import { type StepRun, type TaskRun, foldedRuns } from "./state";
import { plural, t } from "../i18n/t";

/** How many logs are read at a time, each by a request of its own. */
const MOST_LOGS = 12;
/** Runs of more steps than this ask for figures less often. */
const MANY_STEPS = 50;
/** Milliseconds between two requests for figures in such a run, and where the one before was not answered. */
const FIGURES_PAUSE = 10_000;
/** In these states a step may have said how far it is: one that waits for others, as for batches of a language model, what for. */
const TALKING = new Set(["running", "deferred"]);
const SILENT = { line: "", told: "" };

export type RunServer = Pick<typeof api, "run" | "log" | "runMetrics">;

export function isFinished(run: RunView): boolean {
  return run.state === "success" || run.state === "failed";
}

/** Return the tasks whose logs are read: those of selected steps, then one of each running step, then others, those that wait last. */
export function heardTasks(nodes: readonly RunNode[], selected: ReadonlySet<string>): Set<string> {
  const running = nodes.filter(({ state }) => state === "running");
  const firsts = running.filter((node, index) => running.findIndex(({ of }) => of === node.of) === index);
  const chosen = nodes.filter(({ of, state }) => selected.has(of) && TALKING.has(state ?? ""));
  const waiting = nodes.filter(({ state }) => state === "deferred");
  const ordered = [...chosen, ...firsts, ...running, ...waiting].map(({ step }) => step);
  return new Set([...new Set(ordered)].slice(0, MOST_LOGS));
}

/** Looks at a run again and again; what it has measured is asked for only where there is more of it. */
export class Follower {
  private lines: ReadonlyMap<string, string> = new Map();
  private measured = "";
  private askedAt = -Infinity;
  private hasFailed = false;

  /** @param selected Names of the steps that the person looks at. */
  constructor(
    private readonly dagId: string,
    private readonly runId: string,
    private readonly server: RunServer,
    private readonly selected: () => ReadonlySet<string>,
  ) {}

  /** Return the run as it is now.
   *
   * @throws ApiError where the run cannot be read.
   */
  async look(signal: AbortSignal): Promise<{ run: RunView; steps: ReadonlyMap<string, StepRun> }> {
    const run = await this.server.run(this.dagId, this.runId, signal);
    const heard = heardTasks(run.nodes, this.selected());
    const tasks = await Promise.all(
      run.nodes.map(async (node): Promise<[string, TaskRun]> => [
        node.of,
        taskOf(node, heard.has(node.step) ? await this.saidBy(node.step, signal) : SILENT),
      ]),
    );
    await this.measure(run);
    for (const [, task] of tasks) if (task.line === "") task.line = task.told = this.lines.get(task.task) ?? "";
    return { run, steps: foldedRuns(tasks) };
  }

  private async saidBy(step: string, signal: AbortSignal): Promise<{ line: string; told: string }> {
    try {
      const { progress, said } = await this.server.log(this.dagId, this.runId, step, signal, 1);
      return toldOf(progress, said);
    } catch (error) {
      // A log that is not there yet, or not for this user: the state alone is shown.
      if (error instanceof ApiError) return SILENT;
      throw error;
    }
  }

  /** Ask for figures if steps have ended since, though not each time of a run of many; at its end, of all of them. */
  private async measure(run: RunView): Promise<void> {
    const ended = run.nodes.filter(({ state }) => state === "success").map(({ step, try_number: attempt }) => `${step} ${attempt}`).join();
    if (ended === this.measured) return;
    const isPatient = this.hasFailed || run.nodes.length > MANY_STEPS;
    if (isPatient && !isFinished(run) && Date.now() - this.askedAt < FIGURES_PAUSE) return;
    this.askedAt = Date.now();
    try {
      this.lines = figuresIn(await this.server.runMetrics(this.dagId, this.runId));
      this.measured = ended;
      this.hasFailed = false;
    } catch (error) {
      // MLflow does not answer: the run is shown without these figures, which are asked for again.
      if (!(error instanceof ApiError)) throw error;
      this.hasFailed = true;
    }
  }
}

/** Return a task as it is, with what it says. */
function taskOf(node: RunNode, { line, told }: { line: string; told: string }): TaskRun {
  const sofar = node.state === "running" && node.start !== null ? (Date.now() - Date.parse(node.start)) / 1000 : null;
  return {
    task: node.step,
    value: node.value,
    state: node.state ?? "",
    duration: node.duration ?? sofar,
    line,
    told,
    isReused: node.reused === true,
    runUrl: node.mlflow_url,
    logUrl: node.log_url,
    attempt: node.try_number,
  };
}

/** Return one line for each task that something was measured of: rows of datasets, quality and size of models. */
function figuresIn(steps: Awaited<ReturnType<RunServer["runMetrics"]>>): Map<string, string> {
  const lines = new Map(Object.entries(steps).map(([name, { metrics }]) => [name, lineOf(metrics)]));
  for (const point of pointsOf(steps)) {
    const size = `${point.sizeMb.toFixed(1)} MB`;
    lines.set(point.name, t("{accuracy}, {size}, {speed} docs/s", { accuracy: `${(100 * point.accuracy).toFixed(1)} %`, size, speed: Math.round(point.documentsPerSecond).toLocaleString() }));
  }
  return lines;
}

function lineOf(metrics: Readonly<Record<string, number>>): string {
  const { rows_in: read, rows_out: rows, validation_accuracy: accuracy, bytes } = metrics;
  if (rows !== undefined && read !== undefined && read > rows) return t("{rows} of {read} rows", { rows: rows.toLocaleString(), read: read.toLocaleString() });
  if (rows !== undefined) return plural(rows, "1 row", "{n} rows");
  if (accuracy !== undefined) return t("validation {share}", { share: `${(100 * accuracy).toFixed(1)} %` });
  if (bytes !== undefined) return `${(bytes / 1e6).toFixed(1)} MB`;
  return "";
}
