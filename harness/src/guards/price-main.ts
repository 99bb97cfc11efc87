/**
 * Measures what guards cost the host. One process has a file armed under each guard, mapped, with a holder that takes the
 * mapping away as a VMM does; another one runs a host's operations on each of them, in turn, and on one without a guard.
 */
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { checkedRange, SealedGuard } from "../../../fs-server/src/index.ts";
import type { ServerPart } from "../../../language/src/index.ts";
import { PAGE_SIZE } from "../../../sys/src/index.ts";
import { MmapWindow, PageStates, WindowHolder } from "../../../vmm/src/index.ts";
import { startChild } from "../engines/child.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import { type Guarding, guardFile } from "../engines/kvm/guard.ts";
import { openMount } from "../engines/mount.ts";
import { errorStack } from "../error-text.ts";
import {
  type FromPrice,
  type FromPriceHost,
  type PriceOptions,
  priceOperations,
  type ToPriceHost,
} from "./price-messages.ts";

const FILE_BYTES = 2 * 2 ** 20;
const SEALED_BYTES = 64 * 2 ** 20;
const SEALED_ROUNDS = 5;

/** Measured side by side: no guard, our own mount without leases, and each guard. */
type PriceColumn = ServerPart | "mount";
const priceColumns: readonly PriceColumn[] = [
  "none",
  "mount",
  "fuse-lease",
  "kernel-lease",
  "pre-content",
  "notify",
  "sealed",
];

type Armed = {
  readonly column: PriceColumn;
  /** Where the host finds the files. */
  readonly via: string;
  readonly guarding: Guarding | null;
  readonly whole: () => Promise<void>;
  close(): Promise<void>;
};

function writeFile(path: string, sizeBytes: number): void {
  const fd = openSync(path, "wx", 0o600);
  for (let at = 0; at < sizeBytes; at += FILE_BYTES) writeSync(fd, Buffer.alloc(FILE_BYTES, 1));
  closeSync(fd);
}

async function arm(column: PriceColumn): Promise<Armed> {
  const folder = join(process.cwd(), column);
  const source = join(folder, "source");
  mkdirSync(source, { recursive: true });
  for (const name of ["file", "other"]) writeFile(join(source, name), FILE_BYTES);
  const leaseSocket = column === "fuse-lease" ? join(folder, "leases") : null;
  const mounted = { sourceDirectory: source, directory: folder, transport: "devfuse" } as const;
  const mount =
    column === "mount" || leaseSocket !== null
      ? await openMount(leaseSocket === null ? mounted : { ...mounted, leaseSocket })
      : null;
  const via = mount?.mountpoint ?? source;
  if (column === "none" || column === "mount") {
    return { column, via, guarding: null, whole: async () => {}, close: async () => mount?.close() };
  }
  const fd = openSync(join(source, "file"), "r+");
  // Settled with all of the file there: the next round may begin.
  let isWhole = true;
  let onWhole = (): void => {};
  const guarding = await guardFile({ name: column, leaseSocket }, fd, (event) => {
    if (event.kind === "recall") isWhole = false;
    if (event.kind === "settle" && event.sizeBytes === BigInt(FILE_BYTES)) {
      isWhole = true;
      onWhole();
    }
  });
  const window = new MmapWindow(BigInt(FILE_BYTES));
  const range = checkedRange(0n, window.sizeBytes, window.sizeBytes, BigInt(PAGE_SIZE));
  window.map(range, guarding.fd, 0n, { writable: true });
  const states = new PageStates(window.hva, FILE_BYTES);
  guarding.holder.become(
    new WindowHolder({ hva: window.hva, lengthBytes: FILE_BYTES, fileOffset: 0n, fd: guarding.fd }, states),
  );
  return {
    column,
    via,
    guarding,
    whole: () =>
      isWhole
        ? Promise.resolve()
        : new Promise((resolve) => {
            onWhole = resolve;
          }),
    async close() {
      await guarding.close();
      await mount?.close();
      window.close();
      closeSync(fd);
    },
  };
}

/** How long arming a sealed copy takes: all of its price. */
function sealedCopies(): number[] {
  const path = join(process.cwd(), "large");
  writeFile(path, SEALED_BYTES);
  const fd = openSync(path, "r+");
  const noHolder = { recall: () => undefined, settle: () => undefined, cutOff: () => undefined };
  const times: number[] = [];
  for (let round = 0; round < SEALED_ROUNDS; round += 1) {
    const startMs = performance.now();
    const armed = new SealedGuard().arm({ fd }, noHolder);
    times.push(performance.now() - startMs);
    armed.disarm();
  }
  closeSync(fd);
  return times;
}

async function measure({ rounds, guards }: PriceOptions): Promise<FromPrice> {
  const armed: Armed[] = [];
  for (const column of priceColumns) {
    // The mount is what a server's own leases are to be compared with.
    const needed = column === "mount" ? "fuse-lease" : column;
    if (column === "none" || guards.includes(needed)) armed.push(await arm(column));
  }
  let onDone = (_us: FromPriceHost): void => {};
  const host = startChild<ToPriceHost, FromPriceHost>({
    entry: "harness/src/guards/price-host-main.ts",
    directory: process.cwd(),
    onMessage: (message) => onDone(message),
  });
  const us: Record<string, Record<string, number[]>> = {};
  const refused: Record<string, string> = {};
  for (const { column, guarding } of armed) {
    if (guarding !== null && guarding.refusal !== null) refused[column] = guarding.refusal;
  }
  for (let round = 0; round < rounds; round += 1) {
    for (const { column, via, whole } of armed) {
      if (column in refused) continue;
      for (const operation of priceOperations) {
        const done = await new Promise<FromPriceHost>((resolve) => {
          onDone = resolve;
          host.send({ operation, folder: via, sizeBytes: FILE_BYTES });
        });
        us[column] ??= {};
        us[column][operation] ??= [];
        us[column][operation].push(done.us);
        await whole();
      }
    }
  }
  await host.kill();
  for (const one of armed) await one.close();
  return { us, refused, sealedCopyMs: sealedCopies() };
}

// Imported for its words by the other side as well.
if (process.argv[1]?.endsWith("price-main.js") === true) {
  tieToParent();
  process.on("message", (options: PriceOptions) => {
    void measure(options).then(
      async (result) => {
        await send(result);
        process.disconnect?.();
      },
      (error: unknown) => {
        console.error(errorStack(error));
        process.exit(1);
      },
    );
  });
}
