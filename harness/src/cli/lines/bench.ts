/** The lines of `daxfault bench .. --json`, a part each but for those of `bench guards` (guards/records.ts): types and schemas. */
import { z } from "zod";
import { type BenchResult, type Figure, ROWS, type RowName } from "../../../../fs-server/src/index.ts";
import type { ExploreBench } from "../../../../kvm-model/src/index.ts";
import type { ExitBenchRow } from "../../../../vmm/src/index.ts";
import type { ApfResult } from "../../bench/apf.ts";
import type { FenceResult, FenceRow, Spread } from "../../bench/fence.ts";
import type { GuestFsResult } from "../../bench/guest-fs.ts";
import type { VirtiofsdResult } from "../../bench/virtiofsd.ts";
import { driverRowNames, rowNames as virtiofsdRowNames } from "../../bench/virtiofsd-turns.ts";
import { type ProtectPrice, priceColumns, priceOperations } from "../../protect/price-rows.ts";
import { count, texts } from "./shapes.ts";

/** Rates and times of `bench kvm` are cycles a second; `ratio`: ours divided by that of the loop in C. */
export type BenchKvmLine = {
  readonly type: "bench";
  readonly name: "kvm";
  readonly cycle: ExitBenchRow["cycle"];
  readonly perSecond: number;
  readonly peerPerSecond: number | null;
  readonly ratio: number | null;
  readonly turns: Pick<ExitBenchRow, "ours" | "peer">;
};

export type BenchExploreLine = {
  readonly type: "bench";
  readonly name: "explore";
  /** The protocol that SPIN explores too. */
  readonly small: ExploreBench;
  /** The largest case of the model. */
  readonly full: {
    readonly case: string;
    readonly peakRssBytes: number;
    readonly states: number;
    readonly statesPerSecond: number;
    readonly stateBytes: number;
    readonly overheadBytesPerState: number;
  };
};

export type BenchFsLine = { readonly type: "bench"; readonly name: "fs" } & BenchResult;
export type BenchApfLine = {
  readonly type: "bench";
  readonly name: "apf";
  /** Measurements of others; the numbers are the gain, as a share. */
  readonly published: { readonly source: string; readonly halt: number; readonly paravirtual: number };
} & ApfResult;
export type BenchGuestFsLine = { readonly type: "bench"; readonly name: "guest-fs" } & GuestFsResult;
export type BenchVirtiofsdLine = { readonly type: "bench"; readonly name: "virtiofsd" } & VirtiofsdResult;
export type BenchProtectLine = { readonly type: "bench"; readonly name: "protect" } & ProtectPrice;
export type BenchFenceLine = { readonly type: "bench"; readonly name: "fence" } & FenceResult;

const rate = z.number();
const bench = z.literal("bench");

export const benchKvmLine: z.ZodType<BenchKvmLine> = z.strictObject({
  type: bench,
  name: z.literal("kvm"),
  cycle: z.enum(["port", "fault", "fault-ioctl"]),
  perSecond: rate,
  peerPerSecond: rate.nullable(),
  ratio: z.number().nullable(),
  turns: z.strictObject({ ours: z.array(rate), peer: z.array(rate).nullable() }),
});

const exploreSpeed = { states: count, statesPerSecond: rate, stateBytes: count, overheadBytesPerState: rate };
export const benchExploreLine: z.ZodType<BenchExploreLine> = z.strictObject({
  type: bench,
  name: z.literal("explore"),
  small: z.strictObject({
    protocol: z.strictObject({
      pages: count,
      tasks: count,
      steps: count,
      hops: count,
      fix: z.union([z.literal(0), z.literal(1)]),
    }),
    transitions: count,
    peakRssBytes: count,
    ...exploreSpeed,
    spin: z.discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("ran"), states: count, statesPerSecond: rate, ratio: z.number() }),
      z.strictObject({ kind: z.literal("missing"), reason: z.string() }),
    ]),
  }),
  full: z.strictObject({ case: z.string(), peakRssBytes: count, ...exploreSpeed }),
});

const rowNames = Object.keys(ROWS) as RowName[];
const figure: z.ZodType<Figure> = z.strictObject({ median: z.number(), ratio: z.number().nullable() });
export const benchFsLine: z.ZodType<BenchFsLine> = z.strictObject({
  type: bench,
  name: z.literal("fs"),
  sourceType: z.string(),
  repetitions: count,
  contenders: z.array(z.strictObject({ name: z.string(), against: z.string().nullable() })),
  absent: z.array(z.strictObject({ name: z.string(), reason: z.string() })),
  placements: z.array(
    z.strictObject({
      placement: z.enum(["apart", "together"]),
      figures: z.record(z.string(), z.partialRecord(z.enum(rowNames), figure)),
      peakRssBytes: z.record(z.string(), count),
      copied: z.record(z.string(), z.strictObject({ large: z.number(), small: z.number() })),
    }),
  ),
});

