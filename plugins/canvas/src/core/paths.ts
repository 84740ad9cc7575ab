/** Addresses of the pages. */

import { newDraftName } from "./drafts";

/** Where Airflow shows the plugin's pages: the plugin's `url_route`. */
export const BASE = "/plugin/modelmill";

/** Return the address of a pipeline; `runId`: a run of it that is shown instead of the newest. */
export function canvasPath(dagId: string, runId = ""): string {
  return `${BASE}/canvas/${encodeURIComponent(dagId)}${runId === "" ? "" : `?run=${encodeURIComponent(runId)}`}`;
}

/** Return the address of a new pipeline's draft. */
export function newPath(draft: string = newDraftName()): string {
  return `${BASE}/new/${encodeURIComponent(draft)}`;
}

/** Return the address of a saved rule set. */
export function rulesPath(name: string): string {
  return `${BASE}/rules/${encodeURIComponent(name)}`;
}

/** Return the address of a new rule set's draft. */
export function newRulesPath(draft: string = newDraftName()): string {
  return `${BASE}/rules/new/${encodeURIComponent(draft)}`;
}
