/** Messages between `daxfault bench protect` and the process whose calls are timed. */
import type { PriceOperation } from "./price-rows.ts";

export type ToPriceHost = { readonly operation: PriceOperation; readonly folder: string };
export type FromPriceHost = {
  readonly us: number;
  /** Of a truncation of the mapped file. */
  readonly isRefused: boolean;
};

export const FILE_BYTES: number = 2 * 2 ** 20;
