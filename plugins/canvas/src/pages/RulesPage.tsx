/** Rule sets: write one, see what is wrong while typing, and try it on rows of a table. */

import { Badge, Button, Input, Stack, Table, Text, Textarea } from "@chakra-ui/react";
import { Play } from "lucide-react";
import { useEffect, useState } from "react";

import { ApiError, type RuleProblem, type TriedRuleSet, api } from "../api/client";
import { Complaint, Page } from "./parts";

const CHECK_DELAY = 350;
const DRAFT = "modelmill.rules";

export function RulesPage() {
  const [text, setText] = useState(() => localStorage.getItem(DRAFT) ?? "");
  const [against, setAgainst] = useState("");
  const [table, setTable] = useState("");
  const [tried, setTried] = useState<TriedRuleSet | null>(null);
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const problems = useProblems(text);

  const change = (next: string): void => {
    setText(next);
    localStorage.setItem(DRAFT, next);
  };
  const attempt = async (): Promise<void> => {
    setBusy(true);
    setError("");
    try {
      setTried(await api.tryRules(text, table, against));
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setTried(null);
      setError(problem.message);
    } finally {
      setBusy(false);
    }
  };

  return (
    <Page title="Rule sets" help="Compose signals into decisions, and try them on past rows before anything is in use. The text is kept in your browser.">
      <div className="mm-two">
        <section className="mm-card" aria-label="Rule set">
          <label className="mm-label" htmlFor="mm-rules">
            Rule set (YAML)
          </label>
          <Textarea id="mm-rules" rows={22} fontFamily="mono" fontSize="xs" spellCheck={false} value={text} onChange={(event) => change(event.target.value)} />
          {problems.map((problem) => (
            <div key={`${problem.path} ${problem.message}`} className="mm-field-error" role="alert">
              {problem.line > 0 ? `line ${problem.line}: ` : ""}
              {problem.message}
              {problem.excerpt === "" ? null : <pre>{problem.excerpt}</pre>}
            </div>
          ))}
          {text !== "" && problems.length === 0 ? <Badge colorPalette="green">no problem known</Badge> : null}
        </section>
        <Stack gap={4} minW={0}>
          <section className="mm-card" aria-label="Try">
            <label className="mm-label" htmlFor="mm-rules-table">
              Table to try it on
            </label>
            <Input id="mm-rules-table" size="sm" fontFamily="mono" placeholder="${data}/tickets" value={table} onChange={(event) => setTable(event.target.value)} />
            <details className="mm-more">
              <summary>Compare with another rule set</summary>
              <Textarea aria-label="Other rule set (YAML)" rows={8} fontFamily="mono" fontSize="xs" value={against} onChange={(event) => setAgainst(event.target.value)} />
            </details>
            <Button size="sm" mt={2} colorPalette="brand" disabled={text === "" || table === "" || problems.length > 0} loading={isBusy} onClick={() => void attempt()}>
              <Play size={15} /> Try
            </Button>
            {error === "" ? null : <Complaint text={error} />}
          </section>
          {tried === null ? null : <Tried tried={tried} />}
        </Stack>
      </div>
    </Page>
  );
}

function Tried({ tried }: { tried: TriedRuleSet }) {
  return (
    <section className="mm-card mm-scroll" aria-label="Decisions">
      <h2 className="mm-section-title">
        {tried.table}, version {tried.version}
      </h2>
      <Text className="mm-help">
        {tried.counts.map((count) => `${count.decision}${count.rule === null ? "" : ` (${count.rule})`}: ${count.rows}`).join(" · ")}
        {tried.differ === null ? "" : ` · ${tried.differ} rows differ`}
      </Text>
      <Table.Root size="sm">
        <Table.Body>
          {tried.rows.map((row, index) => (
            <Table.Row key={index}>
              <Table.Cell>
                <pre className="mm-explanation">{row.text}</pre>
                {row.other === null ? null : <Badge colorPalette="orange">other: {row.other}</Badge>}
                <details className="mm-more">
                  <summary>Row</summary>
                  <pre className="mm-uri">{JSON.stringify(row.row, null, 1)}</pre>
                </details>
              </Table.Cell>
            </Table.Row>
          ))}
        </Table.Body>
      </Table.Root>
    </section>
  );
}

function useProblems(text: string): RuleProblem[] {
  const [state, setState] = useState<{ text: string; problems: RuleProblem[] }>({ text: "", problems: [] });
  useEffect(() => {
    if (text.trim() === "") return;
    const controller = new AbortController();
    const timer = setTimeout(() => {
      api.checkRules(text, controller.signal).then(
        ({ problems }) => setState({ text, problems }),
        () => undefined, // no answer: trying it says why
      );
    }, CHECK_DELAY);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [text]);
  return text.trim() === "" ? [] : state.problems;
}
