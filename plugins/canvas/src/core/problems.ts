/** What a problem is about. */

/** Return where a problem is, in words: the step, or the group, and the field of its form. */
export function placeOfProblem(problem: { step: string | null; path: string; field: string | null }): string {
  const part = problem.step ?? groupOfProblem(problem);
  if (part === null) return problem.path || "text";
  const field = (problem.field ?? "").replace(/^(config|inputs)\./, "");
  return field === "" || field === "config" || field === "inputs" ? part : `${part} · ${field}`;
}

/** Return the ids of the form fields that a problem of a step may be shown by, the closest first. */
export function fieldsOfProblem({ step, field }: { step: string | null; field: string | null }): string[] {
  const [kind, ...path] = (field ?? "").split(".");
  if (step === null || path.length === 0) return [];
  if (kind === "inputs") return [`mm-input-${path[0] ?? ""}`];
  if (kind !== "config") return [];
  return path.map((_, index) => `form_${step}_${path.slice(0, path.length - index).join("_")}`);
}

/** Return the group that a problem of the pipeline is about; null: it is of none. */
export function groupOfProblem({ step, path }: { step: string | null; path: string }): string | null {
  const [part, name] = path.split(".");
  return step === null && part === "groups" && name !== undefined ? name : null;
}
