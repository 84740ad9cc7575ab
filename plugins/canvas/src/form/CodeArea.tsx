/** A text with line numbers, a mark at each line that has a problem, and completion where the page offers some. */

import { type KeyboardEvent, useEffect, useRef, useState } from "react";

import type { Completion, Suggestion } from "../core/ruleWords";
import { t } from "../i18n/t";

interface Props {
  label: string;
  text: string;
  /** What is wrong, by line. */
  marks: ReadonlyMap<number, readonly string[]>;
  /** Line that the cursor goes to when this changes; null: stay. */
  target?: { line: number } | null;
  complete?: (text: string, caret: number, isAsked: boolean) => Completion | null;
  onChange: (text: string) => void;
}

const LINE_HEIGHT = 20;

export function CodeArea({ label, text, marks, target = null, complete, onChange }: Props) {
  const area = useRef<HTMLTextAreaElement>(null);
  const gutter = useRef<HTMLDivElement>(null);
  const [offer, setOffer] = useState<(Completion & { place: { left: string; top: number } }) | null>(null);
  const [chosen, setChosen] = useState(0);

  useEffect(() => {
    const element = area.current;
    if (!target || !element) return;
    const lines = element.value.split("\n");
    const start = lines.slice(0, target.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
    element.focus();
    element.setSelectionRange(start, start + (lines[target.line - 1]?.length ?? 0));
    element.scrollTop = Math.max(0, (target.line - 6) * LINE_HEIGHT);
  }, [target]);

  const look = (element: HTMLTextAreaElement, isAsked: boolean): void => {
    const caret = element.selectionStart;
    const found = caret === element.selectionEnd ? (complete?.(element.value, caret, isAsked) ?? null) : null;
    setChosen(0);
    setOffer(found === null ? null : { ...found, place: placeOf(element, found.from) });
  };
  const take = (suggestion: Suggestion): void => {
    const element = area.current;
    if (!element || offer === null) return;
    element.focus();
    element.setRangeText(suggestion.text, offer.from, element.selectionStart, "end");
    onChange(element.value);
    setOffer(null);
  };
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    if (complete && event.key === " " && event.ctrlKey) {
      event.preventDefault();
      look(event.currentTarget, true);
      return;
    }
    if (offer === null) return;
    const last = offer.suggestions.length - 1;
    if (event.key === "ArrowDown") setChosen(chosen === last ? 0 : chosen + 1);
    else if (event.key === "ArrowUp") setChosen(chosen === 0 ? last : chosen - 1);
    else if (event.key === "Enter" || event.key === "Tab") take(offer.suggestions[chosen]!);
    else if (event.key === "Escape") setOffer(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <div className="mm-text">
      <div className="mm-gutter" ref={gutter} aria-hidden="true">
        {text.split("\n").map((_, index) => {
          const messages = marks.get(index + 1);
          return (
            <div key={index} className={messages ? "mm-line-bad" : undefined} title={messages?.join("\n")}>
              {index + 1}
            </div>
          );
        })}
      </div>
      <div className="mm-text-area">
        <textarea
          ref={area}
          aria-label={label}
          value={text}
          spellCheck={false}
          wrap="off"
          aria-autocomplete={complete ? "list" : undefined}
          aria-controls={offer === null ? undefined : "mm-offer"}
          aria-activedescendant={offer === null ? undefined : `mm-offer-${chosen}`}
          onChange={(event) => {
            onChange(event.target.value);
            look(event.target, false);
          }}
          onKeyDown={onKeyDown}
          onClick={() => setOffer(null)}
          onBlur={() => setOffer(null)}
          onScroll={(event) => {
            if (gutter.current) gutter.current.scrollTop = event.currentTarget.scrollTop;
            setOffer(null);
          }}
        />
        {offer === null ? null : (
          <ul id="mm-offer" className="mm-offer" role="listbox" aria-label={t("Completions")} style={offer.place}>
            {offer.suggestions.map((suggestion, index) => (
              <li
                key={suggestion.text}
                id={`mm-offer-${index}`}
                role="option"
                aria-selected={index === chosen}
                onMouseDown={(event) => {
                  event.preventDefault();
                  take(suggestion);
                }}
              >
                <span>{suggestion.text}</span>
                <span>{suggestion.detail}</span>
              </li>
            ))}
          </ul>
        )}
      </div>
    </div>
  );
}

/** Where the list of completions stands: below the word, which a fixed width of characters tells. */
function placeOf(element: HTMLTextAreaElement, from: number): { left: string; top: number } {
  const before = element.value.slice(0, from).split("\n");
  const column = before.at(-1)!.length;
  return { left: `min(calc(${column}ch + 10px - ${element.scrollLeft}px), calc(100% - 320px))`, top: before.length * LINE_HEIGHT + 10 - element.scrollTop };
}
