import { describe, expect, it } from "vitest";

import { type RunFacts, compareRuns } from "../src/core/compare";

const run = (change: Partial<RunFacts> = {}): RunFacts => ({
  params: { data: "/t", rows: 5 },
  digest: "a".repeat(64),
  metrics: { teacher: { accuracy: 0.9, epochs: 3 } },
  nodes: [{ step: "raw", state: "success", duration: 1, outputs: { table: { uri: "/t", version: 1 }, note: "text" } }],
  ...change,
});

describe("two runs", () => {
  it("that are alike differ in nothing", () => {
    const { parameters, data, figures, steps } = compareRuns(run(), run());
    expect([...parameters, ...data, ...figures, ...steps].filter((line) => line.differs)).toEqual([]);
    expect(data).toEqual([{ step: "raw", name: "table", left: "/t, version 1", right: "/t, version 1", differs: false, change: null }]);
  });

  it("show what differs first, with the change", () => {
    const other = run({
      params: { data: "/t", rows: 7, more: { a: 1 } },
      digest: null,
      metrics: { teacher: { accuracy: 0.95, epochs: 3 }, student: { accuracy: 0.8 } },
      nodes: [{ step: "raw", state: "failed", duration: 2, outputs: {} }],
    });
    const { parameters, data, figures, steps } = compareRuns(run(), other);
    expect(parameters.map(({ name, left, right, differs }) => [name, left, right, differs])).toEqual([
      ["pipeline (digest)", "aaaaaaaaaaaa", "", true],
      ["rows", "5", "7", true],
      ["more", "", '{"a":1}', true],
      ["data", "/t", "/t", false],
    ]);
    expect(data[0]).toMatchObject({ left: "/t, version 1", right: "", differs: true });
    expect(figures.map(({ step, name, differs }) => [step, name, differs])).toEqual([
      ["teacher", "accuracy", true],
      ["student", "accuracy", true],
      ["teacher", "epochs", false],
    ]);
    expect(figures[0]?.change).toBeCloseTo(0.05);
    expect(steps[0]).toMatchObject({ left: "success", right: "failed" });
  });
});
