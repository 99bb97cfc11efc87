import { describe, expect, it } from "vitest";
import type { Parts } from "../../../language/src/index.ts";
import { caseOf, guestModel, type ModelEvent } from "../../src/index.ts";
import { NO_TOKEN, type Token } from "../../src/model/fields.ts";
import { Machine } from "../../src/model/machine.ts";
import type { Page } from "../../src/model/page.ts";
import type { Task } from "../../src/model/task.ts";
import type { Vcpu } from "../../src/model/vcpu.ts";
import type { Work } from "../../src/model/work.ts";

const stock: Parts = {
  kvm: "uniform-efault",
  exits: "kvm",
  vmm: "stop",
  guest: "apf",
  server: "none",
  lapic: "kernel",
};

type Parts4 = { m: Machine; vcpu: Vcpu; page: Page; task: Task; work: Work };

/** The last of each kind, so that an index that is left out is noticed. */
function machine(): Parts4 & { state: Uint8Array; print: () => string } {
  const { ctx } = guestModel(caseOf("two-vcpus", stock, { pages: ["resident", "on-disk"] }));
  const state = new Uint8Array(ctx.layout.stateBytes);
  const m = new Machine(ctx).bind(state);
  const [vcpu, page, task, work] = [m.vcpus.at(-1), m.pages.at(-1), m.tasks.at(-1), m.works.at(-1)];
  if (vcpu === undefined || page === undefined || task === undefined || work === undefined)
    throw new Error("a machine has one of each");
  return { m, vcpu, page, task, work, state, print: () => ctx.layout.print(state) };
}

describe("a view writes the bytes of its field, and no others", () => {
  it.each<[string, (parts: Parts4) => void]>([
    ["vcpu.at=0,6", ({ vcpu }) => vcpu.goTo("sync")],
    ["vcpu.page=0,1", ({ vcpu, page }) => Object.assign(vcpu, { faultingPage: page })],
    ["vcpu.task=0,255", ({ vcpu }) => Object.assign(vcpu, { task: null })],
    ["vcpu.pfn=0,3", ({ vcpu }) => Object.assign(vcpu, { pfn: "anonymous" })],
    ["vcpu.event=0,3", ({ vcpu }) => Object.assign(vcpu, { event: "#VE" })],
    ["vcpu.KVM_REQ_APF_READY=0,1", ({ vcpu }) => Object.assign(vcpu, { hasReadyRequest: true })],
    ["vcpu.apf.gfns=0,0,0,1", ({ vcpu, page }) => vcpu.addAsyncGfn(page)],
    ["vcpu.apf.error_gfn=0,0,0,2", ({ vcpu, page }) => vcpu.setErrorGfn(page)],
    ["page.cache=0,2", ({ page }) => Object.assign(page, { cache: "failed" })],
    ["page.vma=0,3", ({ page }) => Object.assign(page, { vma: "poisoned" })],
    ["page.ept=0,2", ({ page }) => Object.assign(page, { ept: "freed" })],
    ["task.state=0,1", ({ task }) => Object.assign(task, { state: "sleeping" })],
    ["task.token=0,3", ({ task }) => Object.assign(task, { token: 3 as Token })],
    ["task.step=0,1 task.state=0,2 task.saw=0,6", ({ task }) => task.advance("efault")],
    ["task.begun=0,1", ({ task }) => task.begin()],
    ["task.state=0,3", ({ task }) => task.die()],
    ["task.state=0,3 task.saw=0,7", ({ task }) => [task.begin(), task.die()]],
    ["marks=130", ({ m }) => ["silent-data", "met-lost-page"].map((mark) => m.mark(mark as "imprecise"))],
    ["guest.kernel=2", ({ m }) => Object.assign(m, { kernel: "panic" })],
    ["host.substep=8", ({ m }) => Object.assign(m, { hostSubstep: "again-end" })],
    ["kill.pending=2", ({ m, task }) => Object.assign(m, { pendingKill: task })],
    [
      "work.state=0,0,0,1 work.vcpu=0,0,0,1 work.page=0,0,0,1 work.task=0,0,0,1 work.token=0,0,0,5 work.notpresent_injected=0,0,0,1",
      ({ work, vcpu, page, task }) =>
        work.queue({ vcpu, page, task, token: 5 as Token, isInjected: true, isOfL2: false }),
    ],
  ])("%s", (printed, write) => {
    const parts = machine();
    write(parts);
    expect(parts.print()).toBe(printed);
  });
});

describe("a machine", () => {
  it("reads and writes the state that it is bound to", () => {
    const { m, vcpu, state } = machine();
    vcpu.goTo("halted");
    const other = new Uint8Array(state.length);
    m.bind(other);
    expect(vcpu.place).toBe("guest");
    vcpu.goTo("map");
    expect(m.bind(state).vcpus[1]?.place).toBe("halted");
  });

  it("gives an entry's fault back, and forgets it when the entry is freed", () => {
    const { work, vcpu, page, task, state } = machine();
    work.queue({ vcpu, page, task: null, token: 2 as Token, isInjected: false, isOfL2: false });
    expect([work.page, work.task, work.isOf(vcpu), work.token]).toEqual([page, null, true, 2]);
    work.free();
    expect(work.token).toBe(NO_TOKEN);
    expect(state.every((byte) => byte === 0)).toBe(true);
    expect(task.currentStep).toEqual({ op: "store", page: 0 });
  });

  it("makes no text where no one listens", () => {
    const { m, vcpu, page, state } = machine();
    expect(m.log).toBeNull();
    m.trace("kvm_page_fault", vcpu, page);
    const events: ModelEvent[] = [];
    m.bind(state, (event) => events.push(event)).trace("kvm_page_fault", vcpu, page);
    m.log?.("fault", "kvm", "host", "looks");
    expect(events.map(({ detail }) => detail)).toEqual(["kvm_page_fault vcpu 1 page 1", "looks"]);
  });

  it("knows each check but those that a mutation takes out", () => {
    const { ctx } = guestModel(caseOf("load", stock, { without: ["stale-check"] }));
    const m = new Machine(ctx);
    expect([m.checks("stale-check"), m.checks("lapic-test")]).toEqual([false, true]);
  });
});
