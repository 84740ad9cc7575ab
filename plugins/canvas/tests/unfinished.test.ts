import { describe, expect, it } from "vitest";

import { cleaned } from "../src/core/edits";
import { readText, reconcile } from "../src/core/document";
import type { JsonObject } from "../src/core/value";
import { UnfinishedTexts, readYaml, writeYaml } from "../src/form/unfinished";

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
    const texts = new UnfinishedTexts();
    expect(() => readYaml("a: {b: 1")).toThrow();
    texts.keep("form_raw_options", { a: 1 }, { text: "a: {b: 1", problem: "no end" });
    expect(texts.of("form_raw_options", { a: 1 })).toMatchObject({ text: "a: {b: 1", problem: "no end" });
    expect(texts.of("form_other_options", { a: 1 })).toBeNull();
    expect(texts.of("form_raw_options", { a: 2 })).toBeNull();
    texts.keep("form_raw_options", undefined, { text: "a: [", problem: "no end" });
    expect(texts.of("form_raw_options", undefined)?.text).toBe("a: [");
    texts.drop("form_raw_options");
    expect(texts.of("form_raw_options", undefined)).toBeNull();
  });
});
