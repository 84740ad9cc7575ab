import { describe, expect, it } from "vitest";

import { fieldsOfProblem, placeOfProblem } from "../src/core/problems";

describe("a problem", () => {
  it("names the step and the field", () => {
    expect(placeOfProblem({ step: "raw", path: "steps.raw.config.uri", field: "config.uri" })).toBe("raw · uri");
    expect(placeOfProblem({ step: "raw", path: "steps.raw", field: null })).toBe("raw");
    expect(placeOfProblem({ step: null, path: "groups.g.steps", field: null })).toBe("g");
    expect(placeOfProblem({ step: null, path: "schedule", field: null })).toBe("schedule");
  });

  it("leads to the field of the form, or to the part that it stands in", () => {
    expect(fieldsOfProblem({ step: "d", field: "config.labels.0" })).toEqual(["form_d_labels_0", "form_d_labels"]);
    expect(fieldsOfProblem({ step: "d", field: "inputs.table" })).toEqual(["mm-input-table"]);
    expect(fieldsOfProblem({ step: null, field: null })).toEqual([]);
  });
});
