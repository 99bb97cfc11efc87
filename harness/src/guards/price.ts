/** The cost of a guard for the host: by operation and guard, against no guard, one after the other in each round. */

import { startChild } from "../engines/child.ts";
import { errorOfExit, helperEnd } from "../engines/helper.ts";
import type { RunDirectory } from "../run/directory.ts";
import { type FromPrice, type PriceOptions, priceOperations } from "./price-messages.ts";
import { type Quantiles, quantiles } from "./race.ts";

export type PriceRow = { readonly guard: string; readonly operation: string } & Quantiles;
export type Price = {
  readonly rounds: number;
  /** In microseconds. */
  readonly rows: readonly PriceRow[];
  readonly refused: Readonly<Record<string, string>>;
  /** Making a sealed copy of a file of 64 MiB, in milliseconds. */
  readonly sealedCopyMs: Quantiles | null;
};

const BOUND_MS = 200_000;

export async function measurePrice(
  directory: RunDirectory,
  options: PriceOptions,
  signal: AbortSignal,
): Promise<Price> {
  const folder = directory.caseDirectory("price");
  let answer: FromPrice | null = null;
  const child = startChild<object, FromPrice>({
    entry: "harness/src/guards/price-main.ts",
    directory: folder,
    onMessage: (message) => {
      answer = message;
    },
  });
  const abort = (): void => void child.kill();
  signal.addEventListener("abort", abort);
  child.send(options);
  const name = "price of the guards";
  const exit = await helperEnd(child, { name, directory: folder, boundMs: BOUND_MS }).finally(() =>
    signal.removeEventListener("abort", abort),
  );
  const got = answer as FromPrice | null;
  if (got === null) throw errorOfExit(exit, name);
  const rows = Object.entries(got.us).flatMap(([guard, operations]) =>
    priceOperations.flatMap((operation): PriceRow[] => {
      const values = quantiles(operations[operation] ?? []);
      return values === null ? [] : [{ guard, operation, ...values }];
    }),
  );
  return { rounds: options.rounds, rows, refused: got.refused, sealedCopyMs: quantiles(got.sealedCopyMs) };
}

const pair = ({ p50, p99 }: Quantiles): string => `${Math.round(p50)} / ${Math.round(p99)}`;

export function priceText({ rounds, rows, refused, sealedCopyMs }: Price): string {
  const guards = [...new Set(rows.map(({ guard }) => guard))];
  const cell = (guard: string, operation: string): string => {
    const row = rows.find((one) => one.guard === guard && one.operation === operation);
    return row === undefined ? "" : pair(row);
  };
  const width = Math.max(...priceOperations.map(({ length }) => length));
  const lines = priceOperations.map(
    (operation) =>
      `  ${operation.padEnd(width)} ${guards.map((guard) => cell(guard, operation).padStart(16)).join("")}`,
  );
  return [
    `price, ${rounds} rounds in turn: p50 / p99 in us`,
    `  ${"".padEnd(width)} ${guards.map((guard) => (guard === "none" ? "no guard" : guard).padStart(16)).join("")}`,
    ...lines,
    ...Object.entries(refused).map(([guard, why]) => `  ${guard}: not armed: ${why}`),
    ...(sealedCopyMs === null ? [] : [`  sealed: copying 64 MiB takes ${pair(sealedCopyMs)} ms (p50 / p99)`]),
  ].join("\n");
}
