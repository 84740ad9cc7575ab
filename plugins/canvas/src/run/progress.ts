/** How far a running step is, in words. */

import type { StepProgress } from "../api/client";
import { type Sentence, t, word } from "../i18n/t";

/** Letters of the two lines at the foot of a node. */
const ROOM = 52;

/** What a running step says: how far it is, or in a part that nobody counts, what it does. */
export function toldOf(progress: StepProgress | null, said: string): { line: string; told: string } {
  const isCounting = progress !== null && progress.done < progress.total;
  if (said !== "" && !isCounting) return { line: shortened(said), told: said };
  if (progress === null) return { line: "", told: "" };
  return { line: progressLine(progress), told: progressSentence(progress) };
}

/** Cut a line between words, and say so: a node has no room for more, its panel shows it whole. */
function shortened(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  if (line.length <= ROOM) return line;
  const cut = line.slice(0, ROOM);
  return `${cut.slice(0, Math.max(cut.lastIndexOf(" "), ROOM - 14)).replace(/[,;:.]$/, "")} …`;
}

/** What the node of a step has room for. */
export function progressLine({ share, what, seconds_left: left, done, total }: StepProgress): string {
  const units = word(what);
  if (done >= total) return what === "" ? t("nearly done") : t("all {what} done", { what: units });
  const values = { share: percent(share), what: units, left: leftText(left) };
  const whole = t("{share} of the {what}, {left}", values);
  return what === "" || whole.length > ROOM ? [values.share, values.left].join(", ") : whole;
}

/** All that is known: what is counted and how much of it is done, epochs, the loss, and the time left. */
export function progressSentence({ share, what, seconds_left: left, done, total, figures }: StepProgress): string {
  const values = { done: done.toLocaleString(), total: total.toLocaleString(), what: word(what), share: percent(share) };
  const { epoch, epochs, loss } = figures;
  return [
    what === "" ? t("{done} of {total} ({share})", values) : t("{done} of {total} {what} ({share})", values),
    ...(epoch !== undefined && epochs !== undefined ? [t("epoch {epoch} of {epochs}", { epoch: epoch.toLocaleString(), epochs: epochs.toLocaleString() })] : []),
    ...(loss === undefined ? [] : [t("training loss {loss}", { loss: loss.toPrecision(3) })]),
    done >= total ? t("it finishes this part; what follows has not said how far it is") : leftText(left),
  ].join(", ");
}

/** What a running step says that has not counted anything yet. */
export const NOT_COUNTED: Sentence = "at work; it has not said how far it is: its log tells what it does";

function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

export function leftText(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return t("less than a minute left");
  if (minutes < 60) return t("about {n} min left", { n: minutes });
  return t("{hours} h {minutes} min left", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}
