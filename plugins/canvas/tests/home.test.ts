import { describe, expect, test } from "vitest";

import { copyName, renamedText } from "../src/core/copies";
import { scheduleText } from "../src/core/schedule";
import { matching } from "../src/pages/useNames";

describe("schedules in words", () => {
  test.each([
    ["0 2 * * *", "every day at 02:00 UTC"],
    ["@daily", "every day at 00:00 UTC"],
    ["*/15 * * * *", "every 15 minutes"],
    ["5 * * * *", "every hour at minute 5"],
    ["0 */6 * * *", "every 6 hours at minute 0"],
    ["30 2 * * 1-5", "Monday to Friday at 02:30 UTC"],
    ["0 9 * * 7", "every Sunday at 09:00 UTC"],
    ["0 3 1 * *", "on day 1 of each month at 03:00 UTC"],
  ])("%s", (cron, words) => {
    expect(scheduleText(cron)).toBe(words);
  });

  test.each(["*/7 * * * *", "0 */5 * * *", "0 2 * 1 *", "61 2 * * *", "0 24 * * *", "0 2 1 * 1", "0 2 0 * *", "0 2 * * 1,3", "nonsense"])("what is not certain stays: %s", (cron) => {
    expect(scheduleText(cron)).toBe(cron);
  });

  test("tables, assets, and none", () => {
    expect(scheduleText({ table: "/data/a" })).toBe("new version of /data/a");
    expect(scheduleText({ assets: ["a", "b"] })).toBe("new version of a, b");
    expect(scheduleText(null)).toBe("by hand");
  });
});

describe("copies", () => {
  test("a name that is free, and not too long", () => {
    expect(copyName("a", ["a"])).toBe("a_copy");
    expect(copyName("a", ["a", "a_copy", "a_copy2"])).toBe("a_copy3");
    expect(copyName("x".repeat(63), []).length).toBe(63);
  });

  test("only the name changes in the text", () => {
    const text = "# nightly\npipeline: a  # mine\nsteps:\n  raw: {component: x, config: {pipeline: a}}\n";
    expect(renamedText(text, "a_copy")).toBe(text.replace("pipeline: a  #", "pipeline: a_copy  #"));
    expect(renamedText(`"pipeline": "a"\n`, "b")).toBe(`"pipeline": b\n`);
  });
});

test("names with all the words are found, those that begin with the text first", () => {
  const names = ["my_sales", "sales", "sales_eu"].map((name) => ({ kind: "pipeline", name, path: name }) as const);
  expect(matching(names, " SALES ").map(({ name }) => name)).toEqual(["sales", "sales_eu", "my_sales"]);
  expect(matching(names, "eu sal").map(({ name }) => name)).toEqual(["sales_eu"]);
  expect([matching(names, " "), matching(null, "a")]).toEqual([[], []]);
});
