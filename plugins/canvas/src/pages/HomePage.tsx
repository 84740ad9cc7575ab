/** The first page: what to begin with, what runs, what waits for a person, and what happened since yesterday. */

import { Badge, Button, HStack, Input, Stack, Text } from "@chakra-ui/react";
import { type ReactNode, useCallback, useEffect, useState } from "react";
import { Link, useNavigate } from "react-router-dom";

import { type Home, type LedgerRow, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { type Sentence, plural, t, word } from "../i18n/t";
import { BASE, canvasPath } from "../core/paths";
import { Gallery } from "./Gallery";
import { Answered, Complaint, Page } from "../parts/page";
import { startTour } from "./Tour";
import { type Named, matching, useNames } from "./useNames";

const POLL = 15_000;

export function HomePage() {
  const answer = useAnswer(useCallback(() => api.home(), []));
  const { poll } = answer;
  useEffect(() => {
    const timer = setInterval(() => { if (!document.hidden) poll(); }, POLL);
    return () => { clearInterval(timer); };
  }, [poll]);
  const actions = (
    <Button size="sm" variant="outline" onClick={startTour}>
      {t("Take the tour")}
    </Button>
  );
  return (
    <Page title={t("Overview")} help={t("What runs, what waits for you, and what happened in the last 24 hours.")} actions={actions}>
      <Answered answer={answer}>{(home) => <Shown home={home} />}</Answered>
    </Page>
  );
}

function Shown({ home }: { home: Home }) {
  const isNew = home.pipelines === 0 && home.decided.length === 0;
  if (isNew) return <Gallery isOpen />;
  // A quiet day leads with what can be begun.
  const isQuiet = [home.waiting, home.running, home.failed, home.decided, home.drifted].every((list) => list.length === 0);
  return (
    <Stack gap={4}>
      <SearchBox />
      {isQuiet ? <Gallery isOpen /> : null}
      <div className="mm-home">
        <List title={t("Waiting for an answer")} empty={t("Nobody is asked anything.")}>
          {home.waiting.map((item) => (
            <Item key={`${item.dag_id} ${item.run_id} ${item.task}`} time={item.since} to={canvasPath(item.dag_id, item.run_id)} name={item.dag_id} badge={t("waits for an answer")} colour="orange">
              {item.subject}
            </Item>
          ))}
        </List>
        <List title={t("Running now")} empty={t("Nothing runs.")}>
          {home.running.map((run) => (
            <Item key={`${run.dag_id} ${run.run_id}`} time={run.start} to={canvasPath(run.dag_id, run.run_id)} name={run.dag_id} badge={word(run.state)} colour="blue" />
          ))}
        </List>
        <List title={t("Failed")} empty={t("Nothing failed.")}>
          {home.failed.map((run) => (
            <Item key={`${run.dag_id} ${run.run_id}`} time={run.end} to={canvasPath(run.dag_id, run.run_id)} name={run.dag_id} badge={word(run.state)} colour="red" />
          ))}
        </List>
        <List title={t("Promoted and refused")} empty={t("No model was promoted, and none refused.")} complaint={home.ledger_problem}>
          {home.decided.map((row) => (
            <Decided key={`${row.model} ${row.number}`} row={row} />
          ))}
        </List>
        <List title={t("Drift")} empty={t("No alarm.")}>
          {home.drifted.map((alarm) => (
            <Item key={`${alarm.name} ${alarm.time}`} time={alarm.time} to={canvasPath(alarm.dag_id, alarm.run_id)} name={alarm.name} badge={t("drifted")} colour="orange" />
          ))}
        </List>
      </div>
      {isQuiet ? null : <Gallery isOpen={false} />}
    </Stack>
  );
}

const ACTIONS: Readonly<Record<string, { said: Sentence; colour: string }>> = {
  promote: { said: "promoted", colour: "green" },
  refuse: { said: "refused", colour: "red" },
  rollback: { said: "rolled back", colour: "orange" },
  hand_move: { said: "moved by hand", colour: "orange" },
  revert: { said: "moved back by the guard", colour: "orange" },
};

function Decided({ row }: { row: LedgerRow }) {
  const action = ACTIONS[row.action];
  return (
    <Item time={row.time} to={`${BASE}/models/${encodeURIComponent(row.model)}`} name={row.model} badge={action ? t(action.said) : row.action} colour={action?.colour ?? "gray"}>
      {[row.action === "promote" && row.to_version !== null ? t("version {version}", { version: row.to_version }) : "", ...row.reasons].filter((part) => part !== "").join("; ")}
    </Item>
  );
}

interface ListProps {
  title: string;
  empty: string;
  /** Why not all of it can be shown; empty: it can. */
  complaint?: string;
  children: ReactNode;
}

function List({ title, empty, complaint = "", children }: ListProps) {
  const isEmpty = [children].flat(2).every((child) => child === null);
  return (
    <section className="mm-card" aria-label={title}>
      <h2 className="mm-section-title">{title}</h2>
      {complaint === "" ? null : <Complaint text={complaint} />}
      {isEmpty ? null : <ul className="mm-items">{children}</ul>}
      {isEmpty && complaint === "" ? <Text className="mm-help">{empty}</Text> : null}
    </section>
  );
}

interface ItemProps {
  time: string | null;
  to: string;
  name: string;
  badge: string;
  colour: string;
  children?: ReactNode;
}

function Item({ time, to, name, badge, colour, children }: ItemProps) {
  return (
    <li>
      <HStack gap={2}>
        <Link className="mm-link" to={to}>
          {name}
        </Link>
        <Badge colorPalette={colour}>{badge}</Badge>
        <span className="mm-grow" />
        <Text as="span" className="mm-help mm-time" title={time === null ? undefined : new Date(time).toLocaleString()}>
          {time === null ? "" : momentText(new Date(time))}
        </Text>
      </HStack>
      {children === undefined || children === "" ? null : <Text fontSize="sm">{children}</Text>}
    </li>
  );
}

/** Return the time of day, of another day with its date: the list is about the last 24 hours. */
function momentText(time: Date): string {
  const clock = time.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  return time.toDateString() === new Date().toDateString() ? clock : `${time.toLocaleDateString()} ${clock}`;
}

const KINDS: Readonly<Record<Named["kind"], Sentence>> = { pipeline: "pipeline", model: "model", rules: "rule set" };

/** Find a pipeline, a model or a rule set. The names are asked for when somebody begins to search, not before. */
function SearchBox() {
  const [typed, setTyped] = useState("");
  const [isAsked, setAsked] = useState(false);
  const { names, problems } = useNames(isAsked);
  const navigate = useNavigate();
  const found = matching(names, typed);
  return (
    <search className="mm-search">
      <Input
        size="sm"
        type="search"
        aria-label={t("Search pipelines, models and rule sets")}
        placeholder={t("Search pipelines, models and rule sets")}
        value={typed}
        onFocus={() => { setAsked(true); }}
        onChange={(event) => { setTyped(event.target.value); }}
        onKeyDown={(event) => {
          const [first] = found;
          if (event.key === "Enter" && first) void navigate(first.path);
        }}
      />
      {typed.trim() === "" ? null : (
        <div role="status">
          {problems.map((problem) => <Complaint key={problem} text={problem} />)}
          {found.length === 0 ? <Text className="mm-help">{names === null ? t("Loading") : t("Nothing has such a name.")}</Text> : <Text className="mm-help">{plural(found.length, "1 found", "{n} found")}</Text>}
          <ul className="mm-items">
            {found.map((item) => (
              <li key={item.path}>
                <Button asChild size="xs" variant="plain" className="mm-link">
                  <Link to={item.path}>{item.name}</Link>
                </Button>
                <Badge variant="outline">{t(KINDS[item.kind])}</Badge>
              </li>
            ))}
          </ul>
        </div>
      )}
    </search>
  );
}
