/** The figures and comparisons of `daxfault bench guest-fs`; with `npm run test:long` a short run of it in a real guest. */
import { describe, expect, it } from "vitest";
import { benchGuestFs, fioRows, suiteComparisons } from "../../src/bench/guest-fs.ts";
import type { InsideResult } from "../../src/bench/guest-fs-messages.ts";
import { guestFsText } from "../../src/cli/bench-guest-fs.ts";
import { styleFor } from "../../src/report/style.ts";
import { openRunDirectory } from "../../src/run/directory.ts";
import { noVm, VM_KERNEL } from "../support/vm.ts";

type Fio = Extract<InsideResult, { type: "fio" }>;
const BOUND_MS = 1_800_000;

const fio = (place: Fio["place"], operationsPerSecond: number | null, changes: Partial<Fio> = {}): Fio => ({
  type: "fio",
  place,
  engine: "psync",
  pattern: "read",
  cache: "cold",
  operationsPerSecond,
  problem: operationsPerSecond === null ? "fio died" : null,
  ...changes,
});

describe("fioRows", () => {
  it("has the medians of each job's rounds, and their ratio", () => {
    const rounds = [100, 300, 200].flatMap((dax) => [fio("virtio-fs", 50), fio("virtio-fs-dax", dax)]);
    const [row, ...more] = fioRows(rounds);
    expect(row).toEqual({ engine: "psync", pattern: "read", cache: "cold", dax: 200, plain: 50, ratio: 4 });
    expect(more).toEqual([]);
  });

  it("has no figure where a round has failed, and no ratio then", () => {
    const rows = fioRows([fio("virtio-fs", 50), fio("virtio-fs-dax", 7), fio("virtio-fs-dax", null)]);
    expect(rows).toMatchObject([{ dax: null, plain: 50, ratio: null }]);
    expect(fioRows([fio("virtio-fs", 50)])).toMatchObject([{ dax: null, ratio: null }]);
  });

  it("keeps jobs apart, in the order in which they ran", () => {
    const jobs = [{ cache: "cold" }, { cache: "again" }, { engine: "mmap" }] as const;
    const rows = fioRows(jobs.map((job) => fio("virtio-fs", 1, job)));
    expect(rows.map(({ engine, cache }) => `${engine} ${cache}`)).toEqual([
      "psync cold",
      "psync again",
      "mmap cold",
    ]);
  });
});

describe("suiteComparisons", () => {
  const suite = (place: Fio["place"], complaints: readonly string[], skipped: string | null = null) =>
    ({ type: "suite", place, suite: "s", complaints, skipped, seconds: 1 }) as const;

  it("compares each mount with the folder underneath, and knows the errata of that mount only", () => {
    const results = [suite("folder", ["a"]), suite("virtio-fs", ["a", "b"]), suite("virtio-fs-dax", ["b"])];
    const erratum = {
      id: "e",
      transport: "virtio-fs",
      suite: "s",
      complaint: "b",
      reason: "",
      link: "",
    } as const;
    expect(suiteComparisons(results, [erratum])).toMatchObject([
      { transport: "virtio-fs", known: [{ complaint: "b", erratum: "e" }], differences: [] },
      { transport: "virtio-fs-dax", known: [], differences: ["b"] },
    ]);
  });

  it("compares nothing where a side did not run", () => {
    expect(suiteComparisons([suite("virtio-fs", [])], [])).toEqual([]);
    expect(suiteComparisons([suite("folder", [], "no fio"), suite("virtio-fs", [], "no fio")], [])).toEqual(
      [],
    );
  });
});

describe("guestFsText", () => {
  it("has ratios, differences and what went wrong", () => {
    const text = guestFsText(
      {
        kernel: "k",
        guestKernel: "g",
        accelerator: "tcg",
        windowMiB: 64,
        fileBytes: 2 ** 20,
        rounds: 1,
        comparisons: suiteComparisons([], []),
        skipped: [{ suite: "s", reason: "not installed: fio" }],
        goneErrata: [],
        rows: fioRows([fio("virtio-fs", 50), fio("virtio-fs-dax", 125)]),
        messages: ["WARNING: CPU: 0"],
        problems: ["the guest's end: its time is over"],
      },
      styleFor({ isTTY: false } as NodeJS.WriteStream),
    );
    expect(text).toContain("2.50");
    expect(text).toContain("s skipped: not installed: fio");
    expect(text).toContain("WARNING: CPU: 0");
    expect(text).toContain("PROBLEMS");
  });
});

describe.skipIf(noVm !== null)(`a Linux guest's suites and fio (${noVm ?? VM_KERNEL})`, () => {
  it(
    "sees no difference, with a DAX window and without, and has a figure for each job",
    async () => {
      const directory = openRunDirectory();
      const spec = {
        kind: "debian-version",
        text: VM_KERNEL,
        version: VM_KERNEL.slice("debian:".length),
      } as const;
      try {
        const result = await benchGuestFs({
          spec,
          guestSpec: spec,
          suites: ["random operations"],
          effort: "short",
          fio: { fileBytes: 2 ** 20, rounds: 1 },
          windowMiB: 64,
          directory,
          signal: new AbortController().signal,
          progress: () => {},
        });
        expect(result.problems).toEqual([]);
        expect(result.comparisons.map(({ transport, differences }) => [transport, differences])).toEqual([
          ["virtio-fs", []],
          ["virtio-fs-dax", []],
        ]);
        expect(result.rows).toHaveLength(12);
        for (const row of result.rows) expect(row.ratio, JSON.stringify(row)).toBeGreaterThan(0);
        expect(result.messages.filter((line) => /WARNING:|BUG:|Oops|Memory failure/.test(line))).toEqual([]);
      } finally {
        await directory.close();
      }
    },
    BOUND_MS,
  );
});
