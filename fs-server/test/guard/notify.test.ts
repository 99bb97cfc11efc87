import { closeSync, fstatSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { collapseRange } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import type { WatchSource } from "../../src/guard/file-watch.ts";
import { NotifyGuard } from "../../src/guard/notify.ts";
import { armFiles } from "../support/armed.ts";
import { RecordingHolder } from "../support/holder.ts";
import { hostDoes, onHost } from "../support/host.ts";

const BYTES = 4 * 4096;
let close = async (): Promise<void> => {};
afterEach(() => close());

function guarded(source: WatchSource, holder: RecordingHolder) {
  const path = join(temporaryDirectory(), "file");
  writeFileSync(path, Buffer.alloc(BYTES, 1));
  const guard = new NotifyGuard(source, { boundMs: 2000 });
  const fd = openSync(path, "r+");
  const armed = guard.arm({ fd }, holder);
  close = async () => {
    close = async () => {};
    await guard.close();
    closeSync(fd);
  };
  return { path, fd, armed, guard };
}

/** Not every file system can take a range out of a file. */
function collapses(): boolean {
  const path = join(temporaryDirectory(), "file");
  writeFileSync(path, Buffer.alloc(BYTES, 1));
  try {
    collapseRange(path, 0n, 4096n);
    return true;
  } catch {
    return false;
  }
}

const sources: WatchSource[] = process.getuid?.() === 0 ? ["inotify", "fanotify"] : ["inotify"];

describe.each(sources)("notification by %s", (source) => {
  for (const [way, code] of Object.entries({
    "truncate(2)": "sys.truncate(path, 4096n)",
    "open and ftruncate": 'const fd = fs.openSync(path, "r+"); fs.ftruncateSync(fd, 4096); fs.closeSync(fd)',
    "collapse range": "sys.collapseRange(path, 0n, 12288n)",
  })) {
    it.skipIf(way === "collapse range" && !collapses())(
      `tells of ${way}, after it has happened`,
      async () => {
        let sizeAtRecall = -1;
        const holder = new RecordingHolder(() => {
          sizeAtRecall = fstatSync(fd).size;
        });
        const { path, fd } = guarded(source, holder);
        const settled = holder.next(/settle/);
        expect(await hostDoes(path, code)).toMatchObject({ errno: null });
        await settled;
        expect(sizeAtRecall).toBe(4096);
        expect(holder.recorded).toEqual(["recall 4096", "settle 4096"]);
      },
    );
  }

  it("has caught up when the holder has dealt with all that happened before the question", async () => {
    let hasDealt = false;
    const holder = new RecordingHolder(async () => {
      await new Promise((resolve) => setTimeout(resolve, 100));
      hasDealt = true;
    });
    const { path, guard } = guarded(source, holder);
    await guard.caughtUp();
    expect(holder.recorded).toEqual([]);
    expect(await hostDoes(path, "sys.truncate(path, 4096n)")).toMatchObject({ errno: null });
    await guard.caughtUp();
    expect(hasDealt).toBe(true);
    expect(holder.recorded).toEqual(["recall 4096", "settle 4096"]);
  });

  it("tells of a truncation by a descriptor that was open before, and of the growth after it", async () => {
    const holder = new RecordingHolder();
    const { path } = guarded(source, holder);
    const act = await onHost(path, "fs.ftruncateSync(fd, 0)", 'const fd = fs.openSync(path, "r+")');
    const lost = holder.next(/settle 0/);
    await act().done;
    await lost;
    const back = holder.next(/settle 8192/);
    await hostDoes(path, "sys.truncate(path, 8192n)");
    await back;
    expect(holder.recorded).toEqual(["recall 0", "settle 0", "settle 8192"]);
  });

  it("guards 1,000 files at once, each truncated in turn", async () => {
    const folder = temporaryDirectory();
    const guard = new NotifyGuard(source, { boundMs: 2000 });
    const { holders, closeFiles } = armFiles(guard, { folder, count: 1000, content: "x" });
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

  it("says nothing of writes, nor after disarm", async () => {
    const holder = new RecordingHolder();
    const { path, armed } = guarded(source, holder);
    await hostDoes(path, 'fs.writeFileSync(path, Buffer.alloc(100), { flag: "r+" })');
    armed.disarm();
    await hostDoes(path, "sys.truncate(path, 0n)");
    expect(holder.recorded).toEqual([]);
  });
});
