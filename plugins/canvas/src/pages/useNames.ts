/** Names of everything that can be searched for. */

import { useEffect, useState } from "react";

import { ApiError, api } from "../api/client";
import { BASE, canvasPath } from "../core/paths";

export interface Named {
  kind: "pipeline" | "model" | "rules";
  name: string;
  path: string;
}

const MOST = 20;

/** Return what a person means: names with all the words, those that begin with the text first. */
export function matching(names: readonly Named[] | null, typed: string): Named[] {
  const text = typed.trim().toLowerCase();
  if (text === "") return [];
  const parts = text.split(/\s+/);
  const found = (names ?? []).filter(({ name }) => parts.every((part) => name.toLowerCase().includes(part)));
  const rank = ({ name }: Named): number => (name.toLowerCase().startsWith(text) ? 0 : 1);
  return found.toSorted((left, right) => rank(left) - rank(right)).slice(0, MOST);
}

/** Ask for the names once somebody wants them. What does not answer (MLflow, say) hides nothing else. */
export function useNames(isWanted: boolean): { names: Named[] | null; problems: string[] } {
  const [state, setState] = useState<{ names: Named[] | null; problems: string[] }>({ names: null, problems: [] });
  useEffect(() => {
    if (!isWanted) return;
    let isCurrent = true;
    void Promise.allSettled([pipelines(), models(), ruleSets()]).then((answers) => {
      if (!isCurrent) return;
      setState({
        names: answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : [])),
        problems: answers.flatMap((answer) => (answer.status === "rejected" && answer.reason instanceof ApiError ? [answer.reason.message] : [])),
      });
    });
    return () => { isCurrent = false; };
  }, [isWanted]);
  return state;
}

async function pipelines(): Promise<Named[]> {
  return (await api.pipelines()).pipelines.map(({ dag_id }) => ({ kind: "pipeline", name: dag_id, path: canvasPath(dag_id) }));
}

async function models(): Promise<Named[]> {
  return (await api.models()).map(({ name }) => ({ kind: "model", name, path: `${BASE}/models/${encodeURIComponent(name)}` }));
}

async function ruleSets(): Promise<Named[]> {
  return (await api.ruleSets()).rule_sets.map(({ name }) => ({ kind: "rules", name, path: `${BASE}/rules/${encodeURIComponent(name)}` }));
}
