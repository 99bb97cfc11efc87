/** A path of a case without a VM says nothing of a VM. */
import { describe, expect, it } from "vitest";
import {
  guestModel,
  type Model,
  parseToken,
  randomScheduler,
  replay,
  runSchedule,
  textDiagram,
} from "../../../../kvm-model/src/index.ts";
import { proposalOf } from "../../../../language/test/support/cases.ts";
import { openCatalogue } from "../../../src/cli/selection.ts";
import { allowedEnds } from "../../../src/engines/model/allowed.ts";
import { modelRun } from "../../../src/engines/model/engine.ts";
import { asOfProcess } from "../../../src/engines/model/process-words.ts";
import { hardware, translate } from "../../../src/engines/model/translate.ts";

const native = proposalOf("native");
const scenarios = openCatalogue({}).scenarios.map(({ scenario }) => scenario);

/** Of a VM, in whatever words. */
const ofVm = /\b(kvm|vcpu\d*|vmm?|guest|nmi|l2|token|apf|mmu\w*|ept)\b|#PF|halt|exit|invalidate|inject/i;

function modelsOf(interference: boolean): readonly (readonly [id: string, model: Model])[] {
  return scenarios.flatMap((scenario) => {
    const translation = translate(scenario, native, { backend: hardware, timer: true });
    if (translation.kind === "no") return [];
    return [[scenario.id, guestModel({ ...translation.case, interference }).model] as const];
  });
}

const SCHEDULES = 12;
const STEPS_MAX = 150;

describe("a path of a case without a VM", () => {
  it("says nothing of a VM, whatever is done in whichever order", () => {
    const said = new Set<string>();
    for (const [id, model] of [...modelsOf(false), ...modelsOf(true)]) {
      for (let seed = 1; seed <= SCHEDULES; seed += 1) {
        const { steps } = asOfProcess(runSchedule(model, randomScheduler(seed, STEPS_MAX)).steps);
        for (const line of textDiagram(steps).split("\n")) if (ofVm.test(line)) said.add(`${id}: ${line}`);
      }
    }
    expect([...said]).toEqual([]);
  });

  it("tells of the access, the truncation and the signal", () => {
    const scenario = scenarios.find(({ id }) => id === "load-after-truncate");
    if (scenario === undefined) throw new Error("no such scenario");
    const allowed = allowedEnds(scenario, native, hardware);
    const translation = translate(scenario, native, { backend: hardware, timer: true });
    if (allowed.kind !== "ends" || translation.kind !== "yes") throw new Error("not for the model");
    const { model } = guestModel(translation.case);
    const { steps } = asOfProcess(replay(model, parseToken(allowed.ends[0]?.token ?? "")).steps);
    const told = steps.flatMap(({ events }) =>
      events.map(({ from, to, detail }) => `${from} > ${to}: ${detail}`),
    );
    expect(told).toEqual([
      "process > process: cpu0 runs victim",
      "process > kernel: victim: load of page 0 faults",
      "kernel > kernel: looks up page 0: there",
      "kernel > process: maps page 0",
      "process > process: victim: load of page 0 sees the value",
      "process > process: victim signals touched",
      "host > host: has waited for touched",
      "host > host: truncate to 0 pages",
      "host > host: i_size = 0 pages",
      "host > process: zaps the page tables",
      "host > host: page cache from page 0 on dropped",
      "host > process: zaps them once more",
      "host > host: truncate returns",
      "host > host: signals cut",
      "process > process: victim has waited for cut",
      "process > kernel: victim: load of page 0 faults",
      "kernel > kernel: looks up page 0: VM_FAULT_SIGBUS, the file has no such page",
      "kernel > process: SIGBUS BUS_ADRERR to victim",
    ]);
  });

  it("goes round from the same step", () => {
    const [, model] = modelsOf(false)[0] ?? [];
    if (model === undefined) throw new Error("no model");
    const { steps } = runSchedule(model, randomScheduler(1, STEPS_MAX));
    for (let at = 0; at < steps.length; at += 1) {
      const whole = asOfProcess(steps, at);
      expect(whole.steps.slice(whole.cycleAt ?? 0)).toEqual(asOfProcess(steps.slice(at)).steps);
    }
  });

  it("is in the same words in the model's evidence", () => {
    const scenario = scenarios.find(({ id }) => id === "load-after-truncate");
    if (scenario === undefined) throw new Error("no such scenario");
    const result = modelRun(scenario, native);
    if (result.kind !== "evidence") throw new Error(result.kind);
    const { trace, counts } = result.evidence;
    expect(trace.filter(({ actor, detail }) => ofVm.test(`${actor}: ${detail}`))).toEqual([]);
    expect([counts.exit, counts.inject, counts.sigbus]).toEqual([undefined, undefined, 1]);
  });
});
