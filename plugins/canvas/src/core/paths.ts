/** Addresses of the pages. */

import { newDraftName } from "./drafts";

/** Where Airflow shows the plugin's pages: the plugin's `url_route`. */
export const BASE = "/plugin/modelmill";

export function canvasPath(dagId: string): string {
  return `${BASE}/canvas/${encodeURIComponent(dagId)}`;
}

/** Return the address of a new pipeline's draft. */
export function newPath(draft: string = newDraftName()): string {
  return `${BASE}/new/${encodeURIComponent(draft)}`;
}
