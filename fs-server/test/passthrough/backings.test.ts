/** Which inode has which backing file, for all threads that serve it. */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { compiledEntry, files } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { type FileHandle, type NodeId, ROOT_NODE } from "../../src/fs/filesystem.ts";
import { componentName } from "../../src/fs/names.ts";
import { SharedBackings } from "../../src/passthrough/backings.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";

let fs: PassthroughFileSystem;
let source: string;
let calls: string[];
/** What the kernel's table does with the next registration. */
let isRefused: boolean;
let ids: number;

const port = {
  open: () => {
    if (isRefused) {
      calls.push("refused");
      return null;
    }
    ids += 1;
    calls.push(`open ${ids}`);
    return ids;
  },
  close: (id: number) => {
    calls.push(`close ${id}`);
  },
};

beforeEach(() => {
  source = temporaryDirectory();
  for (const name of ["one", "two"]) writeFileSync(join(source, name), "content");
  fs = new PassthroughFileSystem(source);
  [calls, isRefused, ids] = [[], false, 6];
});
afterEach(() => fs.close());

const nodeOf = (name: string): NodeId => fs.lookup(ROOT_NODE, componentName(name)).node;

/** Opens a file as OPEN does: the id that it is answered with. */
function open(
  backings: SharedBackings,
  node: NodeId,
): { readonly handle: FileHandle; readonly id: number | null } {
  const handle = fs.open(node, files.O_RDWR);
  return { handle, id: backings.opened(node, handle, fs.descriptorOf(handle) ?? -1) };
}

function release(backings: SharedBackings, handle: FileHandle): void {
  backings.released(handle);
  fs.release(handle);
}

describe("backing files", () => {
  it("are one for each inode, from its first open file to its last", () => {
    const backings = new SharedBackings(fs.tables, port);
    const [one, two] = [nodeOf("one"), nodeOf("two")];
    const opened = [open(backings, one), open(backings, one), open(backings, two)];
    expect(opened.map(({ id }) => id)).toEqual([7, 7, 8]);
    expect(calls).toEqual(["open 7", "open 8"]);
    release(backings, opened[0]?.handle as FileHandle);
    expect(calls).toHaveLength(2);
    release(backings, opened[1]?.handle as FileHandle);
    release(backings, opened[2]?.handle as FileHandle);
    expect(calls.slice(2)).toEqual(["close 7", "close 8"]);
    expect(open(backings, one).id).toBe(9);
  });

  it("are the same for all threads, and closed by the one that releases last", () => {
    const [first, second] = [new SharedBackings(fs.tables, port), new SharedBackings(fs.tables, port)];
    const node = nodeOf("one");
    const [one, two] = [open(first, node), open(second, node)];
    expect([one.id, two.id, calls]).toEqual([7, 7, ["open 7"]]);
    release(second, one.handle);
    expect(calls).toEqual(["open 7"]);
    release(first, two.handle);
    expect(calls).toEqual(["open 7", "close 7"]);
  });

  it("that the kernel refuses are asked for again once the file is closed: until then its others have none, too", () => {
    const backings = new SharedBackings(fs.tables, port);
    const node = nodeOf("one");
    isRefused = true;
    const refused = open(backings, node);
    isRefused = false;
    const second = open(backings, node);
    expect([refused.id, second.id, calls]).toEqual([null, null, ["refused"]]);
    release(backings, refused.handle);
    const third = open(backings, node);
    release(backings, second.handle);
    release(backings, third.handle);
    expect([third.id, calls]).toEqual([null, ["refused"]]);
    const taken = open(backings, node);
    release(backings, taken.handle);
    expect([taken.id, calls]).toEqual([7, ["refused", "open 7", "close 7"]]);
  });

  it("are not closed twice, nor by handles that there are not", () => {
    const backings = new SharedBackings(fs.tables, port);
    const { handle } = open(backings, nodeOf("one"));
    backings.released(handle);
    backings.released(handle);
    backings.released(999n as FileHandle);
    fs.release(handle);
    backings.released(handle);
    expect(calls).toEqual(["open 7", "close 7"]);
  });

  it("of a node that was forgotten and is known anew are anew", () => {
    const backings = new SharedBackings(fs.tables, port);
    const first = nodeOf("one");
    release(backings, open(backings, first).handle);
    fs.forget(first, 1n);
    expect(open(backings, nodeOf("one")).id).toBe(8);
    expect(calls).toEqual(["open 7", "close 7", "open 8"]);
  });
});

describe("threads over one table", () => {
  it("close the backing file that they released last, and not the one that another has opened since", async () => {
    const rounds = 50_000;
    const threads = 2;
    const modules = ["backings", "passthrough"].map(
      (name) => compiledEntry(import.meta.url, `../../src/passthrough/${name}.ts`).href,
    );
    // The first word counts ids; each has a word that says whether it is registered.
    const registered = new SharedArrayBuffer(4 * (1 + threads * rounds));
    const code = `
      const { parentPort, workerData } = require("node:worker_threads");
      (async () => {
        const { modules, source, tables, node, rounds } = workerData;
        const [{ SharedBackings }, { PassthroughFileSystem }] = await Promise.all(modules.map((entry) => import(entry)));
        const fs = new PassthroughFileSystem(source, {}, tables);
        const registered = new Int32Array(workerData.registered);
        const counts = { answeredClosed: 0, closedAgain: 0 };
        const port = {
          open: () => {
            const id = Atomics.add(registered, 0, 1) + 1;
            Atomics.store(registered, id, 1);
            return id;
          },
          close: (id) => {
            if (Atomics.exchange(registered, id, 0) !== 1) counts.closedAgain += 1;
          },
        };
        const backings = new SharedBackings(tables, port);
        for (let round = 0; round < rounds; round += 1) {
          const handle = fs.open(node, 0);
          if (Atomics.load(registered, backings.opened(node, handle, 0)) !== 1) counts.answeredClosed += 1;
          backings.released(handle);
          fs.release(handle);
        }
        parentPort.postMessage(counts);
      })();`;
    const node = nodeOf("one");
    const data = { modules, source, tables: fs.tables, node, rounds, registered };
    const counts = await Promise.all(
      Array.from({ length: threads }, async () => {
        const worker = new Worker(code, { eval: true, trackUnmanagedFds: false, workerData: data });
        const [result] = await once(worker, "message");
        return result;
      }),
    );
    expect(counts).toEqual(Array(threads).fill({ answeredClosed: 0, closedAgain: 0 }));
    const [opened = 0, ...left] = new Int32Array(registered);
    // Fewer: they had the file open at the same time, so the threads did meet.
    expect(opened).toBeGreaterThan(rounds / 10);
    expect(opened).toBeLessThan(threads * rounds);
    expect(left.filter((isRegistered) => isRegistered !== 0)).toEqual([]);
  });
});
