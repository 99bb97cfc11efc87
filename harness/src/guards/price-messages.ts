/** Messages between the measurement of guards' prices and its two processes. */

export type PriceOptions = { readonly rounds: number; readonly guards: readonly string[] };

export const priceOperations = [
  "open another file",
  "truncate another file",
  "open the file to read",
  "truncate the file",
] as const;
export type PriceOperation = (typeof priceOperations)[number];

export type FromPrice = {
  /** By column and operation, in microseconds. */
  readonly us: Readonly<Record<string, Readonly<Partial<Record<PriceOperation, readonly number[]>>>>>;
  readonly refused: Readonly<Record<string, string>>;
  readonly sealedCopyMs: readonly number[];
};

export type ToPriceHost = {
  readonly operation: PriceOperation;
  readonly folder: string;
  readonly sizeBytes: number;
};
/** Microseconds. */
export type FromPriceHost = { readonly us: number };
