/** What a person does with the selection: by menu, by button or by key. */

import type { Edge as FlowEdge } from "@xyflow/react";

import { type Clipboard, copySteps, disconnect, pasteSteps, removeSteps, setWhen } from "../core/edits";
import { groupKey, groupOfKey, groupSteps, moveSteps, stepsIn, ungroup } from "../core/groups";
import { placesOfCopies } from "../core/layout";
import { useCanvas } from "../store";
import { controlOf, edgeOf } from "./edges";
import { t } from "../i18n/t";

/** Return the selected steps, with those of the selected groups. */
export function selectedSteps(): Set<string> {
  const { groups, selection } = useCanvas.getState();
  return stepsIn(groups, selection);
}

export function copySelection(): Clipboard {
  return copySteps(useCanvas.getState().pipeline, selectedSteps());
}

export function cutSelection(): Clipboard {
  const clipboard = copySelection();
  useCanvas.getState().edit((pipeline) => removeSteps(pipeline, Object.keys(clipboard.steps)));
  return clipboard;
}

export function paste(clipboard: Clipboard): void {
  const { catalogue, edit, place, places, select, steps } = useCanvas.getState();
  const originals = Object.keys(clipboard.steps);
  if (originals.length === 0) return;
  let keys: string[] = [];
  const done = edit((pipeline) => {
    const pasted = pasteSteps(pipeline, clipboard);
    keys = [...pasted.groups.map(groupKey), ...pasted.ids];
    const copies = new Map(originals.map((id, index) => [id, pasted.ids[index] ?? id]));
    place(placesOfCopies(steps, catalogue, places, copies));
    return pasted.pipeline;
  });
  if (done) select(keys);
}

export function duplicate(): void {
  paste(copySelection());
}

/** Delete what is selected. A group goes; of its steps those that are selected, too. */
export function deleteSelection(edges: readonly FlowEdge[] = []): void {
  const { edit, selection } = useCanvas.getState();
  const names = [...selection].flatMap((key) => groupOfKey(key) ?? []);
  edit((pipeline) => {
    const cut = edges.reduce((result, edge) => {
      const control = controlOf(edge);
      return control ? setWhen(result, control.target, control.origin, undefined) : disconnect(result, [edgeOf(edge)]);
    }, pipeline);
    return removeSteps(ungroup(cut, names), selection);
  });
}

/** Where what had the focus is gone, the graph takes it: the next key is the canvas's, too. */
export function keepFocus(): void {
  setTimeout(() => {
    if (document.activeElement === document.body) document.querySelector<HTMLElement>(".mm-flow")?.focus({ preventScroll: true });
  }, 50);
}

export function groupSelection(): void {
  const { edit, select, say } = useCanvas.getState();
  const ids = selectedSteps();
  if (ids.size === 0) {
    say(t("Select the steps that belong together, then group them."));
    return;
  }
  let made = "";
  const done = edit((pipeline) => {
    const { pipeline: grouped, name } = groupSteps(pipeline, ids);
    made = name;
    return grouped;
  });
  if (done) select([groupKey(made)]);
}

/** Take the selected groups away; steps that are selected without their group leave it. */
export function ungroupSelection(): void {
  const { edit, groups, select, selection } = useCanvas.getState();
  const names = [...selection].flatMap((key) => groupOfKey(key) ?? []);
  const inside = stepsIn(groups, names.map(groupKey));
  const leaving = [...selection].filter((key) => groupOfKey(key) === null && !inside.has(key));
  const done = edit((pipeline) => moveSteps(ungroup(pipeline, names), leaving, null));
  if (done) select([...inside, ...leaving]);
}
