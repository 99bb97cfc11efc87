/** Who waits for a lock: in which order they are tried for, how often, and how the wait ends. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { beforeEach, describe, expect, it } from "vitest";
import { compiledEntry, errnoNumber, F_UNLCK, F_WRLCK, LOCK_EOF } from "../../../../sys/src/index.ts";
import { failure } from "../../../src/fs/errors.ts";
import type { FileHandle, FileLock, LockOwner } from "../../../src/fs/filesystem.ts";
import type { LockWait } from "../../../src/fs/lock-waits.ts";
import {
  LockInterrupts,
  LockWaitLoop,
  lockWaitMemory,
  MAX_LOCK_WAITS,
  SharedLockWaits,
} from "../../../src/transport/devfuse/lock-waits.ts";
import { until } from "../../support/until.ts";

const EINTR = errnoNumber("EINTR");

function wait(unique: bigint): LockWait {
  const lock: FileLock = {
    kind: unique % 2n === 0n ? "posix" : "flock",
    type: F_WRLCK,
    start: 2n ** 53n + 1n,
    end: LOCK_EOF,
    owner: (2n ** 64n - unique) as LockOwner,
    pid: 0xffff_fff0,
  };
  return { unique, device: 7, handle: (unique + 2n ** 40n) as FileHandle, lock };
}

let clock: number;
let waits: SharedLockWaits;
let interrupts: LockInterrupts;
let loop: LockWaitLoop;
let tried: bigint[];
let answered: string[];
let cleared: number;
let free: (handle: FileHandle) => boolean;
let isTaken: boolean;

beforeEach(() => {
  [clock, tried, answered, cleared, isTaken] = [0, [], [], 0, true];
  free = () => false;
  const memory = lockWaitMemory();
  waits = new SharedLockWaits(memory);
  interrupts = new LockInterrupts(memory);
  loop = new LockWaitLoop(memory, {
    fs: {
      setLock: (handle, lock) => {
        if (lock.type === F_UNLCK) cleared += 1;
        else tried.push(handle - 2n ** 40n);
        return lock.type === F_UNLCK || free(handle);
      },
    },
    answer: ({ unique }, errno) => {
      answered.push(`${unique}: ${errno}`);
      return isTaken;
    },
    now: () => clock,
  });
});

describe("requests that wait", () => {
  it("are tried for with all that they came with", () => {
    const seen: unknown[] = [];
    const memory = lockWaitMemory();
    const whole = wait(2n ** 63n + 4n);
    new SharedLockWaits(memory).enter(whole);
    new LockWaitLoop(memory, {
      fs: { setLock: (handle, lock) => seen.push(handle, lock) > 0 },
      answer: (answeredWait) => seen.push(answeredWait) > 0,
      now: () => 0,
    }).round(true);
    expect(seen).toEqual([whole.handle, whole.lock, whole]);
  });

  it("are tried for in the order in which they came, also where slots were used before", () => {
    for (const unique of [10n, 12n, 14n]) waits.enter(wait(unique));
    interrupts.interrupt(12n);
    loop.round(true);
    waits.enter(wait(16n));
    tried = [];
    loop.round(true);
    expect(tried).toEqual([10n, 14n, 16n]);
    free = (handle) => handle === 14n + 2n ** 40n;
    loop.round(true);
    expect(answered).toEqual([`12: ${EINTR}`, "14: 0"]);
  });

  it("are tried for after an eighth of their wait, at most every 100 ms", () => {
    waits.enter(wait(10n));
    const delays: number[] = [];
    for (let i = 0; i < 60; i += 1) {
      const delay = loop.round(i === 0);
      delays.push(delay);
      clock += delay;
    }
    expect(delays.slice(0, 3)).toEqual([2, 2, 2]);
    expect(delays.at(-1)).toBeCloseTo(100);
    expect(Math.max(...delays)).toBeCloseTo(100);
    expect(tried.length).toBe(60);
  });

  it("are not tried for before they are due, but when a lock was given back", () => {
    waits.enter(wait(10n));
    loop.round(true);
    loop.round(false);
    expect(tried).toEqual([10n]);
    loop.round(true);
    expect(tried).toEqual([10n, 10n]);
  });

  it("leave nothing to wait for when none is left", () => {
    waits.enter(wait(10n));
    free = () => true;
    expect(loop.round(true)).toBe(Number.POSITIVE_INFINITY);
    expect(answered).toEqual(["10: 0"]);
    expect(interrupts.interrupt(10n)).toBe(false);
  });

  it("end with EINTR once they are interrupted, and not for another's id", () => {
    waits.enter(wait(10n));
    expect(interrupts.interrupt(11n)).toBe(false);
    expect(interrupts.interrupt(10n)).toBe(true);
    loop.round(true);
    expect([answered, tried]).toEqual([[`10: ${EINTR}`], []]);
  });

  it("end with the error that their lock has become", () => {
    waits.enter(wait(10n));
    free = () => {
      throw failure("EBADF");
    };
    loop.round(true);
    expect(answered).toEqual([`10: ${errnoNumber("EBADF")}`]);
  });

  it("give a lock back that their client no longer waits for", () => {
    waits.enter(wait(10n));
    [free, isTaken] = [() => true, false];
    loop.round(true);
    expect([answered, cleared]).toEqual([["10: 0"], 1]);
  });

  it("are 1,024 at most, and come again when there is room", () => {
    for (let i = 0; i < MAX_LOCK_WAITS; i += 1) expect(waits.enter(wait(BigInt(2 * i)))).toBe(true);
    expect(waits.enter(wait(9999n))).toBe(false);
    loop.round(true);
    expect(interrupts.interrupt(2n)).toBe(true);
    loop.round(true);
    expect(waits.enter(wait(10_000n))).toBe(true);
    expect(MAX_LOCK_WAITS).toBe(1024);
  });
});

describe("two threads over one slot", () => {
  it("end the request that is interrupted, and not the one that has come after it", async () => {
    const module = compiledEntry(import.meta.url, "../../../src/transport/devfuse/lock-waits.ts").href;
    const memory = lockWaitMemory();
    // The id of the request that waits now: none yet, or, below 0, no more.
    const waiting = new BigInt64Array(new SharedArrayBuffer(8));
    const code = `
      const { parentPort, workerData } = require("node:worker_threads");
      (async () => {
        const { module, memory, waiting } = workerData;
        const { SharedLockWaits, LockWaitLoop } = await import(module);
        const counts = { ended: 0, wronglyEnded: 0 };
        const waits = new SharedLockWaits(memory);
        const loop = new LockWaitLoop(memory, {
          fs: { setLock: () => true },
          now: () => 0,
          answer: ({ unique }, errno) => {
            if (errno !== 0) counts[unique % 2n === 0n ? "ended" : "wronglyEnded"] += 1;
            return true;
          },
        });
        const lock = { kind: "posix", type: ${F_WRLCK}, start: 0n, end: 1n, owner: 1n, pid: 1 };
        for (let i = 2; i < 200_000 || (counts.ended < 200 && i < 20_000_000); i += 1) {
          waits.enter({ unique: BigInt(i), device: 1, handle: 1n, lock });
          Atomics.store(waiting, 0, BigInt(i));
          // So that the other thread comes in between at different moments.
          for (let k = 0; k < i % 50; k += 1) Atomics.load(waiting, 0);
          loop.round(true);
        }
        Atomics.store(waiting, 0, -1n);
        parentPort.postMessage(counts);
      })();`;
    const worker = new Worker(code, { eval: true, workerData: { module, memory, waiting } });
    const counted = once(worker, "message");
    const interrupting = new LockInterrupts(memory);
    await until(() => Atomics.load(waiting, 0) !== 0n);
    for (let unique = 0n; unique >= 0n; unique = Atomics.load(waiting, 0)) {
      if (unique % 2n === 0n) interrupting.interrupt(unique);
    }
    const [{ ended, wronglyEnded }] = await counted;
    expect(ended).toBeGreaterThanOrEqual(200);
    expect(wronglyEnded).toBe(0);
  });
});
