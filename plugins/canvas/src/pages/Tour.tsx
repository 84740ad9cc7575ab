/** A tour of five stops through the pages. It can be left at any stop, and comes only to those who ask for it. */

import { Button, HStack, Text } from "@chakra-ui/react";
import { X } from "lucide-react";
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
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

/** Where the tour is; null: nowhere. Airflow makes the page anew for each address, so it is kept beside the page. */
let present: number | null = null;

/** Ask for the tour from anywhere on the pages. */
const START = "mm-tour";

export function startTour(): void {
  window.dispatchEvent(new Event(START));
}

export function Tour() {
  const navigate = useNavigate();
  const [at, show] = useState(present);
  const setAt = (to: number | null): void => {
    present = to;
    show(to);
  };
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    const start = (): void => {
      present = 0;
      show(0);
    };
    window.addEventListener(START, start);
    return () => { window.removeEventListener(START, start); };
  }, []);
  // Who hears the page, or has no mouse, is taken along.
  useEffect(() => { if (at !== null) heading.current?.focus(); }, [at]);
  const stop = at === null ? undefined : STOPS[at];
  if (at === null || stop === undefined) return null;
  const go = (to: number): void => {
    const next = STOPS[to];
    setAt(next ? to : null);
    if (next) void navigate(`${BASE}/${next.path}`);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    setAt(null);
  };
  return (
    <section className="mm-tour" data-stop={stop.path} role="dialog" aria-labelledby="mm-tour-title" aria-describedby="mm-tour-text" onKeyDown={onKeyDown}>
      <HStack justify="space-between">
        <h2 id="mm-tour-title" ref={heading} tabIndex={-1} className="mm-section-title">
          {t(stop.title)}
        </h2>
        <Button size="2xs" variant="ghost" aria-label={t("End the tour")} onClick={() => { setAt(null); }}>
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
