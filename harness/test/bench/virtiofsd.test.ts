/** The figures of `daxfault bench virtiofsd`. */
import { describe, expect, it } from "vitest";
import type { VirtiofsdResult } from "../../src/bench/virtiofsd.ts";
import { residentIn } from "../../src/bench/virtiofsd-memory.ts";
import {
  type Place,
  type RowName,
  rowNames,
  type Turn,
  turnIn,
  virtiofsdRows,
  WARM_UP_ROUNDS,
} from "../../src/bench/virtiofsd-turns.ts";
import { virtiofsdText } from "../../src/cli/bench-virtiofsd.ts";
import { styleFor } from "../../src/report/style.ts";

const turn = (round: number, row: RowName, place: Place, units: number, seconds: number): Turn => ({
  round,
  row,
  place,
  units,
  nanoseconds: seconds * 1e9,
});

/** Every row of every place once in a round: ours `factor` times as fast as theirs, ten times with DAX. */
const round = (number: number, factor: number): readonly Turn[] =>
  rowNames.flatMap((row) => [
    turn(number, row, "ours", 100 * factor, 1),
    turn(number, row, "virtiofsd", 100, 1),
    turn(number, row, "ours-dax", 1000, 1),
  ]);

describe("a line of the guest", () => {
  it("is a turn, or another line", () => {
    expect(turnIn("@ 2 ours-dax mmap-random 500 1234567")).toEqual({
      round: 2,
      place: "ours-dax",
      row: "mmap-random",
      units: 500,
      nanoseconds: 1_234_567,
    });
    for (const line of [
      "",
      "@ mounted",
      "@ done",
      "! pread: Input/output error",
      "@ 1 other stat 1 1",
      "@ 1 ours sta 1 1",
      "@ ours stat 1 1",
    ])
      expect(turnIn(line)).toBeNull();
  });
});

describe("a job of fio's", () => {
  /** As fio 3.33 says it, `--minimal`: 130 fields, what was written from the 47th on. */
  const terse = (name: string, figures: { read?: string; write?: string; error?: string }): string => {
    const none = "0;0;0;0";
    const rest = Array(37).fill("0").join(";");
    const { read = none, write = none, error = "0" } = figures;
    return `3;fio-3.33;${name};0;${error};${read};${rest};${write};${rest};0.5%`;
  };

  it("is a turn: bytes of the sequential ones, else operations or files of 4 KiB", () => {
    const [sequential, random, made] = [
      turnIn(`@ 10 ours fio ${terse("read-sequential", { read: "8192;163840;1280;50" })}`),
      turnIn(`@ 10 ours fio ${terse("write-random", { write: "2000;20000;5000;100" })}`),
      turnIn(`@ 10 ours-dax fio ${terse("create", { read: "800;8000;2000;100" })}`),
    ];
    expect(sequential).toEqual(turn(10, "read-sequential", "ours", 8192 * 1024, 0.05));
    expect(random).toEqual(turn(10, "write-random", "ours", 500, 0.1));
    expect(made).toEqual(turn(10, "create", "ours-dax", 200, 0.1));
  });

  it("that failed, did nothing or is of another version is none", () => {
    const read = "8192;163840;1280;50";
    for (const line of [
      terse("read-sequential", { read, error: "5" }),
      terse("read-sequential", { write: read }),
      terse("another", { read }),
      terse("read-sequential", { read }).replace(/^3/, "4"),
      "fio: looks like your file system does not support direct=1/buffered=0",
    ])
      expect(turnIn(`@ 10 ours fio ${line}`)).toBeNull();
  });
});

describe("virtiofsdRows", () => {
  it("has the rate of each place by units and time, and ours with theirs as 1", () => {
    const rows = virtiofsdRows(round(WARM_UP_ROUNDS, 2));
    expect(rows.map(({ row }) => row)).toEqual([...rowNames]);
    expect(rows[0]).toEqual({
      row: "read-sequential",
      ours: 200,
      theirs: 100,
      dax: 1000,
      ratio: { median: 2, lowest: 2, highest: 2 },
      daxRatio: { median: 10, lowest: 10, highest: 10 },
    });
  });

  it("does not count the rounds in which a server warms up, and takes the ratio of each other one by itself", () => {
    const slow = [
      turn(WARM_UP_ROUNDS + 2, "stat", "ours", 60, 2),
      turn(WARM_UP_ROUNDS + 2, "stat", "virtiofsd", 10, 1),
      turn(WARM_UP_ROUNDS + 2, "stat", "ours-dax", 1, 1),
    ];
    // Not in the order of the rounds.
    const turns = [
      ...slow,
      ...round(0, 50),
      ...round(WARM_UP_ROUNDS - 1, 60),
      ...round(WARM_UP_ROUNDS, 2),
      ...round(WARM_UP_ROUNDS + 1, 4),
    ];
    const row = virtiofsdRows(turns).find((one) => one.row === "stat");
    expect(row).toMatchObject({
      ours: 200,
      theirs: 100,
      ratio: { median: 3, lowest: 2, highest: 4 },
      daxRatio: { median: 10, lowest: 0.1, highest: 10 },
    });
  });
});

