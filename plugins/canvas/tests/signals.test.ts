import { describe, expect, it } from "vitest";

import { nameProblem, signalForm, signalsOf, withSignal } from "../src/core/signals";
import { formHints } from "../src/core/schema";

const TEXT = `rule_set: offers
signals:
  # how much
  amount: {kind: column}
rules: []
`;

describe("the signals of a text", () => {
  it("are read, of what is YAML", () => {
    expect(signalsOf(TEXT)).toEqual({ amount: { kind: "column" } });
    expect(signalsOf("[")).toEqual({});
    expect(signalsOf("signals: 3")).toEqual({});
  });

  it("are added and changed where they stand; comments stay", () => {
    const added = withSignal(TEXT, "bright", { kind: "brightness", column: "photo" });
    expect(added).toContain("  # how much\n  amount: {kind: column}\n  bright:");
    expect(signalsOf(added)).toEqual({ amount: { kind: "column" }, bright: { kind: "brightness", column: "photo" } });
    const changed = withSignal(added, "amount", { kind: "column", column: "sum" });
    expect(changed).toContain("# how much");
    expect(signalsOf(changed).amount).toEqual({ kind: "column", column: "sum" });
  });

  it("have names of a certain form", () => {
    expect(nameProblem("bright_2")).toBe("");
    expect(nameProblem("Bright")).not.toBe("");
  });

  it("have a form without their kind", () => {
    const schema = { type: "object", properties: { kind: { const: "x" }, column: { type: "string" } } };
    expect(signalForm(schema).properties).toEqual({ column: { type: "string" } });
  });
});

describe("fields that depend on another field", () => {
  it("are not edited as YAML", () => {
    const options = { type: "object", additionalProperties: {} };
    const plain = { type: "object", properties: { function: { type: "string" }, options } };
    expect(formHints(plain).options).toEqual({ "ui:field": "YamlField" });
    const branch = { properties: { function: { const: "a" }, options: { type: "object", properties: {} } } };
    expect(formHints({ ...plain, dependencies: { function: { oneOf: [branch] } } }).options).toBeUndefined();
  });
});
