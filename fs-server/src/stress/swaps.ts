/**
 * Attempts to reach a file outside of the source: clients who are another user on a mount that root serves, while the host
 * exchanges folders and files for links out of the source. A breach is what a client meets, or any change of what is
 * outside. Needs root, and another user.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { compiledEntry } from "../../../sys/src/index.ts";
import { noUringBecause } from "../transport/devfuse/rings.ts";
import { mounted } from "./mounted.ts";
import { fingerprint, inodesOf, makeSwapTrees } from "./swaps-tree.ts";

export type SwapsVariant = {
  readonly name: string;
  /** Options of serve-main. */
  readonly args: readonly string[];
  /** Words before the server's command. */
  readonly before: readonly string[];
};

const UNCACHED = ["--entry-timeout", "0", "--attr-timeout", "0"];

export const swapsVariants: readonly SwapsVariant[] = [
  { name: "uncached", args: UNCACHED, before: [] },
  { name: "cached", args: [], before: [] },
  // Nodes are closed and opened again by their file handles.
  { name: "few descriptors", args: UNCACHED, before: ["prlimit", "--nofile=512:512"] },
  { name: "io_uring", args: ["--io-uring", ...UNCACHED], before: [] },
];

/** Why a variant cannot be served here, or null. */
export function lackOf({ args }: SwapsVariant): string | null {
  return args.includes("--io-uring") ? noUringBecause() : null;
}

export type SwapsFigures = {
  readonly swaps: number;
  /** By step and errno. */
  readonly counts: Readonly<Record<string, number>>;
  readonly breaches: readonly string[];
};

export type SwapsOptions = {
  /** Exists and is empty. Another user must be able to get there. */
  readonly base: string;
  readonly variant: SwapsVariant;
  readonly seconds: number;
  /** Steps that each client makes at least, however slow it is; 0 unless given. */
  readonly leastSteps?: number;
  readonly seed: number;
  /** Of the clients. 0 can follow links out of the source by itself: what they report is then known to work. */
  readonly uid: number;
};

const CLIENTS = 2;

type Said = { swaps?: number; counts?: Record<string, number>; met?: string[] };

/** A program that says `begun` in a line, runs until SIGTERM, and says in another what it did. */
class Actor {
  readonly #child: ChildProcess;
  readonly #ended: Promise<Said>;
  /** Rejects where it has ended before. */
  readonly begun: Promise<unknown>;

  constructor(name: string, args: readonly string[]) {
    const main = compiledEntry(import.meta.url, `./${name}.ts`).pathname;
    this.#child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    const spoken = new Promise<void>((done) => {
      this.#child.stdout?.on("data", (bytes: Buffer) => {
        said += bytes.toString();
        if (said.includes("\n")) done();
      });
    });
    this.#ended = new Promise((done, fail) => {
      this.#child.once("close", (code, signal) => {
        if (code === 0) done(JSON.parse(said.slice(said.indexOf("\n"))) as Said);
        else fail(new Error(`${name} ended with ${signal ?? code}`));
      });
    });
    // Observed in `end`.
    this.#ended.catch(() => {});
    this.begun = Promise.race([spoken, this.#ended]);
  }

  end(): Promise<Said> {
    this.#child.kill("SIGTERM");
    return this.#ended;
  }
}

/** Runs one variant. Throws if it cannot be served. */
export async function swaps(options: SwapsOptions): Promise<SwapsFigures> {
  const { base, variant, seconds, leastSteps = 0, seed, uid } = options;
  mkdirSync(base, { recursive: true });
  chmodSync(base, 0o755);
  const server = await mounted(join(base, "served"), variant.args, variant.before);
  if (typeof server === "string") throw new Error(`cannot serve: ${server}`);
  try {
    const outside = makeSwapTrees(base, server.source);
    const before = fingerprint(outside);
    const inodes = inodesOf(outside).join(",");
    const host = new Actor("swaps-host-main", [server.source, String(seed)]);
    const clients = Array.from(
      { length: CLIENTS },
      (_, i) =>
        new Actor("swaps-client-main", [
          server.folder,
          String(seed + i + 1),
          String(uid),
          String(leastSteps),
          inodes,
        ]),
    );
    await Promise.all([host, ...clients].map(({ begun }) => begun));
    await sleep(seconds * 1000);
    const met = await Promise.all(clients.map((client) => client.end()));
    const { swaps: count = 0 } = await host.end();
    const after = fingerprint(outside);
    const changes = after.filter((line) => !before.includes(line)).map((line) => `changed outside: ${line}`);
    const gone = before.filter((line) => !after.includes(line)).map((line) => `was outside: ${line}`);
    const counts: Record<string, number> = {};
    for (const [key, times] of met.flatMap((one) => Object.entries(one.counts ?? {}))) {
      counts[key] = (counts[key] ?? 0) + times;
    }
    return { swaps: count, counts, breaches: [...met.flatMap((one) => one.met ?? []), ...changes, ...gone] };
  } finally {
    await server.stop();
  }
}
