/** Which language Airflow shows its pages in, and the catalogue of it. */

import { useEffect, useState } from "react";

import { speak } from "./t";

/** Where Airflow's own page keeps what a person chose (i18next's browser detector, since Airflow 3.0). */
const SETTING = "i18nextLng";
/** Languages beside English, by the script of their language tag. */
const CATALOGUES: Readonly<Record<string, string>> = { "zh-Hans": "zh-CN" };

/** Return the name of the catalogue for a language tag; empty: English. */
export function catalogueFor(tag: string): string {
  try {
    const { language, script } = new Intl.Locale(tag).maximize();
    return CATALOGUES[`${language}-${script ?? ""}`] ?? "";
  } catch {
    return "";
  }
}

/** Return Airflow's language as its page finds it: what was chosen, else what the browser asks for. */
export function airflowLanguage(): string {
  try {
    return localStorage.getItem(SETTING) ?? navigator.language;
  } catch {
    return document.documentElement.lang || navigator.language; // storage is forbidden: as Airflow says it is
  }
}

/** What is spoken: Airflow makes the page anew for each address, and it need not wait again. */
let present: string | null = null;

/** Return the language that the page speaks, once its sentences are here; null: they are on their way. */
export function useLanguage(): string | null {
  const [wanted, setWanted] = useState(() => catalogueFor(airflowLanguage()));
  const [spoken, setSpoken] = useState(() => (present === wanted ? present : null));
  useEffect(() => {
    // Airflow says the language on the page's root when a person chooses another one.
    const observer = new MutationObserver(() => { setWanted(catalogueFor(airflowLanguage())); });
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["lang"] });
    return () => { observer.disconnect(); };
  }, []);
  useEffect(() => {
    let isCurrent = true;
    void sentencesOf(wanted).then((sentences) => {
      if (!isCurrent) return;
      speak(sentences);
      present = wanted;
      setSpoken(wanted);
    });
    return () => { isCurrent = false; };
  }, [wanted]);
  return spoken;
}

async function sentencesOf(name: string): Promise<Record<string, string>> {
  if (name === "") return {};
  try {
    const answer = await fetch(new URL(`modelmill/static/${name}.json`, document.baseURI), { credentials: "same-origin" });
    return answer.ok ? ((await answer.json()) as Record<string, string>) : {};
  } catch {
    return {}; // Airflow does not answer: the page works in English
  }
}
