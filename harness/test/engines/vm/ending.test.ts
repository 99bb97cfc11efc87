/** When a case ends: each reason, each order in which the news arrives. The time is the table's. */
import { describe, expect, it } from "vitest";
import {
  beginning,
  type Effect,
  type Ending,
  type EndingRules,
  judgesLoop,
  type News,
  OTHERS_MS,
  OTHERS_POLL_MS,
  REPAIR_GRACE_MS,
  SETTLE_MS,
  step,
  wakeAtMs,
} from "../../../src/engines/vm/ending.ts";

const LIMIT_MS = 8000;
const exit = { kind: "error", errno: "EFAULT", exitReason: 0 } as const;
const stopped: News = { type: "stopped", cpu: 0, exit, place: null, reason: "the policy is to stop" };
const loops = (cpu = 0): News => ({
  type: "looping",
  cpu,
  proof: "faults",
  faultsPerSecond: 9000,
  overMs: 100,
  place: null,
});
const unstuck = (cpu = 0): News => ({ type: "unstuck", cpu });
const ended = (kind: "finished" | "stopped-from-outside" = "finished", cpu = 0): News => ({
  type: "ended",
  cpu,
  why: { kind },
  final: { counters: {}, asyncPageFaultMsr: null, clock: null },
});
const panic: News = {
  type: "ended",
  cpu: 1,
  why: { kind: "guest-panic", reason: "bad step" },
  final: { counters: {}, asyncPageFaultMsr: null, clock: null },
};
const hostSettled: News = { type: "host-settled" };
const vmmDone: News = { type: "vmm-actors-done" };
const resume: News = { type: "resume", actor: "vmm" };

const alone: EndingRules = {
  stuckIsAwaited: false,
  endsLoops: false,
  othersMs: OTHERS_MS,
  settleMs: SETTLE_MS,
};
const awaited: EndingRules = {
  stuckIsAwaited: true,
  endsLoops: false,
  othersMs: OTHERS_MS,
  settleMs: SETTLE_MS,
};
const fenced: EndingRules = {
  stuckIsAwaited: false,
  endsLoops: true,
  othersMs: OTHERS_MS,
  settleMs: SETTLE_MS,
};

type Played = {
  /** `raise-stuck@100`, in order. */
  readonly effects: readonly string[];
  readonly history: readonly string[];
  readonly state: Ending;
};

/**
 * Plays news against a clock: alarms ring when they are due, `look-at-tasks` is answered. Ends 100 ms after the last news
 * or alarm, or with the first `stop`.
 * @param onItsWay is a task on its way at this time?
 * @param attended how long the vCPUs have been attended to by then
 */
function play(
  rules: EndingRules,
  script: readonly (readonly [number, News])[],
  onItsWay: (nowMs: number) => boolean = () => false,
  attended: (nowMs: number) => number = (nowMs) => nowMs,
): Played {
  let state = beginning(rules);
  const effects: string[] = [];
  const advance = (nowMs: number, news: News): void => {
    const after = step(state, news, nowMs);
    state = after.state;
    for (const effect of after.effects) {
      effects.push(`${text(effect)}@${nowMs}`);
      if (effect.kind === "look-at-tasks")
        advance(nowMs, { type: "tasks", anyOnItsWay: onItsWay(nowMs), attendedMs: attended(nowMs) });
    }
  };
  advance(0, { type: "started", limitMs: LIMIT_MS });
  const rest = [...script];
  for (;;) {
    const [next] = rest;
    const alarmMs = wakeAtMs(state);
    if (effects.some((one) => one.startsWith("stop"))) break;
    if (next !== undefined && (alarmMs === null || next[0] <= alarmMs)) {
      rest.shift();
      advance(next[0], next[1]);
    } else if (alarmMs !== null) advance(alarmMs, { type: "time", attendedMs: attended(alarmMs) });
    else break;
  }
  return { effects, history: state.history.map(({ kind }) => kind), state };
}

function text(effect: Effect): string {
  return effect.kind === "resume" ? `resume by ${effect.actor}` : effect.kind;
}

/** Without the polls, of which there are many. */
function summary(played: Played): readonly string[] {
  return played.effects.filter((one) => !one.startsWith("look-at-tasks"));
}

describe("a case that nothing ends", () => {
  it("ends at its limit, and says that the time was over", () => {
    const { effects, state } = play(alone, []);
    expect(effects).toEqual([`stop@${LIMIT_MS}`]);
    expect(state.outOfTime).toBe(true);
    expect(state.history).toEqual([]);
  });

  it("ends at its limit although an actor could still help", () => {
    const { effects, state } = play(awaited, [[100, loops()]]);
    expect(effects).toEqual(["raise-stuck@100", `stop@${LIMIT_MS}`]);
    expect(state.outOfTime).toBe(true);
  });
});

