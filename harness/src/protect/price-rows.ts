/** The rows of `daxfault bench protect`. */
import type { Quantiles } from "../guards/race.ts";

export const priceOperations = [
  "open another file",
  "read 4 KiB of it",
  "write 4 KiB of it",
  "truncate it",
  "open the mapped file",
  "read 4 KiB of it, by a new descriptor",
  "write 4 KiB of it, by a new descriptor",
  "read 4 KiB of it, by a descriptor from before",
  "grow it, and back",
  "truncate it, refused where it is protected",
] as const;
export type PriceOperation = (typeof priceOperations)[number];

export const priceColumns = ["without", "--pid", "--dir"] as const;
export type PriceColumn = (typeof priceColumns)[number];

export type ProtectPriceRow = {
  readonly operation: PriceOperation;
  readonly column: PriceColumn;
} & Quantiles;

export type ProtectPrice = {
  readonly rounds: number;
  /** In microseconds. */
  readonly rows: readonly ProtectPriceRow[];
};
