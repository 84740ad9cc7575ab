/** Rule sets: write one with completion, try it on rows of a table, save it, submit it to the gate. */

import { Badge, Text } from "@chakra-ui/react";
import { useCallback } from "react";
import { Link, useParams } from "react-router-dom";

import { ApiError, type RuleSetDocument, type RuleSetList, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { listDrafts, readDraft } from "../core/drafts";
import { RuleSetEditor } from "../rules/RuleSetEditor";
import { BASE } from "../core/paths";
import { Answered, Complaint, Page } from "../parts/page";
import { t } from "../i18n/t";

export function RulesPage() {
  const { name } = useParams();
  const answer = useAnswer(api.ruleSets);
  return (
    <Page title={t("Rule sets")} help={t("Compose signals into decisions, and try them on past rows before anything is in use.")}>
      <Answered answer={answer}>
        {(known) => (
          <>
            {known.store.writable ? null : <Complaint text={t("Nothing can be saved. {reason}", { reason: known.store.reason })} />}
            <div className="mm-rules">
              <nav aria-label={t("Rule sets")}>
                <Entry to={`${BASE}/rules`} title={t("New rule set")} isHere={name === undefined} />
                {known.rule_sets.map((item) => (
                  <Entry
                    key={item.name}
                    to={`${BASE}/rules/${encodeURIComponent(item.name)}`}
                    title={item.name}
                    help={item.valid ? `${item.rules} ${item.rules === 1 ? "rule" : "rules"}` : undefined}
                    isHere={item.name === name}
                  />
                ))}
                {deletedOnes(known).map((lost) => (
                  <Entry key={lost} to={`${BASE}/rules/${encodeURIComponent(lost)}`} title={lost} help={t("deleted; your text is still here")} isHere={lost === name} />
                ))}
              </nav>
              <Opened key={name ?? ""} name={name} known={known} onSaved={answer.reload} />
            </div>
          </>
        )}
      </Answered>
    </Page>
  );
}

/** Rule sets that are gone, but for what this browser keeps of them. */
function deletedOnes(known: RuleSetList): string[] {
  const names = new Set(known.rule_sets.map((item) => item.name));
  return listDrafts("rules").map(({ name }) => name).filter((name) => name !== "" && !names.has(name));
}

function Entry({ to, title, help, isHere }: { to: string; title: string; help?: string | undefined; isHere: boolean }) {
  return (
    <Link to={to} className="mm-model" aria-current={isHere ? "page" : undefined}>
      <strong>{title}</strong>
      {help === undefined ? null : <Text className="mm-help">{help}</Text>}
      {help === undefined && !to.endsWith("/rules") ? <Badge colorPalette="red">{t("has problems")}</Badge> : null}
    </Link>
  );
}

interface OpenedProps {
  name: string | undefined;
  known: RuleSetList;
  onSaved: () => void;
}

function Opened({ name, known, onSaved }: OpenedProps) {
  const ask = useCallback(
    // In an object, since nothing at all is the answer that is still on its way.
    async (): Promise<{ saved: RuleSetDocument | null; deleted?: string }> => {
      if (name === undefined) return { saved: null };
      try {
        return { saved: await api.ruleSet(name) };
      } catch (error) {
        const isGone = error instanceof ApiError && error.status === 404;
        if (!isGone || readDraft("rules", name) === null) throw error;
        return { saved: null, deleted: name };
      }
    },
    [name],
  );
  const answer = useAnswer(ask);
  return (
    <Answered answer={answer}>
      {({ saved, deleted }) => <RuleSetEditor saved={saved} deleted={deleted} known={known} onSaved={onSaved} />}
    </Answered>
  );
}
