/** What of KVM's CPUID decides how a lost page can be reported. */
import { expect, it } from "vitest";
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
