/** Rule sets: write one with completion, try it on rows of a table, save it, submit it to the gate. */

import { Badge, Text } from "@chakra-ui/react";
import { useCallback } from "react";
import { Link, useParams } from "react-router-dom";

import { type RuleSetDocument, type RuleSetList, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { RuleSetEditor } from "../rules/RuleSetEditor";
import { BASE } from "./base";
import { Answered, Complaint, Page } from "./parts";
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
              </nav>
              <Opened key={name ?? ""} name={name} known={known} onSaved={answer.reload} />
            </div>
          </>
        )}
      </Answered>
    </Page>
  );
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
    async (): Promise<{ saved: RuleSetDocument | null }> => ({ saved: name === undefined ? null : await api.ruleSet(name) }),
    [name],
  );
  const answer = useAnswer(ask);
  return <Answered answer={answer}>{({ saved }) => <RuleSetEditor saved={saved} known={known} onSaved={onSaved} />}</Answered>;
}
