/** The question of a task that waits for a person, answered where it is seen. */

import { Button, HStack, Input, Text } from "@chakra-ui/react";
import { useCallback, useState } from "react";

import { ApiError, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { Answered, Complaint } from "../parts/page";
import { t } from "../i18n/t";

export function QuestionForm({ dagId, runId, task }: { dagId: string; runId: string; task: string }) {
  const question = useAnswer(useCallback(() => api.question(dagId, runId, task), [dagId, runId, task]));
  const [reason, setReason] = useState("");
  const [error, setError] = useState("");
  const [answered, setAnswered] = useState("");
  const answer = async (option: string): Promise<void> => {
    setError("");
    try {
      await api.answer(dagId, runId, task, option, reason);
      setAnswered(option);
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(problem.message);
    }
  };
  return (
    <Answered answer={question}>
      {({ subject, body, options, assigned_users: users }) => (
        <section className="mm-card" aria-label={t("Question")}>
          <h3 className="mm-section-title">{subject}</h3>
          <Text fontSize="sm" whiteSpace="pre-wrap">
            {body}
          </Text>
          {users === null || users.length === 0 ? null : (
            <Text className="mm-help">{t("May be answered by {value}.", { value: users.map((user) => user.name).join(", ") })}</Text>
          )}
          {answered === "" ? (
            <HStack mt={2} gap={2}>
              <Input
                size="xs"
                aria-label={t("Reason (goes into the ledger)")}
                placeholder={t("Reason (goes into the ledger)")}
                maxLength={500}
                value={reason}
                onChange={(event) => { setReason(event.target.value); }}
              />
              {options.map((option) => (
                <Button key={option} size="xs" variant="outline" onClick={() => void answer(option)}>
                  {option}
                </Button>
              ))}
            </HStack>
          ) : (
            <Text role="status">{t("Answered: {answered}. The run goes on in a moment.", { answered })}</Text>
          )}
          {error === "" ? null : <Complaint text={error} />}
        </section>
      )}
    </Answered>
  );
}
