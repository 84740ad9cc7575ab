/** Every text of the pipeline that was saved: by whom, when, why; what it changes, and back to it. */

import { Badge, Button, HStack, Text } from "@chakra-ui/react";
import { useCallback, useEffect, useState } from "react";

import { ApiError, type Version, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { Answered, Complaint } from "../pages/parts";
import { useCanvas } from "../store";
import { Diff } from "./Diff";
import { Frame } from "./dialogs";

export function VersionsDialog({ dagId, onClose }: { dagId: string; onClose: () => void }) {
  const answer = useAnswer(useCallback(() => api.versions(dagId), [dagId]));
  const [chosen, setChosen] = useState<Version | null>(null);
  return (
    <Frame title="Versions" isWide onClose={onClose}>
      <Answered answer={answer}>
        {(versions) => (
          <div className="mm-versions">
            <ul aria-label="Versions">
              {versions.length === 0 ? <li className="mm-help">Nothing has been saved here yet.</li> : null}
              {versions.map((version) => (
                <li key={version.number}>
                  <button type="button" aria-pressed={chosen?.number === version.number} onClick={() => setChosen(version)}>
                    <HStack justify="space-between">
                      <Text fontWeight="semibold">
                        {version.number} · {version.author}
                      </Text>
                      {version.deleted ? <Badge colorPalette="red">deleted</Badge> : null}
                    </HStack>
                    <Text className="mm-help">{new Date(version.time).toLocaleString()}</Text>
                    <Text fontSize="xs">{version.message}</Text>
                  </button>
                </li>
              ))}
            </ul>
            {chosen === null ? (
              <Text className="mm-help">Choose a version to see what it would change.</Text>
            ) : (
              <VersionView key={chosen.number} dagId={dagId} version={chosen} onClose={onClose} />
            )}
          </div>
        )}
      </Answered>
    </Frame>
  );
}

interface ViewProps {
  dagId: string;
  version: Version;
  onClose: () => void;
}

function VersionView({ dagId, version, onClose }: ViewProps) {
  const { history, setText, say } = useCanvas();
  const [text, setVersionText] = useState<string | null>(null);
  const [error, setError] = useState("");
  useEffect(() => {
    let isCurrent = true;
    api.version(dagId, version.number).then(
      (document) => { if (isCurrent) setVersionText(document.text); },
      (problem: unknown) => { if (isCurrent) setError(problem instanceof ApiError ? problem.message : String(problem)); },
    );
    return () => { isCurrent = false; };
  }, [dagId, version.number]);
  if (error !== "") return <Complaint text={error} />;
  if (text === null) return null;
  return (
    <div>
      <Text fontSize="sm" mb={2}>
        From the text on the canvas to version {version.number}
      </Text>
      <Diff before={history.present} after={text} />
      <Button
        size="sm"
        disabled={text === history.present}
        onClick={() => {
          setText(text, "");
          say(`The canvas shows version ${version.number}. Save it to make it the newest one.`);
          onClose();
        }}
      >
        Go back to version {version.number}
      </Button>
    </div>
  );
}
