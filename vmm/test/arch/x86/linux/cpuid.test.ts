import { describe, expect, it } from "vitest";
import { x86SizeOf } from "../../../../src/arch/x86/abi.ts";
import { type KvmExtras, type LinuxCpu, makeLinuxCpuid } from "../../../../src/arch/x86/linux/cpuid.ts";

type Row = { leaf: number; index?: number; eax?: number; ebx?: number; ecx?: number; edx?: number };

const plain: LinuxCpu = { cpus: 2, asyncPageFaults: "offered", machineCheckRecovery: "offered" };
const supported: readonly Row[] = [
  { leaf: 0, eax: 0xd, ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 },
  { leaf: 1, ebx: 0x07080800, ecx: 1, edx: 0x0183fbff },
  { leaf: 0xb, index: 0, edx: 7 },
  { leaf: 0xb, index: 1, edx: 7 },
  { leaf: 0x40000001, eax: 0x01007efb },
  { leaf: 0x80000000, eax: 0x8000001f, ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 },
  { leaf: 0x80000007, ebx: 0 },
  { leaf: 0x80000008, ecx: 0x3007 },
  { leaf: 0x8000001e, eax: 7 },
];

function made(
  apicId: number,
  cpu: LinuxCpu,
  rows = supported,
  extras: KvmExtras = { tscDeadline: false },
): (leaf: number, index?: number) => Required<Row> {
  const at = (i: number) => x86SizeOf.kvm_cpuid2 + i * x86SizeOf.kvm_cpuid_entry2;
  const view = new DataView(new ArrayBuffer(at(rows.length)));
  view.setUint32(0, rows.length, true);
  for (const [i, row] of rows.entries()) {
    const words = [row.leaf, row.index ?? 0, 0, row.eax ?? 0, row.ebx ?? 0, row.ecx ?? 0, row.edx ?? 0];
    for (const [n, word] of words.entries()) view.setUint32(at(i) + 4 * n, word, true);
  }
  makeLinuxCpuid(view, apicId, cpu, extras);
  return (leaf, index = 0) => {
    const i = rows.findIndex((row) => row.leaf === leaf && (row.index ?? 0) === index);
    const word = (n: number) => view.getUint32(at(i) + 4 * n, true);
    return { leaf, index, eax: word(3), ebx: word(4), ecx: word(5), edx: word(6) };
  };
}

describe("makeLinuxCpuid", () => {
  it("gives each vCPU its APIC id wherever Linux looks", () => {
    const cpuid = made(1, plain);
    expect(cpuid(1).ebx).toBe(0x01020800);
    expect(cpuid(0xb, 0).edx).toBe(1);
    expect(cpuid(0xb, 1).edx).toBe(1);
    expect(cpuid(0x8000001e).eax).toBe(1);
    expect(cpuid(0x80000008).ecx).toBe(0x3001);
  });

  it("sets the hypervisor bit, which KVM leaves to the VMM", () => {
    expect(made(0, plain)(1).ecx).toBe(0x80000001);
  });

  it("offers the TSC-deadline timer where KVM has it", () => {
    expect(made(0, plain, supported, { tscDeadline: true })(1).ecx).toBe(0x81000001);
  });

  it("offers async page faults, or hides every bit of them and nothing else", () => {
    expect(made(0, plain)(0x40000001).eax).toBe(0x01007efb);
    expect(made(0, { ...plain, asyncPageFaults: "hidden" })(0x40000001).eax).toBe(
      0x01007efb & ~((1 << 4) | (1 << 10) | (1 << 14)),
    );
  });

  it("offers or hides the recovery from machine checks", () => {
    expect(made(0, plain)(0x80000007).ebx).toBe(3);
    expect(made(0, { ...plain, machineCheckRecovery: "hidden" })(0x80000007).ebx).toBe(0);
  });

  it("shows SVM or VMX only to a guest that is to have guests of its own", () => {
    const rows = [
      { leaf: 1, ecx: 0x21 },
      { leaf: 0x80000001, ecx: 7 },
    ];
    const own = { ...plain, virtualization: "offered" } as const;
    expect(made(0, own, rows)(1).ecx).toBe(0x80000021 >>> 0);
    expect(made(0, own, rows)(0x80000001).ecx).toBe(7);
    for (const cpu of [plain, { ...plain, virtualization: "hidden" } as const]) {
      expect(made(0, cpu, rows)(1).ecx).toBe(0x80000001);
      expect(made(0, cpu, rows)(0x80000001).ecx).toBe(3);
    }
  });

  it("changes the vendor in both leaves", () => {
    const cpuid = made(0, { ...plain, vendor: "intel" });
    for (const leaf of [0, 0x80000000]) expect(cpuid(leaf).ebx).toBe(0x756e6547);
  });

  it("offers hypercalls only where the guest makes them with the processor's own instruction", () => {
    for (const cpu of [plain, { ...plain, vendor: "amd" } as const]) {
      expect(made(0, cpu)(0x40000001).eax).toBe(0x01007efb);
    }
    // PV_UNHALT, PV_SEND_IPI, PV_SCHED_YIELD.
    expect(made(0, { ...plain, vendor: "intel" })(0x40000001).eax).toBe(0x01007efb & ~0x2880);
  });

  it("says hyper-threading, which several vCPUs are to Linux, only for several", () => {
    expect((made(0, plain)(1).edx >>> 28) & 1).toBe(1);
    expect((made(0, { ...plain, cpus: 1 })(1).edx >>> 28) & 1).toBe(0);
  });
});
