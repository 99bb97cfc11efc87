/** Slots in shared memory: ids that never come back, descriptors that outlive their users, and several threads at once. */
import { closeSync, fstatSync, openSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { compiledEntry } from "../../../sys/src/index.ts";
import { FD, Hand, NO_FD, SLOT_WORDS, SlotTable } from "../../src/passthrough/slots.ts";

const LAYOUT = { slots: 4, slotWords: SLOT_WORDS };

function table(): SlotTable {
  return new SlotTable(new Int32Array(new SharedArrayBuffer(4 * SlotTable.wordsFor(LAYOUT))), 0, LAYOUT);
}

function added(slots: SlotTable, fd = NO_FD): bigint {
  const slot = slots.take();
  slots.words[slots.at(slot) + FD] = fd;
  return slots.show(slot);
}

function gone(slots: SlotTable, id: bigint): void {
  const slot = slots.find(id);
  slots.doom(slot);
  slots.settle(slot);
}

const isOpen = (fd: number): boolean => {
  try {
    return fstatSync(fd).ino > 0;
  } catch {
    return false;
  }
};

describe("a table of slots", () => {
  it("counts ids from 1, and has no more than its slots", () => {
    const slots = table();
    expect([added(slots), added(slots), added(slots), added(slots)]).toEqual([1n, 2n, 3n, 4n]);
    expect(slots.take()).toBe(0);
    expect(slots.count).toBe(4);
  });

  it("never gives an id twice, and an old one finds nothing", () => {
    const slots = table();
    const seen = new Set<bigint>();
    for (let i = 0; i < 1000; i += 1) {
      const id = added(slots);
      expect(seen.has(id)).toBe(false);
      seen.add(id);
      gone(slots, id);
      expect(slots.acquire(id)).toBe(0);
    }
    expect(slots.count).toBe(0);
    for (const id of [0n, 5n, 7n, 2n ** 53n, 2n ** 64n - 1n]) expect(slots.acquire(id)).toBe(0);
  });

  it("does not use a slot again whose generations are used up", () => {
    const slots = table();
    const first = added(slots);
    // The generation before the last.
    slots.words[slots.at(1)] = -2;
    gone(slots, slots.idOf(1));
    expect(slots.acquire(first)).toBe(0);
    expect(added(slots)).toBe(2n);
  });

  it("closes a descriptor when its last user has gone, and not before", () => {
    const slots = table();
    const fd = openSync("/dev/null", "r");
    const id = added(slots, fd);
    const [one, other] = [new Hand(slots), new Hand(slots)];
    one.take(slots.acquire(id));
    other.take(slots.acquire(id));
    gone(slots, id);
    expect(slots.acquire(id)).toBe(0);
    one.empty();
    expect(isOpen(fd)).toBe(true);
    other.empty();
    expect(isOpen(fd)).toBe(false);
  });

  it("takes no descriptor away that is in use", () => {
    const slots = table();
    const fd = openSync("/dev/null", "r");
    const id = added(slots, fd);
    const slot = slots.acquire(id);
    expect(slots.takeDescriptor(slot)).toBe(NO_FD);
    slots.release(slot);
    expect(slots.takeDescriptor(slot)).toBe(fd);
    closeSync(fd);
  });

  it("can be asked under the lock for what was given up, while its last user is about to free it", () => {
    const slots = table();
    const id = added(slots);
    slots.lock();
    slots.doom(slots.find(id));
    slots.unlock();
    // Not settled yet: whoever counts itself out of this slot frees it, which takes the lock.
    slots.lock();
    expect(slots.find(id)).toBe(0);
    slots.unlock();
    slots.settle(1);
    expect(slots.count).toBe(0);
  });

  it("keeps two in hand, and gives the last but one back", () => {
    const slots = table();
    const ids = [added(slots), added(slots), added(slots)];
    const hand = new Hand(slots);
    for (const id of ids) hand.take(slots.acquire(id));
    // 7 stands for a descriptor: it is taken away from the one that is in no hand.
    for (const slot of [1, 2, 3]) slots.words[slots.at(slot) + FD] = 7;
    expect([1, 2, 3].map((slot) => slots.takeDescriptor(slot))).toEqual([7, NO_FD, NO_FD]);
  });
});

describe("threads over one table", () => {
  it("never find another file behind an id, while others give it up and open anew", async () => {
    const layout = { slots: 32, slotWords: SLOT_WORDS + 1 };
    const memory = new SharedArrayBuffer(4 * SlotTable.wordsFor(layout));
    const entry = compiledEntry(import.meta.url, "../../src/passthrough/slots.ts").href;
    const code = `
      const { parentPort, workerData } = require("node:worker_threads");
      const fs = require("node:fs");
      (async () => {
        const { FD, SLOT_WORDS, SlotTable } = await import(workerData.entry);
        const slots = new SlotTable(new Int32Array(workerData.memory), 0, workerData.layout);
        let wrong = 0; let found = 0;
        for (let round = 0; round < 20000; round += 1) {
          const slot = 1 + (round * 7919) % 32;
          const id = slots.idOf(slot);
          const held = slots.acquire(id);
          if (held !== 0) {
            found += 1;
            const at = slots.at(held);
            try {
              if (Number(fs.fstatSync(slots.words[at + FD]).ino & 0x7fffffff) !== slots.words[at + SLOT_WORDS]) wrong += 1;
            } catch { wrong += 1; }
            slots.release(held);
          }
          if (round % 3 === workerData.turn % 3) {
            const fd = fs.openSync(workerData.files[round % workerData.files.length]);
            slots.lock();
            const fresh = slots.take();
            if (fresh !== 0) {
              slots.words[slots.at(fresh) + FD] = fd;
              slots.words[slots.at(fresh) + SLOT_WORDS] = fs.fstatSync(fd).ino & 0x7fffffff;
              slots.show(fresh);
            }
            slots.unlock();
            if (fresh === 0) fs.closeSync(fd);
          } else {
            slots.lock();
            const doomed = slots.find(id);
            if (doomed !== 0) slots.doom(doomed);
            slots.unlock();
            if (doomed !== 0) slots.settle(doomed);
          }
        }
        parentPort.postMessage({ wrong, found });
      })();`;
    const files = ["/dev/null", "/dev/zero", "/proc/version", "/etc/passwd"];
    const results = await Promise.all(
      [0, 1, 2, 3].map(
        (turn) =>
          new Promise<{ wrong: number; found: number }>((done, failed) => {
            const worker = new Worker(code, {
              eval: true,
              trackUnmanagedFds: false,
              workerData: { entry, memory, layout, turn, files },
            });
            worker.once("message", done);
            worker.once("error", failed);
          }),
      ),
    );
    expect(results.map(({ wrong }) => wrong)).toEqual([0, 0, 0, 0]);
    expect(results.reduce((sum, { found }) => sum + found, 0)).toBeGreaterThan(1000);
    const slots = new SlotTable(new Int32Array(memory), 0, layout);
    for (let slot = 1; slot <= slots.highest; slot += 1)
      if (slots.isLive(slot)) gone(slots, slots.idOf(slot));
    expect(slots.count).toBe(0);
  });
});
