/** One button: the rows that a model gets wrong go to the labelling page. */

import { Button, HStack, Text } from "@chakra-ui/react";
import { useState } from "react";
import { Link } from "react-router-dom";

import { type PutForwardAnswer, api } from "../api/client";
import { useSending } from "../api/useSending";
import { NO_EDIT } from "../parts/may";
import { BASE } from "../core/paths";
import { useCanvas } from "../store";
import { plural, t } from "../i18n/t";

interface Props {
  dagId: string;
  runId: string;
  step: string;
  /** Whether the user may edit that pipeline; left out: it is the one on the canvas. */
  mayEdit?: boolean;
}

export function SendWrongRows({ dagId, runId, step, mayEdit: isAllowed }: Props) {
  const mayEditHere = useCanvas((state) => state.may.edit);
  const mayEdit = isAllowed ?? mayEditHere;
  const [answer, setAnswer] = useState<PutForwardAnswer | null>(null);
  const { isBusy, error, send } = useSending();
  const sendRows = async (): Promise<void> => {
    setAnswer(await api.sendWrongRows(dagId, runId, step));
  };
  return (
    <HStack gap={3} role="status">
      <Button size="2xs" variant="outline" disabled={!mayEdit} title={mayEdit ? undefined : t(NO_EDIT)} loading={isBusy} onClick={() => void send(sendRows)}>
        {t("Send to labelling")}
      </Button>
      {answer === null ? null : (
        <Text fontSize="sm">
          {answer.added === 0 ? t("They are there already.") : plural(answer.added, "1 row was added.", "{n} rows were added.")}{" "}
          <Link className="mm-link" to={queuePath(answer.queue.queue.name)}>
            {t("Label them")}
          </Link>
        </Text>
      )}
      {error === "" ? null : <span className="mm-field-error">{error}</span>}
    </HStack>
  );
}

export function queuePath(name: string): string {
  return `${BASE}/labelling/${encodeURIComponent(name)}`;
}
