/** The handler of a userfaultfd, with a thread of this process as the guest. */
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { contentBytes, type UserfaultHandler } from "../../../../language/src/index.ts";
import {
  addressOf,
  declareLater,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  mmap,
  munmap,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  userfaultRefusal,
} from "../../../../sys/src/index.ts";
import { Userfaults, userfaultOptions } from "../../../src/engines/kvm/userfault.ts";
import { within } from "../../../src/within.ts";

const BYTES = 16 * PAGE_SIZE;
/** Far longer than an answer takes, and what a wait that never ends is watched for. */
const SILENCE_MS = 200;
const path = join(tmpdir(), `daxfault-userfault-${process.pid}`);

/** As KVM looks a page up: by the kernel, on a thread that may sleep. Returns the bytes; null: it cannot be had. */
const cRead = declareLater<
  [pid: number, local: BigUint64Array, one: number, remote: BigUint64Array, one: number, flags: number],
  number
>(
  "int64 process_vm_readv(int pid, void *local, uint64 localCount, void *remote, uint64 remoteCount, uint64 flags)",
);

async function read(hva: bigint, offset: number): Promise<Uint8Array | null> {
  const bytes = new Uint8Array(8);
  const local = new BigUint64Array([addressOf(bytes), 8n]);
  const { result: count } = await cRead(
    process.pid,
    local,
    1,
    new BigUint64Array([hva + BigInt(offset), 8n]),
    1,
    0,
  );
  return count === 8 ? bytes : null;
}

const handler = (changes: Partial<UserfaultHandler>): UserfaultHandler => ({
  faults: "all",
  prefault: 0n,
  rules: [],
  ...changes,
});
const at = (page: number): bigint => BigInt(page * PAGE_SIZE);
const content = (offset: number): Uint8Array => contentBytes("pattern", BigInt(offset), 8);

describe.skipIf(userfaultRefusal(userfaultOptions(handler({}))) !== null)(
  "the handler of a userfaultfd",
  () => {
    let hva = 0n;
    let faults: Userfaults | null = null;

    function open(changes: Partial<UserfaultHandler>): void {
      faults = new Userfaults(handler(changes), hva, BYTES, path);
    }
    beforeEach(() => {
      writeFileSync(path, contentBytes("pattern", 0n, BYTES));
      hva = mmap({ lengthBytes: BYTES, prot: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS });
    });
    afterEach(async () => {
      await faults?.close();
      munmap(hva, BYTES);
      rmSync(path);
    });

    it("copies a missing page from the file, also late", async () => {
      open({ rules: [{ at: at(2), action: { kind: "delay", ms: 50 } }] });
      expect(await read(hva, PAGE_SIZE)).toEqual(content(PAGE_SIZE));
      const beganMs = performance.now();
      expect(await read(hva, 2 * PAGE_SIZE)).toEqual(content(2 * PAGE_SIZE));
      expect(performance.now() - beganMs).toBeGreaterThanOrEqual(50);
    });

    it.each(["hang", "die"] as const)(
      "that does %s leaves a page to wait for, until it is released",
      async (kind) => {
        open({ rules: [{ at: at(3), action: { kind } }] });
        const reading = read(hva, 3 * PAGE_SIZE);
        expect(await within(reading, SILENCE_MS)).toBe(false);
        faults?.release();
        // Ordinary memory again.
        expect(await reading).toEqual(new Uint8Array(8));
      },
    );

    it("that has died fills no other page either", async () => {
      open({ rules: [{ at: at(3), action: { kind: "die" } }] });
      const first = read(hva, 3 * PAGE_SIZE);
      expect(await within(first, SILENCE_MS)).toBe(false);
      const other = read(hva, 4 * PAGE_SIZE);
      expect(await within(other, SILENCE_MS)).toBe(false);
      faults?.release();
      await Promise.all([first, other]);
    });

    it("that closes its descriptor leaves zeros, silently, there and everywhere", async () => {
      open({ rules: [{ at: at(3), action: { kind: "close" } }] });
      expect(await read(hva, 3 * PAGE_SIZE)).toEqual(new Uint8Array(8));
      expect(await read(hva, 4 * PAGE_SIZE)).toEqual(new Uint8Array(8));
    });

    it("of user mode's faults only fails the kernel's at once, but for what is there", async () => {
      open({ faults: "user", prefault: at(2) });
      expect(await read(hva, PAGE_SIZE)).toEqual(content(PAGE_SIZE));
      expect(await read(hva, 3 * PAGE_SIZE)).toBeNull();
    });

    it.skipIf(userfaultRefusal({ features: 1n << 14n }) !== null)("poisons a page", async () => {
      open({ rules: [{ at: at(3), action: { kind: "poison" } }] });
      expect(await read(hva, PAGE_SIZE)).toEqual(content(PAGE_SIZE));
      // get_user_pages() says -EHWPOISON.
      expect(await read(hva, 3 * PAGE_SIZE)).toBeNull();
    });
  },
);
