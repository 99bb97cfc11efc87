/** The tables of verbs: what the compiler cannot hold against the types of steps. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  accessBytes,
  accessVerbs,
  guestVerbs,
  isAccess,
  isWrite,
  seenBytes,
  touchOf,
  undisturbedWord,
  writtenValue,
} from "../../src/scenario/guest-verbs.ts";
import { actOf, effectOf, hostVerbs, isAction, vmmVerbs } from "../../src/scenario/host-verbs.ts";
import { Problems } from "../../src/scenario/problem.ts";
import { parseGuestStep, parseHostStep, parseVmmStep, stepText } from "../../src/scenario/steps.ts";

/** A line of each verb, as a scenario has it. */
const guestLines: Readonly<Record<keyof typeof guestVerbs, string>> = {
  load: "load 0x1000 8 until cut",
  store: "store 0x1000 4 0x5a until cut",
  atomic: "atomic 0x1010 16",
  fetch: "fetch 0x2000",
  "copy-from": "copy-from 0x1ff8 24",
  "copy-to": "copy-to 0x10 1 0xff",
  "kernel-read": "kernel-read 0x1000 24 no-fixup irqs-off",
  "kernel-write": "kernel-write 0x1000 8 0x5a",
  push: "push 0x20 1",
  "file-read": "file-read 0x1ffc 8",
  "file-write": "file-write 0x1000 8 0x5a",
  "file-size": "file-size",
  "file-truncate": "file-truncate 0x1004",
  fsync: "fsync",
  msync: "msync 0x1ff8 16",
  "file-read-direct": "file-read-direct 0x1ff8 8",
  "kernel-pin": "kernel-pin 0x1000",
  "fork-load": "fork-load 0x1000 8",
  exec: "exec",
  signal: "signal cut",
  await: "await cut",
  kill: "kill other",
  count: "count",
};
const hostLines: Readonly<Record<keyof typeof hostVerbs, string>> = {
  truncate: "truncate 0 as-nobody",
  "open-truncate": "open-truncate 0x1000",
  open: "open",
  ftruncate: "ftruncate 0x1000",
  "open-trunc": "open-trunc",
  "open-read": "open-read",
  punch: "punch 0x1000 0x2000",
  collapse: "collapse 0x1000 0x2000",
  "map-store": "map-store 0x1008 0x5a",
  "device-read": "device-read 0x1000 8",
  "device-write": "device-write 0x1000 8 0x5a5a",
  "rename-over": "rename-over",
  unlink: "unlink",
  "kill-server": "kill-server",
  "stop-server": "stop-server",
  "continue-server": "continue-server",
  signal: "signal cut",
  await: "await cut",
};

const vmmLines: Readonly<Record<keyof typeof vmmVerbs, string>> = {
  resume: "resume",
  unmap: "unmap 0x1000 0x2000",
  map: "map 0x1000 0x2000",
  protect: "protect 0x1000 0x2000 none",
  discard: "discard 0x1000 0x1000",
  "memory-failure": "memory-failure 0x1000 early",
  "device-read": "device-read 0x1000 8",
  "device-write": "device-write 0x1000 8 0x5a5a",
  signal: "signal cut",
  await: "await cut",
};

function parsed<Step>(
  parse: (text: string, at: string, problems: Problems) => Step | null,
  text: string,
): Step {
  const problems = new Problems();
  const step = parse(text, "steps[0]", problems);
  if (step === null) throw new Error(problems.list.map(({ message }) => message).join("\n"));
  return step;
}
const guestStep = (verb: keyof typeof guestVerbs) => parsed(parseGuestStep, guestLines[verb]);
const hostStep = (text: string) => parsed(parseHostStep, text);

