import { describe, expect, it } from "vitest";

import { type Vocabulary, complete, signalNames } from "../src/core/ruleWords";

function kind(name: string, properties: Record<string, unknown>): Vocabulary["kinds"][number] {
  return { name, config_schema: { properties: { kind: { const: name }, ...properties } } };
}

const WORDS: Vocabulary = {
  functions: [
    { name: "contains", usage: "contains(text, constant text)" },
    { name: "lower", usage: "lower(text)" },
  ],
  measures: [{ name: "sharpness", help: "How sharp an image is." }],
  kinds: [
    kind("column", { description: {}, column: { format: "column" } }),
    kind("regex", { column: { format: "column" }, pattern: {} }),
    kind("model", { column: { format: "column" }, model: { format: "model" } }),
    kind("measured", { function: { format: "measure" } }),
    kind("sql", { expression: { format: "sql" } }),
    // A kind of another distribution: its schema says what its keys take.
    kind("collage", { pictures: { type: "array", items: { format: "column" } } }),
  ],
  columns: [
    { name: "message", type: "string" },
    { name: "amount", type: "double" },
  ],
  models: ["spam"],
};
const TEXT = `rule_set: offers
key: |
signals:
  amount: {kind: column}
  offer: {kind: regex, column: text, pattern: "(?i)offer"}
`;

function offered(line: string, isAsked = false): string[] {
  const text = `${TEXT}rules:\n${line}`;
  return complete(text, text.length, signalNames(text), WORDS, isAsked)?.suggestions.map((item) => item.text) ?? [];
}

describe("completion", () => {
  it("knows the signals of a text that is not finished", () => {
    expect(signalNames(`${TEXT}rules:\n  - {name: big, when: "of`)).toEqual(["amount", "offer"]);
    expect(signalNames("[")).toEqual([]);
  });

  it.each([
    ['  - {name: big, when: "am', ["amount"]],
    ["  - {name: big, when: of", ["offer"]],
    ["    when: NOT co", ["contains("]],
    ["    when: contains(of", ["offer"]],
    ["    expression: amount > 3 a", ["amount"]],
    ["  x: {kind: re", ["regex"]],
    ["  x: {kind: regex, column: ", ["message", "amount"]],
    ["  x: {kind: regex, column: mes", ["message"]],
    ["  x: {kind: col", ["column", "collage"]],
    ["  x: {kind: collage, pic", ["pictures: "]],
    ["  x: {kind: collage, pictures: mes", ["message"]],
    ["  x: {kind: measured, function: ", ["sharpness"]],
    ["  x: {kind: model, model: ", ["models:/spam@champion"]],
    ["  x: {kind: regex, pat", ["pattern: "]],
    ["  - {name: big, wh", ["when: "]],
    ['  - {name: a, when: b, reason: "is {am', ["amount"]],
  ])("fits in %s", (line, expected) => {
    expect(offered(line).slice(0, expected.length)).toEqual(expected);
  });

  it.each(["    when: text = 'am", "    then: am", "# am", '  - {name: a, when: b, reason: "am', "    when: "])("offers nothing in %s", (line) => {
    expect(offered(line)).toEqual([]);
  });

  it("lists everything where it is asked for", () => {
    expect(offered("    when: ", true).slice(0, 3)).toEqual(["amount", "offer", "contains("]);
  });

  it("replaces the word before the cursor and no more", () => {
    const text = `${TEXT}rules:\n  - {name: big, when: "offer AND am > 3"}`;
    const caret = text.indexOf("am >") + 2;
    expect(complete(text, caret, ["amount"], WORDS)).toEqual({ from: caret - 2, suggestions: [{ text: "amount", detail: "signal" }] });
  });
});
