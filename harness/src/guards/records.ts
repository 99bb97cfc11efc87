/**
 * The lines of `bench guards --json`: the results of races and prices, as written and as read. `daxfault report` draws
 * them beside the runs that it is given.
 */
import { z } from "zod";
import type { ServerPart } from "../../../language/src/index.ts";
import { type Bin, histogram } from "./histogram.ts";
import type { Price } from "./price.ts";
import { type Quantiles, quantiles, type RaceResult, racedGuards, raceWays } from "./race.ts";

/** null: nothing was measured, as where the guard was refused. */
export type Measurement = (Quantiles & { readonly histogram: readonly Bin[] }) | null;

export type RaceRecord = { readonly type: "race" } & Omit<RaceResult, "windowUs" | "hostUs" | "faults"> & {
    readonly windowUs: Measurement;
    readonly hostUs: Measurement;
    readonly faults: Quantiles | null;
  };
export type PriceRecord = { readonly type: "guard-price" } & Price;
export type GuardRecord = RaceRecord | PriceRecord;

const count: z.ZodInt = z.int().nonnegative();
const quantileMembers = { p50: z.number(), p99: z.number(), max: z.number() };
const bin: z.ZodType<Bin> = z.strictObject({ upToUs: z.number().nullable(), count });
const measurement: z.ZodType<Measurement> = z
  .strictObject({ ...quantileMembers, histogram: z.array(bin) })
  .nullable();

const raceShape = z.strictObject({
  type: z.literal("race"),
  guard: z.enum(racedGuards as readonly [ServerPart, ...ServerPart[]]),
  guest: z.enum(["one-vcpu", "two-vcpus", "linux"]),
  rounds: count,
  ways: z.array(
    z.strictObject({ way: z.enum(raceWays), rounds: count, late: count, lost: count, denied: count }),
  ),
  refusal: z.string().nullable(),
  done: count,
  late: count,
  lost: count,
  denied: count,
  stuck: z.boolean(),
  loads: count,
  stores: count,
  staleLoads: count,
  zeroLoads: count,
  sigbus: count,
  changedAfterAcknowledgement: count,
  dirtyAfterRegrow: count,
  seconds: z.number(),
  windowUs: measurement,
  hostUs: measurement,
  faults: z.strictObject(quantileMembers).nullable(),
  linux: z
    .strictObject({
      host: z.string(),
      hostCpus: count,
      release: z.string(),
      origin: z.string(),
      boots: count,
      oopses: count,
      troubles: z.array(z.string()),
    })
    .nullable(),
});

const priceShape = z.strictObject({
  type: z.literal("guard-price"),
  rounds: count,
  rows: z.array(z.strictObject({ ...quantileMembers, guard: z.string(), operation: z.string() })),
  refused: z.record(z.string(), z.string()),
  sealedCopyMs: z.strictObject(quantileMembers).nullable(),
});

/** One line. `type` is the first member. */
export const guardRecordSchema: z.ZodType<GuardRecord> = z.discriminatedUnion("type", [
  raceShape,
  priceShape,
]);

function measured(values: readonly number[]): Measurement {
  const found = quantiles(values);
  return found === null ? null : { ...found, histogram: histogram(values) };
}

export function raceRecord({ windowUs, hostUs, faults, ...figures }: RaceResult): RaceRecord {
  return {
    type: "race",
    ...figures,
    windowUs: measured(windowUs),
    hostUs: measured(hostUs),
    faults: quantiles(faults),
  };
}

export function priceRecord(price: Price): PriceRecord {
  return { type: "guard-price", ...price };
}

/** Does its `type` make it one of these lines? */
export function isGuardLine(line: unknown): boolean {
  const type = (line as { readonly type?: unknown } | null)?.type;
  return type === "race" || type === "guard-price";
}
