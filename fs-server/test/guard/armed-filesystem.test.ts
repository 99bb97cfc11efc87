import { closeSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { ROOT_NODE } from "../../src/fs/filesystem.ts";
import { componentName } from "../../src/fs/names.ts";
import { ArmedFileSystem } from "../../src/guard/armed-filesystem.ts";
import { KernelLeaseGuard } from "../../src/guard/kernel-lease.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";
import { RecordingHolder } from "../support/holder.ts";

const O_RDWR = 2;
/** A break's signal comes within microseconds. */
const SIGNAL_MS = 200;

// A description of its own would break the lease, and wait for a guard that lives in the same thread: 45 s
// (/proc/sys/fs/lease-break-time).
it("gives a client the armed descriptor, and the lease stays whole", async () => {
  const folder = temporaryDirectory();
  const path = join(folder, "file");
  writeFileSync(path, "content");
  const holder = new RecordingHolder();
  const guard = await KernelLeaseGuard.open({ boundMs: 2000, onEvent: () => {} });
  const fd = openSync(path, "r+");
  await guard.arm({ fd }, holder);
  const fs = new ArmedFileSystem(new PassthroughFileSystem(folder), fd);
  try {
    const { node } = fs.lookup(ROOT_NODE, componentName("file"));
    const handle = fs.open(node, O_RDWR);
    const bytes = new Uint8Array(7);
    expect(fs.read(handle, 0n, bytes)).toBe(7);
    expect(Buffer.from(bytes).toString()).toBe("content");
    fs.release(handle);
    await sleep(SIGNAL_MS);
    expect(holder.recorded).toEqual([]);
  } finally {
    fs.close();
    await guard.close();
    closeSync(fd);
  }
});
