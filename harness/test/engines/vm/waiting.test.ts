/** What the samples of counting tasks say of a wait. */
import { describe, expect, it } from "vitest";
import { noShare } from "../../../src/engines/attendance.ts";
import { type CpuView, type Growth, Waiting } from "../../../src/engines/vm/waiting.ts";

const STEP_MS = 10;

/** What the vCPU's thread did since the last sample. */
type Did = "slept" | "ran" | "waited";
type Point = { readonly count: number; readonly pending: string | null; readonly did?: Did };

/** Looks at a thread that did one thing after another. */
class Thread {
  #share = noShare;

  view(did: Did): CpuView {
    const { looks, asleepLooks, ranMs, asleepMs, overMs, delayedMs } = this.#share;
    this.#share = {
      overMs: overMs + STEP_MS,
      ranMs: ranMs + (did === "ran" ? STEP_MS : 0),
      asleepMs: asleepMs + (did === "slept" ? STEP_MS : 0),
      // As the kernel has it: a wait for a processor appears when it is over.
      delayedMs,
      looks: looks + 1,
      asleepLooks: asleepLooks + (did === "slept" ? 1 : 0),
    };
    return { share: this.#share, isAsleep: did === "slept" };
  }
}

/** Samples every 10 ms; `count` of the one bystander at each, `pending` while true. */
function watched(points: readonly Point[], ...more: readonly Point[][]): Growth | null {
  const waiting = new Waiting([0]);
  const thread = new Thread();
  for (const [index, { count, pending, did }] of [...points, ...more.flat()].entries()) {
    waiting.sample({
      atMs: STEP_MS * index,
      before: [BigInt(count)],
      after: [BigInt(count)],
      cpus: [did === undefined ? null : thread.view(did)],
      pending: pending === null ? [] : [pending],
    });
  }
  return waiting.growth(0);
}

const counted = (...parts: readonly Point[][]): bigint | null => watched(parts.flat())?.counted ?? null;

const during = (
  length: number,
  count: (index: number) => number,
  did?: Did,
  pending: string | null = "0/1",
) =>
  Array.from({ length }, (_, index) => ({
    count: count(index),
    pending,
    ...(did === undefined ? {} : { did }),
  }));
const later = (length: number, count: (index: number) => number) => during(length, count, "ran", null);

describe("Waiting", () => {
  it("says nothing where no access waited long enough", () => {
    expect(counted(later(40, (index) => index))).toBeNull();
    expect(counted(during(25, (index) => index))).toBeNull();
    expect(counted(during(26, (index) => index))).toBe(5n);
  });

  it("takes the middle of a wait where nothing is known of the thread", () => {
    expect(counted(during(40, (index) => index))).toBe(19n);
    expect(counted(during(40, () => 5))).toBe(0n);
    expect(watched(during(40, () => 5))?.share).toBeNull();
  });

  it("leaves out what was counted before the access faulted, and after it had come back", () => {
    const preempted = during(9, (index) => index, "ran");
    const blocked = during(31, () => 8, "slept");
    expect(
      counted(
        preempted,
        blocked,
        later(20, (index) => 100 + index),
      ),
    ).toBe(0n);
  });

  it.each([
    ["at once", []],
    ["after its vCPU had waited for a processor", during(30, () => 17, "waited")],
  ])("leaves out a task that the timer ran when the page was there: the access came back %s", (_, late) => {
    const blocked = during(40, () => 8, "slept");
    const preempted = during(9, (index) => 9 + index, "ran");
    expect(
      counted(
        blocked,
        preempted,
        late,
        later(1, () => 17),
      ),
    ).toBe(0n);
  });

  it("counts a task that gets on between the sleeps of its vCPU", () => {
    const ticks = Array.from({ length: 40 }, (_, index) => ({
      count: Math.floor(index / 2),
      pending: "0/1",
      did: index % 2 === 0 ? ("slept" as const) : ("ran" as const),
    }));
    expect(watched(ticks)).toMatchObject({ counted: 19n, watchedMs: 380 });
  });

  it("counts the whole wait where its vCPU never slept: it may have had a processor only at its ends", () => {
    const early = during(9, (index) => index, "ran");
    expect(
      watched(
        early,
        during(31, () => 8, "waited"),
      ),
    ).toMatchObject({ counted: 8n, watchedMs: 390 });
    const never = watched(during(40, () => 0, "waited"));
    expect(never).toMatchObject({ counted: 0n, share: { ranMs: 0, asleepMs: 0, overMs: 390 } });
  });

  it("says what the thread got over the same time", () => {
    const share = watched(
      during(9, (index) => index, "ran"),
      during(31, () => 8, "slept"),
    )?.share;
    expect(share).toMatchObject({ ranMs: 0, asleepMs: 300, overMs: 300 });
  });

  it("does not take for a wait what the VMM was asked about: its vCPU was out of the guest", () => {
    const waiting = new Waiting([0]);
    const sample = (index: number, count: number, name: string): void => {
      const counts = [BigInt(count)];
      waiting.sample({
        atMs: STEP_MS * index,
        before: counts,
        after: counts,
        cpus: [null],
        pending: [name],
      });
    };
    for (let index = 0; index < 40; index += 1) {
      sample(index, 5, "0/1");
      if (index === 36) waiting.answered();
    }
    expect(waiting.growth(0)).toBeNull();
    for (let index = 40; index < 80; index += 1) sample(index, index, "0/2");
    expect(waiting.growth(0)?.counted).toBe(19n);
  });

  it("begins anew where a device has answered the vCPU, which no task could run on until then", () => {
    const waiting = new Waiting([0]);
    const sample = (index: number, count: number): void => {
      const both = [BigInt(count)];
      waiting.sample({ atMs: STEP_MS * index, before: both, after: both, cpus: [null], pending: ["0/1"] });
    };
    // The file's page is asked for of the device, and comes; the rest of the wait is the page's own.
    for (let index = 0; index < 60; index += 1) sample(index, 5);
    expect(waiting.growth(0)).toMatchObject({ counted: 0n });
    waiting.served();
    expect(waiting.growth(0)).toBeNull();
    for (let index = 60; index < 100; index += 1) sample(index, index);
    expect(waiting.growth(0)).toMatchObject({ counted: 19n, watchedMs: 190 });
  });

  it("takes the longest of several waits, and no two accesses for one", () => {
    const short = during(30, (index) => index);
    const long = during(50, () => 9, undefined, "0/2");
    expect(counted(short, long)).toBe(0n);
    const many = Array.from({ length: 60 }, (_, index) => ({ count: index, pending: `0/${index}` }));
    expect(counted(many)).toBeNull();
  });
});
