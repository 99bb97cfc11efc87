import { describe, expect, it } from "vitest";
import { caseOf, collectFacts, guestModel } from "../../src/index.ts";
import { GFNS_PER_VCPU, gfnSlot } from "../../src/model/gfn-hash.ts";

describe("hash_32(gfn & 0xffffffff, 6)", () => {
  // GOLDEN_RATIO_32 is 0x61C88647; the slot is the upper six of 32 bits of the product.
  it.each([
    [0n, 0],
    [1n, 24],
    [2n, 48],
    [3n, 9],
    [0x40006n, 24],
    [0x40028n, 24],
    [0xffffffffn, 39],
    [0x1_0000_0003n, 9],
  ])("of gfn %s is %i", (gfn, slot) => {
    expect(gfnSlot(gfn)).toBe(slot);
  });

  it("agrees with the product, computed in 64 bits", () => {
    for (let gfn = 0x40000n; gfn < 0x41000n; gfn++) {
      const product = BigInt.asUintN(32, gfn * 0x61c88647n);
      expect(gfnSlot(gfn)).toBe(Number(product >> 26n));
    }
  });

  it("puts some of the first 64 pages of a window into one slot", () => {
    const slots = Array.from({ length: GFNS_PER_VCPU }, (_, page) => gfnSlot(0x40000n + BigInt(page)));
    expect(new Set(slots).size).toBe(54);
  });
});

describe("Goyal's hash of gfns that failed", () => {
  const parts = {
    kvm: "uniform-efault",
    exits: "kvm",
    vmm: "stop",
    guest: "apf",
    server: "none",
    lapic: "kernel",
  } as const;
  it.each([
    ["one slot", [0x40006n, 0x40028n], true],
    ["two slots", [0x40006n, 0x40007n], false],
    ["two slots whose page numbers agree modulo 64", [0x40006n, 0x40046n], false],
  ] as const)("two victims whose gfns have %s", (_what, gfns, loops) => {
    const { facts } = collectFacts(guestModel(caseOf("two-victims", parts, { gfns })));
    expect(facts.found.livelock !== null).toBe(loops);
  });
});
