/** One row after the other in front of a person, a key for each label; below, how far all are and how they agree. */

import { Badge, Button, HStack, Input, Kbd, Text } from "@chakra-ui/react";
import { useEffect, useState } from "react";

import type { QueueView } from "../api/client";
import { type LabelRow, type LabelValue, type RefusedAct, classOf, numberOf } from "../core/labelling";
import { shareText } from "../core/results";
import { Complaint } from "../parts/page";
import { Figures } from "../parts/Figures";
import { type QueueSession, useQueue } from "./useQueue";
import { plural, t } from "../i18n/t";

const NO_EDIT = "Your role in Airflow may look at this queue, not label its rows.";

/** With more classes than these a person searches among them. */
const MANY = 30;

interface Props {
  view: QueueView;
  mayEdit: boolean;
}

export function Labeller({ view: first, mayEdit }: Props) {
  const queue = useQueue(first, mayEdit);
  const { session, view, error, isReady, isOver } = queue;
  const [row] = session.rows;
  return (
    <div className="mm-labelling">
      <div>
        {error === "" ? null : <Complaint text={error} />}
        {mayEdit ? null : <Text role="status">{t(NO_EDIT)}</Text>}
        {row ? <RowForm key={row.key} row={row} queue={queue} /> : isOver ? <Over queue={queue} /> : null}
        <Text className="mm-help" role="status" aria-label={t("Saved")}>
          {isReady ? savedText(queue) : ""}
        </Text>
        <NotAccepted queue={queue} />
        {[...queue.others].map(([who, acts]) => (
          <Text key={who} className="mm-help" role="status">
            {plural(acts, "1 act of {who} is kept in this browser; it is sent when {who} logs in here and opens this queue.", "{n} acts of {who} are kept in this browser; they are sent when {who} logs in here and opens this queue.", { who })}
          </Text>
        ))}
      </div>
      <Standing view={view} />
    </div>
  );
}

function savedText({ session, isKept }: QueueSession): string {
  const waiting = session.outbox.length;
  if (!isKept && waiting + session.refused.length > 0) return t("{n} not saved yet, and this browser's storage is full or forbidden: leave this page open until they are saved.", { n: waiting + session.refused.length });
  if (waiting > 0) return t("{n} not saved yet; they are kept in this browser.", { n: waiting });
  return session.refused.length > 0 ? t("All else that you did is saved.") : t("All that you did is saved.");
}

/** What the server does not accept: it stays here, with its reason, until the person has chosen what becomes of it. */
function NotAccepted({ queue }: { queue: QueueSession }) {
  const { refused } = queue.session;
  if (refused.length === 0) return null;
  return (
    <section className="mm-card" aria-label={t("Not accepted")}>
      <h2 className="mm-section-title">{t("Not accepted")}</h2>
      <ul className="mm-items">
        {refused.map((act) => (
          <li key={act.id}>
            <Text fontSize="sm">
              {shortened(act.key)}: <strong>{choiceText(act)}</strong>
            </Text>
            <Text className="mm-help">{t("not accepted: {reason}", { reason: act.reason })}</Text>
            <HStack>
              <Button size="2xs" variant="outline" onClick={() => { queue.resend(act.id); }}>
                {t("Send again")}
              </Button>
              <Button size="2xs" variant="outline" onClick={() => { queue.discard(act.id); }}>
                {t("Throw away")}
              </Button>
            </HStack>
          </li>
        ))}
      </ul>
    </section>
  );
}

const SHOWN_LETTERS = 80;

function shortened(text: string): string {
  return text.length > SHOWN_LETTERS ? `${text.slice(0, SHOWN_LETTERS)}…` : text;
}

/** Say what a person chose. */
function choiceText({ action, value }: RefusedAct): string {
  if (action === "skip") return t("skipped");
  if (action !== "label") return t("taken back");
  if (Array.isArray(value)) return value.length === 0 ? t("None of them") : value.join(", ");
  return String(value);
}

function Over({ queue }: { queue: QueueSession }) {
  return (
    <div className="mm-card mm-empty">
      <Text>{t("No row is left for you.")}</Text>
      <Text className="mm-help">{t("Rows that others have in front of them come back after ten minutes.")}</Text>
      <HStack>
        <Button size="sm" variant="outline" onClick={queue.lookAgain}>
          {t("Look again")}
        </Button>
        <UndoButton queue={queue} />
      </HStack>
      <UndoKey queue={queue} />
    </div>
  );
}

function UndoButton({ queue }: { queue: QueueSession }) {
  return (
    <Button size="sm" variant="outline" disabled={queue.session.done.length === 0} title={queue.session.done.length === 0 ? t("There is nothing to take back") : undefined} onClick={queue.undo}>
      <Kbd>u</Kbd> {t("Undo")}
    </Button>
  );
}

function UndoKey({ queue }: { queue: QueueSession }) {
  useKeys((key) => {
    if (key !== "u") return false;
    queue.undo();
    return true;
  });
  return null;
}

/** Call `act` for each key that is pressed outside of a text; it returns whether the key meant something. */
function useKeys(act: (key: string) => boolean): void {
  useEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      const isTyping = event.target instanceof HTMLElement && event.target.closest("textarea, select, input:not([data-keys])") !== null;
      const isOnButton = event.key === "Enter" && event.target instanceof HTMLElement && event.target.closest("button, a") !== null;
      if (isTyping || isOnButton || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
      if (act(event.key)) event.preventDefault();
    };
    window.addEventListener("keydown", pressed);
    return () => { window.removeEventListener("keydown", pressed); };
  }, [act]);
}

