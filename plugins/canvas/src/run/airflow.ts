/** Runs, through Airflow's own API: whoever uses the canvas has the rights there that Airflow gives them. */

import { ApiError, airflow } from "../api/client";

export interface DagRun {
  dag_run_id: string;
  state: string;
  start_date: string | null;
  end_date: string | null;
  run_after: string;
  run_type: string;
}

export interface TaskInstance {
  task_id: string;
  state: string | null;
  duration: number | null;
  start_date: string | null;
  try_number: number;
}

interface DagDetails {
  is_paused: boolean;
  file_token: string;
  doc_md: string | null;
}

const dag = (dagId: string): string => `/dags/${encodeURIComponent(dagId)}`;
const dagRun = (dagId: string, runId: string): string => `${dag(dagId)}/dagRuns/${encodeURIComponent(runId)}`;
const task = (dagId: string, runId: string, taskId: string): string =>
  `${dagRun(dagId, runId)}/taskInstances/${encodeURIComponent(taskId)}`;

export const runs = {
  list: async (dagId: string): Promise<DagRun[]> =>
    (await airflow<{ dag_runs: DagRun[] }>("GET", `${dag(dagId)}/dagRuns`, { query: { order_by: "-run_after", limit: 20 } }))
      .dag_runs,

  read: (dagId: string, runId: string, signal: AbortSignal) => airflow<DagRun>("GET", dagRun(dagId, runId), { signal }),

  tasks: async (dagId: string, runId: string, signal: AbortSignal): Promise<TaskInstance[]> =>
    (
      await airflow<{ task_instances: TaskInstance[] }>("GET", `${dagRun(dagId, runId)}/taskInstances`, {
        query: { limit: 1000 },
        signal,
      })
    ).task_instances,

  /** Value that a task has handed on under a key; null if there is none. */
  xcom: async (dagId: string, runId: string, taskId: string, key: string): Promise<unknown> => {
    try {
      const path = `${task(dagId, runId, taskId)}/xcomEntries/${encodeURIComponent(key)}`;
      return (await airflow<{ value: unknown }>("GET", path, { query: { deserialize: false } })).value;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
  },

  /** Lines of a task's log. */
  log: async (dagId: string, runId: string, taskId: string, attempt: number, signal: AbortSignal): Promise<string[]> => {
    const path = `${task(dagId, runId, taskId)}/logs/${attempt}`;
    const answer = await airflow<{ content: unknown }>("GET", path, { query: { full_content: true }, signal });
    const content = Array.isArray(answer.content) ? (answer.content as unknown[]) : [answer.content];
    return content.flatMap((item) => textOf(item).split("\n"));
  },

  /** Start a run. A paused DAG would never begin it, so it is switched on first. */
  start: async (dagId: string, params: Record<string, unknown>): Promise<DagRun> => {
    const { is_paused } = await airflow<DagDetails>("GET", `${dag(dagId)}/details`);
    if (is_paused) await airflow("PATCH", dag(dagId), { body: { is_paused: false } });
    return airflow<DagRun>("POST", `${dag(dagId)}/dagRuns`, { body: { logical_date: null, conf: params } });
  },

  /** Run a step of a finished run again, with all that follows it or alone. */
  again: (dagId: string, runId: string, taskId: string, isWithFollowing: boolean) =>
    airflow("POST", `${dag(dagId)}/clearTaskInstances`, {
      body: {
        dry_run: false,
        dag_run_id: runId,
        task_ids: [taskId],
        include_downstream: isWithFollowing,
        only_failed: false,
        reset_dag_runs: true,
      },
    }),

  stop: (dagId: string, runId: string) => airflow("PATCH", dagRun(dagId, runId), { body: { state: "failed" } }),
};

function textOf(item: unknown): string {
  if (typeof item === "object" && item !== null && "event" in item) return String(item.event);
  return typeof item === "string" ? item : JSON.stringify(item);
}

/**
 * Wait until Airflow's DAG is the pipeline that was saved. `say` is told how it goes, so that nobody looks at a
 * page that seems to do nothing.
 */
export async function waitUntilParsed(
  dagId: string,
  digest: string,
  say: (text: string) => void,
  isWanted: () => boolean,
): Promise<void> {
  const began = Date.now();
  let isHurried = false;
  while (isWanted()) {
    const details = await detailsOf(dagId);
    if (details?.doc_md?.includes(digest)) return;
    const seconds = Math.round((Date.now() - began) / 1000);
    const isDown = seconds > 10 && (await processorState()) !== "healthy";
    const reason = isDown ? " Its DAG processor does not report: start it, and this goes on." : "";
    say(`Waiting for Airflow to read the saved pipeline (${seconds} s).${reason}`);
    if (!isHurried) {
      isHurried = true;
      await hurry(details);
    }
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
}

async function detailsOf(dagId: string): Promise<DagDetails | null> {
  try {
    return await airflow<DagDetails>("GET", `${dag(dagId)}/details`);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** Ask for an early parse of the file that loads all pipelines; who may not ask waits for the usual one. */
async function hurry(details: DagDetails | null): Promise<void> {
  try {
    let token = details?.file_token;
    if (token === undefined) {
      const known = await airflow<{ dags: { file_token: string }[] }>("GET", "/dags", { query: { tags: "modelmill", limit: 1 } });
      token = known.dags[0]?.file_token;
    }
    if (token !== undefined) await airflow("PUT", `/parseDagFile/${encodeURIComponent(token)}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

async function processorState(): Promise<string> {
  const health = await airflow<{ dag_processor: { status: string | null } }>("GET", "/monitor/health");
  return health.dag_processor.status ?? "unknown";
}
