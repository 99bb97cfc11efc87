import { closeSync, fstatSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import {
  FAN_OPEN_PERM,
  FAN_PRE_ACCESS,
  LostChildError,
  mountTmpfs,
  unmountLazily,
} from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { PreContentGuard } from "../../src/guard/pre-content.ts";
import { threatOf } from "../../src/guard/threat.ts";
import { GuardRefused } from "../../src/guard/truncation-guard.ts";
import { RecordingHolder } from "../support/holder.ts";
import { hostDoes, onHost } from "../support/host.ts";
import { until } from "../support/until.ts";

const BYTES = 4 * 4096;
let close = async (): Promise<void> => {};
afterEach(() => close());

/** Guarded by a listener of its own. */
async function guarded(holder: RecordingHolder, boundMs = 2000) {
  const guard = await PreContentGuard.open({ boundMs });
  close = async () => {
    close = async () => {};
    await guard.close();
  };
  return { guard, ...(await armedBy(guard, holder)) };
}

async function armedBy(guard: PreContentGuard, holder: RecordingHolder) {
  const path = join(temporaryDirectory(), "file");
  writeFileSync(path, Buffer.alloc(BYTES, 1));
  const fd = openSync(path, "r+");
  const closeGuard = close;
  close = async () => {
    await closeGuard();
    closeSync(fd);
    close = async () => {};
  };
  return { path, fd, armed: await guard.arm({ fd }, holder) };
}

async function refusal(): Promise<string | null> {
  try {
    await guarded(new RecordingHolder());
    return null;
  } catch (error) {
    if (error instanceof GuardRefused) return error.message;
    throw error;
  } finally {
    await close();
  }
}
const reason = await refusal();
/** One listener for all that do not need one of their own. */
const shared = reason === null ? await PreContentGuard.open({ boundMs: 2000 }) : null;
afterAll(() => shared?.close());

/** Inodes that the listener has marked (fanotify_fdinfo(), fs/notify/fdinfo.c). */
function marks({ listenerPid }: PreContentGuard): number {
  const folder = `/proc/${listenerPid}/fdinfo`;
  const texts = readdirSync(folder).map((fd) => readFileSync(join(folder, fd), "latin1"));
  return texts.join("").split("\nfanotify ino:").length - 1;
}

function guardedAsOthers(holder: RecordingHolder) {
  if (shared === null) throw new Error(reason ?? "no listener");
  return armedBy(shared, holder);
}

describe("what a permission event threatens", () => {
  const event = { mask: FAN_PRE_ACCESS, fd: 3, pid: 1, handle: null };
  const ranged = (offset: bigint, lengthBytes: bigint) => ({ ...event, range: { offset, lengthBytes } });
  const opening = { ...event, mask: FAN_OPEN_PERM, range: null };
  it.each([
    ["a truncation: from its new size on", ranged(4096n, 0n), { kind: "truncate", sizeBytes: 4096n }, 4096n],
    [
      "a truncation to the present size: nothing",
      ranged(8192n, 0n),
      { kind: "truncate", sizeBytes: 8192n },
      null,
    ],
    ["growing: nothing", ranged(8192n, 4096n), { kind: "truncate", sizeBytes: 9000n }, null],
    ["a write: nothing", ranged(0n, 4096n), { kind: "other", number: 1 }, null],
    ["a hole: nothing", ranged(0n, 4096n), { kind: "fallocate", mode: 3 }, null],
    ["taking a range out: from there on", ranged(4096n, 4096n), { kind: "fallocate", mode: 8 }, 4096n],
    ["somebody unknown with a range: from there on", ranged(4096n, 10n), { kind: "unknown" }, 4096n],
    ["an open for reading: nothing", opening, { kind: "open", flags: 0 }, null],
    ["an open with O_TRUNC: everything", opening, { kind: "open", flags: 0o1001 }, 0n],
    ["a truncation inside a page", ranged(4096n, 4096n), { kind: "truncate", sizeBytes: 5000n }, 5000n],
    ["a truncation by somebody unknown", ranged(4096n, 0n), { kind: "unknown" }, 4096n],
    ["an open by somebody unknown: everything", opening, { kind: "unknown" }, 0n],
    ["an execve: nothing", opening, { kind: "other", number: 59 }, null],
    ["a worker's truncation", ranged(4096n, 4096n), { kind: "worker", does: "truncate" }, 4096n],
    ["a worker's growing: nothing", ranged(8192n, 4096n), { kind: "worker", does: "truncate" }, null],
    [
      "a worker's fallocate: perhaps a range taken out",
      ranged(0n, 9n),
      { kind: "worker", does: "fallocate" },
      0n,
    ],
    ["a worker's write: nothing", ranged(0n, 4096n), { kind: "worker", does: "transfer" }, null],
    ["a worker's open: perhaps with O_TRUNC", opening, { kind: "worker", does: "open" }, 0n],
  ] as const)("%s", (_, what, call, from) => {
    expect(threatOf(what, call, 8192n)).toBe(from);
  });
});

describe.skipIf(reason !== null)(`pre-content events${reason === null ? "" : ` (${reason})`}`, () => {
  it("are wanted of a guarded file also where the number of another one's descriptor has become its own", async () => {
    const holder = new RecordingHolder();
    const { guard, path, armed } = await guarded(holder);
    for (let round = 0; round < 10; round += 1) {
      const other = openSync(`${path}-${round}`, "w+");
      const armedOther = await guard.arm({ fd: other }, new RecordingHolder());
      expect(marks(guard)).toBe(2);
      // The listener hears of the end when the number may be another file's.
      armedOther.disarm();
      closeSync(other);
      const again = openSync(path, "r");
      expect(again).toBe(other);
      await until(() => marks(guard) < 2);
      closeSync(again);
    }
    expect(await hostDoes(path, "sys.truncate(path, 4096n)")).toMatchObject({ errno: null });
    expect(holder.recorded).toContain("recall 4096");
    armed.disarm();
    await until(() => marks(guard) === 0);
  });

  for (const [way, code, from] of [
    ["truncate(2)", "sys.truncate(path, 4096n)", 4096],
    ["open and ftruncate", 'const fd = fs.openSync(path, "r+"); fs.ftruncateSync(fd, 4096)', 4096],
    ["open(O_TRUNC)", 'fs.closeSync(fs.openSync(path, "w"))', 0],
    ["another mount namespace", "sys.inOwnMountNamespace(() => sys.truncate(path, 4096n))", 4096],
    // The kernel's range is in whole pages: of this one it looks like a write's.
    ["truncate(2) to the middle of a page", "sys.truncate(path, 5000n)", 5000],
    ["collapse range", "sys.collapseRange(path, 4096n, 4096n)", 4096],
  ] as const) {
    it(`holds ${way} up until the mapping is recalled`, async () => {
      let sizeAtRecall = -1;
      const holder = new RecordingHolder(() => {
        sizeAtRecall = fstatSync(fd).size;
      });
      const { path, fd } = await guardedAsOthers(holder);
      const settled = holder.next(/settle/);
      expect(await hostDoes(path, code)).toMatchObject({ errno: null });
      if (way !== "collapse range") await settled;
      expect(sizeAtRecall).toBe(BYTES);
      expect(holder.recorded[0]).toBe(`recall ${from}`);
    });
  }

  it("holds up a descriptor that was open before", async () => {
    const holder = new RecordingHolder();
    const { path } = await guardedAsOthers(holder);
    const act = await onHost(path, "fs.ftruncateSync(fd, 0)", 'const fd = fs.openSync(path, "r+")');
    const settled = holder.next(/settle 0/);
    await act().done;
    await settled;
    expect(holder.recorded).toEqual(["recall 0", "settle 0"]);
  });

  it("says nothing of reading, writing and holes, and does not hold its own process up", async () => {
    const holder = new RecordingHolder();
    const { path } = await guardedAsOthers(holder);
    await hostDoes(path, 'fs.readFileSync(path); fs.writeFileSync(path, "x", { flag: "r+" })');
    await hostDoes(path, "sys.punchHole(path, 0n, 4096n)");
    expect(readFileSync(path).length).toBe(BYTES);
    closeSync(openSync(path, "w"));
    // The file is empty now, and nobody was asked: whoever truncates in the guard's own process recalls by itself.
    expect(holder.recorded.filter((what) => what.startsWith("recall"))).toEqual([]);
  });

  it("does not give back what a truncation under way may still take", async () => {
    const holder = new RecordingHolder();
    const { path } = await guardedAsOthers(holder);
    const act = await onHost(
      path,
      "fs.ftruncateSync(fd, 0); fs.ftruncateSync(fd, 8192)",
      'const fd = fs.openSync(path, "r+")',
    );
    const settled = holder.next(/settle 8192/);
    await act().done;
    await settled;
    expect(holder.recorded[0]).toBe("recall 0");
    expect(holder.recorded.slice(1).every((what) => what === "settle 0" || what === "settle 8192")).toBe(
      true,
    );
  });

  it("does not wait for a holder that never answers, and cuts it off", async () => {
    const holder = new RecordingHolder(() => new Promise(() => {}));
    const { path } = await guarded(holder, 200);
    const done = await hostDoes(path, "sys.truncate(path, 0n)");
    expect(done.errno).toBeNull();
    expect(done.ms).toBeGreaterThan(150);
    expect(holder.recorded.at(-1)).toMatch(/cut off: no acknowledgement within 200 ms/);
  });

  it("is done with a file that is disarmed during a recall, whose descriptor may be closed by then", async () => {
    let acknowledge = (): void => {};
    const holder = new RecordingHolder(() => new Promise<void>((resolve) => (acknowledge = resolve)));
    const { path, armed } = await guarded(holder, 200);
    const recalled = holder.next(/recall/);
    const act = await onHost(path, "sys.truncate(path, 0n)");
    const acting = act();
    await recalled;
    armed.disarm();
    acknowledge();
    expect((await acting.done).errno).toBeNull();
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(holder.recorded).toEqual(["recall 0"]);
  });

  it("holds nobody up while its process is stopped longer than the bound", async () => {
    const holder = new RecordingHolder();
    const { path, guard } = await guarded(holder, 200);
    // This thread answers nothing meanwhile: the listener's own bound counts.
    const act = await onHost(path, "sys.truncate(path, 0n)");
    const acting = act();
    const cut = holder.next(/cut off/);
    const start = performance.now();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
    expect((await acting.done).errno).toBeNull();
    expect(performance.now() - start).toBeLessThan(10_000);
    await cut;
    expect(guard.listenerPid).toBeDefined();
  });

  it("lets everybody go when the listener is killed, and says that nothing is guarded any more", async () => {
    const holder = new RecordingHolder(() => new Promise(() => {}));
    const { path, guard, fd } = await guarded(holder, 30_000);
    expect(await guard.lost()).toBeNull();
    const recalled = holder.next(/recall/);
    const acting = (await onHost(path, "sys.truncate(path, 0n)"))();
    await recalled;
    const cut = holder.next(/cut off/);
    process.kill(guard.listenerPid ?? 0, "SIGKILL");
    expect((await acting.done).errno).toBeNull();
    await cut;
    expect(holder.recorded.at(-1)).toBe("cut off: the listener of permission events has ended (SIGKILL)");
    expect(await guard.lost()).toBe("the listener of permission events has ended (SIGKILL)");
    // A refusal would say something of the kernel.
    const again = guard.arm({ fd }, new RecordingHolder());
    await expect(again).rejects.toThrow(LostChildError);
    // Nothing is left in the way of anybody.
    expect(await hostDoes(path, "sys.truncate(path, 100n)")).toMatchObject({ errno: null });
  });

  it("holds nobody up after disarm and close", async () => {
    const holder = new RecordingHolder();
    const { path, armed } = await guarded(holder);
    armed.disarm();
    expect(await hostDoes(path, "sys.truncate(path, 4096n)")).toMatchObject({ errno: null });
    await close();
    expect(await hostDoes(path, "sys.truncate(path, 0n)")).toMatchObject({ errno: null });
    expect(holder.recorded).toEqual([]);
  });

  it("refuses a file system without such events, and says which have them", async () => {
    const folder = temporaryDirectory();
    mountTmpfs(folder, 1024n * 1024n);
    try {
      const path = join(folder, "file");
      writeFileSync(path, "x");
      const fd = openSync(path, "r+");
      await expect(shared?.arm({ fd }, new RecordingHolder())).rejects.toThrow(/ext4, xfs and btrfs/);
      closeSync(fd);
    } finally {
      unmountLazily(folder);
    }
  });

  it("guards 1,000 files at once, each truncated in turn", async () => {
    const folder = temporaryDirectory();
    const guard = await PreContentGuard.open({ boundMs: 2000 });
    const files = await Promise.all(
      Array.from({ length: 1000 }, async (_, i) => {
        const path = join(folder, String(i));
        writeFileSync(path, Buffer.alloc(4096, 1));
        const fd = openSync(path, "r+");
        const holder = new RecordingHolder();
        await guard.arm({ fd }, holder);
        return { fd, holder };
      }),
    );
    close = async () => {
      close = async () => {};
      await guard.close();
      for (const { fd } of files) closeSync(fd);
    };
    const settled = Promise.all(files.map(({ holder }) => holder.next(/settle 0/)));
    const code = 'for (let i = 0; i < 1000; i += 1) sys.truncate(path + "/" + i, 0n)';
    expect(await hostDoes(folder, code)).toMatchObject({ errno: null });
    await settled;
    // Told once by the file's size and once by the thread's next truncation, in whatever order.
    expect(files.every(({ holder }) => /^recall 0(,settle 0)+$/.test(holder.recorded.join()))).toBe(true);
  });
});
