/** Templates to begin with, each with a sample table: one click leads to a pipeline that runs. */

import { Button, HStack, Text } from "@chakra-ui/react";
import { FlaskConical, Table2 } from "lucide-react";
import { useCallback, useState } from "react";
import { useNavigate } from "react-router-dom";

import { ApiError, type Template, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { newText } from "../core/document";
import type { JsonObject } from "../core/value";
import { type Sentence, t, word } from "../i18n/t";
import { BASE, newPath } from "../core/paths";
import { Answered, Complaint } from "../parts/page";

interface Said {
  title: Sentence;
  purpose: Sentence;
}

/** What a template is for, for somebody who knows none of its words; others show what they say of themselves. */
const SAID: Readonly<Record<string, Said>> = {
  one_click: {
    title: "From a table to a small model",
    purpose: "From a table with texts and labels to a small, fast model: a large model learns, a small one learns from it, and a gate compares it with the one in use.",
  },
  each_signal: { title: "Many questions about a text", purpose: "Several yes-or-no questions about a text, each with a small model of its own on a common trunk." },
  compression: {
    title: "The smallest model within a budget",
    purpose: "The smallest and fastest model that keeps a budget of accuracy, speed and size: a search tries ways to compress a large one.",
  },
  rule_gate: { title: "Decisions by rules", purpose: "Decisions by rules that everybody can read: tried on past rows before they are in use." },
  language_model: {
    title: "From a table without labels",
    purpose: "A language model labels the rows within a budget, checked by some labels by hand. It needs an Airflow connection to the language model.",
  },
  dataset: { title: "A clean dataset", purpose: "Clean a table: bad rows set aside, copies removed, and split for training and testing." },
};
/** Templates whose form is the page "One click". */
const WITH_PAGE = new Set(["one_click", "each_signal"]);

export function Gallery({ isOpen }: { isOpen: boolean }) {
  const [isShown, setShown] = useState(isOpen);
  if (!isShown) {
    return (
      <Button size="sm" variant="outline" alignSelf="flex-start" onClick={() => { setShown(true); }}>
        {t("Begin something new")}
      </Button>
    );
  }
  return <Templates />;
}

function Templates() {
  const answer = useAnswer(useCallback(() => api.templates(), []));
  return (
    <section aria-label={t("Templates")}>
      <h2 className="mm-section-title">{t("Begin with a template")}</h2>
      <Text className="mm-help" mb={3}>
        {t("Try one on the sample, a table of 1,500 made-up messages to a shop that is written into the deployment's folder of tables once: press Run on the page that opens, and its result is shown when it is done, after some minutes.")}
      </Text>
      <Answered answer={answer}>
        {(templates) => (
          <div className="mm-home">
            {templates.map((template) => (
              <Card key={template.name} template={template} />
            ))}
          </div>
        )}
      </Answered>
    </section>
  );
}

function Card({ template }: { template: Template }) {
  const navigate = useNavigate();
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const said = SAID[template.name];
  const title = said === undefined ? word(template.title) : t(said.title);
  const tryIt = async (): Promise<void> => {
    setBusy(true);
    setError("");
    try {
      const { document } = await api.sample(template.name);
      void navigate(newPath(), { state: { text: newText(document as JsonObject) } });
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(problem.message);
      setBusy(false);
    }
  };
  return (
    <section className="mm-card" aria-label={title}>
      <h3 className="mm-section-title">{title}</h3>
      <Text fontSize="sm" mb={3}>
        {said === undefined ? template.help : t(said.purpose)}
      </Text>
      {error === "" ? null : <Complaint text={error} />}
      <HStack gap={2} wrap="wrap">
        <Button size="xs" colorPalette="brand" loading={isBusy} onClick={() => void tryIt()}>
          <FlaskConical size={14} /> {t("Try it on the sample")}
        </Button>
        {WITH_PAGE.has(template.name) ? (
          <Button size="xs" variant="outline" onClick={() => { void navigate(`${BASE}/one-click`); }}>
            <Table2 size={14} /> {t("Use a table of mine")}
          </Button>
        ) : null}
      </HStack>
    </section>
  );
}
