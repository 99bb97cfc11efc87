/**
 * Fuzzes the protocol core and virtqueues: `node dist/fs-server/src/fuzz-main.js [MESSAGES] [SEED]`, default 1,000,000
 * and 1. Half of the messages on the null file system, half on a passthrough of a temporary folder, with a recording DAX
 * window on both; then as many chains of a hostile guest, on the same two.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RecordingWindow } from "./dax/recording.ts";
import { DecoratedFileSystem } from "./fs/decorator.ts";
import { failure } from "./fs/errors.ts";
import type { FileHandle, FileSystem } from "./fs/filesystem.ts";
import { NULL_FILE_SYSTEM } from "./fs/null.ts";
import { fuzzRings } from "./fuzz/rings.ts";
import { fuzz } from "./fuzz/run.ts";
import { PassthroughFileSystem } from "./passthrough/passthrough.ts";

const MAX_ALLOCATION_BYTES = 2n ** 20n;

/** Sparse sizes cost nothing, but an allocation of 2^32 bytes would fill the disk. */
class WithoutLargeAllocations extends DecoratedFileSystem {
  override fallocate(handle: FileHandle, mode: number, offset: bigint, lengthBytes: bigint): void {
    if (lengthBytes > MAX_ALLOCATION_BYTES) throw failure("ENOSPC");
    super.fallocate(handle, mode, offset, lengthBytes);
  }
}

function main(): void {
  const [messages = 1_000_000, seed = 1] = process.argv.slice(2).map(Number);
  if (!Number.isInteger(messages) || messages < 2 || !Number.isInteger(seed)) {
    console.error("usage: fuzz-main [MESSAGES >= 2] [SEED]");
    process.exit(64);
  }
  console.log(`fuzz: ${messages} messages, seed ${seed}`);
  const source = mkdtempSync(join(tmpdir(), "daxfault-fuzz-"));
  writeFileSync(join(source, "a"), "a".repeat(10_000));
  mkdirSync(join(source, "dir"));
  symlinkSync("a", join(source, "link"));
  // Small limits, so that they are met.
  const limits = { nodeLimit: 16, handleLimit: 8 };
  const passthrough = () => new WithoutLargeAllocations(new PassthroughFileSystem(source, limits));
  const half = Math.floor(messages / 2);
  const started = performance.now();
  const session = { window: new RecordingWindow(2n ** 24n) };
  const nothing = (): FileSystem => NULL_FILE_SYSTEM;
  const results = [
    ["null", fuzz({ fs: nothing, seed, messages: half, session })],
    ["passthrough", fuzz({ fs: passthrough, seed, messages: messages - half, session })],
    ["rings on null", fuzzRings({ fs: nothing, seed, chains: half, session })],
    [
      "rings on passthrough",
      fuzzRings({ fs: passthrough, seed: seed + 1, chains: messages - half, session }),
    ],
  ] as const;
  const seconds = (performance.now() - started) / 1000;
  rmSync(source, { recursive: true, force: true });
  for (const [name, { failures, ...figures }] of results) {
    console.log(`${name}: ${JSON.stringify(figures)}`);
    for (const failure of failures) console.log(`  FAILED ${failure}`);
  }
  const memory = Math.round(process.memoryUsage().rss / 2 ** 20);
  console.log(
    `${seconds.toFixed(1)} s, ${Math.round((2 * messages) / seconds)} messages and chains/s, ${memory} MiB resident`,
  );
  process.exit(results.some(([, { failures, defects }]) => failures.length > 0 || defects > 0) ? 1 : 0);
}

main();
