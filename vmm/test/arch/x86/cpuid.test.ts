/** What of KVM's CPUID decides how a lost page can be reported. */
import { expect, it } from "vitest";
import { offerMachineCheckRecovery } from "../../../src/arch/x86/cpuid.ts";
import { cpuFeatures } from "../../../src/index.ts";

const entry = (eax: number) => ({ leaf: 0x40000001, index: 0, eax, ebx: 0, ecx: 0, edx: 0 });

it.each([
  // Linux 6.12: clock source, async page faults with #PF VM exits and page-ready by interrupt, and more.
  [0x01007efb, ["KVM_FEATURE_ASYNC_PF", "KVM_FEATURE_ASYNC_PF_VMEXIT", "KVM_FEATURE_ASYNC_PF_INT"]],
  [1 << 20, ["KVM_FEATURE_ASYNC_PF_ERROR"]],
  [1 << 21, ["KVM_FEATURE_VE_INFO"]],
  [0, []],
])("finds in EAX 0x%x of KVM_CPUID_FEATURES: %j", (eax, names) => {
  const { kvm } = cpuFeatures([entry(eax)]);
  const found = Object.entries(kvm).flatMap(([name, is]) => (is ? [name] : []));
  expect(found).toEqual(names);
});

it("takes what the leaf does not say for not offered", () => {
  expect(Object.values(cpuFeatures([]).kvm)).not.toContain(true);
});

it("offers recovery from machine checks in leaf 0x80000007, and touches no other", () => {
  // struct kvm_cpuid2 with two entries: function, index, flags, eax, ebx, ecx, edx, padding[3].
  const cpuid = new DataView(new ArrayBuffer(8 + 2 * 40));
  cpuid.setUint32(0, 2, true);
  cpuid.setUint32(8, 0x80000007, true);
  cpuid.setUint32(8 + 4 * 4, 0x100, true);
  cpuid.setUint32(48, 0x80000008, true);
  offerMachineCheckRecovery(cpuid);
  expect([cpuid.getUint32(8 + 4 * 4, true), cpuid.getUint32(48 + 4 * 4, true)]).toEqual([0x103, 0]);
});
