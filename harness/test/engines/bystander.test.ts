/** From counters to progress, starved, or not known. */
import { describe, expect, it } from "vitest";
import { noShare, type Share } from "../../src/engines/attendance.ts";
import {
  bystanderCounters,
  bystandersOf,
  progressOf,
  STARVED_AFTER_MS,
  type Watched,
} from "../../src/engines/bystander.ts";

const share = (changes: Partial<Share>): Share => ({ ...noShare, overMs: 400, ...changes });
const watched = (changes: Partial<Watched>): Watched => ({
  counted: 0n,
  share: share({}),
  isStopped: false,
  ...changes,
});

const vcpu = (slowness: number) => ({ who: "vCPU 0", starvedAfterMs: STARVED_AFTER_MS, slowness });

describe("progressOf", () => {
  it.each<[string, Partial<Watched>, number, string]>([
    ["it has counted", { counted: 1n, share: share({ asleepMs: 400 }) }, 1, "progress"],
    ["it has counted before the VM stopped", { counted: 1n, isStopped: true }, 1, "progress"],
    ["the VM has stopped", { isStopped: true }, 1, "starved"],
    ["its vCPU slept in KVM", { share: share({ asleepMs: STARVED_AFTER_MS }) }, 1, "starved"],
    ["its vCPU slept too little", { share: share({ asleepMs: STARVED_AFTER_MS - 1 }) }, 1, "not-known"],
    ["its vCPU ran in vain", { share: share({ ranMs: STARVED_AFTER_MS }) }, 1, "starved"],
    ["its vCPU ran in vain under emulation", { share: share({ ranMs: 8 * STARVED_AFTER_MS }) }, 8, "starved"],
    [
      "its vCPU ran too little under emulation",
      { share: share({ ranMs: 7 * STARVED_AFTER_MS }) },
      8,
      "not-known",
    ],
    // R7: six busy processes beside four runs.
    ["its vCPU had no processor", { share: share({ ranMs: 3, delayedMs: 140 }) }, 1, "not-known"],
    ["nothing is known of its vCPU", { share: null }, 1, "not-known"],
  ])("%s", (_, changes, slowness, kind) => {
    expect(progressOf(watched(changes), vcpu(slowness)).kind).toBe(kind);
  });

  it("gives the figures where it does not know", () => {
    const busy = progressOf(watched({ share: share({ ranMs: 3, delayedMs: 140 }) }), vcpu(1));
    expect(busy).toEqual({
      kind: "not-known",
      reason:
        "the machine was busy: vCPU 0 ran for 3 ms, slept for 0 ms and waited for a processor for the rest of 400 ms",
    });
  });
});

describe("bystandersOf", () => {
  it("has words only if all of them are known", () => {
    const one = { kind: "progress" } as const;
    expect(bystandersOf({ a: one, b: { kind: "starved" } })).toEqual({
      kind: "known",
      states: { a: "progress", b: "starved" },
    });
    expect(bystandersOf({ a: one, b: { kind: "not-known", reason: "why" } })).toEqual({
      kind: "not-known",
      reason: "whether b was starved is not known: why",
    });
  });
});

describe("bystanderCounters", () => {
  it("are the input of the decision, in microseconds", () => {
    expect(bystanderCounters("counter", watched({ counted: 7n, share: share({ ranMs: 1.5 }) }))).toEqual({
      watched_counter_counted: 7n,
      watched_counter_over_us: 400_000n,
      watched_counter_ran_us: 1500n,
      watched_counter_delayed_us: 0n,
      watched_counter_asleep_us: 0n,
    });
    expect(bystanderCounters("counter", watched({ share: null }))).toEqual({ watched_counter_counted: 0n });
  });
});
