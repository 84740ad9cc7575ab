/** Where Airflow shows the plugin's pages: the plugin's `url_route`. */
export const BASE = "/plugin/modelmill";

export function canvasPath(dagId: string): string {
  return `${BASE}/canvas/${encodeURIComponent(dagId)}`;
}
