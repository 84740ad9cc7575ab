/** Why a button cannot be pressed. */

import type { Sentence } from "../i18n/t";

export const NO_EDIT: Sentence = "Your role in Airflow may look at this pipeline, not change it";
export const NO_RUN: Sentence = "Your role in Airflow may look at this pipeline, not run it";
