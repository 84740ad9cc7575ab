/** What is said of a run before it is started. */

import type { RunPlan } from "../api/client";
import { plural, t } from "../i18n/t";

/** Return how many steps run, are reused and are skipped, and how long that takes, as far as anybody can know. */
export function plannedSentences({ steps, seconds, bills, is_reuse_known: isReuseKnown }: RunPlan): string[] {
  const reused = steps.filter(({ state }) => state === "reused").length;
  const skipped = steps.filter(({ state }) => state === "skipped").length;
  const unknown = steps.filter(({ state }) => state === "unknown").length;
  const running = steps.length - reused - skipped;
  const skips = skipped > 0 ? [plural(skipped, "1 step is skipped, by a verdict that is there.", "{n} steps are skipped, by verdicts that are there.")] : [];
  if (running === 0) return [t("No step runs: all results are there and are taken."), ...skips];
  const counts = [
    plural(running, "1 step runs.", "{n} steps run."),
    ...(reused > 0 ? [plural(reused, "The result of 1 step is there and is taken.", "The results of {n} steps are there and are taken.")] : []),
    ...skips,
  ];
  const more = isReuseKnown ? [] : [t("Which results are there already is not known before the run, which finds out.")];
  return [...counts, timeSentence(seconds, unknown, running), ...bills.map(billSentence), ...more];
}

function billSentence({ unit, expected, error, at_most: limit }: RunPlan["bills"][number]): string {
  const amount = (value: number) =>
    unit === "tokens" ? t("{n} tokens", { n: Math.round(value).toLocaleString() }) : t("{n} in the currency of the prices", { n: Number(value.toPrecision(3)) });
  const most = amount(limit);
  if (expected === null) return t("A language model is paid at most {most}, its budget. What it will cost is known after a pilot, before the rest is asked.", { most });
  const about = error === null ? amount(expected) : `${amount(expected)} (± ${Math.round(100 * error)} %)`;
  return t("A language model is paid about {about}, by earlier runs, and at most {most}, its budget.", { about, most });
}

function timeSentence(seconds: number, unknown: number, running: number): string {
  if (unknown === running) return t("How long it takes is not known: these steps have never run.");
  const time = workText(seconds);
  if (unknown === 0) return t("About {time} of work, by what the steps took before.", { time });
  return plural(
    unknown,
    "At least {time} of work, by what the steps took before; 1 step has never run.",
    "At least {time} of work, by what the steps took before; {n} steps have never run.",
    { time },
  );
}

/** Return a length of time in words: clocks such as 4:10 are for what has been measured. */
function workText(seconds: number): string {
  if (seconds < 90) return t("{n} s", { n: Math.max(1, Math.round(seconds)) });
  if (seconds < 5400) return t("{n} min", { n: Math.round(seconds / 60) });
  return t("{n} h", { n: (seconds / 3600).toFixed(1) });
}
