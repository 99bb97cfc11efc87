/**
 * Measures what guards cost the host. One process has a file armed under each guard, mapped, with a holder that takes the
 * mapping away as a VMM does; another one runs a host's operations on each of them, in turn, and on one without a guard.
 */
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { checkedRange, SealedGuard } from "../../../fs-server/src/index.ts";
import type { ServerPart } from "../../../language/src/index.ts";
import { LostChildError, PAGE_SIZE } from "../../../sys/src/index.ts";
import { MmapWindow, PageStates, WindowHolder } from "../../../vmm/src/index.ts";
import { type Child, startChild } from "../engines/child.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import { failHelper, watchEnd } from "../engines/helper.ts";
import { openMount } from "../engines/mount.ts";
import { type Guarding, guardFile } from "../engines/vm/guard.ts";
import { within } from "../within.ts";
import {
  type FromPrice,
  type FromPriceHost,
  type PriceOperation,
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
  /** Why a process behind it has ended, or null. */
  lost(): Promise<string | null>;
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
    return {
      column,
      via,
      guarding: null,
      whole: async () => {},
      lost: async () => (await mount?.lost()) ?? null,
      close: async () => mount?.close(),
    };
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
    lost: async () => (await mount?.lost()) ?? (await guarding.lost()),
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

/** The host's process, asked one thing at a time. */
class PriceHost {
  readonly #child: Child<ToPriceHost, FromPriceHost>;
  readonly #expectEnd: () => void;
  #onDone: (us: FromPriceHost) => void = () => {};
  readonly lost: Promise<Error>;

  constructor() {
    this.#child = startChild({
      entry: "harness/src/guards/price-host-main.ts",
      directory: process.cwd(),
      onMessage: (message) => this.#onDone(message),
    });
    let onLost = (_error: Error): void => {};
    this.lost = new Promise((resolve) => {
      onLost = resolve;
    });
    this.#expectEnd = watchEnd(this.#child.exited, "the host's process", (error) => onLost(error));
  }

  ask(message: ToPriceHost): Promise<FromPriceHost> {
    return new Promise((resolve) => {
      this.#onDone = resolve;
      this.#child.send(message);
    });
  }

  close(): Promise<void> {
    this.#expectEnd();
    return this.#child.kill();
  }
}

/** A guard gives the file back within its own bound, some seconds. */
const WHOLE_BOUND_MS = 20_000;

async function measureOnce(
  host: PriceHost,
  { via, whole, lost, column }: Armed,
  operation: PriceOperation,
): Promise<FromPriceHost> {
  const answer = await Promise.race([host.ask({ operation, folder: via, sizeBytes: FILE_BYTES }), host.lost]);
  const isWhole = answer instanceof Error || (await within(whole(), WHOLE_BOUND_MS));
  // What it serves or guards is gone before its end is known: the host's process may fail of it first.
  const reason = await lost();
  if (reason !== null) throw new LostChildError(`${column}: ${reason}`);
  if (answer instanceof Error) throw answer;
  if (!isWhole) throw new LostChildError(`${column}: not whole again within ${WHOLE_BOUND_MS} ms`);
  return answer;
}

async function measure({ rounds, guards }: PriceOptions): Promise<FromPrice> {
  const armed: Armed[] = [];
  for (const column of priceColumns) {
    // The mount is what a server's own leases are to be compared with.
    const needed = column === "mount" ? "fuse-lease" : column;
    if (column === "none" || guards.includes(needed)) armed.push(await arm(column));
  }
  const host = new PriceHost();
  const us: Record<string, Record<string, number[]>> = {};
  const refused: Record<string, string> = {};
  for (const { column, guarding } of armed) {
    if (guarding !== null && guarding.refusal !== null) refused[column] = guarding.refusal;
  }
  for (let round = 0; round < rounds; round += 1) {
    for (const one of armed) {
      const { column } = one;
      if (column in refused) continue;
      for (const operation of priceOperations) {
        const done = await measureOnce(host, one, operation);
        us[column] ??= {};
        us[column][operation] ??= [];
        us[column][operation].push(done.us);
      }
    }
  }
  await host.close();
  for (const one of armed) await one.close();
  return { us, refused, sealedCopyMs: sealedCopies() };
}

// Imported for its words by the other side as well.
if (process.argv[1]?.endsWith("price-main.js") === true) {
  tieToParent();
  process.on("message", (options: PriceOptions) => {
    void measure(options).then(async (result) => {
      await send(result);
      process.disconnect?.();
    }, failHelper);
  });
}
