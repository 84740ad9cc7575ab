/** How good a version is, what it gets wrong, and what nobody knows of it: by the gate that it has passed. */

import { Text } from "@chakra-ui/react";
import { useCallback } from "react";

import { type VersionVerdict, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { gateFacts } from "../core/results";
import { SendWrongRows } from "../labelling/SendWrongRows";
import { Checks, GateMistakes, Headline, NotJudged } from "../run/cards";
import { Answered } from "../parts/page";
import { plural, t } from "../i18n/t";

export function VerdictBox({ name, version }: { name: string; version: number }) {
  const answer = useAnswer(useCallback(() => api.verdict(name, version), [name, version]));
  return (
    <section className="mm-card" aria-label={t("How good it is")}>
      <h2 className="mm-section-title">{t("How good version {version} is", { version })}</h2>
      <Answered answer={answer}>{(verdict) => <Verdict verdict={verdict} />}</Answered>
    </section>
  );
}

function Verdict({ verdict }: { verdict: VersionVerdict }) {
  const facts = gateFacts(verdict.content);
  if (facts === null) {
    return (
      <Text className="mm-help">
        {verdict.uri === ""
          ? t("No gate has judged this version: nothing here says how good it is.")
          : t("{uri} is gone, or no report of a gate on one model.", { uri: verdict.uri })}
      </Text>
    );
  }
  const send =
    verdict.dag_run === "" ? null : <SendWrongRows dagId={verdict.dag_id} runId={verdict.dag_run} step={verdict.step} mayEdit={!verdict.texts_hidden} />;
  return (
    <>
      <Headline figure={facts.figure} rows={facts.rows} rival={facts.rival} />
      <NotJudged lines={facts.notJudged} />
      <GateMistakes facts={facts} isTextHidden={verdict.texts_hidden} actions={send} />
      <details className="mm-more">
        <summary>{plural(facts.checks.length, "1 check of the gate", "{n} checks of the gate")}</summary>
        <Checks facts={facts} />
      </details>
    </>
  );
}
