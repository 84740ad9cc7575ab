import { describe, expect, it } from "vitest";

import { compressionFacts, datasetFacts, evaluationFacts, figureOf, figureText, gateFacts, rivalOf, saidLines, scoreText } from "../src/core/results";
import { gateWords, notJudgedSentence } from "../src/core/gateWords";
import { baselineName, figureSentence, rivalSentence, standingOf } from "../src/core/rivals";
import { declareParams } from "../src/core/edits";
import { speak } from "../src/i18n/t";
import sentences from "../src/i18n/zh-CN.json";

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
      mistakes: [{ key: "T7", text: "<b>x</b>", label: "a", answer: "b", score: 0.99 }],
      confusions: [["a", "b", 3]],
    });
    expect(facts?.checks.map(({ name, verdict }) => [name, verdict])).toEqual([["parent", "refused"], ["champion", "passed"], ["champion", "passed"]]);
    expect(facts?.checks[0]).toMatchObject({ figure: "accuracy 90.0 %", other: "95.0 %", limit: "1.0 % worse" });
    expect(facts?.checks[2]).toMatchObject({ figure: "accuracy 3.00 MB", other: "", limit: "at most 10.0 MB" });
    expect(facts?.mistakes[0]).toMatchObject({ key: "T7", text: "<b>x</b>" });
    expect(facts?.confusions).toEqual([["a", "b", 3]]);
  });

  it("says first how good a model is, and that a baseline does as well", () => {
    const baseline = { check: "baseline", metric: "accuracy", unit: "share", passed: true, challenger: 36 / 38, limit: 0 };
    const classes = [["account", 5], ["delivery", 8], ["billing", 18], ["product", 7]].map(([name, rows]) => ({ name, rows, precision: 1, recall: 1 }));
    const facts = gateFacts({
      passed: true,
      rows: 38,
      chain: [{ metric: "accuracy", unit: "share", value: 1, low: 1, high: 1 }, { metric: "accuracy", unit: "share", value: 36 / 38, low: 0.868, high: 1 }],
      checks: [
        { ...baseline, name: "majority class", other: 8 / 38, drop: -28 / 38, low: -0.9, high: -0.5 },
        { ...baseline, name: "TF-IDF + linear SVM (words)", warning: true, other: 37 / 38, drop: 1 / 38, low: 0, high: 0.0789 },
        { ...baseline, check: "class", name: "class account, start of the chain", metric: "recall", other: 0.8, drop: 0, rows: 5, too_small: true },
      ],
      classes,
      not_judged: [{ check: "recall", name: "class delivery", rows: 8, reason: "too small to judge: 8 test rows, and 14 are needed" }],
    })!;
    expect(figureSentence(facts.figure!, facts.rows)).toBe("94.7 % right on 38 test rows (86.8 to 100.0).");
    expect(rivalSentence(facts.rival!)).toBe("TF-IDF + linear SVM (words) does as well on these rows: 97.4 %.");
    expect(facts.notJudged).toEqual(["class delivery: too small to judge: 8 test rows, and 14 are needed", "class account, start of the chain: too small to judge: 5 test rows"]);
    expect(facts.checks.map(({ name }) => name)).toContain("majority class (delivery)");
    expect(notJudgedSentence("drift", "nobody has approved one")).toBe("drift: nobody has approved one");
    // Two classes with as many rows: which of them was given is not known.
    expect(baselineName("majority class", 0.5, 4, [{ name: "a", rows: 2 }, { name: "b", rows: 2 }])).toBe("majority class");
  });

  it.each([
    [0.05, 0.01, 0.09, "ahead"],
    [0, 0, 0, "level"],
    [0.02, -0.01, 0.05, "level"],
    [-0.02, -0.05, 0.01, "close"],
    [-0.2, -0.3, -0.1, "behind"],
    [-0.2, null, null, "behind"],
  ] as const)("a baseline that the model is %d (%d to %d) worse than is %s", (drop, low, high, standing) => {
    expect(standingOf(drop, low, high)).toBe(standing);
  });

  it("sets the best baseline of an evaluation beside each model", () => {
    const one = (name: string, accuracy: number, low: number, high: number) => ({ name, uri: `models:/${name}`, accuracy, accuracy_low: low, accuracy_high: high });
    const baselines = [one("majority class", 0.2, 0.1, 0.3), one("words", 0.9, 0.85, 0.95)];
    const facts = evaluationFacts({ rows: 10, models: [one("good", 0.99, 0.97, 1), one("close", 0.93, 0.88, 0.98), one("poor", 0.9, 0.8, 1)], baselines, per_class: [{ model: "good", name: "a", rows: 2 }] })!;
    expect(facts.judged.map((judged) => rivalOf(facts, judged)?.standing)).toEqual(["behind", "near", "level", undefined, undefined]);
    expect(facts.judged[3]?.name).toBe("majority class (a)");
    expect(figureSentence(figureOf(facts.judged[0]!), facts.rows)).toBe("99.0 % right on 10 test rows (97.0 to 100.0).");
    const scores = [{ metric: "r2", value: 0.4, low: 0.3, high: 0.5 }];
    const numbers = evaluationFacts({ rows: 9, models: [{ name: "m", scores, over_baseline: { metric: "r2", value: -0.1, low: -0.2, high: -0.05 } }], baselines: [{ name: "ridge", scores: [{ ...scores[0], value: 0.5 }] }] })!;
    expect(rivalSentence(rivalOf(numbers, numbers.judged[0]!)!)).toBe("ridge does better on these rows: 0.500.");
    expect(figureSentence(figureOf(numbers.judged[0]!), numbers.rows)).toBe("r2 0.400 on 9 test rows (0.300 to 0.500).");
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

describe("names in a gate's report", () => {
  it("are said in the language of the page, and what is the user's own stays", () => {
    const names = ["metric", "class sport, start of the chain", "class a, b, champion", "lang en, champion", "drop since version 3", "better than majority class", "of somebody, else"];
    expect(names.map(gateWords)).toEqual(names);
    speak(sentences);
    expect([...names, "TF-IDF + linear SVM (words)", "TF-IDF + ridge regression (characters 1 to 3)"].map(gateWords)).toEqual([
      "指标",
      "类别 sport，链的起点",
      "类别 a, b，冠军",
      "lang en，冠军",
      "自 版本 3 以来的下降",
      "优于 多数类",
      "of somebody, else",
      "TF-IDF + 线性 SVM（词）",
      "TF-IDF + 岭回归（1 至 3 个字符）",
    ]);
    speak({});
  });

  it("shows the texts of wrong rows without the quotes that Python put around them", () => {
    const shown = (text: string): string | undefined => gateFacts({ passed: true, checks: [], mistakes: [{ text }] })?.mistakes[0]?.text;
    expect(["'late again'", '"it\'s late"', "late 'again'", "'a\\nb'", "''", ""].map(shown)).toEqual(["late again", "it's late", "late 'again'", "'a\\nb'", "", ""]);
  });
});