function RowForm({ row, queue }: { row: LabelRow; queue: QueueSession }) {
  const { kind, classes, label } = queue.view.queue;
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [typed, setTyped] = useState("");
  const [sought, setSought] = useState("");
  const number = numberOf(typed);
  const give = (value: LabelValue): void => { queue.act("label", value); };
  const choose = (name: string): void => {
    if (kind === "class") give(name);
    else setChosen((before) => new Set(before.has(name) ? [...before].filter((one) => one !== name) : [...before, name]));
  };
  const finish = (): boolean => {
    if (kind === "set") give(classes.filter((name) => chosen.has(name)));
    else if (kind === "number" && number !== null) give(number);
    return kind !== "class";
  };
  const skip = (): void => { queue.act("skip", null); };
  useKeys((key) => {
    if (key === "s") skip();
    else if (key === "u") queue.undo();
    else if (key === "Enter") return finish();
    else {
      const place = kind === "number" ? null : classOf(key, classes.length);
      const name = place === null ? undefined : classes[place];
      if (name === undefined) return false;
      choose(name);
    }
    return true;
  });
  return (
    <section className="mm-card" aria-label={t("Row to label")}>
      <section className="mm-label-text" tabIndex={0} aria-label={t("Text of the row")}>
        {row.text}
      </section>
      <HStack gap={2} mb={3} flexWrap="wrap">
        <Said name={t("{label} now", { label })} value={row.label} />
        <Said name={t("suggested")} value={row.suggestion} />
        {row.why === "" ? null : <Text className="mm-help">{t("why: {why}", { why: row.why })}</Text>}
        {row.second ? <Badge colorPalette="purple">{t("two people label this row")}</Badge> : null}
      </HStack>
      {kind === "number" ? (
        <Input
          aria-label={t("{label}: a number", { label })}
          data-keys=""
          autoFocus
          size="sm"
          inputMode="decimal"
          value={typed}
          onChange={(event) => { setTyped(event.target.value); }}
        />
      ) : (
        <>
          {classes.length > MANY ? (
            <Input size="sm" mb={2} type="search" aria-label={t("Find a class")} placeholder={t("Find a class")} value={sought} onChange={(event) => { setSought(event.target.value); }} />
          ) : null}
          <div className="mm-label-keys" role="group" aria-label={label}>
            {classes.map((name, place) => chosen.has(name) || name.toLocaleLowerCase().includes(sought.trim().toLocaleLowerCase()) ? (
              <Button key={name} size="sm" variant={chosen.has(name) ? "solid" : "outline"} aria-pressed={kind === "set" ? chosen.has(name) : undefined} onClick={() => { choose(name); }}>
                {place < 9 ? <Kbd>{place + 1}</Kbd> : null} {name}
              </Button>
            ) : null)}
          </div>
        </>
      )}
      <HStack mt={3}>
        {kind === "class" ? null : (
          <Button size="sm" colorPalette="brand" disabled={kind === "number" && number === null} title={kind === "number" && number === null ? t("Type a number") : undefined} onClick={() => { finish(); }}>
            <Kbd>↵</Kbd> {kind === "set" && chosen.size === 0 ? t("None of them") : t("Keep")}
          </Button>
        )}
        <Button size="sm" variant="outline" onClick={skip}>
          <Kbd>s</Kbd> {t("Skip")}
        </Button>
        <UndoButton queue={queue} />
      </HStack>
    </section>
  );
}

function Said({ name, value }: { name: string; value: string | null }) {
  if (value === null) return null;
  return (
    <Text fontSize="sm">
      {name}: <strong>{value}</strong>
    </Text>
  );
}

/** How far the queue is, who has labelled how much, and how they agree. */
function Standing({ view }: { view: QueueView }) {
  const people = Object.entries(view.people);
  return (
    <aside className="mm-card" aria-label={t("Progress")}>
      <h2 className="mm-section-title">
        {t("{labelled} of {rows} rows labelled", { labelled: view.labelled.toLocaleString(), rows: view.rows.toLocaleString() })}
      </h2>
      <div className="mm-bar-track">
        <span style={{ display: "block", width: `${view.rows === 0 ? 0 : (100 * view.labelled) / view.rows}%` }} />
      </div>
      <Text className="mm-help">
        {view.skipped > 0 ? t("{n} skipped.", { n: view.skipped.toLocaleString() }) : null}{" "}
        {view.contested > 0 ? t("On {n} people differ: these keep the label that they had.", { n: view.contested.toLocaleString() }) : null}
      </Text>
      {people.length === 0 ? null : <Figures label={t("People")} head={[t("Person"), t("Rows")]} rows={people.map(([who, rows]) => [who, rows.toLocaleString()])} />}
      {view.agreement.length === 0 ? null : (
        <Figures
          label={t("Agreement")}
          head={[t("Who"), t("Rows by both"), t("Same"), t("Kappa")]}
          rows={view.agreement.map(({ people: both, rows, share, kappa }) => [
            both.length === 0 ? t("all pairs") : both.join(", "),
            rows.toLocaleString(),
            shareText(share),
            kappa === null ? "" : kappa.toFixed(2),
          ])}
        />
      )}
      <Text className="mm-help">{t("The labels are written to this table. A pipeline that reads it learns from them at its next run:")}</Text>
      <Text className="mm-uri">{view.table}</Text>
    </aside>
  );
}
