import { describe, expect, it } from "vitest";
import { bootLines } from "../../src/report/recorder.ts";

describe("bootLines", () => {
  it("keeps the end of each boot, and says which boot it was", () => {
    const boots = [
      { bootId: "id-1", lines: ["a", "b", "c"] },
      { bootId: "id-2", lines: ["d"] },
    ];
    expect(bootLines(boots, 2)).toEqual([
      "==== boot 1 of 2: id-1 ====",
      "... 1 lines left out ...",
      "b",
      "c",
      "==== boot 2 of 2: id-2 ====",
      "d",
    ]);
  });
});
