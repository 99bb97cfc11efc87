/** The texts are those of Linux 6.12. */
import { describe, expect, it } from "vitest";
import { hostAddresses, threadEvents } from "../../src/diagnose/page-events.ts";

const line = (text: string, thread = 165): string =>
  `        node-${thread}     [000] .N.1.    44.541668: ${text}`;
const fault = line("kvm_page_fault: vcpu 1 rip 0x43899 address 0x0000000040001008 error_code 0x100000004");
const asked = line("kvm_try_async_get_page: gva = 0x40001008, gfn = 0x40001");
const ready = line("kvm_async_pf_ready: token 0x0 gva 0x40001008");
const mapped = (gfn: string, level: number, spte: string): string =>
  line(
    `kvm_tdp_mmu_spte_changed: as id 0 gfn ${gfn} level ${level} old_spte 8000000000000000 new_spte ${spte}`,
  );

const pagesOf = (lines: readonly string[], isOwn = (_: bigint): boolean => true) =>
  threadEvents(lines.join("\n"))
    .get(165)
    ?.events(new Map([[0x40001000n, [0x1000n, 0x2000n]]]), isOwn);

describe("what a vCPU's thread tells of a page", () => {
  it("is counted, with its host address in this process", () => {
    const other = line("kvm_try_async_get_page: gva = 0x40001008, gfn = 0x40001", 166);
    expect(pagesOf(["# tracer: nop", fault, asked, ready, other, fault], (hva) => hva === 0x2000n)).toEqual({
      vcpu: 1,
      failures: {},
      pages: [
        {
          gpa: 0x40001000n,
          faults: 2,
          deviceFaults: 0,
          rip: 0x43899n,
          asked: 1,
          repeated: 0,
          ready: 1,
          fixed: 0,
          hva: 0x2000n,
        },
      ],
    });
  });

  it("counts how often it was mapped, by itself or with a large page; a table, and what was taken away, map nothing", () => {
    const fixed = (...lines: readonly string[]) =>
      pagesOf([fault, ...lines])?.pages.map((page) => page.fixed);
    expect(fixed(mapped("40001", 1, "a422825"), mapped("40001", 1, "a422825"))).toEqual([2]);
    expect(fixed(mapped("40000", 2, "5e898a7"))).toEqual([1]);
    expect(fixed(mapped("40200", 2, "5e898a7"))).toEqual([0]);
    expect(fixed(mapped("40000", 2, "5e89827"), mapped("40001", 1, "8000000000000000"))).toEqual([0]);
    // Nobody has asked for it.
    expect(pagesOf([mapped("40001", 1, "a422825")])?.pages).toEqual([]);
  });

  it("is nothing where the line is none that is known", () => {
    expect(threadEvents("garbage\n# comment\n").size).toBe(0);
    expect(hostAddresses("garbage").size).toBe(0);
  });
});
