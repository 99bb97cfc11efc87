import { closeSync, fstatSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { KernelLeaseGuard } from "../../src/guard/kernel-lease.ts";
import type { GuardEvent } from "../../src/guard/truncation-guard.ts";
import { armFiles } from "../support/armed.ts";
import { RecordingHolder } from "../support/holder.ts";
import { hostDoes, onHost } from "../support/host.ts";

const BYTES = 4 * 4096;
let close = async (): Promise<void> => {};
afterEach(() => close());

async function guarded(holder: RecordingHolder, boundMs = 2000) {
  const path = join(temporaryDirectory(), "file");
  writeFileSync(path, Buffer.alloc(BYTES, 1));
  const events: GuardEvent[] = [];
  const guard = await KernelLeaseGuard.open({ boundMs, onEvent: (event) => events.push(event) });
  const fd = openSync(path, "r+");
  const armed = await guard.arm({ fd }, holder);
  close = async () => {
    close = async () => {};
    await guard.close();
    closeSync(fd);
  };
  return { path, guard, fd, armed, events };
}

describe("a kernel lease", () => {
  it("holds truncate(2) up until the mapping is recalled, and is taken again afterwards", async () => {
    let sizeAtRecall = -1;
    const holder = new RecordingHolder(() => {
      sizeAtRecall = fstatSync(fd).size;
    });
    const { path, fd } = await guarded(holder);
    const settled = holder.next(/settle/);
    expect(await hostDoes(path, "sys.truncate(path, 0n)")).toMatchObject({ errno: null });
    await settled;
    expect(sizeAtRecall).toBe(BYTES);
    expect(holder.recorded).toEqual(["recall 0", "settle 0"]);
  });

  for (const [way, code] of Object.entries({
    "open for reading": 'fs.closeSync(fs.openSync(path, "r"))',
    "open(O_TRUNC)": 'fs.closeSync(fs.openSync(path, "w"))',
    "open and ftruncate": 'const fd = fs.openSync(path, "r+"); fs.ftruncateSync(fd, 0); fs.closeSync(fd)',
    "punch hole": "sys.punchHole(path, 0n, 4096n)",
    "from another mount namespace": "sys.inOwnMountNamespace(() => sys.truncate(path, 0n))",
  })) {
    const needsRoot = way === "from another mount namespace" && process.getuid?.() !== 0;
    it.skipIf(needsRoot)(`is broken by ${way}`, async () => {
      const holder = new RecordingHolder();
      const { path } = await guarded(holder);
      const settled = holder.next(/settle/);
      expect(await hostDoes(path, code)).toMatchObject({ errno: null });
      await settled;
      expect(holder.recorded[0]).toBe("recall 0");
    });
  }

  it("is broken twice in a row", async () => {
    const holder = new RecordingHolder();
    const { path } = await guarded(holder);
    for (const size of [8192n, 4096n]) {
      const settled = holder.next(/settle/);
      await hostDoes(path, `sys.truncate(path, ${size}n)`);
      await settled;
    }
    expect(holder.recorded).toEqual(["recall 0", "settle 8192", "recall 0", "settle 4096"]);
  });

  it("serves a writer that comes while a reader is waited for", async () => {
    let answer = (): void => {};
    let isFirst = true;
    const holder = new RecordingHolder(() => {
      if (!isFirst) return undefined;
      isFirst = false;
      return new Promise<void>((resolve) => {
        answer = resolve;
      });
    });
    const { path } = await guarded(holder);
    const recalled = holder.next(/recall/);
    const reader = await onHost(path, 'fs.closeSync(fs.openSync(path, "r"))');
    const writer = await onHost(path, "sys.truncate(path, 0n)");
    const settled = holder.next(/settle 0/);
    const reading = reader();
    await recalled;
    const writing = writer();
    answer();
    expect([await reading.done, await writing.done]).toMatchObject([{ errno: null }, { errno: null }]);
    await settled;
  });

  it("does not wait for a holder that never answers, and cuts it off", async () => {
    const holder = new RecordingHolder(() => new Promise(() => {}));
    const { path, events } = await guarded(holder, 200);
    const done = await hostDoes(path, "sys.truncate(path, 0n)");
    expect(done.errno).toBeNull();
    expect(done.ms).toBeGreaterThan(150);
    expect(done.ms).toBeLessThan(5000);
    expect(holder.recorded.at(-1)).toMatch(/cut off: no acknowledgement within 200 ms/);
    expect(events.map(({ kind }) => kind)).toEqual(["recall", "cut-off", "recalled"]);
  });

  it("refuses a file that somebody else has open, and says what to do", async () => {
    const path = join(temporaryDirectory(), "file");
    writeFileSync(path, "x");
    const guard = await KernelLeaseGuard.open({ boundMs: 100 });
    const [other, fd] = [openSync(path, "r+"), openSync(path, "r+")];
    close = async () => {
      close = async () => {};
      await guard.close();
      for (const one of [other, fd]) closeSync(one);
    };
    expect(() => guard.arm({ fd }, new RecordingHolder())).toThrow(
      /kernel-lease: somebody else has the file open; .*pre-content/,
    );
  });

  it("holds nobody up after disarm", async () => {
    const holder = new RecordingHolder();
    const { path, armed } = await guarded(holder);
    armed.disarm();
    expect(await hostDoes(path, "sys.truncate(path, 0n)")).toMatchObject({ errno: null });
    expect(holder.recorded).toEqual([]);
  });

  it("guards 1,000 files at once, each broken in turn", async () => {
    const folder = temporaryDirectory();
    const guard = await KernelLeaseGuard.open({ boundMs: 2000 });
    const { holders, closeFiles } = armFiles(guard, { folder, count: 1000, content: Buffer.alloc(4096, 1) });
    close = async () => {
      close = async () => {};
      await guard.close();
      closeFiles();
    };
    const settled = Promise.all(holders.map((holder) => holder.next(/settle 0/)));
    const code = 'for (let i = 0; i < 1000; i += 1) sys.truncate(path + "/" + i, 0n)';
    expect(await hostDoes(folder, code)).toMatchObject({ errno: null });
    await settled;
    expect(holders.every(({ recorded }) => recorded.join() === "recall 0,settle 0")).toBe(true);
  });
});
