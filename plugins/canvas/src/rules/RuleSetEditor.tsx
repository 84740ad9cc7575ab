/** One rule set: its text with completion and problems, saving with the difference first, and the gate. */

import { Badge, Button, HStack, IconButton, Text } from "@chakra-ui/react";
import { Activity, Gavel, History, Save } from "lucide-react";
import { useCallback, useEffect, useMemo, useState } from "react";
import { useNavigate } from "react-router-dom";

import { ApiError, type ErrorBody, type RuleProblem, type RuleSetDocument, type RuleSetList, api } from "../api/client";
import { marksOf } from "../canvas/TextPane";
import { VersionsDialog } from "../canvas/VersionsDialog";
import { ConflictDialog, SaveDialog } from "../canvas/dialogs";
import { complete, signalNames } from "../core/ruleWords";
import { CodeArea } from "../form/CodeArea";
import { BASE } from "../pages/base";
import { GateDialog } from "./GateDialog";
import { SignalDialog } from "./SignalDialog";
import { TryPanel } from "./TryPanel";
import { useColumns, useModelNames } from "./words";

const CHECK_DELAY = 350;
const DRAFT = "modelmill.rules.";
const EMPTY = `rule_set: new_rules
key: id
signals:
  offer: {kind: regex, column: text, pattern: "(?i)offer"}
rules:
  - {name: offers, when: offer, then: review}
default: keep
`;

type Stage = "none" | "save" | "signal" | "versions" | "gate" | NonNullable<ErrorBody["conflict"]>;

interface Props {
  /** As it is kept; null: a new one. */
  saved: RuleSetDocument | null;
  known: RuleSetList;
  onSaved: () => void;
}

export function RuleSetEditor({ saved, known, onSaved }: Props) {
  const navigate = useNavigate();
  const [base, setBase] = useState(saved);
  const draft = DRAFT + (base?.name ?? "");
  const [text, setText] = useState(() => localStorage.getItem(draft) ?? saved?.text ?? EMPTY);
  const [table, setTable] = useState("");
  const [target, setTarget] = useState<{ line: number } | null>(null);
  const [stage, setStage] = useState<Stage>("none");
  const [isBusy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState("");
  const [notice, setNotice] = useState("");
  const checked = useCheck(text);
  const isDirty = text !== (base?.text ?? "");

  const change = (next: string): void => {
    setText(next);
    setNotice("");
    if (next === base?.text) localStorage.removeItem(draft);
    else keep(draft, next);
  };
  const save = async (message: string, over: string | null): Promise<void> => {
    setBusy(true);
    setRefusal("");
    try {
      const document = await api.saveRules(base?.name ?? checked.name, text, message, over);
      localStorage.removeItem(draft);
      setBase(document);
      setStage("none");
      setNotice("Saved.");
      onSaved();
      if (document.name !== base?.name) void navigate(`${BASE}/rules/${encodeURIComponent(document.name)}`, { replace: true });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.body?.conflict) setStage(error.body.conflict);
      else {
        setStage("save");
        setRefusal(error.message);
      }
    } finally {
      setBusy(false);
    }
  };
  const words = useWords(known, table, text);
  return (
    <>
      <section className="mm-card" aria-label="Rule set">
        <HStack mb={2} gap={2}>
          <Text as="h2" className="mm-section-title mm-wide">
            {base?.name ?? "New rule set"}
          </Text>
          {checked.problems.length === 0 ? <Badge colorPalette="green">valid</Badge> : null}
          {base === null ? null : (
            <IconButton size="xs" variant="ghost" aria-label="Versions" title="Versions" onClick={() => setStage("versions")}>
              <History size={16} />
            </IconButton>
          )}
          <Button size="xs" variant="outline" title="Add or change a signal in a form" onClick={() => setStage("signal")}>
            <Activity size={14} /> Signal
          </Button>
          <Button size="xs" variant="outline" disabled={!isDirty || !known.store.may_create} onClick={() => { setRefusal(""); setStage("save"); }}>
            <Save size={14} /> Save
          </Button>
          <Button
            size="xs"
            colorPalette="brand"
            disabled={base === null || isDirty || base.digest === null || !known.store.may_create}
            title={isDirty ? "What is judged is what is saved: save it first" : "Run a pipeline that judges it"}
            onClick={() => setStage("gate")}
          >
            <Gavel size={14} /> Submit to the gate
          </Button>
        </HStack>
        <CodeArea label="Rule set (YAML)" text={text} marks={checked.marks} target={target} complete={words} onChange={change} />
        <Text className="mm-help" mt={1}>
          Ctrl+Space lists what fits at the cursor: signals, functions, columns of the table beside. What is not saved is kept in your browser.
        </Text>
        {notice === "" ? null : <span role="status">{notice}</span>}
        {checked.problems.map((problem) => (
          <button
            key={`${problem.path} ${problem.message}`}
            type="button"
            className="mm-field-error mm-rule-problem"
            onClick={() => setTarget({ line: Math.max(1, problem.line) })}
          >
            {problem.line > 0 ? `line ${problem.line}: ` : ""}
            {problem.message}
            {problem.excerpt === "" ? null : <pre>{problem.excerpt}</pre>}
          </button>
        ))}
      </section>
      <TryPanel text={text} saved={base} isValid={checked.problems.length === 0} table={table} onTable={setTable} />
      {stage === "save" ? (
        <SaveDialog
          before={base?.text ?? ""}
          after={text}
          isBusy={isBusy}
          isRun={false}
          problem={refusal}
          onSave={(message) => void save(message, base?.etag ?? null)}
          onClose={() => setStage("none")}
        />
      ) : null}
      {typeof stage === "object" ? (
        <ConflictDialog
          noun="rule set"
          author={stage.author}
          theirs={stage.text}
          mine={text}
          onMine={() => void save("", stage.etag)}
          onTheirs={() => {
            if (stage.text === null || stage.etag === null || base === null) return;
            setBase({ ...base, text: stage.text, etag: stage.etag });
            change(stage.text);
            setStage("none");
          }}
          onClose={() => setStage("none")}
        />
      ) : null}
      {stage === "signal" ? (
        <SignalDialog text={text} language={known.language} onChange={change} onClose={() => setStage("none")} />
      ) : null}
      {stage === "versions" && base !== null ? (
        <Versions name={base.name} present={text} onTake={change} onClose={() => setStage("none")} />
      ) : null}
      {stage === "gate" && base !== null ? <GateDialog ruleSet={base} table={table} onClose={() => setStage("none")} /> : null}
    </>
  );
}

