/** On the kernel itself: a process that has mapped a file stands for the VMM, another one makes the file shorter. */
import { createHash } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mountTmpfs, processState, unmountLazily } from "../../../sys/src/index.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { openMount } from "../../src/engines/mount.ts";
import { thisMachine } from "../../src/machine.ts";
import { newsText } from "../../src/protect/news.ts";
import { caseFolder, eventually } from "../support/folders.ts";
import { startMapping } from "../support/mapping.ts";
import { noPermissionEvents } from "../support/permission-events.ts";
import { protecting } from "../support/protecting.ts";
import { Truncating } from "../support/truncating.ts";

const BYTES = 1024 * 4096;
const content = Buffer.from(Array.from({ length: BYTES }, (_, at) => (at >> 12) & 0xff));

function newFile(folder = caseFolder(), name = "guest ram"): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  // Another user tries, too.
  chmodSync(path, 0o666);
  return path;
}

const hash = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");
const whole = createHash("sha256").update(content).digest("hex");

const reason = noPermissionEvents();
describe.skipIf(reason !== null)(`daxfault protect${reason === null ? "" : ` (${reason})`}`, () => {
  it("refuses every way of making a mapped file shorter, and says who tried", async () => {
    const path = newFile();
    const truncating = await Truncating.start(path);
    const { pid, touch } = await startMapping([path]);
    const { said, news } = await protecting({ pids: [pid] });
    expect(await said("file", (one) => one.path === path)).toMatchObject({ means: "refused", reason: null });
    for (const way of [
      "truncate",
      "open-ftruncate",
      "ftruncate-old-fd",
      "open-o-trunc",
      "collapse-range",
      "other-namespace",
      "by-nobody",
      "inside-a-page",
      "one-byte",
      "uring-ftruncate",
      "uring-inside-a-page",
      "uring-open-o-trunc",
      "uring-collapse",
    ]) {
      const before = news.length;
      const tried = await truncating.try(way);
      expect({ way, ...tried }).toEqual({ way, errnos: { ETXTBSY: 1 }, sizeBytes: BYTES });
      await eventually(() => news.slice(before).some(({ type }) => type === "refused"));
      const one = news.slice(before).find(({ type }) => type === "refused");
      expect(one, way).toMatchObject({ path, attempt: { who: { pid: truncating.child.pid, uid: 0 } } });
    }
    expect(hash(path)).toBe(whole);
    expect(await touch()).toBe("touched");
    expect(news.filter(({ type }) => type === "shorter")).toEqual([]);
    const [refused] = news.filter(({ type }) => type === "refused");
    if (refused === undefined) throw new Error("nothing was refused");
    expect(newsText(refused)).toMatch(
      /^refused: truncate to 0 bytes of .*guest ram \(4194304 bytes\), by process [0-9]+ \(/,
    );
  });

  it("lets everything else through: growing, reading, writing, holes, other files, what nobody has mapped", async () => {
    const path = newFile();
    const other = join(path, "..", "other");
    writeFileSync(other, content);
    const truncating = await Truncating.start(path);
    const besides = await Truncating.start(other);
    const { pid } = await startMapping([path]);
    const { news } = await protecting({ pids: [pid] });
    for (const way of ["read", "write", "punch", "uring-write", "grow", "back-to-whole"])
      expect({ way, ...(await truncating.try(way)) }).toMatchObject({ way, errnos: { done: 1 } });
    expect(await besides.try("truncate")).toEqual({ errnos: { done: 1 }, sizeBytes: 0 });
    expect(news.filter(({ type }) => type === "refused")).toEqual([]);
  });

  it("says afterwards what the kernel does not ask about: a range taken out by a descriptor from before", async () => {
    const path = newFile();
    const truncating = await Truncating.start(path);
    const { pid } = await startMapping([path]);
    const { said } = await protecting({ pids: [pid] });
    expect(await truncating.try("collapse-old-fd")).toEqual({ errnos: { done: 1 }, sizeBytes: BYTES - 4096 });
    expect(await said("shorter")).toMatchObject({ path, fromBytes: BYTES, toBytes: BYTES - 4096 });
  });

  it("lets the processes of --allow do it, and says so", async () => {
    const path = newFile();
    const truncating = await Truncating.start(path);
    const { pid } = await startMapping([path]);
    const { said } = await protecting({ pids: [pid], allow: [truncating.child.pid ?? 0] });
    expect(await truncating.try("truncate")).toEqual({ errnos: { done: 1 }, sizeBytes: 0 });
    expect(await said("passed")).toMatchObject({ path });
  });

  it("covers what is mapped later, and lets go what is not mapped any more", async () => {
    const folder = caseFolder();
    const [first, second] = [newFile(folder, "first"), newFile(folder, "second")];
    const mapping = await startMapping([first]);
    const one = await startMapping([second]);
    const { said, stop } = await protecting({ pids: [mapping.pid, one.pid] });
    const truncating = await Truncating.start(second);
    expect((await truncating.try("truncate")).errnos).toEqual({ ETXTBSY: 1 });
    await one.end();
    await said("process-ended", ({ pid }) => pid === one.pid);
    expect(await truncating.try("truncate")).toEqual({ errnos: { done: 1 }, sizeBytes: 0 });
    writeFileSync(second, content);
    await mapping.map(second);
    await said("file", ({ path, pids }) => path === second && pids.includes(mapping.pid));
    expect((await truncating.try("truncate")).errnos).toEqual({ ETXTBSY: 1 });
    await mapping.end();
    expect(await stop()).toMatch(/asked|no-process-left/);
  });

  it("in a folder covers a file from the moment on that it is mapped", { timeout: 300_000 }, async () => {
    const folder = caseFolder();
    mkdirSync(join(folder, "below"));
    const mapping = await startMapping([]);
    const { said } = await protecting({ pids: [mapping.pid], folder });
    expect(await said("folder")).toMatchObject({ folders: 2, refused: 0 });
    for (let round = 0; round < (isLong ? 20 : 1); round += 1) {
      const path = newFile(join(folder, "below"), `file ${round}`);
      const truncating = await Truncating.start(path);
      await mapping.map(path);
      expect((await truncating.try("truncate")).errnos).toEqual({ ETXTBSY: 1 });
      // Renamed, and by its other name: it is the inode that counts.
      renameSync(path, join(folder, "renamed"));
      expect((await truncating.try("ftruncate-old-fd")).errnos).toEqual({ ETXTBSY: 1 });
      truncating.child.kill();
      unlinkSync(join(folder, "renamed"));
    }
    writeFileSync(join(folder, "not mapped"), content);
    const truncating = await Truncating.start(join(folder, "not mapped"));
    expect((await truncating.try("truncate")).errnos).toEqual({ done: 1 });
    expect((await truncating.try("open-o-trunc")).errnos).toEqual({ done: 1 });
  });

  it("covers an inode, whatever becomes of its path", async () => {
    const path = newFile();
    const truncating = await Truncating.start(path);
    const { pid, touch } = await startMapping([path]);
    const { said } = await protecting({ pids: [pid] });
    // Renamed over and unlinked: the mapped inode is whole, and stays so.
    writeFileSync(`${path}.new`, "");
    renameSync(`${path}.new`, path);
    expect(await truncating.try("ftruncate-old-fd")).toEqual({ errnos: { ETXTBSY: 1 }, sizeBytes: BYTES });
    expect(await said("refused")).toMatchObject({ attempt: { fromBytes: "0" } });
    expect(await touch()).toBe("touched");
  });

  it("says where it cannot, and what there is instead: memory, sealed at request, and tmpfs", async () => {
    const folder = caseFolder();
    mountTmpfs(folder, BigInt(64 * 2 ** 20));
    try {
      const path = newFile(folder);
      const { pid } = await startMapping([path]);
      const { said, stop } = await protecting({ pids: [pid] });
      expect(await said("file", (one) => one.path === path)).toMatchObject({
        means: "noticed",
        reason: expect.stringMatching(/no pre-content events/),
      });
      expect(await said("file", (one) => one.path.startsWith("/memfd:"))).toMatchObject({
        means: "noticed",
        reason: expect.stringMatching(/--seal/),
      });
      truncateSync(path, 4096);
      expect(await said("shorter")).toMatchObject({ path, toBytes: 4096 });
      await stop();
      const sealing = await protecting({ pids: [pid], seal: true });
      const sealed = await sealing.said("file", (one) => one.path.startsWith("/memfd:"));
      expect(sealed).toMatchObject({ means: "sealed" });
    } finally {
      unmountLazily(folder);
    }
  });

  it.skipIf(!isLong)("holds nobody up when its listener is stopped, and is there again", async () => {
    const path = newFile();
    const truncating = await Truncating.start(path);
    const { pid } = await startMapping([path]);
    const { said, protector } = await protecting({ pids: [pid] });
    process.kill(protector.listenerPid ?? 0, "SIGSTOP");
    const begin = performance.now();
    // A read by a new descriptor asks the listener, too.
    expect((await truncating.try("read")).errnos).toEqual({ done: 1 });
    expect(performance.now() - begin).toBeLessThan(15_000);
    expect(await said("gap")).toMatchObject({ why: "ended by SIGKILL" });
    await said("gap-over");
    await eventually(() => false, 300);
    expect(await truncating.try("truncate")).toEqual({ errnos: { ETXTBSY: 1 }, sizeBytes: BYTES });
  });

  const { fuse } = thisMachine().features;
  it.skipIf(fuse.kind === "missing")("refuses what comes by way of a file server", async () => {
    const folder = caseFolder();
    const [source, directory] = [join(folder, "source"), join(folder, "mount")];
    for (const place of [source, directory]) mkdirSync(place);
    const path = newFile(source);
    const mount = await openMount({ sourceDirectory: source, directory, transport: "devfuse" });
    try {
      const truncating = await Truncating.start(path, join(mount.mountpoint, "guest ram"));
      const { pid, touch } = await startMapping([path]);
      const { said } = await protecting({ pids: [pid] });
      expect(await truncating.try("by-mount")).toEqual({ errnos: { ETXTBSY: 1 }, sizeBytes: BYTES });
      const refused = await said("refused");
      expect(refused.attempt.who.pid).not.toBe(truncating.child.pid);
      expect(await touch()).toBe("touched");
      truncating.child.kill();
    } finally {
      await mount.close();
    }
  });

  it(`loses nothing in ${isLong ? "10,000" : "130"} rounds of all ways, by two processes`, {
    timeout: 600_000,
  }, async () => {
    const path = newFile();
    const rounds = isLong ? 5000 : 65;
    const truncaters = [await Truncating.start(path), await Truncating.start(path)];
    const { pid, touch } = await startMapping([path]);
    const { news } = await protecting({ pids: [pid] });
    const tried = Promise.all(truncaters.map((one) => one.try("all", rounds)));
    let touches = 0;
    let isOver = false;
    void tried.finally(() => {
      isOver = true;
    });
    while (!isOver) {
      expect(await touch()).toBe("touched");
      touches += 1;
    }
    for (const one of await tried) expect(one).toEqual({ errnos: { ETXTBSY: rounds }, sizeBytes: BYTES });
    expect(touches).toBeGreaterThan(0);
    expect(hash(path)).toBe(whole);
    expect(news.filter(({ type }) => ["shorter", "gap", "overdue"].includes(type))).toEqual([]);
    expect(processState(pid)).not.toBe("ending");
  });
});
