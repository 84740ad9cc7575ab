import { describe, expect, it } from "vitest";

import { cleaned } from "../src/core/edits";
import { readText, reconcile } from "../src/core/document";
import type { JsonObject } from "../src/core/value";
import { keepUnfinished, readUnfinished, unfinishedFields, unfinishedOf, withStepRenamed, withUnfinished } from "../src/core/unfinished";
import { readYaml, writeYaml } from "../src/form/yaml";
import { storage } from "./storage";

describe("a field for YAML", () => {
  it.each(["since: 2026-01-01", "at: 2026-01-01 12:30:00", "when: 12:30", "rate: 1.0e-7", "is: yes", "list: [2026-01-01, a]"])(
    "says what it means as the pipeline's text does: %s",
    (text) => {
      const options = readYaml(text) as JsonObject;
      expect(options).toEqual(readText(text).value);
      const config = cleaned({ options }, {});
      expect(config).toEqual({ options });
      expect(readText(reconcile("pipeline: a\n", { pipeline: "a", steps: { b: { config } } })).value).toEqual({
        pipeline: "a",
        steps: { b: { config } },
      });
      expect(readYaml(writeYaml(options))).toEqual(options);
    },
  );

  it("says nothing where nothing is typed", () => {
    expect(readYaml(" \n")).toBeUndefined();
  });

  it("keeps what is not YAML yet, until the field has another value", () => {
    expect(() => readYaml("a: {b: 1")).toThrow();
    let texts = withUnfinished({}, "raw", ["options"], { a: 1, b: 2 }, { text: "a: {b: 1", problem: "no end" });
    expect(unfinishedOf(texts, "raw", ["options"], { b: 2, a: 1 })).toMatchObject({ text: "a: {b: 1", problem: "no end" });
    expect(unfinishedOf(texts, "raw", ["other"], { a: 1, b: 2 })).toBeNull();
    expect(unfinishedOf(texts, "other", ["options"], { a: 1, b: 2 })).toBeNull();
    expect(unfinishedOf(texts, "raw", ["options"], { a: 2 })).toBeNull();
    texts = withUnfinished(texts, "raw", ["options"], undefined, { text: "a: [", problem: "no end" });
    expect(unfinishedOf(texts, "raw", ["options"], {})?.text).toBe("a: [");
    expect(withUnfinished(texts, "raw", ["options"], undefined, null)).toEqual({});
  });

  it("follows a step to its new name, and no other whose name begins alike", () => {
    const typed = { text: "a: [", problem: "no end" };
    const texts = withUnfinished(withUnfinished({}, "raw", ["options"], null, typed), "raw_other", ["options", 0], null, typed);
    const renamed = withStepRenamed(texts, "raw", "rows");
    expect(unfinishedOf(renamed, "rows", ["options"], undefined)?.text).toBe("a: [");
    expect(unfinishedOf(renamed, "raw", ["options"], undefined)).toBeNull();
    expect(unfinishedOf(renamed, "raw_other", ["options", 0], undefined)?.text).toBe("a: [");
  });

  it("is listed where its field shows it", () => {
    const texts = withUnfinished({}, "raw", ["options", "rows", 1], { a: 1 }, { text: "a: [", problem: "no end" });
    const steps = (config: unknown) => new Map([["raw", { config }]]);
    expect(unfinishedFields(texts, steps({ options: { rows: [{}, { a: 1 }] } }))).toEqual([
      { step: "raw", path: ["options", "rows", 1], problem: "no end" },
    ]);
    expect(unfinishedFields(texts, steps({ options: { rows: [{}, { a: 2 }] } }))).toEqual([]);
    expect(unfinishedFields(texts, new Map())).toEqual([]);
  });

  it("outlives its page, under the name of its pipeline", () => {
    const texts = withUnfinished({}, "raw", ["options"], { a: 1 }, { text: "a: [", problem: "no end" });
    globalThis.localStorage = storage();
    keepUnfinished("one", texts);
    expect(readUnfinished("one")).toEqual(texts);
    expect(readUnfinished("two")).toEqual({});
    keepUnfinished("one", {});
    expect(localStorage.getItem("modelmill.unfinished.one")).toBeNull();
    localStorage.setItem("modelmill.unfinished.one", "[");
    expect(readUnfinished("one")).toEqual({});
  });
});
