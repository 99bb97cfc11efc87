import { describe, expect, it } from "vitest";
import { contentBytes, fromValue, toValue } from "../../src/scenario/content.ts";
import { heldAt, heldBytes, mayBeWritten, wasHeld, writtenBy, writtenTo } from "../../src/scenario/held.ts";
import { parseScenarios } from "../../src/scenario/parse.ts";
import type { Scenario } from "../../src/scenario/scenario.ts";

type Given = {
  readonly task: readonly string[];
  /** The step of the task; the last one if not given. */
  readonly index?: number;
  readonly other?: readonly string[];
  readonly host?: readonly string[];
  readonly faults?: readonly string[];
};

function scenarioOf({ task, other, host, faults }: Given): Scenario {
  const source = {
    id: "x",
    purpose: "x",
    backing: { size: "4MiB", ...(faults === undefined ? {} : { mount: { faults } }) },
    actors: {
      task: { in: "guest-task", steps: task },
      ...(other === undefined ? {} : { other: { in: "guest-task", steps: other } }),
      ...(host === undefined ? {} : { host: { in: "host-process", steps: host } }),
    },
    witness: [],
    properties: [],
  };
  return parseScenarios(JSON.stringify(source), "x")[0] as Scenario;
}

function held(given: Given, hasWritten = true) {
  const index = given.index ?? given.task.length - 1;
  return heldAt(scenarioOf(given), { actor: "task", index }, () => hasWritten);
}

const punch = ["await go", "punch 0x1000 0x1000", "signal done"];
const regrow = ["await go", "truncate 0", "truncate 4MiB", "signal done"];
const load = "load 0x1000 8";
const zero = "store 0x1000 8 0";

describe("zeros at an access are the file's own value", () => {
  const yes: Readonly<Record<string, Given>> = {
    "after a store of zeros": { task: [zero, load] },
    "after two stores that together cover it": { task: ["store 0x1000 4 0", "store 0x1004 4 0", load] },
    "after a store of zeros by another task": {
      task: ["await stored", load],
      other: [zero, "signal stored"],
    },
    "after a host's store of zeros": {
      task: ["signal go", "await done", load],
      host: ["await go", "map-store 0x1000 0", "signal done"],
    },
    "where the content has a zero": { task: ["load 0x1000 1"] },
    "after a store that may come behind another": {
      task: [zero, "await stored", load],
      other: ["store 0x1000 8 0x5a", "signal stored"],
    },
    "after a store into a hole": { task: ["signal go", "await done", zero, load], host: punch },
    "after a store into a file that has grown again": {
      task: ["signal go", "await done", zero, load],
      host: regrow,
    },
    "before a hole that comes later": { task: [zero, load, "signal go"], index: 1, host: punch },
  };
  it.each(Object.entries(yes))("%s", (_what, given) => {
    expect(held(given).zerosAreHeld).toBe(true);
  });

  const no: Readonly<Record<string, Given>> = {
    "without any store": { task: [load] },
    "after a store of something else": { task: ["store 0x1000 8 0x5a", load] },
    "after a store that covers a part": { task: ["store 0x1000 4 0", load] },
    "before the store": { task: [load, zero], index: 0 },
    "where a later store has something else": { task: [zero, "store 0x1000 8 1", load] },
    "where the page was punched since": { task: [zero, "signal go", "await done", load], host: punch },
    "where the file was cut since and has grown": {
      task: [zero, "signal go", "await done", load],
      host: regrow,
    },
    "where a task has cut the file since and made it grow": {
      task: [zero, "file-truncate 0", "file-truncate 4MiB", load],
    },
    "where another task has": {
      task: [zero, "signal go", "await done", load],
      other: ["await go", "file-truncate 0", "signal done"],
    },
    "after an atomic addition": { task: [zero, "atomic 0x1000 8", load] },
    "where the server fails each READ": { task: [zero, load], faults: ["read at 0x1000 fail EIO"] },
  };
  it.each(Object.entries(no))("not %s", (_what, given) => {
    expect(held(given).zerosAreHeld).toBe(false);
  });

  it("not after a store that did not end in the file", () => {
    expect(held({ task: [zero, load] }, false).zerosAreHeld).toBe(false);
  });
});

describe("a page that has become zeros", () => {
  it.each([
    ["has what was stored since", ["signal go", "await done", "store 0x1000 1 0x5a", load], true],
    ["has what was added since", ["signal go", "await done", "atomic 0x1000 8", load], true],
    ["has lost what was stored before", ["store 0x1000 8 0x5a", "signal go", "await done", load], false],
    ["has nothing", ["signal go", "await done", load], false],
  ])("%s", (_what, task, expected) => {
    expect(held({ task, host: punch }).isWritten).toBe(expected);
  });
});

