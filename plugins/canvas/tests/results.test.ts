import { describe, expect, it } from "vitest";

import { compressionFacts, datasetFacts, evaluationFacts, figureText, gateFacts, saidLines, scoreText } from "../src/core/results";
import { declareParams } from "../src/core/edits";

const DATASET = {
  source: "/lake/tickets@3",
  rows_in: 1500,
  rows_out: 1287,
  quarantined: 100,
  duplicates: 113,
  near_duplicates: 13,
  leaks: 5,
  reasons: { "text is empty": 60, "label is missing": 40 },
  splits: { train: 1000, validation: 137, test: 150 },
  classes: { desk: { trade: { train: 300, test: 50 }, sport: { train: 700, test: 100, validation: 137 } } },
  lengths: { train: { 16: 900, 32: 100 }, test: { 16: 150 } },
};

describe("what a report says", () => {
  it("explains every row that a dataset has left out", () => {
    const facts = datasetFacts(DATASET);
    expect(facts?.lost).toEqual([
      ["quarantined: text is empty", 60],
      ["quarantined: label is missing", 40],
      ["the same as another row, or as its copy in the test split", 100],
      ["nearly the same as another row, or as its copy in the test split", 13],
      ["of these copies: in the shipped test split", 5],
    ]);
    const left = facts!.lost.filter(([why]) => !why.startsWith("of these")).reduce((sum, [, rows]) => sum + rows, 0);
    expect(facts!.rowsIn - facts!.rowsOut).toBe(left);
    expect(facts?.classes).toEqual([["desk", [["sport", 937], ["trade", 350]]]]);
    expect(facts?.lengths).toEqual([[16, 1050], [32, 100]]);
  });

  it("has the first metric of models and baselines, in either layout", () => {
    const one = { name: "student", uri: "models:/m-1", macro: 1, accuracy: 0.93, accuracy_low: 0.91, accuracy_high: 0.95, size_mb: 2 };
    const baseline = { name: "words", accuracy: 0.8, accuracy_low: 0.7, accuracy_high: 0.9 };
    const old = evaluationFacts({ label: "desk", rows: 150, confidence: 0.95, models: [one], baselines: [baseline], per_class: [{ model: "student", name: "sport", rows: 3, precision: 1, recall: 0.5 }] });
    expect(old?.judged.map((judged) => scoreText(judged))).toEqual(["93.0 % (91.0 to 95.0)", "80.0 % (70.0 to 90.0)"]);
    expect(old?.classes.get("student")).toEqual([{ name: "sport", rows: 3, precision: 1, recall: 0.5 }]);
    const scores = [{ metric: "r2", value: 0.4, low: 0.3, high: 0.5 }];
    const numbers = evaluationFacts({ models: [{ name: "student", uri: "models:/m-1", scores }], baselines: [] });
    expect(scoreText(numbers!.judged[0]!)).toBe("0.400 (0.300 to 0.500)");
  });

  it("shows what a gate refused first, with figure, threshold and verdict", () => {
    const check = { check: "metric", name: "champion", passed: true, warning: false, metric: "accuracy", unit: "share", challenger: 0.9, other: 0.95, limit: 0.01 };
    const facts = gateFacts({
      passed: false,
      challenger: "models:/m-1",
      champion: null,
      rows: 150,
      checks: [check, { ...check, name: "parent", passed: false }, { ...check, check: "size", unit: "MB", challenger: 3, other: null, limit: 10 }],
      mistakes: [{ text: "<b>x</b>", label: "a", answer: "b", score: 0.99 }],
      confusions: [["a", "b", 3]],
    });
    expect(facts?.checks.map(({ name, verdict }) => [name, verdict])).toEqual([["parent", "refused"], ["champion", "passed"], ["champion", "passed"]]);
    expect(facts?.checks[0]).toMatchObject({ figure: "accuracy 90.0 %", other: "95.0 %", limit: "1.0 % worse" });
    expect(facts?.checks[2]).toMatchObject({ figure: "accuracy 3.00 MB", other: "", limit: "at most 10.0 MB" });
    expect(facts?.mistakes[0]?.text).toBe("<b>x</b>");
    expect(facts?.confusions).toEqual([["a", "b", 3]]);
  });

  it("says which candidate of a compression was chosen, and why not the others", () => {
    const point = { name: "2 layers", quality: 0.9, quality_low: 0.88, quality_high: 0.92, size_mb: 4, speed_ratio: 3, chosen: true, pareto: true, broken: [] };
    const facts = compressionFacts({ candidates: 40, trained: 3, is_share: true, points: [point, { ...point, chosen: false, broken: ["too large"] }] });
    expect(facts?.points.map(({ isChosen, broken }) => [isChosen, broken])).toEqual([[true, []], [false, ["too large"]]]);
  });

  it.each([null, [], "text", 3, {}, { models: 1 }, { points: {} }, { checks: [null], passed: 1 }])("takes %j for no report", (content) => {
    for (const read of [datasetFacts, evaluationFacts, gateFacts, compressionFacts]) expect(read(content)).toBeNull();
    expect(saidLines(content)).toEqual([]);
  });

  it("bears reports with holes", () => {
    expect(gateFacts({ passed: true, checks: [null, { passed: false }], confusions: [null] })?.checks).toHaveLength(2);
    expect(evaluationFacts({ models: [null, {}], baselines: [3] })?.judged).toEqual([]);
    expect(figureText(null, "share")).toBe("");
  });
});

describe("a parameter of the deployment", () => {
  it("is declared when a field names it, once", () => {
    const pipeline = { pipeline: "a", steps: {} };
    const declared = declareParams(pipeline, { uri: "${data}/x", list: ["${base}", "${desk}"] }, ["data", "base"]);
    expect(declared).toEqual({ ...pipeline, params: { data: {}, base: {} } });
    expect(declareParams(declared, { uri: "${data}/y" }, ["data"])).toBe(declared);
    expect(declareParams(pipeline, { uri: "/data/x" }, ["data"])).toBe(pipeline);
  });
});
