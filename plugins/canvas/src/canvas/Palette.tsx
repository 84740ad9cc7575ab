/** The components that a pipeline can be made of: drag one onto the graph, or press Enter on it. */

import { Box, Input, Text } from "@chakra-ui/react";
import { type KeyboardEvent, useMemo, useState } from "react";

import { addStep } from "../core/edits";
import type { Component } from "../core/pipeline";
import { useCanvas } from "../store";
import { DRAG_TYPE } from "./Graph";
import { groupIcon, groupRank } from "./StepNode";
import { t, word } from "../i18n/t";

export function Palette() {
  const { catalogue, edit, select, selection } = useCanvas();
  const [wanted, setWanted] = useState("");
  const groups = useMemo(() => grouped([...catalogue.values()], wanted), [catalogue, wanted]);
  const shown = groups.flatMap(([, components]) => components.map(({ name }) => name));
  const [chosen, setChosen] = useState("");
  // One stop of the Tab key: from there the arrow keys go from component to component.
  const stop = shown.includes(chosen) ? chosen : shown[0];
  const onKeyDown = (event: KeyboardEvent<HTMLElement>): void => {
    const at = shown.indexOf(stop ?? "");
    const places: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 };
    const next = shown[places[event.key] ?? -1];
    if (next === undefined) return;
    event.preventDefault();
    event.currentTarget.querySelector<HTMLElement>(`[data-component="${CSS.escape(next)}"]`)?.focus();
  };

  const add = (name: string): void => {
    let added = "";
    const after = selection.size === 1 ? ([...selection][0] ?? null) : null;
    const done = edit((pipeline) => {
      const result = addStep(pipeline, catalogue, name, after);
      added = result.id;
      return result.pipeline;
    });
    if (done) select([added]);
  };

  return (
    <Box as="aside" className="mm-palette" aria-label={t("Components")}>
      <Input
        size="sm"
        type="search"
        placeholder={t("Search components")}
        aria-label={t("Search components")}
        value={wanted}
        onChange={(event) => { setWanted(event.target.value); }}
      />
      <div className="mm-palette-list" onKeyDown={onKeyDown}>
        {groups.map(([group, components]) => {
          const Icon = groupIcon(group);
          return (
            <section key={group} aria-label={word(group)}>
              <h2 className="mm-palette-group">{word(group)}</h2>
              {components.map((component) => (
                <button
                  key={component.name}
                  type="button"
                  className="mm-palette-item"
                  data-component={component.name}
                  data-group={group}
                  tabIndex={component.name === stop ? 0 : -1}
                  onFocus={() => { setChosen(component.name); }}
                  draggable
                  title={word(component.help)}
                  onDragStart={(event) => {
                    event.dataTransfer.setData(DRAG_TYPE, component.name);
                    event.dataTransfer.effectAllowed = "copy";
                  }}
                  onClick={() => { add(component.name); }}
                >
                  <span className="mm-node-icon" aria-hidden="true">
                    <Icon size={14} />
                  </span>
                  <span>
                    <span className="mm-palette-title">{word(component.title)}</span>
                    <span className="mm-palette-help">{word(component.help)}</span>
                  </span>
                </button>
              ))}
            </section>
          );
        })}
        {groups.length === 0 ? <Text className="mm-help">{t("No component matches.")}</Text> : null}
      </div>
    </Box>
  );
}

function grouped(components: readonly Component[], wanted: string): [string, Component[]][] {
  const words = wanted.toLowerCase().split(/\s+/);
  const groups = new Map<string, Component[]>();
  for (const component of components) {
    // Found by its name, and by what it says in English and in the page's language.
    const english = [component.title, component.group, component.help];
    const text = [component.name, ...english, ...english.map(word)].join(" ").toLowerCase();
    if (!words.every((part) => text.includes(part))) continue;
    groups.set(component.group, [...(groups.get(component.group) ?? []), component]);
  }
  return [...groups].sort(([left], [right]) => groupRank(left) - groupRank(right));
}
