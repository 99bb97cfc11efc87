/**
 * The model and the search that was written from the kernel's source alone allow the same outcomes, and no others; and
 * such a comparison notices a check that is missing.
 */
import { describe, expect, it } from "vitest";
import { type Case, cases } from "./cases.ts";
import { type Check, checks } from "./machine.ts";
import { modelled } from "./model.ts";
import { outcomes } from "./search.ts";

function found({ program, machine }: Case, without: Check | null): readonly string[] {
  return outcomes({ program, machine, without }).texts;
}

describe("the model and an independent search allow the same outcomes", () => {
  it.each(cases)("$name", (one) => {
    const texts = found(one, null);
    expect(texts).not.toEqual([]);
    expect(modelled(one)).toEqual(texts);
  });
});

/** The first case that notices. */
const noticedBy: Readonly<Record<Check, string>> = {
  lapic_in_kernel: "load after truncation: exits",
  kvm_arch_interrupt_allowed: "interrupts off: loops",
  kvm_hlt_in_guest: "load after truncation: HLT in guest",
  send_user_only: "CPL 0: apf",
  is_page_fault_stale: "loads during truncation: exits",
  kvm_mmu_unmap_gfn_range: "load after truncation: exits",
  "filemap_fault i_size": "load after truncation: exits",
  "async_pf.done in kvm_vcpu_has_events": "load after truncation: no timer",
  kvm_arch_can_dequeue_async_page_present: "two slow pages: apf",
  kvm_async_pf_task_wake: "load after truncation: apf",
};

describe("a search that lacks one check disagrees with the model", () => {
  it.each(checks)("%s", (check) => {
    const one = cases.find(({ name }) => name === noticedBy[check]);
    if (one === undefined) throw new Error(`no case is called ${noticedBy[check]}`);
    expect(found(one, check)).not.toEqual(modelled(one));
  });
});
