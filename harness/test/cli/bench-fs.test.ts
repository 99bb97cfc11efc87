/** The table of `daxfault bench fs`, and what it refuses before anything is mounted. */
import { describe, expect, it } from "vitest";
import { type BenchResult, type Figure, ROWS, type RowName } from "../../../fs-server/src/index.ts";
import { benchFsCommand, benchFsText } from "../../src/cli/bench-fs.ts";
import { styleFor } from "../../src/report/style.ts";

const style = { ...styleFor(process.stdout), widthColumns: 100 };

function figures(median: number, ratio: number | null): Record<RowName, Figure> {
  const names = Object.keys(ROWS) as RowName[];
  return Object.fromEntries(names.map((name) => [name, { median, ratio }])) as Record<RowName, Figure>;
}

const result: BenchResult = {
  sourceType: "tmpfs",
  repetitions: 3,
  contenders: [
    { name: "folder", against: null },
    { name: "devfuse", against: "passthrough_hp" },
    { name: "passthrough_hp", against: null },
  ],
  absent: [{ name: "passthrough_hp io_uring", reason: "switched off in this kernel" }],
  placements: [
    {
      placement: "together",
      figures: {
        folder: figures(1000, null),
        devfuse: figures(12.34, 1.5),
        passthrough_hp: figures(8.2, null),
      },
      peakRssBytes: { devfuse: 80 * 2 ** 20, passthrough_hp: 15 * 2 ** 20 },
      copied: { devfuse: { large: 0.004, small: 1.02 }, passthrough_hp: { large: 0, small: 1 } },
    },
  ],
};

describe("the table", () => {
  const text = benchFsText(result, style);

  it("has a row for each measurement, with the ratio beside the figure that has a rival", () => {
    for (const { title, unit } of Object.values(ROWS)) expect(text).toContain(`${title} (${unit})`);
    expect(text).toMatch(/^getattr, p50 \(us\) +1000\.0 +12\.3 \(1\.50\) +8\.2$/m);
    expect(text).toMatch(/^create \(\/s\) +1000 +12 \(1\.50\) +8$/m);
  });

  it("says who is measured against whom, who is not there, and what the servers used", () => {
    expect(text).toContain("devfuse: against passthrough_hp");
    expect(text).toContain("passthrough_hp io_uring: not measured: switched off in this kernel");
    expect(text).toContain("client and server on the same CPU");
    expect(text).toContain(
      "of four jobs, times those of one: folder 1.00, devfuse 1.00, passthrough_hp 1.00",
    );
    expect(text).toContain("peak memory: devfuse 80 MiB, passthrough_hp 15 MiB");
    expect(text).toContain("by 128 KiB and by 4 KiB: devfuse 0.00 and 1.02, passthrough_hp 0.00 and 1.00");
  });
});

describe("a table of some rows", () => {
  const getattr = { getattrP50: { median: 20, ratio: 1.1 }, getattrP99: { median: 40, ratio: 1 } };
  const [placement] = result.placements;
  const some = { ...result, placements: [{ ...placement, figures: { devfuse: getattr } }] } as BenchResult;
  const text = benchFsText(some, style);

  it("has those, and no sum of others", () => {
    expect(text).toMatch(/^getattr, p50 \(us\) +20\.0 \(1\.10\)$/m);
    expect(text).not.toContain("sequential read");
    expect(text).not.toContain("four jobs");
  });
});

describe("the command", () => {
  it.each([
    [{ repetitions: "0" }, '--repetitions "0" is not a whole number from 1 to 100'],
    [
      { repetitions: "3", rows: "getattr,reads" },
      '--rows: there is no "reads"; there are sequential, random,',
    ],
    [
      { repetitions: "3", contenders: "folder,nfs" },
      '--contenders: "nfs" cannot be measured here; what can be',
    ],
    [{ repetitions: "3", peer: "/nowhere/hp" }, "--peer /nowhere/hp is not a program; scripts/bench-peer"],
  ])("refuses %j", async (options, message) => {
    await expect(benchFsCommand(options, style)).rejects.toThrow(message);
  });
});
