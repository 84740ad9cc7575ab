/** A tour of five stops through the pages. It can be left at any stop, and comes only to those who ask for it. */

import { Button, HStack, Text } from "@chakra-ui/react";
import { X } from "lucide-react";
import { useEffect, useRef, useSyncExternalStore } from "react";
import { useNavigate } from "react-router-dom";

import { type Sentence, t } from "../i18n/t";
import { BASE } from "../core/paths";

const STOPS: readonly { path: string; title: Sentence; text: Sentence }[] = [
  { path: "home", title: "Overview", text: "What runs, what waits for you and what happened since yesterday. “Begin something new” has templates, each with a sample." },
  { path: "pipelines", title: "Pipelines", text: "Each pipeline is one DAG: its schedule, its last run, the models that it makes. At the end of a row: pause, copy, export, delete." },
  { path: "new", title: "Canvas", text: "Drag components from the left, connect outputs with inputs, press Run. Click an edge to see its rows, a step to see its result." },
  { path: "models", title: "Models", text: "Every version, which one is in use and why. Ask it about a text, or go back to the version before." },
  { path: "rules", title: "Rule sets", text: "Decisions by rules that people can read. Try them on past rows, then submit them to a gate." },
];

/**
 * Where the tour is; null: nowhere. Airflow makes the page anew for each address, so it is kept beside the page, and
 * read as a store: a page that is being made while the tour is left must not show it again.
 */
let present: number | null = null;
const listeners = new Set<() => void>();

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => { listeners.delete(listener); };
}

/** Escape ends the tour wherever the focus is: each new page takes it away for a moment, and may keep it. */
function onKeyDown(event: KeyboardEvent): void {
  if (event.key === "Escape" && !event.defaultPrevented) show(null);
}

function show(to: number | null): void {
  present = to;
  if (to === null) document.removeEventListener("keydown", onKeyDown);
  else document.addEventListener("keydown", onKeyDown);
  for (const listener of listeners) listener();
}

/** Begin the tour, from anywhere on the pages. */
export function startTour(): void {
  show(0);
}

export function Tour() {
  const navigate = useNavigate();
  const at = useSyncExternalStore(subscribe, () => present);
  const heading = useRef<HTMLHeadingElement>(null);
  // Who hears the page, or has no mouse, is taken along.
  useEffect(() => { if (at !== null) heading.current?.focus(); }, [at]);
  const stop = at === null ? undefined : STOPS[at];
  if (at === null || stop === undefined) return null;
  const go = (to: number): void => {
    const next = STOPS[to];
    show(next ? to : null);
    if (next) void navigate(`${BASE}/${next.path}`);
  };
  return (
    <section className="mm-tour" data-stop={stop.path} role="dialog" aria-labelledby="mm-tour-title" aria-describedby="mm-tour-text">
      <HStack justify="space-between">
        <h2 id="mm-tour-title" ref={heading} tabIndex={-1} className="mm-section-title">
          {t(stop.title)}
        </h2>
        <Button size="2xs" variant="ghost" aria-label={t("End the tour")} onClick={() => { show(null); }}>
          <X size={14} />
        </Button>
      </HStack>
      <Text id="mm-tour-text" fontSize="sm" mb={3}>
        {t(stop.text)}
      </Text>
      <HStack gap={2}>
        <Text className="mm-help">{t("{n} of {all}", { n: at + 1, all: STOPS.length })}</Text>
        <span className="mm-grow" />
        {at === 0 ? null : (
          <Button size="xs" variant="outline" onClick={() => { go(at - 1); }}>
            {t("Back")}
          </Button>
        )}
        <Button size="xs" colorPalette="brand" onClick={() => { go(at + 1); }}>
          {at === STOPS.length - 1 ? t("Done") : t("Next")}
        </Button>
      </HStack>
    </section>
  );
}