describe("a guest that finishes", () => {
  it("is a VM that ran to the end, with or without trouble before", () => {
    expect(play(alone, [[50, ended()]]).history).toEqual(["running"]);
    const afterTrouble = play(awaited, [
      [50, loops()],
      [90, ended()],
    ]);
    expect(afterTrouble.history).toEqual(["looping", "running"]);
  });

  it.each([
    ["alone", [ended("finished", 0)], "finished"],
    [
      "before the other vCPU is stopped",
      [ended("finished", 0), ended("stopped-from-outside", 1)],
      "finished",
    ],
    [
      "after the other vCPU was stopped",
      [ended("stopped-from-outside", 1), ended("finished", 0)],
      "finished",
    ],
    ["after a panic of the other vCPU", [panic, ended("finished", 0)], "guest-panic"],
  ])("says why the VM ended: %s", (_, news, kind) => {
    let state = beginning(alone);
    for (const one of news) state = step(state, one, 10).state;
    expect(state.end?.kind).toBe(kind);
  });

  it("has no VMM any more where that was killed: a state of its own, behind what was before", () => {
    const killed: News = {
      type: "ended",
      cpu: 0,
      why: { kind: "vmm-killed", signal: "SIGBUS" },
      final: { counters: {}, asyncPageFaultMsr: null, clock: null },
    };
    expect(play(alone, [[10, killed]]).history).toEqual(["killed"]);
    const afterLoop = play(awaited, [
      [50, loops()],
      [90, killed],
    ]);
    expect(afterLoop.history).toEqual(["looping", "killed"]);
    // What this side has ended is no state of the VMM's.
    let state = beginning(alone);
    for (const one of [ended("finished", 0), killed]) state = step(state, one, 10).state;
    expect([state.end?.kind, state.history]).toEqual(["finished", [{ kind: "running" }]]);
  });

  it("is no trouble: a panic ends the VM without a state of its own", () => {
    expect(play(alone, [[10, panic]]).history).toEqual([]);
  });
});

describe("a VM that has stopped", () => {
  it("ends the case at once if no actor awaits it", () => {
    const { effects, history } = play(alone, [[100, stopped]]);
    expect(effects).toEqual(["raise-stuck@100", "stop@100"]);
    expect(history).toEqual(["stopped"]);
  });

  it("waits for the VMM's actors, however long the host has been settled", () => {
    const { effects } = play(awaited, [
      [10, hostSettled],
      [100, stopped],
      [300, vmmDone],
    ]);
    expect(effects).toEqual(["raise-stuck@100", "stop@300"]);
  });

  it("does not wait for the host: it cannot run the VM again", () => {
    const { effects } = play(awaited, [
      [10, vmmDone],
      [100, stopped],
    ]);
    expect(effects).toEqual(["raise-stuck@100", "stop@100"]);
  });

  it("goes on when an actor resumes it, and stops again", () => {
    const { effects, history } = play(awaited, [
      [100, stopped],
      [150, resume],
      [150, vmmDone],
      [200, stopped],
    ]);
    expect(effects).toEqual(["raise-stuck@100", "resume by vmm@150", "raise-stuck@200", "stop@200"]);
    expect(history).toEqual(["stopped", "stopped"]);
  });

  it("once resumed is not stopped because the actors are done", () => {
    const { effects, history } = play(awaited, [
      [100, stopped],
      [150, resume],
      [160, vmmDone],
      [200, ended()],
    ]);
    expect(effects).toEqual(["raise-stuck@100", "resume by vmm@150"].concat(`stop@${LIMIT_MS}`));
    expect(history).toEqual(["stopped", "running"]);
  });
});

describe("resuming", () => {
  it("does nothing to a VM that has not stopped", () => {
    const { effects } = play(awaited, [
      [100, loops()],
      [150, resume],
    ]);
    expect(effects).toEqual(["raise-stuck@100", `stop@${LIMIT_MS}`]);
  });
});

