/** The plugin's routes, typed by the app's OpenAPI document (`npm run client`). */

import type { Act } from "../core/labelling";
import type { components } from "./schema";
import { said } from "../i18n/server";
import { type Sentence, t } from "../i18n/t";

type Schemas = components["schemas"];
export type Problem = Schemas["ProblemView"];
export type PipelineSummary = Schemas["PipelineSummary"];
export type PipelineList = Schemas["PipelineList"];
export type PipelineDocument = Schemas["PipelineDocument"];
export type CatalogueAnswer = Schemas["Catalogue"];
export type Version = Schemas["VersionSummary"];
export type Checked = Schemas["Checked"];
export type Template = Schemas["TemplateView"];
export type TableView = Schemas["TableView"];
export type RunSummary = Schemas["RunSummary"];
export type RunView = Schemas["RunView"];
export type RunNode = Schemas["NodeView"];
export type StepProgress = Schemas["LogProgress"];
export type RunPlan = Schemas["RunPlan"];
export type RunRequest = Schemas["RunRequest"];
export type StepResult = Schemas["StepResult"];
export type Night = Schemas["Night"];
export type VersionAnswer = Schemas["VersionAnswer"];
export type OutputRows = Schemas["OutputRows"];
export type Home = Schemas["Home"];
export type ModelView = Schemas["ModelView"];
export type ModelVersion = Schemas["ModelVersionView"];
export type LedgerRow = Schemas["LedgerRow"];
export type HistoryRow = Schemas["HistoryRow"];
export type Lineage = Schemas["Lineage"];
export type VersionVerdict = Schemas["VersionVerdict"];
export type FoundDecision = Schemas["FoundDecision"];
export type RuleProblem = Schemas["RuleProblem"];
export type TriedRuleSet = Schemas["TriedRuleSet"];
export type RuleSetList = Schemas["RuleSetList"];
export type RuleSetDocument = Schemas["RuleSetDocument"];
export type LanguageView = Schemas["LanguageView"];
export type QueueView = Schemas["QueueView"];
export type HandedRows = Schemas["HandedRows"];
export type PutForwardAnswer = Schemas["PutForwardAnswer"];
export type ErrorBody = Schemas["ErrorBody"];

/** Airflow's human-in-the-loop detail, as far as it is shown here. */
export interface Question {
  subject: string;
  body: string | null;
  options: string[];
  assigned_users: { id: string; name: string }[] | null;
}

/** A request that was refused, or that nobody answered. */
export class ApiError extends Error {
  constructor(
    /** HTTP status; 0: no answer. */
    readonly status: number,
    readonly body: ErrorBody | null,
    message: string,
  ) {
    super(message);
  }
}

export interface CallOptions {
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  query?: Record<string, string | number | boolean | undefined>;
}

/** Call a route of the plugin. */
export function call<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
  return request<T>(`modelmill/api${path}`, method, options);
}

/** Call a route of Airflow itself, with the user's own rights. */
export function airflow<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
  return request<T>(`api/v2${path}`, method, options);
}

async function request<T>(path: string, method: string, options: CallOptions): Promise<T> {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(options.query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  const body = options.body === undefined ? {} : { body: JSON.stringify(options.body) };
  const headers: Record<string, string> = { accept: "application/json", ...options.headers };
  if (method !== "GET") Object.assign(headers, { "content-type": "application/json", "x-modelmill": "canvas" });
  const signal = options.signal ? { signal: options.signal } : {};
  const answer = await heardFrom(
    fetch(url, { method, headers, credentials: "same-origin", ...body, ...signal }),
    "Airflow does not answer. What you have typed is kept: try again.",
    options.signal,
  );
  const text = await heardFrom(answer.text(), BROKEN, options.signal);
  if (!answer.ok) throw refusal(answer.status, text);
  // What is sent may be answered with nothing; what is asked for may not.
  if (text === "" && method !== "GET") return null as T;
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new ApiError(0, null, t(BROKEN));
  }
}

const BROKEN: Sentence = "The answer broke off, or does not come from Airflow but from a login page or a proxy before it. What you have typed is kept: try again.";

/** Wait for a part of an answer; what fails there is that nobody has answered, unless it was given up. */
async function heardFrom<T>(part: Promise<T>, otherwise: Sentence, signal: AbortSignal | undefined): Promise<T> {
  try {
    return await part;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, null, t(otherwise));
  }
}

function refusal(status: number, text: string): ApiError {
  if (status === 401) return new ApiError(status, null, t("Your session has ended: log in again in another tab, then go on here."));
  try {
    const body = JSON.parse(text) as Partial<ErrorBody> & { detail?: unknown };
    if (typeof body.message === "string") return new ApiError(status, body as ErrorBody, said(body.message));
    if (typeof body.detail === "string") return new ApiError(status, null, said(body.detail));
  } catch {
    // No JSON: a proxy has answered.
  }
  return new ApiError(status, null, t("The server answered with status {status}.", { status }));
}

/** What is wrong with a text, in the language of the page. */
const heard = <T extends { problems: readonly { message: string }[] }>(answer: T): T => ({
  ...answer,
  problems: answer.problems.map((problem) => ({ ...problem, message: said(problem.message) })),
});

