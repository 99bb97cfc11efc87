/** Cases without a VM on the real host, by each engine that runs them: processes map, touch, and die as they should. */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type {
  Actor,
  Evidence,
  GuestStep,
  HostStep,
  RunResult,
  Scenario,
} from "../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../language/test/support/cases.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import type { Engine } from "../../src/engine.ts";
import { mmapIoEngine } from "../../src/engines/mmap-io/engine.ts";
import { supportsNative } from "../../src/engines/native.ts";
import { processEngine } from "../../src/engines/process/engine.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { processesOf } from "../../src/run/sweep.ts";
import { caseFolder, eventually } from "../support/folders.ts";

const engines = await Promise.all(
  [processEngine, mmapIoEngine].map(async (engine) => {
    const available = await engine.available();
    const note = available.kind === "no" ? ` (skipped: ${available.reason})` : "";
    /** As far as the engine sees it: a wait status has no si_code. */
    const code = engine === processEngine ? "BUS_ADRERR" : "unobserved";
    return {
      title: engine.name + note,
      name: engine.name,
      engine,
      isHere: available.kind === "yes",
      code,
    };
  }),
);
const native = proposalOf("native");

function truncateTo(size: bigint, touch: GuestStep, others: Readonly<Record<string, Actor>> = {}): Scenario {
  const host: HostStep[] = [
    { verb: "await", name: "touched" },
    { verb: "truncate", size },
    { verb: "signal", name: "cut" },
  ];
  const victim: GuestStep[] = [
    { verb: "load", offset: 0x1000n, size: 8 },
    { verb: "signal", name: "touched" },
    { verb: "await", name: "cut" },
    touch,
    { verb: "load", offset: 0n, size: 1 },
  ];
  return scenarioWith({
    actors: {
      victim: { in: "guest-task", steps: victim },
      host: { in: "host-process", through: "file", steps: host },
      ...others,
    },
  });
}

type RunOptions = { readonly timeoutMs?: number; readonly signal?: AbortSignal };

async function run(
  engine: Engine,
  scenario: Scenario,
  { timeoutMs = 10_000, signal }: RunOptions = {},
): Promise<RunResult> {
  const directory = caseFolder();
  const context = { directory, timeoutMs, signal: signal ?? new AbortController().signal, slowness: 1 };
  const result = await engine.run(scenario, native, context);
  expect(processesOf(directory)).toEqual([]);
  return result;
}

async function evidenceOf(engine: Engine, scenario: Scenario): Promise<Evidence> {
  const result = await run(engine, scenario);
  if (result.kind !== "evidence") throw new Error(`${result.kind}: ${result.message}`);
  return result.evidence;
}