describe("a loop that no actor awaits", () => {
  it("ends the case when every other task stands, falls or waits", () => {
    const { effects, history } = play(alone, [[100, loops()]]);
    expect(effects).toEqual(["raise-stuck@100", "look-at-tasks@100", "stop@100"]);
    expect(history).toEqual(["looping"]);
  });

  it("waits for the other tasks, looking every few milliseconds", () => {
    const played = play(alone, [[100, loops()]], (nowMs) => nowMs < 100 + 2 * OTHERS_POLL_MS);
    expect(played.effects).toEqual([
      "raise-stuck@100",
      "look-at-tasks@100",
      `look-at-tasks@${100 + OTHERS_POLL_MS}`,
      `look-at-tasks@${100 + 2 * OTHERS_POLL_MS}`,
      `stop@${100 + 2 * OTHERS_POLL_MS}`,
    ]);
  });

  it("does not wait for them beyond a bound", () => {
    const played = play(alone, [[100, loops()]], () => true);
    expect(summary(played)).toEqual(["raise-stuck@100", `stop@${100 + OTHERS_MS}`]);
    expect(played.state.outOfTime).toBe(false);
  });

  it("waits for them longer on a slow machine, and where the vCPUs wait for a processor of the host", () => {
    const slow = play({ ...alone, othersMs: 2 * OTHERS_MS }, [[100, loops()]], () => true);
    expect(summary(slow)).toEqual(["raise-stuck@100", `stop@${100 + 2 * OTHERS_MS}`]);
    // What was waited before the proof does not count; of each second after it half.
    const busy = play(
      alone,
      [[100, loops()]],
      () => true,
      (nowMs) => 5000 + (nowMs - 100) / 2,
    );
    expect(summary(busy)).toEqual(["raise-stuck@100", `stop@${100 + 2 * OTHERS_MS}`]);
  });

  it("is not waited for longer because another vCPU loops as well, and is one state", () => {
    const script = [
      [100, loops(0)],
      [1000, loops(1)],
      [1500, hostSettled],
    ] as const;
    const played = play(alone, script, () => true);
    expect(summary(played)).toEqual(["raise-stuck@100", "raise-stuck@1000", `stop@${100 + OTHERS_MS}`]);
    expect(played.history).toEqual(["looping"]);
  });

  it("does not end the case if it is over by the time the others have arrived", () => {
    const script = [
      [100, loops()],
      [200, unstuck()],
    ] as const;
    const played = play(alone, script, (nowMs) => nowMs < 300);
    expect(summary(played)).toEqual(["raise-stuck@100", `stop@${LIMIT_MS}`]);
    expect(played.history).toEqual(["looping", "running"]);
  });

  it("is not over because the end of the case gets the vCPU out of it", () => {
    const waits: News = {
      type: "waiting",
      cpu: 0,
      in: "page fault",
      overMs: 2000,
      place: null,
      detail: "state D in folio_wait_bit_common",
    };
    let state = step(beginning(alone), waits, 100).state;
    const judged = step(state, { type: "tasks", anyOnItsWay: false, attendedMs: 0 }, 100);
    expect(judged.effects).toEqual([{ kind: "stop" }]);
    state = step(judged.state, unstuck(), 101).state;
    state = step(state, ended("stopped-from-outside"), 102).state;
    expect(state.history.map(({ kind }) => kind)).toEqual(["waiting"]);
  });

  it("is not watched on once the vCPUs have ended: the guest's memory is about to go", () => {
    let state = step(beginning(alone), loops(), 100).state;
    state = step(state, { type: "tasks", anyOnItsWay: true, attendedMs: 0 }, 100).state;
    state = step(state, ended("stopped-from-outside"), 102).state;
    const after = step(state, { type: "tasks", anyOnItsWay: true, attendedMs: 0 }, 105);
    expect(after.effects).toEqual([{ kind: "stop" }]);
    expect(wakeAtMs(step(after.state, { type: "time", attendedMs: 0 }, 200).state)).toBeNull();
  });
});

