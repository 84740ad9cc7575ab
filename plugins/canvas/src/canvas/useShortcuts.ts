import type { KeyboardEvent } from "react";

import { type Clipboard, copySteps, pasteSteps, removeSteps } from "../core/pipeline";
import { useCanvas } from "../store";

const CLIPBOARD = "modelmill.clipboard";

/** Keys of the canvas page. A field that is typed into keeps its own. */
export function useShortcuts(save: () => void): (event: KeyboardEvent) => void {
  return (event) => {
    if (!(event.ctrlKey || event.metaKey)) return;
    const key = event.key.toLowerCase();
    const state = useCanvas.getState();
    if (key === "s") {
      event.preventDefault();
      save();
      return;
    }
    const inField = event.target instanceof HTMLElement && event.target.closest("input, textarea, select") !== null;
    if (key === "z" || key === "y") {
      // The text pane is the pipeline itself: its undo is the canvas's.
      if (inField && !(event.target as HTMLElement).closest(".mm-text")) return;
      event.preventDefault();
      if (key === "y" || event.shiftKey) state.redo();
      else state.undo();
      return;
    }
    if (inField) return;
    const actions: Record<string, () => void> = {
      a: () => { state.select(state.steps.keys()); },
      c: () => { write(copySteps(state.pipeline, state.selection)); },
      x: () => {
        write(copySteps(state.pipeline, state.selection));
        state.edit((pipeline) => removeSteps(pipeline, state.selection));
      },
      v: () => { paste(read()); },
      d: () => { paste(copySteps(state.pipeline, state.selection)); },
    };
    const action = actions[key];
    if (!action) return;
    event.preventDefault();
    action();
  };
}

function paste(clipboard: Clipboard | null): void {
  if (clipboard === null || Object.keys(clipboard.steps).length === 0) return;
  const state = useCanvas.getState();
  let ids: string[] = [];
  const done = state.edit((pipeline) => {
    const pasted = pasteSteps(pipeline, clipboard);
    ids = pasted.ids;
    return pasted.pipeline;
  });
  if (done) state.select(ids);
}

// The clipboard is the session's: steps can be copied from one pipeline into another.

function write(clipboard: Clipboard): void {
  if (Object.keys(clipboard.steps).length > 0) sessionStorage.setItem(CLIPBOARD, JSON.stringify(clipboard));
}

function read(): Clipboard | null {
  const text = sessionStorage.getItem(CLIPBOARD);
  return text === null ? null : (JSON.parse(text) as Clipboard);
}