it("finds the guest's RAM and the files that a VMM shares in its smaps", () => {
  const mapping = (place: string, rssKib: number): string =>
    `7f0000000000-7f0010000000 ${place}\nSize:             262144 kB\nRss:               ${rssKib} kB\nPss:               1 kB\n`;
  const smaps = [
    mapping("rw-s 00000000 00:01 1024                       /memfd:memory-backend-memfd (deleted)", 4000),
    mapping("rw-s 00200000 00:2b 5                          /data", 2048),
    mapping("rw-s 00000000 fe:01 77                         /srv/with blank/data", 4),
    mapping("r-xp 00000000 fe:01 9                          /usr/bin/qemu-system-x86_64", 9000),
    mapping("rw-s 00000000 00:00 0 ", 512),
    mapping("rw-p 00000000 00:00 0                          [heap]", 300),
  ].join("");
  expect(residentIn(smaps)).toEqual({ ramBytes: 4000 * 1024, sharedFileBytes: 2052 * 1024 });
});

describe("the text", () => {
  const result: VirtiofsdResult = {
    peer: "virtiofsd 1.13.2-1",
    qemu: "qemu-system-x86 11.1, 11.1.2",
    accelerator: "tcg",
    guestKernel: "6.12",
    fileBytes: 2 ** 24,
    files: 200,
    operations: 500,
    rounds: 1,
    treeFiles: 100,
    programs: null,
    driver: {
      requests: 1000,
      turns: 7,
      rows: [
        {
          row: "getattr",
          ours: 20,
          theirs: 30,
          ratio: { median: 1.5, lowest: 1.25, highest: 2 },
          oursCpu: 19,
          theirsCpu: 13,
        },
      ],
    },
    rows: virtiofsdRows(round(WARM_UP_ROUNDS, 2)),
    peakRssBytes: { ours: 2 ** 27, virtiofsd: 2 ** 23, "ours-dax": 2 ** 27 },
    memory: null,
  };
  const style = styleFor({ isTTY: false, columns: 200 } as NodeJS.WriteStream);
  const lineOf = (text: string, first: string): string | undefined =>
    text.split("\n").find((line) => line.startsWith(first));

  it("has what both servers do without a guest, and that alone where no round is asked for", () => {
    const text = virtiofsdText({ ...result, rounds: 0, rows: [] }, style);
    expect(text).toContain("medians of 7 turns of 1000");
    expect(lineOf(text, "GETATTR")).toMatch(/30\.0 +20\.0 +1\.50 \(1\.25 to 2\.00\) +13\.0 +19\.0/);
    expect(text).not.toContain("guest: 6.12");
    expect(virtiofsdText(result, style)).toContain("GETATTR");
  });

  it("has both servers, their packages and their memory", () => {
    const text = virtiofsdText(result, style);
    expect(text).toContain("virtiofsd 1.13.2-1; guest: 6.12");
    expect(text).toContain(
      "most memory of each server: ours 128.0 MiB; virtiofsd 8.0 MiB; ours, DAX 128.0 MiB",
    );
    expect(lineOf(text, "create")).toMatch(/100 +200 +2\.00 \(2\.00 to 2\.00\) +1000 +10\.00/);
    expect(text).not.toContain("guests that have read");
  });

  it("names the programs that did the work, where they are not ours", () => {
    const programs = ["fio 3.39-1", "findutils 4.10.0-3", "tar 1.35"];
    expect(virtiofsdText({ ...result, programs }, style)).toContain(
      "fio 3.39-1, findutils 4.10.0-3, tar 1.35",
    );
    expect(virtiofsdText(result, style)).not.toContain("the work is done by");
  });

  it("has what guests take that hold a file", () => {
    const of = (ramMiB: number, mappedMiB: number) => ({
      ramBytes: ramMiB * 2 ** 20,
      mappedBytes: mappedMiB * 2 ** 20,
      serverBytes: 2 ** 20,
    });
    const memory = {
      guests: 2,
      fileBytes: 2 ** 25,
      places: { ours: of(66, 0), virtiofsd: of(65, 0), "ours-dax": of(-0.5, 32) },
    };
    const text = virtiofsdText({ ...result, memory }, style);
    expect(text).toContain("2 guests that have read the same file of 32.0 MiB");
    expect(lineOf(text, "ours, DAX")).toMatch(/^ours, DAX +-0\.5 +32\.0 +1\.0$/);
  });
});
