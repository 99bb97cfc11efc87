/** What a thread got, from looks at it. */
import { describe, expect, it } from "vitest";
import type { ThreadLook } from "../../../sys/src/index.ts";
import {
  Attendance,
  attendedMs,
  INTERVAL_MS,
  shareBetween,
  shareText,
} from "../../src/engines/attendance.ts";

/** [moment, asleep, ran, delayed]; a look takes a millisecond. */
type Look = readonly [number, boolean, number, number] | null;

function shareOf(looks: readonly Look[]) {
  const attendance = new Attendance();
  for (const one of looks) attendance.add(one === null ? null : look(one));
  return attendance.share;
}

function look([atMs, isAsleep, ranMs, delayedMs]: NonNullable<Look>): ThreadLook {
  return { beforeMs: atMs, afterMs: atMs + 1, isAsleep, ranMs, delayedMs };
}

describe("Attendance", () => {
  it.each<[string, readonly Look[], { ran: number; asleep: number }]>([
    ["nothing of one look", [[0, true, 50, 50]], { ran: 0, asleep: 0 }],
    [
      "a sleep, without what the looks themselves took",
      [
        [0, true, 5, 5],
        [20, true, 5, 5],
      ],
      { ran: 0, asleep: 19 },
    ],
    [
      "a sleep with a turn on a processor in it",
      [
        [0, true, 0, 0],
        [20, true, 4, 3],
      ],
      { ran: 4, asleep: 12 },
    ],
    [
      "no sleep where it waits for a processor: the kernel has no figure for that yet",
      [
        [0, true, 0, 0],
        [20, false, 0, 0],
      ],
      { ran: 0, asleep: 0 },
    ],
    [
      "no sleep where it waited before",
      [
        [0, false, 0, 0],
        [20, true, 0, 0],
      ],
      { ran: 0, asleep: 0 },
    ],
    [
      "what it ran, whatever it did else",
      [
        [0, false, 0, 0],
        [20, false, 7, 9],
      ],
      { ran: 7, asleep: 0 },
    ],
    [
      "no more than an interval where the looks are far apart",
      [
        [0, true, 0, 0],
        [900, true, 400, 0],
      ],
      { ran: INTERVAL_MS, asleep: INTERVAL_MS },
    ],
    [
      "nothing across a look that failed",
      [[0, true, 0, 0], null, [20, true, 7, 0], [30, true, 9, 0]],
      { ran: 2, asleep: 7 },
    ],
  ])("is %s", (_, looks, { ran, asleep }) => {
    const share = shareOf(looks);
    expect(share).toMatchObject({ ranMs: ran, asleepMs: asleep });
    expect(attendedMs(share)).toBe(ran + asleep);
  });

  it("adds up, and is the difference of two", () => {
    const before = shareOf([
      [0, true, 0, 0],
      [10, true, 1, 1],
    ]);
    const all = shareOf([
      [0, true, 0, 0],
      [10, true, 1, 1],
      [20, true, 3, 2],
    ]);
    expect(shareBetween(before, all)).toEqual({
      overMs: 10,
      ranMs: 2,
      delayedMs: 1,
      asleepMs: 6,
      looks: 1,
      asleepLooks: 1,
    });
  });

  it("says what it was in one sentence", () => {
    const share = shareOf([
      [0, false, 0, 0],
      [20, false, 3, 0],
      [40, false, 3, 0],
    ]);
    expect(shareText("vCPU 0", share)).toBe(
      "vCPU 0 ran for 3 ms, slept for 0 ms and waited for a processor for the rest of 40 ms",
    );
  });
});