describe("the bytes that an access finds", () => {
  const found = (given: Given, hasWritten = true): bigint => {
    const index = given.index ?? given.task.length - 1;
    return toValue(heldBytes(scenarioOf(given), { actor: "task", index }, () => hasWritten));
  };
  const content = toValue(contentBytes("pattern", 0x1000n, 8));

  it.each([
    ["the content, where nobody has written", { task: [load] }, content],
    ["the last store before it", { task: ["store 0x1000 8 1", load, "store 0x1000 8 2"], index: 1 }, 1n],
    ["of two stores the later", { task: ["store 0x1000 8 1", "store 0x1000 8 2", load] }, 2n],
    [
      "byte by byte",
      { task: ["store 0x1000 4 0x11", "store 0x1006 2 0x22", load] },
      (content & 0xffff_0000_0000n) | 0x11n | (0x22n << 48n),
    ],
    [
      "another task's, and the host's",
      { task: ["await s", load], other: ["store 0x1000 4 7", "signal s"], host: ["map-store 0x2000 1"] },
      (content & ~0xffff_ffffn) | 7n,
    ],
    [
      "the host's, behind it",
      {
        task: ["store 0x1000 8 3", "signal s", "await w", load],
        host: ["await s", "map-store 0x1000 9", "signal w"],
      },
      9n,
    ],
    [
      "what an atomic access makes of what it finds",
      { task: ["store 0x1000 8 5", "atomic 0x1000 8", load] },
      6n,
    ],
  ] as const)("are %s", (_what, given, value) => {
    expect(found(given)).toBe(value);
  });

  it("are the content where the stores have not ended in the file", () => {
    expect(found({ task: ["store 0x1000 8 1", load] }, false)).toBe(content);
  });
});

describe("what was written", () => {
  const scenario = scenarioOf({
    task: [zero, "atomic 0x1000 8", load, "signal go"],
    host: ["await go", "map-store 0x2000 0"],
  });
  it.each([
    ["value", "value", "done", [true, true, false, true]],
    ["stale", "zero", "delayed", [false, true, false, true]],
    ["sigbus", "sigbus", "not-reached", [false, false, false, false]],
  ])("is told by the results: store %s, atomic %s, host %s", (store, atomic, host, expected) => {
    const accesses = { task: { "store#1": { kind: store }, "atomic#1": { kind: atomic } } };
    const has = writtenBy(scenario, accesses, { host: { "map-store#1": { kind: host } } });
    const steps = [
      { actor: "task", index: 0 },
      { actor: "task", index: 1 },
      { actor: "task", index: 2 },
      { actor: "host", index: 1 },
    ];
    expect(steps.map(has)).toEqual(expected);
  });

  it("may be where a step of the guest writes", () => {
    expect(mayBeWritten(scenario, 0x1004n, 4)).toBe(true);
    expect(mayBeWritten(scenario, 0x1008n, 8)).toBe(false);
  });
});

describe("bytes that the file held at an access and holds no more", () => {
  const original = toValue(contentBytes("pattern", 0x1000n, 8));

  /** `task[index]` has found `found`, and the file holds `now`. An atomic access has left `atomicLeft`. */
  function isHeld(given: Given, found: bigint, now: bigint, atomicLeft = 0n): boolean {
    const scenario = scenarioOf(given);
    const bytes = { found: fromValue(found, 8), left: fromValue(found, 8), now: fromValue(now, 8) };
    return wasHeld(scenario, { actor: "task", index: given.index ?? 0 }, bytes, {
      leftBy: (at) => {
        const isAtomic = scenario.actors[at.actor]?.steps[at.index]?.verb === "atomic";
        return isAtomic ? fromValue(atomicLeft, 8) : writtenTo(scenario, at);
      },
      isDone: () => true,
    });
  }
  const twice = ["store 0x1000 8 1", load, "store 0x1000 8 2", load];

  it("a store that a later one has overwritten, and the load between them", () => {
    expect(isHeld({ task: twice, index: 0 }, 1n, 2n)).toBe(true);
    expect(isHeld({ task: twice, index: 1 }, 1n, 2n)).toBe(true);
    expect(isHeld({ task: [load, "store 0x1000 8 2"] }, original, 2n)).toBe(true);
  });

  it("not what no step before it has left", () => {
    expect(isHeld({ task: twice, index: 1 }, original, 2n)).toBe(false);
    expect(isHeld({ task: twice, index: 1 }, 3n, 2n)).toBe(false);
  });

  it("not where no later step has left what the file holds now", () => {
    expect(isHeld({ task: twice, index: 1 }, 1n, original)).toBe(false);
    expect(isHeld({ task: twice, index: 3 }, 1n, 2n)).toBe(false);
    expect(isHeld({ task: [load] }, original, 0n)).toBe(false);
    // The second store is lost, and the load has found it where it went.
    expect(isHeld({ task: twice, index: 2 }, 2n, 1n)).toBe(false);
    expect(isHeld({ task: twice, index: 3 }, 2n, 1n)).toBe(false);
  });

  it("byte by byte, and as an atomic access has left it", () => {
    const task = ["store 0x1000 4 0x11", load, "atomic 0x1000 8", load];
    const found = (original & ~0xffff_ffffn) | 0x11n;
    expect(isHeld({ task, index: 1 }, found, found + 1n, found + 1n)).toBe(true);
    expect(isHeld({ task, index: 1 }, original, found + 1n, found + 1n)).toBe(false);
  });

  it("not the old content, where a step before the access has cut it off", () => {
    const task = ["signal go", "await done", load, "store 0x1000 8 2"];
    expect(isHeld({ task, index: 2, host: regrow }, original, 2n)).toBe(false);
    expect(isHeld({ task, index: 2, host: regrow }, 0n, 2n)).toBe(true);
  });

  it("of steps in no order each may be the last before the access", () => {
    const given = { task: [load, "store 0x1000 8 2"], other: ["store 0x1000 8 7"] };
    expect(isHeld(given, 7n, 2n)).toBe(true);
    expect(isHeld(given, original, 2n)).toBe(true);
    expect(isHeld(given, 2n, 7n)).toBe(false);
  });
});
