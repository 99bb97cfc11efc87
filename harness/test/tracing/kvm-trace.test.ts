import { describe, expect, it } from "vitest";
import { parseTraceLine, TraceError } from "../../src/tracing/kvm-trace.ts";

/** As Linux 6.1 and 7.2 wrote them. */
const fault =
  "node-128     [001] ...1.    27.510883: kvm_page_fault: vcpu 1 rip 0x43899 address 0x0000000040001000 error_code 0x100000004";

const spte = (level: number, before: string, after: string): string =>
  `node-128 [000] ...1. 27.5: kvm_tdp_mmu_spte_changed: as id 0 gfn 40001 level ${level} old_spte ${before} new_spte ${after}`;

describe("a line of tracefs", () => {
  it("is a fault with its vCPU and its address", () => {
    expect(parseTraceLine(fault)).toEqual({
      kind: "kvm_page_fault",
      thread: 128,
      isKworker: false,
      vcpu: 1,
      gpa: 0x4000_1000n,
      isPresent: false,
    });
    expect(parseTraceLine(fault.replace("0x100000004", "0x7"))).toMatchObject({ isPresent: true });
  });

  it("is of a task whose name has blanks, dashes and slashes", () => {
    const line = fault.replace("node-128", "CPU 0/KVM-128");
    expect(parseTraceLine(line)).toMatchObject({ thread: 128, isKworker: false });
    const worker =
      "kworker/u4:0-20-166 [000] .l...    59.240859: kvm_async_pf_completed: gva 0x40300000 address 0x7f6950b00000";
    expect(parseTraceLine(worker)).toMatchObject({ thread: 166, isKworker: true, gpa: 0x4030_0000n });
  });

  it("has the vCPU of an async page fault in its token", () => {
    const line = "node-1 [000] ..... 1.5: kvm_async_pf_not_present: token 0x24001 gva 0x40300000";
    expect(parseTraceLine(line)).toMatchObject({ kind: "kvm_async_pf_not_present", vcpu: 1 });
    expect(parseTraceLine(line.replace("not_present", "ready"))).toMatchObject({
      kind: "kvm_async_pf_ready",
    });
    const asked = "node-1 [000] ..... 1.5: kvm_try_async_get_page: gva = 0x40001000, gfn = 0x40001";
    expect(parseTraceLine(asked)).toMatchObject({ kind: "kvm_try_async_get_page", gpa: 0x4000_1000n });
  });

  it("tells a mapped page, a page table and neither apart", () => {
    expect(parseTraceLine(spte(1, "0", "c06a825"))).toMatchObject({ before: "absent", after: "page" });
    // A removed entry has bits, but not that of a present one.
    expect(parseTraceLine(spte(1, "e242e67", "5a0"))).toMatchObject({ before: "page", after: "absent" });
    expect(parseTraceLine(spte(1, "e242e67", "8000000000000000"))).toMatchObject({ after: "absent" });
    expect(parseTraceLine(spte(2, "0", "5fad6827"))).toMatchObject({ after: "table", gpa: 0x4000_1000n });
    expect(parseTraceLine(spte(2, "0", "5fa008a7"))).toMatchObject({ after: "page", level: 2 });
  });

  it("is an exit with its reason, or with the error of KVM_RUN", () => {
    const exit = (text: string): string => `node-1 [000] ..... 1.5: kvm_userspace_exit: reason ${text}`;
    expect(parseTraceLine(exit("error (14)"))).toMatchObject({ errno: 14 });
    expect(parseTraceLine(exit("KVM_EXIT_MMIO (6)"))).toMatchObject({ errno: null, reason: "KVM_EXIT_MMIO" });
  });

  it("is refused if it is none, with the line", () => {
    for (const line of [
      "# tracer: nop",
      "node-1 [000] ..... 1.5: kvm_fpu: load",
      "node-1 [000] ..... 1.5: kvm_page_fault: rip 0x1",
      "node-1 [000] ..... 1.5: kvm_page_fault: vcpu 1e21 rip 0x1 address 0x2 error_code 0x4",
      "node-1 [000] ..... 1.5: kvm_userspace_exit: reason",
    ]) {
      expect(() => parseTraceLine(line)).toThrow(TraceError);
      expect(() => parseTraceLine(line)).toThrow(line);
    }
    expect(() => parseTraceLine("")).toThrow(TraceError);
  });
});
