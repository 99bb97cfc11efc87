/**
 * What `daxfault protect` costs others: the same calls of another process without it, with it for a process's files, and with it
 * for a folder, in blocks that take turns. This process has the file mapped, and stands for the VMM.
 */
import { closeSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MAP_SHARED, mmap, munmap, PROT_READ, PROT_WRITE } from "../../../sys/src/index.ts";
import { ThisHost } from "../diagnose/this-host.ts";
import { AskedChild } from "../engines/asked-child.ts";
import { quantiles } from "../guards/race.ts";
import { FILE_BYTES, type FromPriceHost, type ToPriceHost } from "./price-messages.ts";
import {
  type PriceColumn,
  type PriceOperation,
  type ProtectPrice,
  type ProtectPriceRow,
  priceColumns,
  priceOperations,
} from "./price-rows.ts";
import { type ProtectOptions, Protector } from "./protector.ts";

const BLOCKS_MAX = 10;
const READY_MS = 20_000;

/** Why nothing was measured: the file would not have been protected. */
export class NotProtectedError extends Error {
  override readonly name = "NotProtectedError";
}

/** Runs the work while it is protected; what follows is not. */
async function protectedBy(options: Partial<ProtectOptions>, work: () => Promise<void>): Promise<void> {
  const ending = new AbortController();
  let onReady = (_: string | null): void => {};
  const ready = new Promise<string | null>((resolve) => {
    onReady = resolve;
  });
  const full: ProtectOptions = { pids: [process.pid], folder: null, allow: [], seal: false, ...options };
  const protector = new Protector(new ThisHost(), full, (news) => {
    if (news.type === "ready") onReady(null);
    if (news.type === "file" && news.path.endsWith("/mapped") && news.means !== "refused")
      onReady(news.reason);
  });
  protector.missing();
  const running = protector.run(ending.signal);
  const timer = setTimeout(() => onReady("it was not ready in time"), READY_MS);
  try {
    const why = await ready;
    if (why !== null) throw new NotProtectedError(why);
    await work();
  } finally {
    clearTimeout(timer);
    ending.abort();
    await running;
    await protector.close();
  }
}

export async function measureProtect(
  directory: string,
  rounds: number,
  signal: AbortSignal,
): Promise<ProtectPrice> {
  for (const name of ["mapped", "other"]) writeFileSync(join(directory, name), Buffer.alloc(FILE_BYTES, 1));
  const fd = openSync(join(directory, "mapped"), "r+");
  const address = mmap({ lengthBytes: FILE_BYTES, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
  closeSync(fd);
  const host = new AskedChild<ToPriceHost, FromPriceHost>({
    entry: "harness/src/protect/price-host-main.ts",
    directory,
    name: "the process whose calls are timed",
  });
  const times = new Map<string, number[]>();
  const blocks = Math.min(BLOCKS_MAX, rounds);
  const block = async (column: PriceColumn): Promise<void> => {
    for (let round = 0; round < rounds / blocks && !signal.aborted; round += 1) {
      for (const operation of priceOperations) {
        const { us, isRefused } = await host.ask({ operation, folder: directory });
        const isMapped = operation === "truncate it, refused where it is protected";
        if (isMapped && isRefused !== (column !== "without"))
          throw new Error(`${operation}, ${column}: it was ${isRefused ? "" : "not "}refused`);
        const key = `${operation}|${column}`;
        times.set(key, [...(times.get(key) ?? []), us]);
      }
    }
  };
  try {
    for (let count = 0; count < blocks && !signal.aborted; count += 1) {
      await block("without");
      await protectedBy({}, () => block("--pid"));
      await protectedBy({ folder: directory }, () => block("--dir"));
    }
  } finally {
    await host.close();
    munmap(address, FILE_BYTES);
  }
  const rows = priceOperations.flatMap((operation) =>
    priceColumns.flatMap((column): ProtectPriceRow[] => {
      const values = quantiles(times.get(`${operation}|${column}`) ?? []);
      return values === null ? [] : [{ operation, column, ...values }];
    }),
  );
  return { rounds, rows };
}

export function protectPriceText({ rounds, rows }: ProtectPrice): string {
  const width = Math.max(...priceOperations.map(({ length }) => length));
  const cell = (operation: PriceOperation, column: PriceColumn): string => {
    const row = rows.find((one) => one.operation === operation && one.column === column);
    return row === undefined ? "" : `${row.p50.toFixed(1)} / ${row.p99.toFixed(0)}`;
  };
  return [
    `price of protect, ${rounds} rounds, in blocks that take turns: p50 / p99 in us`,
    `  ${"".padEnd(width)} ${priceColumns.map((column) => column.padStart(16)).join("")}`,
    ...priceOperations.map(
      (operation) =>
        `  ${operation.padEnd(width)} ${priceColumns.map((column) => cell(operation, column).padStart(16)).join("")}`,
    ),
  ].join("\n");
}
