/** Rule sets: write one with completion, try it on rows of a table, save it, submit it to the gate. */

import { Badge, Button, HStack, Text } from "@chakra-ui/react";
import { useCallback, useState } from "react";
import { Link, Navigate, useLocation, useNavigate, useParams } from "react-router-dom";

import { ApiError, type RuleSetDocument, type RuleSetList, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { readText } from "../core/document";
import { OwnDraft, chooseDraft, dropDraft, isNewDraft, keepDraft, listDrafts, newDraftName, ownerOf, readDraft } from "../core/drafts";
import { RuleSetEditor } from "../rules/RuleSetEditor";
import { BASE, newRulesPath, rulesPath } from "../core/paths";
import { Answered, Complaint, Page } from "../parts/page";
import { t } from "../i18n/t";

/** An address without a name is a new rule set's, which gets one of its own, so that its draft is found again. */
export function RulesPage() {
  const { name, draft } = useParams();
  return name === undefined ? <Navigate to={newRulesPath()} replace /> : <Listed name={draft === undefined ? name : null} draft={draft ?? name} />;
}

interface Place {
  /** null: a new rule set. */
  name: string | null;
  draft: string;
}

function Listed({ name, draft }: Place) {
  useState(nameNameless);
  const answer = useAnswer(api.ruleSets);
  const chosen = (useLocation().state as { draft?: string } | null)?.draft;
  return (
    <Page title={t("Rule sets")} help={t("Compose signals into decisions, and try them on past rows before anything is in use.")}>
      <Answered answer={answer}>
        {(known) => (
          <>
            {known.store.writable ? null : <Complaint text={t("Nothing can be saved. {reason}", { reason: known.store.reason })} />}
            <div className="mm-rules">
              <nav aria-label={t("Rule sets")}>
                <Entry to={`${BASE}/rules`} title={t("New rule set")} help="" isHere={name === null} />
                {known.rule_sets.map((item) => (
                  <Entry
                    key={item.name}
                    to={rulesPath(item.name)}
                    title={item.name}
                    help={item.valid ? `${item.rules} ${item.rules === 1 ? "rule" : "rules"}` : undefined}
                    isHere={item.name === name}
                  />
                ))}
                <Drafts known={new Set(known.rule_sets.map((item) => item.name))} here={chosen ?? draft} />
              </nav>
              <Opened key={`${draft} ${chosen ?? ""}`} name={name} draft={draft} known={known} onSaved={answer.reload} />
            </div>
          </>
        )}
      </Answered>
    </Page>
  );
}

/** What only this browser keeps: new rule sets, second drafts, and those of rule sets that are gone. */
function Drafts({ known, here }: { known: ReadonlySet<string>; here: string }) {
  const navigate = useNavigate();
  const [, setDropped] = useState("");
  const discard = (name: string): void => {
    dropDraft("rules", name);
    setDropped(name);
    if (name === here) void navigate(`${BASE}/rules`);
  };
  return listDrafts("rules")
    .filter(({ name }) => !known.has(name))
    .map(({ name, draft }) => {
      const isNew = isNewDraft(name);
      const title = isNew ? titleOf(draft.text) : ownerOf(name);
      const help = isNew ? t("not saved yet") : known.has(title) ? t("not saved, from another tab") : t("deleted; your text is still here");
      return (
        <HStack key={name} gap={0} align="start">
          <div className="mm-wide">
            <Entry
              to={isNew ? newRulesPath(name) : rulesPath(title)}
              title={title}
              help={help}
              isHere={name === here}
              state={{ draft: name }}
              onClick={() => { if (!isNew) chooseDraft("rules", name); }}
            />
          </div>
          <Button size="xs" variant="ghost" aria-label={t("Discard {text}", { text: title })} onClick={() => { discard(name); }}>
            {t("Discard")}
          </Button>
        </HStack>
      );
    });
}

/** Once all new rule sets shared one draft, without a name: one that is left gets a name of its own. */
function nameNameless(): void {
  const draft = readDraft("rules", "");
  if (draft !== null && keepDraft("rules", newDraftName(), draft.text, draft.base)) dropDraft("rules", "");
}

function titleOf(text: string): string {
  const { rule_set: name } = (readText(text).value ?? {}) as { rule_set?: unknown };
  return typeof name === "string" ? name : t("New rule set");
}

interface EntryProps {
  to: string;
  title: string;
  /** undefined: it has problems. */
  help: string | undefined;
  isHere: boolean;
  state?: { draft: string };
  onClick?: () => void;
}

function Entry({ to, title, help, isHere, state, onClick }: EntryProps) {
  return (
    <Link to={to} state={state} onClick={onClick} className="mm-model" aria-current={isHere ? "page" : undefined}>
      <strong>{title}</strong>
      {help === undefined ? <Badge colorPalette="red">{t("has problems")}</Badge> : help === "" ? null : <Text className="mm-help">{help}</Text>}
    </Link>
  );
}

interface OpenedProps extends Place {
  known: RuleSetList;
  onSaved: () => void;
}

function Opened({ name, draft, known, onSaved }: OpenedProps) {
  const ask = useCallback(
    // In an object, since nothing at all is the answer that is still on its way.
    async (): Promise<{ saved: RuleSetDocument | null; isDeleted: boolean }> => {
      if (name === null) return { saved: null, isDeleted: false };
      try {
        return { saved: await api.ruleSet(name), isDeleted: false };
      } catch (error) {
        const isGone = error instanceof ApiError && error.status === 404;
        if (!isGone || new OwnDraft("rules", name).read() === null) throw error;
        return { saved: null, isDeleted: true };
      }
    },
    [name],
  );
  const answer = useAnswer(ask);
  return (
    <Answered answer={answer}>
      {({ saved, isDeleted }) => <RuleSetEditor saved={saved} draft={draft} isDeleted={isDeleted} known={known} onSaved={onSaved} />}
    </Answered>
  );
}
