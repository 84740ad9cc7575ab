/** Labelling: the queues of rows that people label, and one of them in front of a person. */

import { Text } from "@chakra-ui/react";
import { useCallback } from "react";
import { Link, useNavigate, useParams } from "react-router-dom";

import { type QueueView, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { Labeller } from "../labelling/Labeller";
import { PutForwardForm } from "../labelling/PutForwardForm";
import { queuePath } from "../labelling/SendWrongRows";
import { BASE } from "../core/paths";
import { Answered, Page } from "../parts/page";
import { t } from "../i18n/t";

export function LabellingPage() {
  const { name } = useParams();
  return name === undefined ? <Queues /> : <QueuePage key={name} name={name} />;
}

function useMay<T>(ask: () => Promise<T>) {
  return useAnswer(
    useCallback(async () => {
      const [found, { may_create: may }] = await Promise.all([ask(), api.catalogue()]);
      return { found, may };
    }, [ask]),
  );
}

function Queues() {
  const answer = useMay(api.queues);
  const navigate = useNavigate();
  return (
    <Page title={t("Labelling")} help={t("People label the rows that matter most; the pipeline learns from them at its next run.")}>
      <Answered answer={answer}>
        {({ found, may }) => (
          <div className="mm-wizard">
            <PutForwardForm mayEdit={may} onDone={(queue) => void navigate(queuePath(queue))} />
            <div>
              {found.length === 0 ? (
                <div className="mm-card mm-empty">
                  <Text>{t("No rows wait for a label yet.")}</Text>
                  <Text className="mm-help">{t("Put rows of a table forward here, or the rows that a model gets wrong from its card.")}</Text>
                </div>
              ) : (
                found.map((view) => <QueueLine key={view.queue.name} view={view} />)
              )}
            </div>
          </div>
        )}
      </Answered>
    </Page>
  );
}

function QueueLine({ view }: { view: QueueView }) {
  const { queue, rows, labelled } = view;
  return (
    <Link to={queuePath(queue.name)} className="mm-model mm-card">
      <strong>{queue.name}</strong>
      <Text className="mm-help">
        {t("{labelled} of {rows} rows have a label of {label}.", { labelled: labelled.toLocaleString(), rows: rows.toLocaleString(), label: queue.label })} {queue.source}
      </Text>
      <div className="mm-bar-track">
        <span style={{ display: "block", width: `${rows === 0 ? 0 : (100 * labelled) / rows}%` }} />
      </div>
    </Link>
  );
}

function QueuePage({ name }: { name: string }) {
  const answer = useMay(useCallback(() => api.queue(name), [name]));
  const back = (
    <Link className="mm-link" to={`${BASE}/labelling`}>
      {t("All queues")}
    </Link>
  );
  return (
    <Page title={name} help={answer.data === null ? "" : answer.data.found.queue.source} actions={back}>
      <Answered answer={answer}>{({ found, may }) => <Labeller view={found} mayEdit={may} />}</Answered>
    </Page>
  );
}