describe("a loop that an actor awaits", () => {
  const graceEnd = (fromMs: number): string => `stop@${fromMs + REPAIR_GRACE_MS + SETTLE_MS}`;

  it.each([
    ["host, VMM, loop", [hostSettled, vmmDone, loops()]],
    ["host, loop, VMM", [hostSettled, loops(), vmmDone]],
    ["VMM, host, loop", [vmmDone, hostSettled, loops()]],
    ["VMM, loop, host", [vmmDone, loops(), hostSettled]],
    ["loop, host, VMM", [loops(), hostSettled, vmmDone]],
    ["loop, VMM, host", [loops(), vmmDone, hostSettled]],
  ])("has a grace from the last of them on: %s", (_, news) => {
    const played = play(
      awaited,
      news.map((one, index) => [100 * (index + 1), one] as const),
    );
    const at = 100 * (news.findIndex((one) => one.type === "looping") + 1);
    expect(played.effects).toEqual([`raise-stuck@${at}`, graceEnd(300)]);
  });

  it.each([
    ["the host", [vmmDone, loops()]],
    ["the VMM's actors", [hostSettled, loops()]],
  ])("goes on while %s may still help", (_, news) => {
    const played = play(
      awaited,
      news.map((one, index) => [100 * (index + 1), one] as const),
    );
    expect(played.effects).toEqual(["raise-stuck@200", `stop@${LIMIT_MS}`]);
  });

  it("is over when the host has repaired the file in time: the case goes on", () => {
    const played = play(awaited, [
      [10, vmmDone],
      [100, loops()],
      [200, hostSettled],
      [200 + REPAIR_GRACE_MS - 1, unstuck()],
    ]);
    expect(played.effects).toEqual(["raise-stuck@100", `stop@${LIMIT_MS}`]);
    expect(played.history).toEqual(["looping", "running"]);
  });

  it.each([0, 1])("does not end before each vCPU is out of it: vCPU %i alone is", (cpu) => {
    const played = play(awaited, [
      [10, vmmDone],
      [100, loops(0)],
      [110, loops(1)],
      [200, hostSettled],
      [300, unstuck(cpu)],
    ]);
    expect(played.effects.at(-1)).toBe(graceEnd(200));
    expect(played.history).toEqual(["looping"]);
  });

  it("may come again, and is a state of its own", () => {
    const played = play(awaited, [
      [100, loops()],
      [200, unstuck()],
      [300, loops()],
      [310, vmmDone],
      [400, hostSettled],
    ]);
    expect(played.history).toEqual(["looping", "running", "looping"]);
    expect(played.effects).toEqual(["raise-stuck@100", "raise-stuck@300", graceEnd(400)]);
  });
});

describe("a loop that the window's owner ends", () => {
  it("is trouble only if it still goes on after the grace", () => {
    const played = play(fenced, [[100, loops()]]);
    const at = 100 + REPAIR_GRACE_MS + SETTLE_MS;
    expect(played.effects).toEqual([`raise-stuck@${at}`, `look-at-tasks@${at}`, `stop@${at}`]);
    expect(played.history).toEqual(["looping"]);
  });

  it("is none if the vCPU is out of it by then", () => {
    const played = play(fenced, [
      [100, loops()],
      [600, unstuck()],
      [900, ended()],
    ]);
    expect(played.effects).toEqual([`stop@${LIMIT_MS}`]);
    expect(played.history).toEqual(["running"]);
  });

  it("counts for the vCPU that is still in it", () => {
    const played = play(fenced, [
      [100, loops(0)],
      [200, loops(1)],
      [300, unstuck(0)],
    ]);
    expect(played.effects[0]).toBe(`raise-stuck@${200 + REPAIR_GRACE_MS + SETTLE_MS}`);
  });

  it("is waited for by actors like any other", () => {
    const played = play({ stuckIsAwaited: true, endsLoops: true, othersMs: OTHERS_MS, settleMs: SETTLE_MS }, [
      [10, vmmDone],
      [20, hostSettled],
      [100, loops()],
    ]);
    const at = 100 + REPAIR_GRACE_MS + SETTLE_MS;
    expect(played.effects).toEqual([`raise-stuck@${at}`, `stop@${at + REPAIR_GRACE_MS + SETTLE_MS}`]);
  });

  it("that becomes a stop of the VM ends with that", () => {
    const played = play(fenced, [
      [100, loops()],
      [400, stopped],
    ]);
    expect(played.effects).toEqual(["raise-stuck@400", "stop@400"]);
  });
});

describe("a busy machine", () => {
  /** Nothing is attended to from 100 ms on, for so long; then all of the time. */
  const heldUpFor = (heldUpMs: number) => (nowMs: number) =>
    nowMs < 100 ? nowMs : Math.max(100, nowMs - heldUpMs);

  it("ends no case by its bounds: a task that could not run is waited for", () => {
    const played = play(alone, [[100, loops()]], () => true, heldUpFor(2000));
    expect(summary(played)).toEqual(["raise-stuck@100", `stop@${100 + 2000 + OTHERS_MS}`]);
  });

  it.each([
    [
      "a repaired file",
      awaited,
      [
        [10, vmmDone],
        [50, hostSettled],
        [100, loops()],
      ],
    ],
    ["a fence", fenced, [[100, loops()]]],
  ] as const)("does not call a loop endless whose vCPU could not come out of it: %s", (_, rules, script) => {
    const played = play(rules, [...script, [3000, unstuck()]], () => false, heldUpFor(5000));
    expect(played.effects).not.toContain(`stop@${100 + REPAIR_GRACE_MS + SETTLE_MS}`);
    expect(played.history.at(-1)).toBe("running");
  });

  it("is out of time at the limit, which proves nothing", () => {
    const played = play(alone, [[100, loops()]], () => true, heldUpFor(LIMIT_MS));
    expect(summary(played)).toEqual(["raise-stuck@100", `stop@${LIMIT_MS}`]);
    expect(played.state.outOfTime).toBe(true);
  });
});

