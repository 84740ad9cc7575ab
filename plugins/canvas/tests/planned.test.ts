import { expect, test } from "vitest";

import type { RunPlan } from "../src/api/client";
import { plannedSentences } from "../src/core/planned";

type Step = RunPlan["steps"][number];

const step = (name: string, state: Step["state"]): Step => ({ step: name, component: "count", state, seconds: state === "known" ? 100 : null, error: null, from_runs: 1 });
const plan = (more: Partial<RunPlan>): RunPlan => ({ steps: [], seconds: 0, cpu_seconds: 0, bills: [], is_reuse_known: true, ...more });

test("what runs, what is there and how long it takes", () => {
  const steps = [step("raw", "reused"), step("dataset", "known"), step("model", "unknown"), step("champion", "skipped")];
  expect(plannedSentences(plan({ steps, seconds: 100 }))).toEqual([
    "2 steps run.",
    "The result of 1 step is there and is taken.",
    "1 step is skipped, by a verdict that is there.",
    "At least 2 min of work, by what the steps took before; 1 step has never run.",
  ]);
  expect(plannedSentences(plan({ steps: [step("raw", "reused")] }))).toEqual(["No step runs: all results are there and are taken."]);
});

test("the bill of a language model, and its budget from the first run on", () => {
  const steps = [step("labelled", "known")];
  const told = (bill: RunPlan["bills"][number]) => plannedSentences(plan({ steps, seconds: 10, bills: [bill] }))[2];
  expect(told({ unit: "money", expected: 0.04517, error: 0.04, at_most: 0.5 })).toBe(
    "A language model is paid about 0.0452 in the currency of the prices (± 4 %), by earlier runs, and at most 0.5 in the currency of the prices, its budget.",
  );
  expect(told({ unit: "tokens", expected: 39530.4, error: null, at_most: 2000000 })).toBe(
    "A language model is paid about 39,530 tokens, by earlier runs, and at most 2,000,000 tokens, its budget.",
  );
  expect(told({ unit: "money", expected: null, error: null, at_most: 0.5 })).toContain("at most 0.5 in the currency of the prices, its budget. What it will cost is known after a pilot");
});
