/** What completion knows beside the language: columns of a table, and registered models. */

import { useEffect, useState } from "react";

import { type TableView, api } from "./client";

const DELAY = 500;
const NO_COLUMNS: TableView["columns"] = [];

export function useColumns(table: string): TableView["columns"] {
  const [known, setKnown] = useState<{ table: string; columns: TableView["columns"] }>({ table: "", columns: [] });
  useEffect(() => {
    if (table.trim() === "") return;
    const controller = new AbortController();
    const timer = setTimeout(() => {
      api.preview(table.trim(), "", controller.signal).then(
        ({ columns }) => setKnown({ table, columns }),
        () => undefined, // no such table: trying it says so
      );
    }, DELAY);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [table]);
  return known.table === table ? known.columns : NO_COLUMNS;
}

export function useModelNames(): string[] {
  const [names, setNames] = useState<string[]>([]);
  useEffect(() => {
    let isCurrent = true;
    api.models().then(
      (models) => { if (isCurrent) setNames(models.map((model) => model.name)); },
      () => undefined, // MLflow does not answer: names can still be typed
    );
    return () => { isCurrent = false; };
  }, []);
  return names;
}
