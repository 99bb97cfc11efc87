/** The figures of `daxfault bench virtiofsd`. */
import { describe, expect, it } from "vitest";
import { type VirtiofsdResult, virtiofsdRows } from "../../src/bench/virtiofsd.ts";
import {
  PLACES,
  type Place,
  type RowName,
  rowNames,
  type Turn,
  turnIn,
} from "../../src/bench/virtiofsd-turns.ts";
import { virtiofsdText } from "../../src/cli/bench-virtiofsd.ts";
import { styleFor } from "../../src/report/style.ts";

const turn = (row: RowName, place: Place, units: number, seconds: number): Turn => ({
  row,
  place,
  units,
  nanoseconds: seconds * 1e9,
});

/** Every row of every place once: ours twice as fast as theirs, ten times with DAX. */
const whole = rowNames.flatMap((row) => [
  turn(row, "ours", 200, 1),
  turn(row, "virtiofsd", 100, 1),
  turn(row, "ours-dax", 1000, 1),
]);

describe("a line of the guest", () => {
  it("is a turn, the end, or another line", () => {
    expect(turnIn("@ /run/daxfault/ours-dax mmap-random 500 1234567\r")).toEqual({
      place: "ours-dax",
      row: "mmap-random",
      units: 500,
      nanoseconds: 1_234_567,
    });
    expect(turnIn("@ done")).toBe("done");
    for (const line of [
      "",
      "! pread: Input/output error",
      "@ /run/daxfault/other stat 1 1",
      "@ /run/daxfault/ours sta 1 1",
    ])
      expect(turnIn(line)).toBeNull();
  });
});

describe("virtiofsdRows", () => {
  it("has the rate of each place by units and time, and ours with theirs as 1", () => {
    expect(virtiofsdRows(whole)).toHaveLength(rowNames.length);
    expect(virtiofsdRows(whole)[0]).toEqual({
      row: "read-sequential",
      ours: 200,
      theirs: 100,
      dax: 1000,
      ratio: 2,
      daxRatio: 10,
    });
  });

  it("takes the median of the rounds, each place by itself", () => {
    const rounds = [...whole, turn("stat", "ours", 100, 1), turn("stat", "ours", 400, 2)];
    const row = virtiofsdRows(rounds).find((one) => one.row === "stat");
    expect(row).toMatchObject({ ours: 200, theirs: 100, ratio: 2 });
  });
});

it("is shown with both servers, their packages and their memory", () => {
  const result: VirtiofsdResult = {
    peer: "virtiofsd 1.13.2-1",
    qemu: "qemu-system-x86 11.1, 11.1.2",
    accelerator: "tcg",
    guestKernel: "6.12",
    fileBytes: 2 ** 24,
    files: 200,
    operations: 500,
    rounds: 1,
    rows: virtiofsdRows(whole),
    peakRssBytes: { ours: 2 ** 27, virtiofsd: 2 ** 23, "ours-dax": 2 ** 27 },
  };
  const text = virtiofsdText(result, styleFor({ isTTY: false, columns: 200 } as NodeJS.WriteStream));
  expect(text).toContain("virtiofsd 1.13.2-1; guest: 6.12");
  expect(text).toContain("most memory of each server: ours 128 MiB, virtiofsd 8 MiB, ours-dax 128 MiB");
  expect(text.split("\n").find((line) => line.startsWith("create"))).toMatch(/100 +200 +2\.00 +1000 +10\.00/);
  expect(PLACES).toHaveLength(3);
});