describe.each(engines)("the engine $title", ({ engine, isHere, code, name }) => {
  const evidence = (scenario: Scenario): Promise<Evidence> => evidenceOf(engine, scenario);

  it.runIf(isHere).each([
    ["load", { verb: "load", offset: 0x1000n, size: 8 }, "load#2"],
    ["store", { verb: "store", offset: 0x1000n, size: 8, value: 5n }, "store#1"],
    ["atomic", { verb: "atomic", offset: 0x1000n, size: 4 }, "atomic#1"],
    ["copy-from", { verb: "copy-from", offset: 0x1000n, size: 24 }, "copy-from#1"],
    ["copy-to", { verb: "copy-to", offset: 0x1000n, size: 24, value: 5n }, "copy-to#1"],
  ] as const)("a %s behind the end of the file is SIGBUS, and ends the task", async (_verb, step, label) => {
    const { observations, counts } = await evidence(truncateTo(0n, step));
    const { victim = {} } = observations.accesses;
    expect(victim["load#1"]).toEqual({ kind: "value", value: 0xda0000001000n });
    expect(victim[label]).toEqual({ kind: "sigbus", code });
    const last = Object.entries(victim).at(-1);
    expect(last?.[1]).toEqual({ kind: "not-reached" });
    expect(observations).toMatchObject({ vmm: null, guestKernel: null });
    expect(counts).toMatchObject({ map: 1, truncate: 1, sigbus: 1, signal: 2 });
  });

  it.runIf(isHere)("zeros that a store wrote are the value that a load sees", async () => {
    const steps: GuestStep[] = [
      { verb: "store", offset: 0x1000n, size: 8, value: 0n },
      { verb: "load", offset: 0x1000n, size: 8 },
      { verb: "load", offset: 0x1004n, size: 8 },
    ];
    const { observations } = await evidence(
      scenarioWith({ actors: { victim: { in: "guest-task", steps } } }),
    );
    expect(observations.accesses).toEqual({
      victim: {
        "store#1": { kind: "value", value: 0n },
        "load#1": { kind: "value", value: 0n },
        "load#2": { kind: "value", value: 0x10080000_0000n },
      },
    });
  });

  it.runIf(isHere)("in the last page: values before the end, zeros behind it", async () => {
    const before = await evidence(truncateTo(0x1800n, { verb: "load", offset: 0x1000n, size: 8 }));
    expect(before.observations.accesses.victim?.["load#2"]?.kind).toBe("value");
    const behind = await evidence(truncateTo(0x1800n, { verb: "load", offset: 0x1900n, size: 8 }));
    expect(behind.observations.accesses.victim?.["load#2"]).toEqual({ kind: "zero" });
  });

  it.runIf(isHere)("stores and atomics that succeed reach the file", async () => {
    const stored = await evidence(
      truncateTo(0x2000n, { verb: "store", offset: 0x1000n, size: 8, value: 5n }),
    );
    expect(stored.observations.accesses.victim?.["store#1"]).toEqual({ kind: "value", value: 5n });
    const added = await evidence(truncateTo(0x2000n, { verb: "atomic", offset: 0x1000n, size: 8 }));
    expect(added.observations.accesses.victim?.["atomic#1"]).toEqual({
      kind: "value",
      value: 0xda0000001000n,
    });
  });

  it.runIf(isHere)("a window that maps the file elsewhere is followed", async () => {
    const scenario = {
      ...truncateTo(0x400000n, { verb: "load", offset: 0x1000n, size: 8 }),
      window: [
        { fileOffset: 0x200000n, at: 0n, length: 0x1000n },
        { fileOffset: 0x3000n, at: 0x1000n, length: 0x1000n },
      ],
    };
    const { observations } = await evidence(scenario);
    expect(observations.accesses.victim).toEqual({
      "load#1": { kind: "value", value: 0xda0000003000n },
      "load#2": { kind: "value", value: 0xda0000003000n },
      "load#3": { kind: "value", value: 0x00n },
    });
  });

  it.runIf(isHere)("another process that counts gets on", async () => {
    const counter: Actor = { in: "guest-task", steps: [{ verb: "count" }] };
    const { observations } = await evidence(
      truncateTo(0n, { verb: "load", offset: 0x1000n, size: 8 }, { counter }),
    );
    expect(observations.bystanders).toEqual({ counter: "progress" });
    expect(observations.accesses.counter).toEqual({});
  });

  it.runIf(isHere)(
    "an access whose READ is never answered hangs, long before the time is over, and nothing is left of it",
    async () => {
      const fault = {
        operation: "read",
        at: 0x300000,
        after: 0,
        times: null,
        action: { kind: "hang" },
      } as const;
      const load = (offset: bigint): GuestStep => ({ verb: "load", offset, size: 8 });
      const scenario = scenarioWith({
        backing: { ...scenarioWith({}).backing, mount: { faults: [fault] } },
        window: [{ fileOffset: 0n, at: 0n, length: 0x400000n }],
        actors: { victim: { in: "guest-task", steps: [load(0x1000n), load(0x300000n), load(0x1000n)] } },
      });
      const { observations, durationMs } = await evidence(scenario);
      expect(observations.accesses.victim).toMatchObject({
        "load#1": { kind: "value" },
        "load#2": { kind: "hung" },
        "load#3": { kind: "not-reached" },
      });
      expect(durationMs).toBeLessThan(8000);
    },
  );

  it.runIf(isLong && isHere)("a task that waits for ever is a time-out, not an observation", async () => {
    const { victim } = scenarioWith({}).actors;
    if (victim === undefined) throw new Error("no victim");
    const result = await run(engine, scenarioWith({ actors: { victim } }), { timeoutMs: 6000 });
    expect(result).toEqual({
      kind: "timeout",
      message: "not done after 5000 ms (waits for a signal?): victim",
    });
  });

  it.runIf(isHere).each([
    ["while a task waits", 300],
    ["before the file is mapped", 0],
  ])("ends at once when the run is aborted %s", async (_when, afterMs) => {
    const abort = new AbortController();
    if (afterMs === 0) abort.abort();
    else setTimeout(() => abort.abort(), afterMs);
    const { victim } = scenarioWith({}).actors;
    if (victim === undefined) throw new Error("no victim");
    const startMs = performance.now();
    await run(engine, scenarioWith({ actors: { victim } }), { timeoutMs: 20_000, signal: abort.signal });
    expect(performance.now() - startMs).toBeLessThan(5000);
  });

  it.runIf(isHere)("attests its own name", async () => {
    expect((await engine.attest()).engine).toBe(name);
    expect((await evidence(scenarioWith({}))).attestation.engine).toBe(name);
  });
});

const fuse = supportOf(thisMachine(), ["fuse"]);

/** The last process of the folder with these in its command line and in its parent's. */
function processOf(directory: string, { entry, parent }: { entry: string; parent: string }): number | null {
  const read = (pid: number, name: string): string => {
    try {
      return readFileSync(`/proc/${pid}/${name}`, "utf8");
    } catch {
      return "";
    }
  };
  const found = processesOf(directory).findLast((pid) => {
    const parentPid = Number(/^PPid:\s*(\d+)$/m.exec(read(pid, "status"))?.[1] ?? 0);
    return read(pid, "cmdline").includes(entry) && read(parentPid, "cmdline").includes(parent);
  });
  return found ?? null;
}

type Attack = {
  readonly engine: Engine;
  readonly scenario: Scenario;
  readonly entry: string;
  /** Of its command line. */
  readonly parent: string;
  readonly signal: NodeJS.Signals;
  readonly timeoutMs?: number;
};

