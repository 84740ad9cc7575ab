/** Every text that was saved: by whom, when, why; what it changes, and back to it. */

import { Badge, Button, HStack, Text } from "@chakra-ui/react";
import { useEffect, useState } from "react";

import { ApiError, type Version } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { Answered, Complaint } from "../parts/page";
import { Diff } from "./Diff";
import { Frame } from "../parts/Frame";
import { t } from "../i18n/t";

interface Props {
  /** The text that is being edited. */
  present: string;
  /** Ask for the list, and for one text; the same functions between renders. */
  list: () => Promise<Version[]>;
  read: (number: number) => Promise<{ text: string }>;
  onTake: (text: string, number: number) => void;
  onClose: () => void;
}

export function VersionsDialog({ present, list, read, onTake, onClose }: Props) {
  const answer = useAnswer(list);
  const [chosen, setChosen] = useState<Version | null>(null);
  return (
    <Frame title={t("Versions")} isWide onClose={onClose}>
      <Answered answer={answer}>
        {(versions) => (
          <div className="mm-versions">
            <ul aria-label={t("Versions")}>
              {versions.length === 0 ? <li className="mm-help">{t("Nothing has been saved here yet.")}</li> : null}
              {versions.map((version) => (
                <li key={version.number}>
                  <button type="button" aria-pressed={chosen?.number === version.number} onClick={() => setChosen(version)}>
                    <HStack justify="space-between">
                      <Text fontWeight="semibold">
                        {version.number} · {version.author}
                      </Text>
                      {version.deleted ? <Badge colorPalette="red">{t("deleted")}</Badge> : null}
                    </HStack>
                    <Text className="mm-help">{new Date(version.time).toLocaleString()}</Text>
                    <Text fontSize="xs">{version.message}</Text>
                  </button>
                </li>
              ))}
            </ul>
            {chosen === null ? (
              <Text className="mm-help">{t("Choose a version to see what it would change.")}</Text>
            ) : (
              <VersionView
                key={chosen.number}
                present={present}
                read={read}
                number={chosen.number}
                onTake={(text) => {
                  onTake(text, chosen.number);
                  onClose();
                }}
              />
            )}
          </div>
        )}
      </Answered>
    </Frame>
  );
}

interface ViewProps {
  present: string;
  read: (number: number) => Promise<{ text: string }>;
  number: number;
  onTake: (text: string) => void;
}

function VersionView({ present, read, number, onTake }: ViewProps) {
  const [text, setVersionText] = useState<string | null>(null);
  const [error, setError] = useState("");
  useEffect(() => {
    let isCurrent = true;
    read(number).then(
      (document) => { if (isCurrent) setVersionText(document.text); },
      (problem: unknown) => { if (isCurrent) setError(problem instanceof ApiError ? problem.message : String(problem)); },
    );
    return () => { isCurrent = false; };
  }, [read, number]);
  if (error !== "") return <Complaint text={error} />;
  if (text === null) return null;
  return (
    <div>
      <Text fontSize="sm" mb={2}>
        {t("From the present text to version {number}", { number })}
      </Text>
      <Diff before={present} after={text} />
      <Button size="sm" disabled={text === present} onClick={() => onTake(text)}>
        {t("Go back to version {number}", { number })}
      </Button>
    </div>
  );
}
