/** One rule set: its text with completion and problems, saving with the difference first, and the gate. */

import { Badge, Button, HStack, IconButton, Text } from "@chakra-ui/react";
import { Activity, Gavel, History, Redo2, Save, Undo2 } from "lucide-react";
import { type KeyboardEvent, useCallback, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { useNavigate } from "react-router-dom";

import { ApiError, type ErrorBody, type RuleProblem, type RuleSetDocument, type RuleSetList, api } from "../api/client";
import { marksOf } from "../canvas/TextPane";
import { VersionsDialog } from "../canvas/VersionsDialog";
import { ConflictDialog, SaveDialog } from "../canvas/dialogs";
import type { Keeping, Saved } from "../core/drafts";
import { complete, signalNames } from "../core/ruleWords";
import { CodeArea } from "../form/CodeArea";
import { BASE } from "../core/paths";
import { useIsHere } from "../parts/useIsHere";
import { useOtherTabs } from "../parts/useOtherTabs";
import { GateDialog } from "./GateDialog";
import { RuleText, savedOf } from "./ruleText";
import { SignalDialog } from "./SignalDialog";
import { TryPanel } from "./TryPanel";
import { useColumns, useModelNames } from "../api/names";
import { type Sentence, t } from "../i18n/t";

const NO_EDIT: Sentence = "Your role in Airflow may look at rule sets, not change them";
const CHECK_DELAY = 350;
const EMPTY = `rule_set: new_rules
key: id
signals:
  offer: {kind: regex, column: text, pattern: "(?i)offer"}
rules:
  - {name: offers, when: offer, then: review}
default: keep
`;

const OPENED = {
  saved: null,
  restored: "Your changes that were not saved are here again.",
  merged: "Somebody saved this rule set meanwhile. Your changes are merged with theirs; undo shows theirs.",
  conflict: null,
} as const;

function openedText(state: keyof typeof OPENED): string {
  const said = OPENED[state];
  return said === null ? "" : t(said);
}

function keepingText(keeping: Keeping): string {
  if (keeping === "lost") return t("This browser keeps no drafts: what is not saved is lost when the tab is closed.");
  return keeping === "kept" ? "" : t("Another tab has changes of this rule set that are not saved. Yours are kept beside them, in the list of rule sets.");
}

type Conflict = Omit<NonNullable<ErrorBody["conflict"]>, "diff">;
type Stage = "none" | "save" | "signal" | "versions" | "gate" | (Conflict & { message: string; isSaving: boolean });

interface Props {
  /** As it is kept; null: a new one. */
  saved: RuleSetDocument | null;
  /** The name of its draft while it is not saved. */
  draft: string;
  /** Whether it has been deleted, and left the draft in this browser. */
  isDeleted: boolean;
  known: RuleSetList;
  onSaved: () => void;
}

export function RuleSetEditor({ saved, draft, isDeleted, known, onSaved }: Props) {
  const navigate = useNavigate();
  const isHere = useIsHere();
  const [edited] = useState(() => new RuleText(saved, EMPTY, draft));
  const { document, base, history, keeping } = useSyncExternalStore(edited.subscribe, edited.snapshot);
  const text = history.present;
  const [table, setTable] = useState("");
  const [target, setTarget] = useState<{ line: number } | null>(null);
  const [stage, setStage] = useState<Stage>(() =>
    edited.state === "conflict" ? { author: t("Somebody else"), ...savedOf(saved), message: "", isSaving: false } : "none",
  );
  const [isBusy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState("");
  const [said, setSaid] = useState(() => (isDeleted ? t("The rule set has been deleted. Your text is still here.") : openedText(edited.state)));
  const notice = said === "" || keeping === "lost" ? keepingText(keeping) : said;
  const checked = useCheck(text);
  useOtherTabs(edited.keepAgain);
  const isDirty = text !== base.text;

  const change = (next: string): void => {
    setSaid("");
    edited.type(next);
  };
  const put = (next: string): void => {
    setSaid("");
    edited.replace(next);
  };
  const step = (go: () => void): void => {
    setSaid("");
    go();
  };
  /** Go on with a text over the newest saved one. */
  const take = (newest: Saved, next: string): void => {
    setSaid("");
    edited.rebase(newest, next);
    setStage("none");
  };
  const save = async (message: string, over: string | null): Promise<void> => {
    setBusy(true);
    setRefusal("");
    try {
      const stored = await api.saveRules(document?.name ?? checked.name, text, message, over);
      edited.saved(stored);
      setStage("none");
      setSaid(t("Saved."));
      onSaved();
      // Who has gone to another page meanwhile stays there.
      if (isHere() && stored.name !== document?.name) void navigate(`${BASE}/rules/${encodeURIComponent(stored.name)}`, { replace: true });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.body?.conflict) setStage({ ...error.body.conflict, message, isSaving: true });
      else {
        setStage("save");
        setRefusal(error.message);
      }
    } finally {
      setBusy(false);
    }
  };
  const onKeyDown = (event: KeyboardEvent<HTMLElement>): void => {
    const key = event.key.toLowerCase();
    const isHistory = (event.ctrlKey || event.metaKey) && (key === "z" || key === "y");
    // The browser's own history of the text ends where the page puts another text in.
    if (!isHistory || !(event.target as HTMLElement).closest(".mm-text")) return;
    event.preventDefault();
    step(key === "y" || event.shiftKey ? edited.redo : edited.undo);
  };
  const words = useWords(known, table, text);
  return (
    <>
      <section className="mm-card" aria-label={t("Rule set")} onKeyDown={onKeyDown}>
        <HStack mb={2} gap={2} wrap="wrap" justify="end">
          <Text as="h2" className="mm-section-title" flex="1 1 10rem" minW={0}>
            {document?.name ?? t("New rule set")}
          </Text>
          {checked.problems.length === 0 ? <Badge colorPalette="green">{t("valid")}</Badge> : null}
          <IconButton size="xs" variant="ghost" aria-label={t("Undo")} title={t("Undo (Ctrl+Z)")} disabled={history.past.length === 0} onClick={() => step(edited.undo)}>
            <Undo2 size={16} />
          </IconButton>
          <IconButton size="xs" variant="ghost" aria-label={t("Redo")} title={t("Redo (Ctrl+Shift+Z)")} disabled={history.future.length === 0} onClick={() => step(edited.redo)}>
            <Redo2 size={16} />
          </IconButton>
          {document === null ? null : (
            <IconButton size="xs" variant="ghost" aria-label={t("Versions")} title={t("Versions")} onClick={() => setStage("versions")}>
              <History size={16} />
            </IconButton>
          )}
          <Button size="xs" variant="outline" title={t("Add or change a signal in a form")} onClick={() => setStage("signal")}>
            <Activity size={14} />{" "}{t("Signal")}
          </Button>
          <Button
            size="xs"
            variant="outline"
            disabled={!isDirty || !known.store.may_create}
            title={known.store.may_create ? undefined : t(NO_EDIT)}
            onClick={() => { setRefusal(""); setStage("save"); }}
          >
            <Save size={14} />{" "}{t("Save")}
          </Button>
          <Button
            size="xs"
            colorPalette="brand"
            disabled={document === null || isDirty || document.digest === null || !known.store.may_create}
            title={!known.store.may_create ? t(NO_EDIT) : isDirty ? t("What is judged is what is saved: save it first") : t("Run a pipeline that judges it")}
            onClick={() => setStage("gate")}
          >
            <Gavel size={14} />{" "}{t("Submit to the gate")}
          </Button>
        </HStack>
        <CodeArea label={t("Rule set (YAML)")} text={text} marks={checked.marks} target={target} complete={words} onChange={change} />
        <Text className="mm-help" mt={1}>
          {t("Ctrl+Space lists what fits at the cursor: signals, functions, columns of the table beside. What is not saved is kept in your browser.")}
        </Text>
        {notice === "" ? null : <span role="status">{notice}</span>}
        {checked.problems.map((problem) => (
          <button
            key={`${problem.path} ${problem.message}`}
            type="button"
            className="mm-field-error mm-rule-problem"
            onClick={() => setTarget({ line: Math.max(1, problem.line) })}
          >
            {problem.line > 0 ? `${t("line {line}", { line: problem.line })}: ` : ""}
            {problem.message}
            {problem.excerpt === "" ? null : <pre>{problem.excerpt}</pre>}
          </button>
        ))}
      </section>
      <TryPanel text={text} saved={document} isValid={checked.problems.length === 0} table={table} onTable={setTable} />
      {stage === "save" ? (
        <SaveDialog
          before={base.text}
          after={text}
          isBusy={isBusy}
          isRun={false}
          problem={refusal}
          onSave={(message) => void save(message, base.etag)}
          onClose={() => setStage("none")}
        />
      ) : null}
      {typeof stage === "object" ? (
        <ConflictDialog
          noun="rules"
          author={stage.author}
          base={base.text}
          theirs={stage.text}
          mine={text}
          isSaving={stage.isSaving}
          onMine={() => {
            if (stage.isSaving || stage.text === null) void save(stage.message, stage.etag);
            else take({ text: stage.text, etag: stage.etag }, text);
          }}
          onTake={(next) => { take({ text: stage.text ?? "", etag: stage.etag }, next); }}
          onClose={() => setStage("none")}
        />
      ) : null}
      {stage === "signal" ? (
        <SignalDialog text={text} language={known.language} onChange={put} onClose={() => setStage("none")} />
      ) : null}
      {stage === "versions" && document !== null ? (
        <Versions name={document.name} present={text} onTake={put} onClose={() => setStage("none")} />
      ) : null}
      {stage === "gate" && document !== null ? <GateDialog ruleSet={document} table={table} onClose={() => setStage("none")} /> : null}
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