describe("a verb", () => {
  it.each(Object.values(guestLines))("of the guest is written as it was read: %s", (line) => {
    expect(stepText(parsed(parseGuestStep, line))).toBe(line);
  });
  it.each(Object.values(hostLines))("of the host is written as it was read: %s", (line) => {
    expect(stepText(parsed(parseHostStep, line))).toBe(line);
  });
  it.each(Object.values(vmmLines))("of the VMM is written as it was read: %s", (line) => {
    expect(stepText(parsed(parseVmmStep, line))).toBe(line);
  });

  it("that two kinds of actors have takes the same operands", () => {
    for (const verb of ["signal", "await"] as const) {
      expect(hostVerbs[verb].operands).toEqual(guestVerbs[verb].operands);
      expect(vmmVerbs[verb].operands).toEqual(guestVerbs[verb].operands);
    }
  });

  it("is described in CONTRIBUTING.md", () => {
    const text = readFileSync(new URL("../../../CONTRIBUTING.md", import.meta.url), "utf8");
    const described = new Set([...text.matchAll(/`([a-z-]+)[^`]*`/g)].map(([, verb]) => verb));
    const all = [...Object.keys(guestVerbs), ...Object.keys(hostVerbs), ...Object.keys(vmmVerbs)];
    expect(all.filter((verb) => !described.has(verb))).toEqual([]);
  });
});

describe("the guest's verbs", () => {
  it("have numbers of their own, `again` of the measurements among them", () => {
    const numbers = [...Object.values(guestVerbs).map(({ number }) => number), 14];
    expect(new Set(numbers).size).toBe(numbers.length);
  });

  it("touch the window exactly where they have an offset in it", () => {
    for (const verb of Object.keys(guestVerbs) as (keyof typeof guestVerbs)[]) {
      expect(isAccess(guestStep(verb)), verb).toBe("offset" in guestVerbs[verb].operands);
    }
  });

  // By verb: bytes touched, bytes seen, does it write, what it writes; how the model touches a page, and in guest kernel.
  it.each([
    ["load", 8, 8, false, 0n, "load", "load"],
    ["store", 4, 4, true, 0x5an, "store", "store"],
    ["atomic", 16, 16, true, 0n, "atomic", "atomic"],
    ["fetch", 6, 4, false, 0n, "fetch", "fetch"],
    ["copy-from", 24, 24, false, 0n, "load", "copy-from-user"],
    ["copy-to", 1, 1, true, 0xffn, "store", "copy-to-user"],
    ["kernel-read", 24, 24, false, 0n, "copy-from-user", "copy-from-user"],
    ["kernel-write", 8, 8, true, 0x5an, "copy-to-user", "copy-to-user"],
    ["push", 8, 8, true, 1n, "stack", "stack"],
    ["file-read", 8, 8, false, 0n, null, null],
    ["file-write", 8, 8, true, 0x5an, null, null],
    ["file-size", 0, 8, false, 0n, null, null],
    ["file-truncate", 0, 0, false, 0n, null, null],
    ["fsync", 0, 0, false, 0n, null, null],
    ["msync", 16, 0, false, 0n, null, null],
    ["file-read-direct", 8, 8, false, 0n, null, null],
    ["kernel-pin", 4096, 0, false, 0n, null, null],
    ["fork-load", 8, 8, false, 0n, null, null],
    ["exec", 0, 0, false, 0n, null, null],
  ] as const)("%s", (verb, touched, seen, writes, value, op, opInKernel) => {
    const step = guestStep(verb);
    if (!isAccess(step)) throw new Error(`${verb} touches nothing`);
    expect([accessBytes(step), seenBytes(step), isWrite(step), writtenValue(step)]).toEqual([
      touched,
      seen,
      writes,
      value,
    ]);
    const touch = touchOf(step);
    const ops = touch.instruction === null ? [null, null] : [touch.op, touch.opInKernel];
    expect(ops).toEqual([op, opInKernel]);
  });

  it("that sync a file or set its size are done, all others see a value", () => {
    const verbs = Object.keys(guestVerbs) as (keyof typeof guestVerbs)[];
    const done = verbs.map(guestStep).filter((step) => isAccess(step) && undisturbedWord(step) === "done");
    expect(done.map(({ verb }) => verb)).toEqual(["file-truncate", "fsync", "msync", "kernel-pin", "exec"]);
  });

  it("that touch the window by an instruction come in the order of their numbers", () => {
    const numbers = accessVerbs.map(({ number }) => number);
    expect(numbers).toEqual([...numbers].sort((one, other) => one - other));
    expect(accessVerbs).toHaveLength(9);
  });
});

describe("the host's verbs", () => {
  it.each([
    ["truncate 0x1000", { kind: "resize", sizeBytes: 0x1000n, via: "path" }],
    ["open-truncate 0x1000", { kind: "resize", sizeBytes: 0x1000n, via: "path" }],
    ["ftruncate 0x1000", { kind: "resize", sizeBytes: 0x1000n, via: "open-fd" }],
    ["open-trunc", { kind: "resize", sizeBytes: 0n, via: "open-trunc" }],
    ["collapse 0x1000 0x2000", { kind: "resize", sizeBytes: 0x6000n, via: "path" }],
    ["punch 0x1000 0x2000", { kind: "hole", range: { from: 0x1000n, to: 0x3000n } }],
    ["map-store 0x1008 1", { kind: "none" }],
    ["rename-over", { kind: "none" }],
    ["await cut", { kind: "none" }],
  ])("%s of a file of 32 KiB", (text, effect) => {
    expect(effectOf(hostStep(text), 0x8000n)).toEqual(effect);
  });

  it.each([
    ["collapse 0x1000 0x2000", { from: 0x1000n, to: 0x6000n }],
    ["map-store 0x1008 1", { from: 0x1000n, to: 0x2000n }],
    ["punch 0x1000 0x2000", undefined],
  ])("%s: which bytes stand elsewhere afterwards", (text, range) => {
    const step = hostStep(text);
    expect(isAction(step) && actOf(step).rewrites?.(step, 0x8000n)).toEqual(range);
  });
});
