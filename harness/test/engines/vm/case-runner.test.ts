/** What a case sends of the guest's results, and when: with a guest that does nothing by itself. */
import { describe, expect, it } from "vitest";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { Channel, channelLayout, monotonicMs } from "../../../../vmm/src/index.ts";
import { type CaseHandlers, CaseRunner } from "../../../src/engines/vm/case-runner.ts";
import type { FromVm } from "../../../src/engines/vm/messages.ts";
import { commonPlan } from "../../../src/engines/vm/plan.ts";

const DONE = 2;

function started() {
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
  let exit = (): void => {};
  const exited = new Promise<void>((resolve) => {
    exit = resolve;
  });
  const runner = new CaseRunner(
    commonPlan(scenarioWith({}), proposalOf("apf-guest"), place),
    {
      channel: new Channel(memory),
      cpus: 1,
      capabilities: () => ({}),
      start(given) {
        handlers = given;
        return { resume() {}, stop: exit, lookAtThreads: () => [], final: () => null, exited };
      },
    },
    (message) => sent.push(message),
    null,
  );
  const over = runner.run();
  return {
    runner,
    sent,
    results: () => handlers.results?.(),
    finish(step: number) {
      const { offsetofReports, offsetofReportResults, sizeofResult } = channelLayout;
      words.setUint32(offsetofReports + offsetofReportResults + step * sizeofResult, DONE, true);
    },
    end: () => {
      exit();
      return over;
    },
  };
}

describe("a task that is about to change the file", () => {
  it("waits until what it has seen was sent and taken, and no longer", async () => {
    const { runner, sent, results, finish, end } = started();
    finish(0);
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
