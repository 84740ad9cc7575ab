import { describe, expect, it } from "vitest";

import { stepsOf } from "../src/core/pipeline";
import { columnFields, tableBefore, tableFields } from "../src/core/upstream";

const STEPS = stepsOf({
  steps: {
    raw: { component: "delta_table", config: { uri: "${data}/tickets-${part}" } },
    dataset: { component: "build_dataset", inputs: { table: "raw.table" } },
    teacher: { component: "fine_tune", inputs: { dataset: ["dataset.dataset"] } },
    alone: { component: "fine_tune" },
    one: { component: "x", inputs: { table: "two.table" } },
    two: { component: "x", inputs: { table: "one.table" } },
  },
});

describe("the columns that a field asks for", () => {
  it("are those of the table on the way back", () => {
    const params = { data: {}, part: { default: 3 } };
    expect(tableBefore(STEPS, params, "dataset")).toBe("${data}/tickets-3");
    expect(tableBefore(STEPS, params, "teacher")).toBe("${data}/tickets-3");
    expect(tableBefore(STEPS, undefined, "raw")).toBeNull();
    expect(tableBefore(STEPS, undefined, "alone")).toBeNull();
    expect(tableBefore(STEPS, undefined, "one")).toBeNull(); // in a circle
  });

  it("are asked for by what a field's description says", () => {
    const described = (description: string) => ({ type: "string", description });
    const properties = {
      text: described("Column with the text."),
      labels: { type: "array", description: "Label columns, one per signal." },
      to: described("Table to write."),
      when: described("SQL condition over the table's columns, such as a > 1."),
    };
    expect(columnFields({ properties })).toEqual(["text", "labels"]);
    expect(columnFields({})).toEqual([]);
    const places = { uri: described("Path or URI of the table's directory."), table: described("Path or URI of the Delta table."), out: described("Path or URI of the Delta table to write; each run makes a new version.") };
    expect(tableFields({ properties: { ...properties, ...places } })).toEqual(["uri", "table"]);
  });
});
