import { expect, test } from "vitest";

import { Asking } from "../src/api/asking";

/** Questions that are answered by hand. */
function byHand() {
  const answers: ((data: string) => void)[] = [];
  const heard: string[] = [];
  const asking = new Asking(
    () => new Promise<string>((resolve, reject) => { answers.push((data) => { if (data === "fail") reject(new Error(data)); else resolve(data); }); }),
    (data) => { heard.push(data); },
    (problem) => { heard.push(String(problem)); },
  );
  return { answers, heard, asking };
}
const settle = (): Promise<void> => new Promise((resolve) => { setTimeout(resolve, 0); });

test("a poll waits for an answer that takes longer than the pause", async () => {
  const { answers, heard, asking } = byHand();
  asking.again();
  asking.poll();
  asking.poll();
  expect(answers).toHaveLength(1);
  answers[0]!("late");
  await settle();
  expect(heard).toEqual(["late"]);
  asking.poll();
  answers[1]!("fail");
  await settle();
  asking.poll();
  expect([heard, answers.length]).toEqual([["late", "Error: fail"], 3]);
});

test("what is asked anew by a person replaces what is on its way, and a closed page hears nothing", async () => {
  const { answers, heard, asking } = byHand();
  asking.again();
  asking.again();
  answers[1]!("new");
  await settle();
  answers[0]!("old");
  await settle();
  expect(heard).toEqual(["new"]);
  asking.again();
  asking.stop();
  answers[2]!("for nobody");
  await settle();
  expect(heard).toEqual(["new"]);
});