describe("alarms", () => {
  it("ring in their order, each once, also when time is brought late", () => {
    let state = step(beginning(fenced), { type: "started", limitMs: LIMIT_MS }, 0).state;
    state = step(state, loops(), 100).state;
    expect(wakeAtMs(state)).toBe(100 + REPAIR_GRACE_MS);
    const early = step(state, { type: "time", attendedMs: 0 }, 100 + REPAIR_GRACE_MS - 1);
    expect([early.effects, wakeAtMs(early.state)]).toEqual([[], 100 + REPAIR_GRACE_MS]);
    const late = step(state, { type: "time", attendedMs: 0 }, LIMIT_MS + 5);
    expect(late.effects.map(text)).toEqual(["stop"]);
    expect(late.state.outOfTime).toBe(true);
    const settled = step(late.state, { type: "time", attendedMs: SETTLE_MS }, LIMIT_MS + 100);
    expect(settled.effects.map(text)).toEqual(["raise-stuck", "look-at-tasks"]);
    expect(wakeAtMs(settled.state)).toBeNull();
  });

  it("leave the state that they are given alone", () => {
    const before = beginning(alone);
    const copy = structuredClone(before);
    step(before, loops(), 100);
    step(before, { type: "started", limitMs: 1 }, 0);
    expect(before).toEqual(copy);
  });
});

describe("a vCPU that waits for ever", () => {
  const waits = (where: "page fault" | "halt" | "guest", cpu = 0): News => ({
    type: "waiting",
    cpu,
    in: where,
    overMs: 2000,
    place: null,
    detail: "",
  });

  it.each(["page fault", "halt"] as const)(
    "ends the case as a loop does, in a state of its own: %s",
    (where) => {
      const played = play(alone, [[2000, waits(where)]], (nowMs) => nowMs < 2000 + OTHERS_POLL_MS);
      expect(played.history).toEqual(["waiting"]);
      expect(summary(played)).toEqual(["raise-stuck@2000", `stop@${2000 + OTHERS_POLL_MS}`]);
      expect(played.state.outOfTime).toBe(false);
    },
  );

  it("is awaited by actors, and over once the access comes back", () => {
    const script = [
      [10, vmmDone],
      [2000, waits("halt")],
      [2100, hostSettled],
      [2200, unstuck()],
    ] as const;
    expect(play(awaited, script).history).toEqual(["waiting", "running"]);
  });

  it("is graver where it loops: one that waits beside it changes nothing, one that loops is told", () => {
    const both = [
      [100, loops(0)],
      [2000, waits("halt", 1)],
    ] as const;
    expect(play(alone, both, () => true).history).toEqual(["looping"]);
    const other = [
      [100, waits("halt", 1)],
      [200, loops(0)],
    ] as const;
    expect(play(alone, other, () => true).history).toEqual(["waiting", "looping"]);
  });

  it("is not what a task does that sleeps in the guest: the VM runs, and the case ends", () => {
    const played = play(alone, [[2000, waits("guest")]], (nowMs) => nowMs < 2000 + OTHERS_POLL_MS);
    expect(played.history).toEqual([]);
    expect(summary(played)).toEqual([`stop@${2000 + OTHERS_POLL_MS}`]);
    expect(played.state.outOfTime).toBe(false);
  });
});

describe("a loop that what watches the file ends", () => {
  const begun = step(beginning(fenced), { type: "started", limitMs: LIMIT_MS }, 0).state;
  const dueMs = 100 + REPAIR_GRACE_MS;

  it("is judged when its grace is over, and not again while the vCPUs get their time", () => {
    const looping = step(begun, loops(), 100).state;
    expect(judgesLoop(looping, dueMs - 1)).toBe(false);
    expect(judgesLoop(looping, dueMs)).toBe(true);
    const settling = step(looping, { type: "time", attendedMs: 0 }, dueMs).state;
    expect(judgesLoop(settling, dueMs + OTHERS_POLL_MS)).toBe(false);
  });

  it("is not there without a loop, nor where nothing ends loops", () => {
    expect(judgesLoop(begun, LIMIT_MS)).toBe(false);
    const unwatched = step(beginning(alone), { type: "started", limitMs: LIMIT_MS }, 0).state;
    expect(judgesLoop(step(unwatched, loops(), 100).state, LIMIT_MS)).toBe(false);
  });
});
