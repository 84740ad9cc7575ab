import type { KeyboardEvent } from "react";

import type { Clipboard } from "../core/edits";
import { groupKey } from "../core/groups";
import { useCanvas } from "../store";
import { copySelection, cutSelection, duplicate, groupSelection, keepFocus, paste, ungroupSelection } from "./actions";

const CLIPBOARD = "modelmill.copied";

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
      keepFocus();
      return;
    }
    if (inField) return;
    const actions: Record<string, () => void> = {
      a: () => { state.select([...state.steps.keys(), ...[...state.groups.keys()].map(groupKey)]); },
      c: () => { write(copySelection()); },
      x: () => { write(cutSelection()); },
      v: () => {
        const clipboard = read();
        if (clipboard !== null) paste(clipboard);
      },
      d: duplicate,
      g: () => {
        if (event.shiftKey) ungroupSelection();
        else groupSelection();
      },
    };
    const action = actions[key];
    if (!action) return;
    event.preventDefault();
    action();
    keepFocus();
  };
}

// The clipboard is the session's: steps can be copied from one pipeline into another.

function write(clipboard: Clipboard): void {
  if (Object.keys(clipboard.steps).length > 0) sessionStorage.setItem(CLIPBOARD, JSON.stringify(clipboard));
}

function read(): Clipboard | null {
  const text = sessionStorage.getItem(CLIPBOARD);
  return text === null ? null : (JSON.parse(text) as Clipboard);
}
