import { type KeyboardEvent as ReactKeyboardEvent, useEffect } from "react";

import type { Clipboard } from "../core/edits";
import { groupKey } from "../core/groups";
import { useCanvas } from "../store";
import { copySelection, cutSelection, duplicate, groupSelection, keepFocus, paste, ungroupSelection } from "./actions";

const CLIPBOARD = "modelmill.copied";

const FIELDS = "input, textarea, select";

/**
 * Keys of the canvas page. A field that is typed into keeps its own, and so does what is read: the run, and dialogs.
 *
 * @return What the page does with a key. Dialogs stand in the page's tree, not in its document.
 */
export function useShortcuts(save: () => void): (event: ReactKeyboardEvent<HTMLElement>) => void {
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      if (isNowhere(event.target)) press(event, document.body, save);
    };
    document.addEventListener("keydown", onKeyDown);
    return () => { document.removeEventListener("keydown", onKeyDown); };
  });
  return (event) => {
    if (!(event.target instanceof Element)) return;
    if (event.currentTarget.contains(event.target)) press(event.nativeEvent, event.target, save);
    else if (isCommand(event) && event.key.toLowerCase() === "s") event.preventDefault();
  };
}

/** Whether a key is the graph's own, such as Delete: nothing else has the focus, and no field is typed into. */
export function isOfGraph(target: EventTarget | null): boolean {
  if (isNowhere(target)) return true;
  return target instanceof Element && target.closest(".mm-graph") !== null && target.closest(FIELDS) === null;
}

/** Whether nothing has the focus; a dialog is something. */
function isNowhere(target: EventTarget | null): boolean {
  return target === document.body && document.querySelector('[aria-modal="true"]') === null;
}

function isCommand(event: { ctrlKey: boolean; metaKey: boolean }): boolean {
  return event.ctrlKey || event.metaKey;
}

function press(event: KeyboardEvent, target: Element, save: () => void): void {
  if (!isCommand(event)) return;
  const key = event.key.toLowerCase();
  const state = useCanvas.getState();
  if (key === "s") {
    event.preventDefault();
    save();
    return;
  }
  if (target.closest(".mm-run") !== null) return;
  const inField = target.closest(FIELDS) !== null;
  if (key === "z" || key === "y") {
    // The text pane is the pipeline itself: its undo is the canvas's.
    if (inField && !target.closest(".mm-text")) return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) state.redo();
    else state.undo();
    keepFocus();
    return;
  }
  // Text that is selected is what a person means.
  if (inField || ("acx".includes(key) && getSelection()?.isCollapsed === false)) return;
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
}

// The clipboard is the session's: steps can be copied from one pipeline into another.

function write(clipboard: Clipboard): void {
  if (Object.keys(clipboard.steps).length > 0) sessionStorage.setItem(CLIPBOARD, JSON.stringify(clipboard));
}

function read(): Clipboard | null {
  const text = sessionStorage.getItem(CLIPBOARD);
  return text === null ? null : (JSON.parse(text) as Clipboard);
}
