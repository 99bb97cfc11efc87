/** The engine process on the real host: a child maps, touches, and dies as it should. */
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
} from "../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { processEngine } from "../../../src/engines/process/engine.ts";
import { supportOf, thisMachine } from "../../../src/machine.ts";
import { processesOf } from "../../../src/run/sweep.ts";
import { caseFolder, eventually } from "../../support/folders.ts";

const available = await processEngine.available();
const note = available.kind === "no" ? ` (skipped: ${available.reason})` : "";
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

async function run(scenario: Scenario, timeoutMs = 10_000, signal?: AbortSignal): Promise<RunResult> {
  const directory = caseFolder();
  const context = { directory, timeoutMs, signal: signal ?? new AbortController().signal, slowness: 1 };
  const result = await processEngine.run(scenario, native, context);
  expect(processesOf(directory)).toEqual([]);
  return result;
}

async function evidence(scenario: Scenario): Promise<Evidence> {
  const result = await run(scenario);
  if (result.kind !== "evidence") throw new Error(`${result.kind}: ${result.message}`);
  return result.evidence;
}

describe.skipIf(available.kind === "no")(`the process engine${note}`, () => {
  it.each([
    ["load", { verb: "load", offset: 0x1000n, size: 8 }, "load#2"],
    ["store", { verb: "store", offset: 0x1000n, size: 8, value: 5n }, "store#1"],
    ["atomic", { verb: "atomic", offset: 0x1000n, size: 4 }, "atomic#1"],
    ["copy-from", { verb: "copy-from", offset: 0x1000n, size: 24 }, "copy-from#1"],
    ["copy-to", { verb: "copy-to", offset: 0x1000n, size: 24, value: 5n }, "copy-to#1"],
  ] as const)("a %s behind the end of the file is SIGBUS, and ends the task", async (_verb, step, label) => {
    const { observations, counts } = await evidence(truncateTo(0n, step));
    const { victim = {} } = observations.accesses;
    expect(victim["load#1"]).toEqual({ kind: "value", value: 0xda0000001000n });
    expect(victim[label]).toEqual({ kind: "sigbus", code: "unobserved" });
    const last = Object.entries(victim).at(-1);
    expect(last?.[1]).toEqual({ kind: "not-reached" });
    expect(observations).toMatchObject({ vmm: null, guestKernel: null });
    expect(counts).toMatchObject({ map: 1, truncate: 1, sigbus: 1, signal: 2 });
  });

  it("zeros that a store wrote are the value that a load sees", async () => {
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

  it("in the last page: values before the end, zeros behind it", async () => {
    const before = await evidence(truncateTo(0x1800n, { verb: "load", offset: 0x1000n, size: 8 }));
    expect(before.observations.accesses.victim?.["load#2"]?.kind).toBe("value");
    const behind = await evidence(truncateTo(0x1800n, { verb: "load", offset: 0x1900n, size: 8 }));
    expect(behind.observations.accesses.victim?.["load#2"]).toEqual({ kind: "zero" });
  });

  it("stores and atomics that succeed reach the file", async () => {
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

  it("a window that maps the file elsewhere is followed", async () => {
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

  it("another process that counts gets on", async () => {
    const counter: Actor = { in: "guest-task", steps: [{ verb: "count" }] };
    const { observations } = await evidence(
      truncateTo(0n, { verb: "load", offset: 0x1000n, size: 8 }, { counter }),
    );
    expect(observations.bystanders).toEqual({ counter: "progress" });
    expect(observations.accesses.counter).toEqual({});
  });

  it("an access whose READ takes five seconds hangs, long before the time is over, and nothing is left of it", async () => {
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
  });

  it("a task that waits for ever is a time-out, not an observation", async () => {
    const { victim } = scenarioWith({}).actors;
    if (victim === undefined) throw new Error("no victim");
    const result = await run(scenarioWith({ actors: { victim } }), 6000);
    expect(result).toEqual({
      kind: "timeout",
      message: "not done after 5000 ms (waits for a signal?): victim",
    });
  });

  it("ends at once when the run is aborted", async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 300);
    const { victim } = scenarioWith({}).actors;
    if (victim === undefined) throw new Error("no victim");
    const startMs = performance.now();
    await run(scenarioWith({ actors: { victim } }), 20_000, abort.signal);
    expect(performance.now() - startMs).toBeLessThan(5000);
  });
});

describe("supports", () => {
  const supports = (scenario: Scenario, proposal = "native") =>
    processEngine.supports(scenario, proposalOf(proposal));
  const withVictim = (actor: Actor) => scenarioWith({ actors: { victim: actor } });

  it("says yes to a task that loads, no with a reason to everything with a VM", () => {
    expect(supports(scenarioWith({}))).toEqual({ kind: "yes" });
    expect(supports(scenarioWith({}), "apf-loop")).toMatchObject({ kind: "no" });
    expect(supports(withVictim({ in: "guest-kernel", steps: [] }))).toMatchObject({
      reason: "victim is a guest kernel; this engine has none",
    });
    expect(supports(withVictim({ in: "vmm", steps: [] }))).toMatchObject({ kind: "no" });
    expect(supports(withVictim({ in: "guest-task", steps: [{ verb: "fetch", offset: 0n }] }))).toMatchObject({
      reason: expect.stringContaining("executes code from the file"),
    });
    expect(supports(scenarioWith({ needs: ["KVM_CAP_MCE"] }))).toMatchObject({
      reason: "needs KVM_CAP_MCE; this engine has no KVM",
    });
  });
});

/** The pids of the folder's processes that run this entry point. */
function pidsOf(directory: string, entry: string): readonly number[] {
  return processesOf(directory).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(entry);
    } catch {
      return false;
    }
  });
}

const fuse = supportOf(thisMachine(), ["fuse"]);

describe.skipIf(available.kind === "no" || fuse.kind === "no")("a child that is ended from outside", () => {
  /** The victim loads a page whose READ takes five seconds. */
  const waiting = (): Scenario =>
    scenarioWith({
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

  it.each([
    ["mapper-main", "process of victim: killed by SIGKILL"],
    ["serve-main", "file server: killed by SIGKILL"],
  ])("%s: is no observation, and named", async (entry, message) => {
    const directory = caseFolder();
    const { signal } = new AbortController();
    const context = { directory, timeoutMs: 15_000, signal, slowness: 1, onEvent: () => (mapped = true) };
    let mapped = false;
    const running = processEngine.run(waiting(), native, context);
    expect(await eventually(() => mapped, 10_000)).toBe(true);
    // It is under way by then, or about to be.
    await sleep(500);
    const [pid] = pidsOf(directory, entry);
    if (pid === undefined) throw new Error(`no process of ${entry}: ${JSON.stringify(await running)}`);
    process.kill(pid, "SIGKILL");
    expect(await running).toEqual({ kind: "engine-error", message });
  });
});
