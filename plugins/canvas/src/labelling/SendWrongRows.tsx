/** One button: the rows that a model gets wrong go to the labelling page. */

import { Button, HStack, Text } from "@chakra-ui/react";
import { useState } from "react";
import { Link } from "react-router-dom";

import { ApiError, type PutForwardAnswer, api } from "../api/client";
import { NO_EDIT } from "../canvas/parts";
import { BASE } from "../pages/base";
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
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const send = async (): Promise<void> => {
    setBusy(true);
    setError("");
    try {
      setAnswer(await api.sendWrongRows(dagId, runId, step));
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(problem.message);
    } finally {
      setBusy(false);
    }
  };
  return (
    <HStack gap={3} role="status">
      <Button size="2xs" variant="outline" disabled={!mayEdit} title={mayEdit ? undefined : t(NO_EDIT)} loading={isBusy} onClick={() => void send()}>
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