export const benchApfLine: z.ZodType<BenchApfLine> = z.strictObject({
  type: bench,
  name: z.literal("apf"),
  delayMs: z.number(),
  rounds: count,
  pages: count,
  aloneWorkPerSecond: rate,
  rows: z.array(
    z.strictObject({
      proposal: z.string(),
      what: z.string(),
      figures: z.strictObject({
        workPerSecond: rate,
        pagesPerSecond: rate,
        medianMs: z.number(),
        p99Ms: z.number(),
        notPresent: count,
      }),
    }),
  ),
  published: z.strictObject({ source: z.string(), halt: z.number(), paravirtual: z.number() }),
});

const spread: z.ZodType<Spread> = z.strictObject({ median: z.number(), p99: z.number(), max: z.number() });
const fenceRow: z.ZodType<FenceRow> = z.strictObject({
  vcpus: count,
  rounds: count,
  exitMs: spread,
  toldMs: spread,
  cpuMs: spread,
  losses: texts,
});
export const benchFenceLine: z.ZodType<BenchFenceLine> = z.strictObject({
  type: bench,
  name: z.literal("fence"),
  rows: z.array(fenceRow),
  unfenced: z.strictObject({
    watchedMs: z.number(),
    isLooping: z.boolean(),
    wasTold: z.boolean(),
    faultsPerSecond: rate,
    processCpu: z.number(),
    machineCpu: z.number(),
  }),
});

export const benchGuestFsLine: z.ZodType<BenchGuestFsLine> = z.strictObject({
  type: bench,
  name: z.literal("guest-fs"),
  kernel: z.string(),
  guestKernel: z.string(),
  accelerator: z.enum(["kvm", "tcg"]),
  windowMiB: count,
  fileBytes: count.nullable(),
  rounds: count,
  comparisons: z.array(
    z.strictObject({
      suite: z.string(),
      transport: z.string(),
      underneath: texts,
      known: z.array(z.strictObject({ complaint: z.string(), erratum: z.string() })),
      differences: texts,
    }),
  ),
  skipped: z.array(z.strictObject({ suite: z.string(), reason: z.string() })),
  goneErrata: texts,
  rows: z.array(
    z.strictObject({
      engine: z.enum(["psync", "mmap"]),
      pattern: z.enum(["read", "randread", "write", "randwrite"]),
      cache: z.enum(["cold", "again"]),
      dax: rate.nullable(),
      plain: rate.nullable(),
      ratio: z.number().nullable(),
    }),
  ),
  messages: texts,
  problems: texts,
});

const virtiofsdRatio = z.strictObject({ median: z.number(), lowest: z.number(), highest: z.number() });
const ofEachPlace = <T extends z.ZodType>(each: T) =>
  z.strictObject({ ours: each, virtiofsd: each, "ours-dax": each });
export const benchVirtiofsdLine: z.ZodType<BenchVirtiofsdLine> = z.strictObject({
  type: bench,
  name: z.literal("virtiofsd"),
  peer: z.string(),
  qemu: z.string(),
  accelerator: z.enum(["kvm", "tcg"]),
  guestKernel: z.string(),
  fileBytes: count,
  files: count,
  operations: count,
  rounds: count,
  treeFiles: count,
  programs: texts.nullable(),
  driver: z.strictObject({
    requests: count,
    turns: count,
    rows: z.array(
      z.strictObject({
        row: z.enum(driverRowNames),
        ours: rate,
        theirs: rate,
        ratio: virtiofsdRatio,
        oursCpu: rate,
        theirsCpu: rate,
      }),
    ),
  }),
  rows: z.array(
    z.strictObject({
      row: z.enum(virtiofsdRowNames),
      ours: rate,
      theirs: rate,
      dax: rate,
      ratio: virtiofsdRatio,
      daxRatio: virtiofsdRatio,
    }),
  ),
  peakRssBytes: ofEachPlace(count),
  memory: z
    .strictObject({
      guests: count,
      fileBytes: count,
      places: ofEachPlace(
        z.strictObject({ ramBytes: z.number(), mappedBytes: z.number(), serverBytes: count }),
      ),
    })
    .nullable(),
});

export const benchProtectLine: z.ZodType<BenchProtectLine> = z.strictObject({
  type: bench,
  name: z.literal("protect"),
  rounds: count,
  rows: z.array(
    z.strictObject({
      operation: z.enum(priceOperations),
      column: z.enum(priceColumns),
      p50: z.number(),
      p99: z.number(),
      max: z.number(),
    }),
  ),
});
