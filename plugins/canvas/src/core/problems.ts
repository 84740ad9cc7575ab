/** What a problem is about. */

/** Return the group that a problem of the pipeline is about; null: it is of none. */
export function groupOfProblem({ step, path }: { step: string | null; path: string }): string | null {
  const [part, name] = path.split(".");
  return step === null && part === "groups" && name !== undefined ? name : null;
}
