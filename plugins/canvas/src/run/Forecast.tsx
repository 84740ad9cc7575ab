/** What a run will do, before it is started: which steps run, which are reused or skipped, and how long that takes. */

import { Button, Text } from "@chakra-ui/react";
import { Play } from "lucide-react";
import { useCallback } from "react";

import { type RunPlan, api } from "../api/client";
import { useAnswer } from "../api/useAnswer";
import { plannedSentences } from "../core/planned";
import { Frame } from "../parts/Frame";
import { Answered } from "../parts/page";
import { Figures } from "../parts/Figures";
import { durationText } from "./state";
import { t } from "../i18n/t";

interface Props {
  dagId: string;
  /** The text as it would be saved; null: the saved one. */
  text: string | null;
  params?: Readonly<Record<string, string>>;
}

const NONE = {};

/** Asked once for each text and each set of values: whoever changes them gives it another key. */
export function Forecast({ dagId, text, params = NONE }: Props) {
  const answer = useAnswer(useCallback(() => api.forecast(dagId, text, params), [dagId, text, params]));
  return (
    <section className="mm-part" aria-label={t("What a run will do")}>
      <Answered answer={answer}>{(plan) => <Planned plan={plan} />}</Answered>
    </section>
  );
}

interface DialogProps extends Props {
  onRun: () => void;
  onClose: () => void;
}

export function ForecastDialog({ onRun, onClose, ...props }: DialogProps) {
  return (
    <Frame
      title={t("What a run will do")}
      isWide
      onClose={onClose}
      footer={
        <Button size="sm" colorPalette="brand" onClick={() => { onClose(); onRun(); }}>
          <Play size={14} />{" "}{t("Run")}
        </Button>
      }
    >
      <Forecast {...props} />
    </Frame>
  );
}

function Planned({ plan }: { plan: RunPlan }) {
  return (
    <>
      {plannedSentences(plan).map((sentence) => (
        <Text key={sentence} fontSize="sm">
          {sentence}
        </Text>
      ))}
      <details className="mm-more">
        <summary>{t("Step by step")}</summary>
        <Figures
          label={t("Step by step")}
          head={[t("Step"), t("What it will do"), t("Time")]}
          rows={plan.steps.map((step) => [step.step, actOf(step), timeOf(step)])}
        />
      </details>
    </>
  );
}

function actOf({ state }: RunPlan["steps"][number]): string {
  if (state === "reused") return t("reused: its result is there");
  return state === "skipped" ? t("skipped: a verdict that is there says so") : t("runs");
}

function timeOf({ state, seconds, error }: RunPlan["steps"][number]): string {
  if (state === "reused" || state === "skipped") return "";
  if (seconds === null) return t("not known: it has never run");
  return error === null ? durationText(seconds) : `${durationText(seconds)} ± ${Math.round(100 * error)} %`;
}