const queuePath = (name: string): string => `/labelling/${encodeURIComponent(name)}`;
const quoted = (etag: string): string => `"${etag}"`;
const rules = (name: string): string => `/rule-sets/${encodeURIComponent(name)}`;
const at = (dagId: string): string => `/pipelines/${encodeURIComponent(dagId)}`;

const stepPath = (dagId: string, runId: string, step: string): string =>
  `${at(dagId)}/runs/${encodeURIComponent(runId)}/steps/${encodeURIComponent(step)}`;

/** Save a text in place of what an etag names. Where just this text is saved already, nothing is left to ask. */
const put = <Document>(path: string, text: string, message: string, etag: string | null): Promise<Document> =>
  call<Document>("PUT", path, {
    body: { text, message },
    headers: etag === null ? { "if-none-match": "*" } : { "if-match": quoted(etag) },
  }).catch((error: unknown) => {
    if (error instanceof ApiError && error.body?.conflict?.text === text) return call<Document>("GET", path);
    throw error;
  });

const questionPath = (dagId: string, runId: string, task: string): string =>
  `/${["dags", dagId, "dagRuns", runId, "taskInstances", task].map(encodeURIComponent).join("/")}/-1/hitlDetails`;

export const api = {
  home: () => call<Home>("GET", "/home"),
  /** Write the sample table of a template, and fill the template with it. */
  sample: (template: string) =>
    call<Schemas["FilledTemplate"]>("POST", `/templates/${encodeURIComponent(template)}/sample`, { body: {} }),
  catalogue: () => call<CatalogueAnswer>("GET", "/catalogue"),
  pipelines: () => call<PipelineList>("GET", "/pipelines"),
  pipeline: (dagId: string) => call<PipelineDocument>("GET", at(dagId)),
  check: (text: string, signal: AbortSignal) => call<Checked>("POST", "/check", { body: { text }, signal }).then(heard),
  save: (dagId: string, text: string, message: string, etag: string | null) =>
    put<PipelineDocument>(at(dagId), text, message, etag),
  remove: (dagId: string, etag: string) =>
    call<null>("DELETE", at(dagId), { body: { message: "" }, headers: { "if-match": quoted(etag) } }),
  /** The saved version of a pipeline that a digest names: what made a run or a model. */
  digest: (dagId: string, digest: string) =>
    call<Schemas["VersionDocument"] | PipelineDocument>("GET", `${at(dagId)}/digests/${encodeURIComponent(digest)}`),
  templates: () => call<Template[]>("GET", "/templates"),
  fill: (template: string, values: Record<string, unknown>) =>
    call<Schemas["FilledTemplate"]>("POST", `/templates/${encodeURIComponent(template)}`, { body: { values } }),
  tables: () => call<Schemas["TablesView"]>("GET", "/tables"),
  /** Make a table of the text of a CSV file. */
  upload: (name: string, text: string) => call<Schemas["Uploaded"]>("POST", "/tables", { body: { name, text } }),
  preview: (uri: string, label: string, signal: AbortSignal) =>
    call<TableView>("GET", "/tables/preview", { query: { uri, label: label === "" ? undefined : label, rows: 8 }, signal }),
  dagState: (dagId: string) =>
    call<Schemas["DagState"]>("GET", `${at(dagId)}/dag`).then((state) => ({ ...state, message: said(state.message) })),
  parse: (dagId: string) => call<Schemas["ParseAnswer"]>("POST", `${at(dagId)}/parse`, { body: {} }),
  startRun: (dagId: string, body: Partial<RunRequest>) =>
    call<Schemas["Started"]>("POST", `${at(dagId)}/runs`, { body }),
  /** What a run would do; `text`: as it would be saved, null: as it is. */
  forecast: (dagId: string, text: string | null, params: Readonly<Record<string, string>>) =>
    call<RunPlan>("POST", `${at(dagId)}/forecast`, { body: { text, params } }),
  runs: (dagId: string) => call<RunSummary[]>("GET", `${at(dagId)}/runs`),
  run: (dagId: string, runId: string, signal: AbortSignal) =>
    call<RunView>("GET", `${at(dagId)}/runs/${encodeURIComponent(runId)}`, { signal }),
  log: (dagId: string, runId: string, step: string, signal: AbortSignal, lines: number) =>
    call<Schemas["LogTail"]>("GET", `${at(dagId)}/runs/${encodeURIComponent(runId)}/steps/${encodeURIComponent(step)}/log`, {
      query: { lines },
      signal,
    }),
  /** What a step of a run has made: reports and figures. */
  stepResult: (dagId: string, runId: string, step: string) => call<StepResult>("GET", `${stepPath(dagId, runId, step)}/result`),
  /** Rows of a table that left a step; `label`: a column whose values are counted. */
  outputRows: (dagId: string, runId: string, step: string, port: string, label: string) =>
    call<OutputRows>("GET", `${stepPath(dagId, runId, step)}/outputs/${encodeURIComponent(port)}/rows`, {
      query: { rows: 20, label: label === "" ? undefined : label },
    }),
  /** What each step of a run has measured. */
  runMetrics: (dagId: string, runId: string) =>
    call<Record<string, Schemas["StepMetrics"]>>("GET", `${at(dagId)}/runs/${encodeURIComponent(runId)}/metrics`),
  models: () => call<Schemas["ModelSummary"][]>("GET", "/models"),
  model: (name: string) => call<ModelView>("GET", `/models/${encodeURIComponent(name)}`),
  lineage: (name: string, version: number) =>
    call<Lineage>("GET", `/models/${encodeURIComponent(name)}/versions/${version}/lineage`),
  verdict: (name: string, version: number) =>
    call<VersionVerdict>("GET", `/models/${encodeURIComponent(name)}/versions/${version}/verdict`),
  modelSource: (name: string, version: number) =>
    call<Schemas["ModelSource"]>("GET", `/models/${encodeURIComponent(name)}/versions/${version}/source`),
  /** What happened to a model, with the figures that gates judged it by. */
  nights: (name: string) => call<Night[]>("GET", `/models/${encodeURIComponent(name)}/nights`),
  /** What versions of a model answer to a text, or to the file of a picture in base64. */
  answers: (name: string, question: { text?: string; image?: string; versions: readonly number[] }) =>
    call<VersionAnswer[]>("POST", `/models/${encodeURIComponent(name)}/answers`, { body: question }),
  rollBack: (name: string, why: string, to: number | null) =>
    call<LedgerRow>("POST", `/models/${encodeURIComponent(name)}/rollback`, { body: { why, to } }),
  decisions: (uri: string, column: string, key: string) =>
    call<Schemas["FoundDecisions"]>("GET", "/decisions", { query: { uri, column, key } }),
  ruleSets: () => call<RuleSetList>("GET", "/rule-sets"),
  ruleSet: (name: string) => call<RuleSetDocument>("GET", rules(name)),
  saveRules: (name: string, text: string, message: string, etag: string | null) =>
    put<RuleSetDocument>(rules(name), text, message, etag),
  ruleSetVersions: (name: string) => call<Version[]>("GET", `${rules(name)}/versions`),
  ruleSetVersion: (name: string, number: number) =>
    call<Schemas["VersionDocument"]>("GET", `${rules(name)}/versions/${number}`),
  checkRules: (text: string, signal: AbortSignal) =>
    call<Schemas["CheckedRuleSet"]>("POST", "/rule-sets/check", { body: { text }, signal }).then(heard),
  tryRules: (text: string, table: string, against: string) =>
    call<TriedRuleSet>("POST", "/rule-sets/try", { body: { text, table, against: against === "" ? null : against } }),
  /** Queues of rows to label. */
  queues: () => call<QueueView[]>("GET", "/labelling"),
  queue: (name: string) => call<QueueView>("GET", queuePath(name)),
  putForward: (body: Partial<Schemas["PutForward"]> & Pick<Schemas["PutForward"], "name" | "table" | "key" | "text">) =>
    call<PutForwardAnswer>("POST", "/labelling", { body }),
  /** Rows that nobody else gets for ten minutes; `holding`: keys of those that are in front of the person already. */
  handOut: (name: string, rows: number, holding: readonly string[]) =>
    call<HandedRows>("POST", `${queuePath(name)}/rows`, { body: { rows, holding } }),
  /** `who`: who did it; refused if somebody else is logged in. */
  keepLabels: (name: string, who: string, given: readonly Act[]) =>
    call<Schemas["KeptLabels"]>("POST", `${queuePath(name)}/labels`, { body: { who, given } }),
  /** The rows that the gate of a run found wrong, to labelling. */
  sendWrongRows: (dagId: string, runId: string, step: string) =>
    call<PutForwardAnswer>("POST", `${stepPath(dagId, runId, step)}/labelling`, { body: {} }),
  /** Turns a pipeline's schedule off or on, through Airflow's own API. */
  pause: (dagId: string, isPaused: boolean) => airflow("PATCH", `/dags/${encodeURIComponent(dagId)}`, { body: { is_paused: isPaused } }),
  /** Ends a run, through Airflow's own API. */
  stopRun: (dagId: string, runId: string) =>
    airflow("PATCH", `/dags/${encodeURIComponent(dagId)}/dagRuns/${encodeURIComponent(runId)}`, { body: { state: "failed" } }),
  /** What a task that waits for a person asks. */
  question: (dagId: string, runId: string, task: string) => airflow<Question>("GET", questionPath(dagId, runId, task)),
  /** Answer it, as on Airflow's own page: the task goes on with what was chosen. */
  answer: (dagId: string, runId: string, task: string, option: string, reason: string) =>
    airflow("PATCH", questionPath(dagId, runId, task), { body: { chosen_options: [option], params_input: { reason } } }),
  versions: (dagId: string) => call<Version[]>("GET", `${at(dagId)}/versions`),
  version: (dagId: string, number: number) =>
    call<Schemas["VersionDocument"]>("GET", `${at(dagId)}/versions/${number}`),
};
