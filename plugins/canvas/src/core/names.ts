/** Names of pipelines and tables that are made out of others. */

/** Return a name like a place's last part; empty: nothing of it can stand in a name. */
export function tableName(place: string): string {
  const last = place.replace(/\/+$/, "").split("/").at(-1) ?? "";
  return last.toLowerCase().replace(/[^a-z0-9_]+/g, "_").replace(/^[^a-z]+/, "").slice(0, 63);
}