/** Half a second after the file is mapped: what waits for five seconds waits by then, or is about to. */
async function attacked({ engine, scenario, signal, timeoutMs = 15_000, ...at }: Attack): Promise<RunResult> {
  const directory = caseFolder();
  let mapped = false;
  const context = {
    directory,
    timeoutMs,
    signal: new AbortController().signal,
    slowness: 1,
    onEvent: () => (mapped = true),
  };
  const running = engine.run(scenario, native, context);
  expect(await eventually(() => mapped, 10_000)).toBe(true);
  await sleep(500);
  const pid = processOf(directory, at);
  if (pid === null) throw new Error(`no process of ${at.entry}: ${JSON.stringify(await running)}`);
  process.kill(pid, signal);
  const result = await running;
  expect(processesOf(directory)).toEqual([]);
  return result;
}

/** The victim loads a page whose READ takes five seconds. */
function waiting(): Scenario {
  return scenarioWith({
    backing: {
      kind: "host-file",
      size: 0x100000n,
      content: "pattern",
      mount: {
        faults: [
          { operation: "read", at: 0x40000, after: 0, times: null, action: { kind: "delay", ms: 5000 } },
        ],
      },
    },
    actors: {
      victim: { in: "guest-task", steps: [{ verb: "load", offset: 0x40000n, size: 8 }] },
    },
  });
}

const steps = "vmm/guest/steps";

describe.each(engines)("a child of the engine $title that is ended from outside", ({ engine, isHere }) => {
  const isProcess = engine === processEngine;
  const task = isProcess ? { entry: steps, parent: steps } : { entry: "mapper-main", parent: "" };

  it.runIf(isHere && fuse.kind === "yes").each([
    ["the process of a task", task, "process of victim: killed by SIGKILL"],
    ["the file server", { entry: "serve-main", parent: "" }, "file server: killed by SIGKILL"],
  ])("%s: is no observation, and named", async (_what, at, message) => {
    const result = await attacked({ engine, scenario: waiting(), ...at, signal: "SIGKILL" });
    expect(result).toEqual({ kind: "engine-error", message });
  });

  it.runIf(isLong && isHere)("a task that counts: is no observation, and named", async () => {
    const { victim } = scenarioWith({}).actors;
    if (victim === undefined) throw new Error("no victim");
    const counter: Actor = { in: "guest-task", steps: [{ verb: "count" }] };
    const scenario = scenarioWith({ actors: { victim, counter } });
    const result = await attacked({ engine, scenario, ...task, signal: "SIGKILL", timeoutMs: 8000 });
    expect(result).toEqual({ kind: "engine-error", message: "process of counter: killed by SIGKILL" });
  });

  it.runIf(isLong && isHere)("one that is stopped is named, though it is ended with its case", async () => {
    const { victim } = scenarioWith({}).actors;
    if (victim === undefined) throw new Error("no victim");
    const result = await attacked({
      engine,
      scenario: scenarioWith({ actors: { victim } }),
      ...task,
      signal: "SIGSTOP",
      timeoutMs: 8000,
    });
    const name = isProcess ? "steps" : "mapper-main";
    expect(result).toEqual({
      kind: "engine-error",
      message: expect.stringMatching(new RegExp(`^stopped from outside: process \\d+ \\(${name}\\)$`)),
    });
  });
});

describe("supportsNative", () => {
  const supports = (scenario: Scenario, proposal = "native") =>
    supportsNative(scenario, proposalOf(proposal));
  const withVictim = (actor: Actor) => scenarioWith({ actors: { victim: actor } });

  it("says yes to a task that loads, no with a reason to everything with a VM", () => {
    expect(supports(scenarioWith({}))).toEqual({ kind: "yes" });
    expect(supports(scenarioWith({}), "apf-loop")).toMatchObject({ kind: "no" });
    expect(supports(withVictim({ in: "guest-kernel", steps: [] }))).toMatchObject({
      reason: "victim is a guest kernel; without a VM there is none",
    });
    expect(supports(withVictim({ in: "vmm", steps: [] }))).toMatchObject({ kind: "no" });
    const interrupts: Actor = { in: "guest-task", interrupts: "off", steps: [] };
    expect(supports(withVictim(interrupts))).toMatchObject({
      reason: "victim runs with interrupts off; a process cannot",
    });
    const backing = { ...scenarioWith({}).backing, cache: "never" } as const;
    expect(supports(scenarioWith({ backing }))).toMatchObject({
      reason: "the file itself is mapped: no client of a file server holds its attributes",
    });
    expect(supports(scenarioWith({ backing: { ...backing, mount: { faults: [] } } }))).toEqual({
      kind: "yes",
    });
    expect(supports(scenarioWith({ layout: "virtio-fs" }))).toMatchObject({
      reason: "layout virtio-fs is about a guest's page cache; a process maps the file itself",
    });
    expect(supports(scenarioWith({ needs: ["KVM_CAP_MCE"] }))).toMatchObject({
      reason: "needs KVM_CAP_MCE; this engine has no KVM",
    });
  });
});
