/** The dialogs of the canvas page: what changes before it is saved, and who has saved meanwhile. */

import { Button, Input, Text } from "@chakra-ui/react";
import { type ReactNode, useState } from "react";

import { mergeTexts } from "../core/drafts";
import { Frame } from "../parts/Frame";
import { Diff } from "./Diff";
import { t } from "../i18n/t";

interface SaveProps {
  before: string;
  after: string;
  isBusy: boolean;
  /** Whether a run follows. */
  isRun: boolean;
  problem: string;
  onSave: (message: string) => void;
  onClose: () => void;
  /** What else is to be known before it is saved. */
  children?: ReactNode;
}

export function SaveDialog({ before, after, isBusy, isRun, problem, onSave, onClose, children }: SaveProps) {
  const [message, setMessage] = useState("");
  return (
    <Frame
      title={t("Save")}
      isWide
      onClose={onClose}
      footer={
        <>
          <Button size="sm" variant="outline" onClick={onClose}>
            {t("Cancel")}
          </Button>
          <Button size="sm" colorPalette="brand" loading={isBusy} onClick={() => { onSave(message); }}>
            {isRun ? t("Save and run") : t("Save")}
          </Button>
        </>
      }
    >
      <Diff before={before} after={after} />
      {children}
      <label className="mm-label" htmlFor="mm-message">
        {t("Why (for the list of versions)")}
      </label>
      <Input
        id="mm-message"
        size="sm"
        maxLength={500}
        value={message}
        onChange={(event) => { setMessage(event.target.value); }}
        onKeyDown={(event) => { if (event.key === "Enter") onSave(message); }}
      />
      {problem === "" ? null : (
        <Text className="mm-field-error" role="alert">
          {problem}
        </Text>
      )}
    </Frame>
  );
}

interface ConflictProps {
  /** What was saved: a pipeline, or a rule set. */
  noun?: "pipeline" | "rules";
  author: string;
  /** What both began with. */
  base: string;
  /** Null: it has been deleted. */
  theirs: string | null;
  mine: string;
  /** Whether choosing mine saves it at once. */
  isSaving: boolean;
  onMine: () => void;
  /** Take a text to go on with: theirs, or both merged. */
  onTake: (text: string) => void;
  onClose: () => void;
}

export function ConflictDialog({ noun = "pipeline", author, base, theirs, mine, isSaving, onMine, onTake, onClose }: ConflictProps) {
  const merged = theirs === null ? null : mergeTexts(base, mine, theirs);
  return (
    <Frame
      title={noun === "rules" ? t("{author} has saved this rule set meanwhile", { author }) : t("{author} has saved this pipeline meanwhile", { author })}
      isWide
      onClose={onClose}
      footer={
        <>
          <Button size="sm" variant="outline" onClick={onClose}>
            {t("Keep editing")}
          </Button>
          {theirs === null ? null : (
            <Button size="sm" variant="outline" onClick={() => { onTake(theirs); }}>
              {t("Take theirs")}
            </Button>
          )}
          <Button size="sm" variant={merged === null ? "solid" : "outline"} colorPalette="brand" onClick={onMine}>
            {isSaving ? t("Save mine over it") : t("Keep mine")}
          </Button>
          {merged === null ? null : (
            <Button size="sm" colorPalette="brand" onClick={() => { onTake(merged); }}>
              {t("Merge both")}
            </Button>
          )}
        </>
      }
    >
      <Text mb={2} fontSize="sm">
        {theirs === null
          ? noun === "rules"
            ? t("The rule set has been deleted. Your text is still here.")
            : t("The pipeline has been deleted. Your text is still here.")
          : merged === null
            ? t("From their text to yours. Both change the same lines, so they cannot be merged. If you take theirs, yours is one undo away.")
            : t("From their text to yours. If you take theirs, yours is one undo away.")}
      </Text>
      <Diff before={theirs ?? ""} after={mine} />
    </Frame>
  );
}

interface OlderProps {
  older: string;
  mine: string;
  onTake: () => void;
  onClose: () => void;
}

/** An older text was asked for where there are changes that are not saved. */
export function OlderDialog({ older, mine, onTake, onClose }: OlderProps) {
  return (
    <Frame
      title={t("You have changes that are not saved")}
      isWide
      onClose={onClose}
      footer={
        <>
          <Button size="sm" variant="outline" onClick={onTake}>
            {t("Replace mine")}
          </Button>
          <Button size="sm" colorPalette="brand" onClick={onClose}>
            {t("Keep mine")}
          </Button>
        </>
      }
    >
      <Text mb={2} fontSize="sm">
        {t("From your text to the pipeline as it was then. To keep both, keep yours and save it first.")}
      </Text>
      <Diff before={mine} after={older} />
    </Frame>
  );
}
