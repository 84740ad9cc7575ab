/** A schedule in words. Only what is certain is said: any other cron expression stays as it is written. */

import { type Sentence, t } from "../i18n/t";
import { isObject } from "./value";

const DAYS: readonly Sentence[] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/** What cron's short names stand for. */
const NAMES: Readonly<Record<string, string>> = { "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *" };

/** Return when a pipeline runs, in words; times are UTC, as Airflow takes them. */
export function scheduleText(schedule: unknown): string {
  if (typeof schedule === "string") return cronWords(schedule) ?? schedule;
  if (!isObject(schedule)) return t("by hand");
  const uris = [schedule.table ?? schedule.assets ?? []].flat().map(String);
  return t("new version of {tables}", { tables: uris.join(", ") });
}

function cronWords(cron: string): string | null {
  const fields = (NAMES[cron.trim()] ?? cron).trim().split(/\s+/);
  const [minute = "", hour = "", day = "", month = "", weekday = ""] = fields;
  if (fields.length !== 5 || month !== "*") return null;
  const isDaily = day === "*" && weekday === "*";
  const every = /^\*\/(\d+)$/;
  // Steps that do not divide the hour, or the day, are not "every n".
  const minutes = Number(every.exec(minute)?.[1] ?? 0);
  if (isDaily && hour === "*" && minutes > 0) return 60 % minutes === 0 ? t("every {n} minutes", { n: minutes }) : null;
  if (!isBelow(minute, 60)) return null;
  if (isDaily && hour === "*") return t("every hour at minute {minute}", { minute });
  const hours = Number(every.exec(hour)?.[1] ?? 0);
  if (isDaily && hours > 0) return 24 % hours === 0 ? t("every {n} hours at minute {minute}", { n: hours, minute }) : null;
  if (!isBelow(hour, 24)) return null;
  const time = `${hour.padStart(2, "0")}:${minute.padStart(2, "0")}`;
  if (isDaily) return t("every day at {time} UTC", { time });
  if (day === "*" && weekday === "1-5") return t("Monday to Friday at {time} UTC", { time });
  const name = /^[0-7]$/.test(weekday) ? DAYS[Number(weekday)] : undefined;
  if (day === "*" && name !== undefined) return t("every {day} at {time} UTC", { day: t(name), time });
  return weekday === "*" && isBelow(day, 32) && day !== "0" ? t("on day {day} of each month at {time} UTC", { day, time }) : null;
}

function isBelow(text: string, limit: number): boolean {
  return /^\d{1,2}$/.test(text) && Number(text) < limit;
}