function Versions({ name, present, onTake, onClose }: { name: string; present: string; onTake: (text: string) => void; onClose: () => void }) {
  return (
    <VersionsDialog
      present={present}
      list={useCallback(() => api.ruleSetVersions(name), [name])}
      read={useCallback((number: number) => api.ruleSetVersion(name, number), [name])}
      onTake={onTake}
      onClose={onClose}
    />
  );
}

function useWords(known: RuleSetList, table: string, text: string) {
  const columns = useColumns(table);
  const models = useModelNames();
  const signals = useMemo(() => signalNames(text), [text]);
  const { language } = known;
  return useCallback(
    (present: string, caret: number, isAsked: boolean) => complete(present, caret, signals, { ...language, columns, models }, isAsked),
    [signals, language, columns, models],
  );
}

interface Checked {
  text: string;
  name: string;
  problems: RuleProblem[];
}

/** What is wrong with a text, a moment after the last change. */
function useCheck(text: string): Checked & { marks: Map<number, string[]> } {
  const [state, setState] = useState<Checked>({ text: "", name: "", problems: [] });
  useEffect(() => {
    const controller = new AbortController();
    const timer = setTimeout(() => {
      api.checkRules(text, controller.signal).then(
        ({ document, problems }) => setState({ text, name: nameIn(document), problems }),
        () => undefined, // no answer: trying or saving it says why
      );
    }, CHECK_DELAY);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [text]);
  return { ...state, marks: useMemo(() => marksOf(state.problems), [state]) };
}

function nameIn(document: unknown): string {
  const name = (document as { rule_set?: unknown } | null)?.rule_set;
  return typeof name === "string" ? name : "";
}

function keep(key: string, text: string): void {
  try {
    localStorage.setItem(key, text);
  } catch {
    // The browser's storage is full or forbidden: the page works without it.
  }
}
