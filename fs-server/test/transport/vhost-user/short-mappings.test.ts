/** A mapping that is shorter than the guest asked for grows with its file, whoever makes that longer, and when. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { compiledEntry } from "../../../../sys/src/index.ts";
import { checkedRange } from "../../../src/dax/window.ts";
import type { NodeId } from "../../../src/fs/filesystem.ts";
import type { BackendChannel } from "../../../src/transport/vhost-user/backend-channel.ts";
import { ShortMappings } from "../../../src/transport/vhost-user/remote-mappings.ts";
import { type Entry, pagesUp, WindowFile } from "../../../src/transport/vhost-user/window-file.ts";
import { until } from "../../support/until.ts";

const PAGE = 4096n;
const RANGE = 2n * 2n ** 20n;
const NODE = 7n as NodeId;

describe("the list of nodes with short mappings", () => {
  it("has a node that is in it before and after, whatever else changes while it is looked at", async () => {
    const memory = ShortMappings.memory(8);
    const short = new ShortMappings(memory);
    const lists = [[1n, 2n, NODE], [NODE], [2n, NODE], [3n, 4n, 5n, 6n, NODE]] as NodeId[][];
    const listed = (i: number): void => short.set(lists[i % lists.length] ?? []);
    listed(0);
    const words = new Int32Array(new SharedArrayBuffer(8));
    const module = compiledEntry(
      import.meta.url,
      "../../../src/transport/vhost-user/remote-mappings.ts",
    ).href;
    const code = `
      const { parentPort, workerData } = require("node:worker_threads");
      (async () => {
        const { module, memory, words, node } = workerData;
        const { ShortMappings } = await import(module);
        const short = new ShortMappings(memory);
        let missed = 0;
        for (; Atomics.load(words, 1) === 0; Atomics.add(words, 0, 1)) if (!short.mayHave(node)) missed += 1;
        parentPort.postMessage(missed);
      })();`;
    const worker = new Worker(code, { eval: true, workerData: { module, memory, words, node: NODE } });
    const missed = once(worker, "message");
    await until(() => Atomics.load(words, 0) > 0);
    for (let i = 0; i < 300_000 || Atomics.load(words, 0) < 100_000; i += 1) listed(i);
    Atomics.store(words, 1, 1);
    expect(await missed).toEqual([0]);
    expect([short.mayHave(NODE), short.mayHave(9n as NodeId)]).toEqual([true, false]);
    short.clear();
    expect(short.mayHave(NODE)).toBe(false);
  });
});

/** A file of which a range is mapped by a VMM that answers when it is told to. */
function fileOf(sizeBytes: bigint) {
  const answers: (() => void)[] = [];
  const asked = (): Promise<"done"> => new Promise((done) => answers.push(() => done("done")));
  const range = checkedRange(0n, RANGE, RANGE, PAGE);
  const entry: Entry = { mapping: { node: NODE, fileOffset: 0n, range, writable: true }, pieces: [] };
  const all = {
    size: sizeBytes,
    entry,
    isListed: false,
    /** Until the VMM is asked, `between`, and its answer. */
    async answered(between: () => void = () => undefined): Promise<void> {
      while (answers.length === 0) await new Promise(setImmediate);
      between();
      answers.shift()?.();
    },
  };
  const listed = (): void => {
    all.isListed = [...file.entries].some(
      ({ pieces }) => pieces.reduce((sum, piece) => sum + piece, 0n) < RANGE,
    );
  };
  const file = new WindowFile({
    fd: -1,
    channel: { map: asked, unmap: asked } as unknown as BackendChannel,
    log: () => undefined,
    size: async () => all.size,
    reach: (_, bytes) => pagesUp(bytes),
    barrier: async () => undefined,
    onChange: listed,
  });
  return Object.assign(all, { file });
}

describe("a file that grows", () => {
  it("while its first mapping is made is mapped as far as it has grown", async () => {
    const all = fileOf(PAGE);
    const mapped = all.file.map(all.entry);
    let grown: Promise<void> | null = null;
    await all.answered(() => {
      // As a thread that has written, and looks whether the node has short mappings.
      all.size = 3n * PAGE;
      if (all.isListed) grown = all.file.grown();
    });
    expect(await mapped).toBe(true);
    await all.answered();
    await grown;
    expect(all.entry.pieces).toEqual([PAGE, 2n * PAGE]);
  });

  it("is listed no more where it cannot be mapped", async () => {
    const all = fileOf(0n);
    expect(await all.file.map(all.entry)).toBe(false);
    expect(all.isListed).toBe(false);
  });

  it("while it is recalled is mapped as far as it has grown, also where it is settled with an earlier size", async () => {
    const all = fileOf(2n * PAGE);
    const mapped = all.file.map(all.entry);
    await all.answered();
    await mapped;
    const recalled = all.file.recall({ fromBytes: PAGE, by: "the test" });
    await all.answered();
    await recalled;
    all.size = 4n * PAGE;
    await all.file.grown();
    all.file.settle(PAGE);
    await all.answered();
    await all.answered();
    await all.file.grown();
    expect(all.entry.pieces).toEqual([PAGE, 3n * PAGE]);
  });
});
