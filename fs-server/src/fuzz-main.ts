/**
 * Fuzzes the protocol core, virtqueues and the lease socket: `node dist/fs-server/src/fuzz-main.js [MESSAGES] [SEED]`,
 * default 1,000,000 and 1. Half of the messages on the null file system, half on a passthrough of a temporary folder, with a
 * recording DAX window on both; then as many chains of a hostile guest, on the same two; then a twentieth as many messages
 * of hostile clients of the lease socket, which take a connection and a turn of the event loop; and as few of hostile VMMs, at
 * a server process. `--only KIND` leaves out the others: messages, rings, leases, vhost-user (of which there are then MESSAGES).
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { RecordingWindow } from "./dax/recording.ts";
import { DecoratedFileSystem } from "./fs/decorator.ts";
import { failure } from "./fs/errors.ts";
import type { FileHandle, FileSystem } from "./fs/filesystem.ts";
import { NULL_FILE_SYSTEM } from "./fs/null.ts";
import { fuzzLeases } from "./fuzz/leases.ts";
import { fuzzRings } from "./fuzz/rings.ts";
import { fuzz } from "./fuzz/run.ts";
import { fuzzVhostUser } from "./fuzz/vhost-user.ts";
import { PassthroughFileSystem } from "./passthrough/passthrough.ts";

const MAX_ALLOCATION_BYTES = 2n ** 20n;

/** Sparse sizes cost nothing, but an allocation of 2^32 bytes would fill the disk. */
class WithoutLargeAllocations extends DecoratedFileSystem {
  override fallocate(handle: FileHandle, mode: number, offset: bigint, lengthBytes: bigint): void {
    if (lengthBytes > MAX_ALLOCATION_BYTES) throw failure("ENOSPC");
    super.fallocate(handle, mode, offset, lengthBytes);
  }
}

const kinds = ["messages", "rings", "leases", "vhost-user"] as const;
type Kind = (typeof kinds)[number];

/** Messages and chains for one over a socket. */
const SOCKET_SHARE = 20;

type Figures = { readonly failures: readonly string[]; readonly defects: number };
type Job = { readonly source: string; readonly messages: number; readonly seed: number };
type Row = readonly [name: string, run: () => Figures | Promise<Figures>];

function jobs({ source, messages, seed }: Job, only: Kind | null): readonly Row[] {
  // Small limits, so that they are met.
  const limits = { nodeLimit: 16, handleLimit: 8, lockLimit: 4 };
  const passthrough = () => new WithoutLargeAllocations(new PassthroughFileSystem(source, limits));
  const half = Math.floor(messages / 2);
  const session = { window: new RecordingWindow(2n ** 24n), posixLocks: true, flocks: true };
  const nothing = (): FileSystem => NULL_FILE_SYSTEM;
  const rest = messages - half;
  const overSocket = only === null ? Math.ceil(messages / SOCKET_SHARE) : messages;
  const path = join(source, "leases");
  const rows: Readonly<Record<Kind, readonly Row[]>> = {
    messages: [
      ["null", () => fuzz({ fs: nothing, seed, messages: half, session })],
      ["passthrough", () => fuzz({ fs: passthrough, seed, messages: rest, session })],
    ],
    rings: [
      ["rings on null", () => fuzzRings({ fs: nothing, seed, chains: half, session })],
      ["rings on passthrough", () => fuzzRings({ fs: passthrough, seed: seed + 1, chains: rest, session })],
    ],
    leases: [["leases", () => fuzzLeases({ path, seed, messages: overSocket })]],
    "vhost-user": [["vhost-user", () => fuzzVhostUser({ source, seed, messages: overSocket })]],
  };
  return kinds.filter((kind) => only === null || kind === only).flatMap((kind) => rows[kind]);
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { only: { type: "string" } },
    allowPositionals: true,
  });
  const [messages = 1_000_000, seed = 1] = positionals.map(Number);
  const only = kinds.find((kind) => kind === values.only) ?? null;
  const isWrong = !Number.isInteger(messages) || messages < 2 || !Number.isInteger(seed);
  if (isWrong || (values.only !== undefined && only === null)) {
    console.error(`usage: fuzz-main [MESSAGES >= 2] [SEED] [--only ${kinds.join("|")}]`);
    return 64;
  }
  console.log(`fuzz: ${messages} messages, seed ${seed}`);
  const source = mkdtempSync(join(tmpdir(), "daxfault-fuzz-"));
  writeFileSync(join(source, "a"), "a".repeat(10_000));
  mkdirSync(join(source, "dir"));
  symlinkSync("a", join(source, "link"));
  const started = performance.now();
  let isRight = true;
  try {
    for (const [name, run] of jobs({ source, messages, seed }, only)) {
      const { failures, ...figures } = await run();
      console.log(`${name}: ${JSON.stringify(figures)}`);
      for (const failure of failures) console.log(`  FAILED ${failure}`);
      isRight &&= failures.length === 0 && figures.defects === 0;
    }
  } finally {
    rmSync(source, { recursive: true, force: true });
  }
  const seconds = (performance.now() - started) / 1000;
  const memory = Math.round(process.memoryUsage().rss / 2 ** 20);
  console.log(`${seconds.toFixed(1)} s, ${memory} MiB resident`);
  return isRight ? 0 : 1;
}

process.exitCode = await main();
