/** The table that a step works on, found along its edges: its columns are offered where one is asked for. */

import type { Step } from "./pipeline";
import { type Json, isObject } from "./value";

/** Return the table that comes first on the way back from a step, with the pipeline's own parameters filled in. */
export function tableBefore(steps: ReadonlyMap<string, Step>, params: Json | undefined, id: string): string | null {
  const seen = new Set([id]);
  let near = sourcesOf(steps.get(id));
  while (near.length > 0) {
    const further: string[] = [];
    for (const origin of near) {
      if (seen.has(origin)) continue;
      seen.add(origin);
      const step = steps.get(origin);
      const uri = step?.config.uri;
      if (typeof uri === "string" && uri !== "") return filled(uri, params);
      further.push(...sourcesOf(step));
    }
    near = further;
  }
  return null;
}

function sourcesOf(step: Step | undefined): string[] {
  return Object.values(step?.inputs ?? {}).flatMap((sources) => sources.map((source) => source.split(".")[0] ?? ""));
}

/** What the pipeline gives no value for is left for the server, which knows the deployment's. */
function filled(uri: string, params: Json | undefined): string {
  return uri.replace(/\$\{([^}]*)\}/g, (whole, name: string) => {
    const param = isObject(params) ? params[name] : undefined;
    const value = isObject(param) ? param.default : undefined;
    return typeof value === "string" || typeof value === "number" ? String(value) : whole;
  });
}

/** Return the fields of a form that ask for columns, by what their descriptions say. */
export function columnFields(schema: Record<string, unknown>): string[] {
  return fieldsThatSay(schema, /^(other |label |key )?columns?\b/i);
}

/** Return the fields of a form that ask for a table to read, likewise. */
export function tableFields(schema: Record<string, unknown>): string[] {
  return fieldsThatSay(schema, /^path or uri of the (delta )?table(?!.* (to write|does not exist))/i);
}

function fieldsThatSay(schema: Record<string, unknown>, pattern: RegExp): string[] {
  const properties = isObject(schema.properties) ? schema.properties : {};
  return Object.entries(properties)
    .filter(([, property]) => isObject(property) && pattern.test(String(property.description ?? "")))
    .map(([name]) => name);
}
