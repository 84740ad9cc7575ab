import { describe, expect, it } from "vitest";

import type { StepProgress } from "../src/api/client";
import type { Box } from "../src/core/layout";
import { stepBeside } from "../src/core/walk";
import { leftText, progressLine, progressSentence, toldOf } from "../src/run/progress";

const told: StepProgress = { share: 0.4, done: 1200, total: 3000, what: "training steps", figures: {}, seconds_left: 130 };

describe("how far a step is", () => {
  it("is said in words: short for its node, with all that is known for its panel", () => {
    expect(progressLine(told)).toBe("40 % of the training steps, about 2 min left");
    const figures = { loss: 0.12345, epoch: 2, epochs: 5 };
    expect(progressSentence({ ...told, figures })).toBe("1,200 of 3,000 training steps (40 %), epoch 2 of 5, training loss 0.123, about 2 min left");
  });

  it("at the end of a part says so, since the step may go on with another", () => {
    const done = { ...told, done: 3000, share: 1, seconds_left: 0 };
    expect(progressLine(done)).toBe("all training steps done");
    expect(progressSentence(done)).toContain("what follows has not said how far it is");
  });

  it("of a step from before units were told has no units", () => {
    expect(progressLine({ ...told, what: "" })).toBe("40 %, about 2 min left");
    expect(progressSentence({ ...told, what: "" })).toBe("1,200 of 3,000 (40 %), about 2 min left");
  });

  it("of a part that nobody counts is what the step has said last: short on its node, whole in its panel", () => {
    const said = "965 rows are read and checked; copies are looked for among them";
    expect(toldOf(null, said)).toEqual({ line: "965 rows are read and checked; copies are looked …", told: said });
    expect(toldOf(null, "exporting")).toEqual({ line: "exporting", told: "exporting" });
    expect(toldOf({ ...told, done: 3000, share: 1, seconds_left: 0 }, "exporting").line).toBe("exporting");
    expect(toldOf(told, "epoch 1 of 5").line).toBe("40 % of the training steps, about 2 min left");
    expect(toldOf(null, "")).toEqual({ line: "", told: "" });
  });

  it("says the time left as people do", () => {
    expect([5, 29, 31, 3540, 3600, 5000].map(leftText)).toEqual([
      "less than a minute left",
      "less than a minute left",
      "about 1 min left",
      "about 59 min left",
      "1 h 0 min left",
      "1 h 23 min left",
    ]);
  });
});

describe("arrow keys", () => {
  const at = (x: number, y: number): Box => ({ x, y, width: 184, height: 100 });
  const boxes = new Map([["a", at(0, 0)], ["b", at(244, 20)], ["c", at(244, 180)], ["d", at(488, 0)]]);

  it("go to what is nearest in their direction, and nowhere at the border", () => {
    expect(stepBeside(boxes, "a", "ArrowRight")).toBe("b");
    expect(stepBeside(boxes, "b", "ArrowDown")).toBe("c");
    expect(stepBeside(boxes, "b", "ArrowRight")).toBe("d");
    expect(stepBeside(boxes, "d", "ArrowLeft")).toBe("b");
    expect(stepBeside(boxes, "a", "ArrowLeft")).toBeNull();
    expect(stepBeside(boxes, "a", "x")).toBeNull();
  });

  it("Page Down comes to every step, Home and End to the first and the last one", () => {
    const seen = ["a"];
    for (let next = stepBeside(boxes, "a", "PageDown"); next !== null; next = stepBeside(boxes, next, "PageDown")) seen.push(next);
    expect(seen).toEqual(["a", "b", "c", "d"]);
    expect([stepBeside(boxes, "c", "Home"), stepBeside(boxes, "c", "End"), stepBeside(boxes, "a", "PageUp")]).toEqual(["a", "d", null]);
  });
});
