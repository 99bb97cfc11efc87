/** What a case sends of the guest's results, and when: with a guest that does nothing by itself. */
import { describe, expect, it } from "vitest";
import type { VmmStep } from "../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import type { ThreadLook } from "../../../../sys/src/index.ts";
import { Channel, channelLayout, monotonicMs } from "../../../../vmm/src/index.ts";
import { type CaseHandlers, CaseRunner } from "../../../src/engines/vm/case-runner.ts";
import type { FromVm } from "../../../src/engines/vm/messages.ts";
import { commonPlan } from "../../../src/engines/vm/plan.ts";

const STARTED = 1;
const DONE = 2;

/** @param looks at the thread of the vCPU; none: the kernel keeps no figures */
function started(looks: () => readonly (ThreadLook | null)[] = () => [], vmmSteps: readonly VmmStep[] = []) {
  const memory = new Uint8Array(channelLayout.sizeofChannel);
  const words = new DataView(memory.buffer);
  const place = {
    filePath: "/f/file",
    sourceDirectory: "/f",
    lifeMs: 60_000,
    slowness: 1,
    ioPatienceMs: 1000,
    latestEndMs: monotonicMs() + 60_000,
    leaseSocket: null,
  };
  const sent: FromVm[] = [];
  let handlers: CaseHandlers = {};
  const acted: string[] = [];
  const scenario = scenarioWith({});
  const vmm = { in: "vmm", steps: vmmSteps } as const;
  let exit = (): void => {};
  const exited = new Promise<void>((resolve) => {
    exit = resolve;
  });
  const runner = new CaseRunner(
    commonPlan({ ...scenario, actors: { ...scenario.actors, vmm } }, proposalOf("apf-guest"), place),
    {
      channel: new Channel(memory),
      cpus: 1,
      capabilities: () => ({}),
      act: ({ verb }) => acted.push(verb),
      start(given) {
        handlers = given;
        return { resume() {}, stop: exit, lookAtThreads: looks, final: () => null, exited };
      },
    },
    (message) => sent.push(message),
    null,
  );
  const over = runner.run();
  return {
    runner,
    sent,
    acted,
    signal: (number: number) =>
      handlers.signal?.({ type: "signal", cpu: 0, number, task: 0, asyncPageFaultMsr: 0x100bn }),
    results: () => handlers.results?.(),
    oopsed: () => handlers.oopsed?.(),
    set(step: number, status: number) {
      const { offsetofReports, offsetofReportResults, sizeofResult } = channelLayout;
      words.setUint32(offsetofReports + offsetofReportResults + step * sizeofResult, status, true);
    },
    over,
    end: () => {
      exit();
      return over;
    },
  };
}

describe("a task that is about to change the file", () => {
  it("waits until what it has seen was sent and taken, and no longer", async () => {
    const { runner, sent, results, set, end } = started();
    set(0, DONE);
    const passed: string[] = [];
    const first = results()?.then(() => passed.push("first"));
    const second = results()?.then(() => passed.push("second"));
    expect(sent.map(({ type }) => type)).toEqual(["saw", "take", "take"]);
    await new Promise(setImmediate);
    expect(passed).toEqual([]);
    runner.taken();
    await first;
    expect(passed).toEqual(["first"]);
    runner.taken();
    await second;
    await end();
  });
});

describe("a VMM that is about to change its mapping", () => {
  it("waits until what the guest has seen was taken, and tells what would be lost with it", async () => {
    const { runner, sent, acted, signal, set, end } = started(undefined, [
      { verb: "await", name: "touched" },
      { verb: "discard", offset: 0x1000n, length: 0x1000n },
    ]);
    set(0, DONE);
    signal(0);
    await new Promise(setImmediate);
    expect(sent.filter(({ type }) => type !== "signal")).toEqual([
      expect.objectContaining({ type: "saw" }),
      { type: "take", asyncPageFaultMsr: 0x100bn },
    ]);
    expect(acted).toEqual([]);
    runner.taken();
    await new Promise(setImmediate);
    expect(acted).toEqual(["discard"]);
    await end();
  });
});

describe("a task whose kernel has oopsed", () => {
  /** One that sleeps, as if it were looked at every 20 ms. */
  function sleeping(): () => readonly ThreadLook[] {
    let atMs = 0;
    return () => {
      atMs += 20;
      return [{ beforeMs: atMs, afterMs: atMs, ranMs: 0, delayedMs: 0, isAsleep: true }];
    };
  }

  it("hangs where it does not end, and the case ends with it", async () => {
    const { set, oopsed, over } = started(sleeping());
    set(0, STARTED);
    oopsed();
    const report = await over;
    expect(report.outOfTime).toBe(false);
    expect(report.history).toEqual([]);
    expect(report.events.map(({ detail }) => detail)).toEqual([
      expect.stringMatching(/waits in the guest .*oopsed, and the task does not end/),
    ]);
  });
});
