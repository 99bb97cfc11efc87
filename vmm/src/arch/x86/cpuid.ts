/** CPUID: what KVM offers a guest (KVM_GET_SUPPORTED_CPUID), and the vendor that a guest takes its processor for. */
import { ioctlStruct, type Kvm } from "../../kvm/device.ts";
import { KVM_CPUID_FEATURES, type KvmFeature, kvmFeatureBit, x86SizeOf } from "./abi.ts";

/** Vendors by CPUID leaf 0: EBX, EDX, ECX spell "GenuineIntel" and "AuthenticAMD". */
export const cpuVendors = {
  intel: { ebx: 0x756e6547, edx: 0x49656e69, ecx: 0x6c65746e },
  amd: { ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 },
} as const;
export type CpuVendor = keyof typeof cpuVendors;

/** Most entries KVM has been seen to return is below 100; the call fails with E2BIG if this were too few. */
const MAX_CPUID_ENTRIES = 256;

export type CpuidEntry = {
  readonly leaf: number;
  readonly index: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
};

/** Leaf 0 and, where it is there, 0x80000000, which repeats it. */
export function setVendor(cpuid: DataView, { ebx, ecx, edx }: (typeof cpuVendors)[CpuVendor]): void {
  for (let i = 0; i < Math.min(cpuid.getUint32(0, true), MAX_CPUID_ENTRIES); i++) {
    const offset = x86SizeOf.kvm_cpuid2 + i * x86SizeOf.kvm_cpuid_entry2;
    const leaf = cpuid.getUint32(offset, true);
    if (leaf !== 0 && leaf !== 0x80000000) continue;
    for (const [word, value] of [
      [4, ebx],
      [5, ecx],
      [6, edx],
    ] as const) {
      cpuid.setUint32(offset + 4 * word, value, true);
    }
  }
}

/** AMD's overflow recovery and SUCCOR: machine checks that a guest can recover from. */
const OVERFLOW_RECOVERY_SUCCOR = 3;

/** Leaf 0x80000007, which KVM_GET_SUPPORTED_CPUID leaves to the VMM. */
export function offerMachineCheckRecovery(cpuid: DataView): void {
  for (let i = 0; i < Math.min(cpuid.getUint32(0, true), MAX_CPUID_ENTRIES); i++) {
    const offset = x86SizeOf.kvm_cpuid2 + i * x86SizeOf.kvm_cpuid_entry2;
    if (cpuid.getUint32(offset, true) !== 0x80000007) continue;
    const ebx = offset + 4 * 4;
    cpuid.setUint32(ebx, cpuid.getUint32(ebx, true) | OVERFLOW_RECOVERY_SUCCOR, true);
  }
}

/** `struct kvm_cpuid2` of all that KVM supports. Throws a SyscallError. */
export function supportedCpuidBuffer(kvm: Kvm): DataView {
  const buffer = new DataView(
    new ArrayBuffer(x86SizeOf.kvm_cpuid2 + MAX_CPUID_ENTRIES * x86SizeOf.kvm_cpuid_entry2),
  );
  buffer.setUint32(0, MAX_CPUID_ENTRIES, true);
  ioctlStruct(kvm.fd, "KVM_GET_SUPPORTED_CPUID", buffer);
  return buffer;
}

/** The CPUID entries that this KVM supports (KVM_GET_SUPPORTED_CPUID). */
export function supportedCpuid(kvm: Kvm): CpuidEntry[] {
  const buffer = supportedCpuidBuffer(kvm);
  const count = Math.min(buffer.getUint32(0, true), MAX_CPUID_ENTRIES);
  return Array.from({ length: count }, (_, i) => {
    // struct kvm_cpuid_entry2: function, index, flags, eax, ebx, ecx, edx, padding[3].
    const offset = x86SizeOf.kvm_cpuid2 + i * x86SizeOf.kvm_cpuid_entry2;
    const word = (n: number) => buffer.getUint32(offset + 4 * n, true);
    return { leaf: word(0), index: word(1), eax: word(3), ebx: word(4), ecx: word(5), edx: word(6) };
  });
}

export type CpuFeatures = {
  readonly x2apic: boolean;
  readonly xsave: boolean;
  readonly avx: boolean;
  readonly avx512: boolean;
  readonly cmpxchg16b: boolean;
  /** Of KVM's own: page-ready by interrupt is what a guest needs to use async page faults since Linux 5.9. */
  readonly kvm: Readonly<Record<KvmFeature, boolean>>;
  /** SVM or VMX for the guest: it can run guests of its own. */
  readonly virtualization: boolean;
};

function kvmFeatures(eax = 0): Readonly<Record<KvmFeature, boolean>> {
  const has = (name: KvmFeature): boolean => (eax & (1 << kvmFeatureBit[name])) !== 0;
  return {
    KVM_FEATURE_ASYNC_PF: has("KVM_FEATURE_ASYNC_PF"),
    KVM_FEATURE_ASYNC_PF_VMEXIT: has("KVM_FEATURE_ASYNC_PF_VMEXIT"),
    KVM_FEATURE_ASYNC_PF_INT: has("KVM_FEATURE_ASYNC_PF_INT"),
    KVM_FEATURE_ASYNC_PF_ERROR: has("KVM_FEATURE_ASYNC_PF_ERROR"),
    KVM_FEATURE_VE_INFO: has("KVM_FEATURE_VE_INFO"),
  };
}

/** Feature bits that decide which accesses and which guests are possible. */
export function cpuFeatures(entries: readonly CpuidEntry[]): CpuFeatures {
  const find = (leaf: number) => entries.find((entry) => entry.leaf === leaf && entry.index === 0);
  const bit = (word: number | undefined, n: number) => ((word ?? 0) & (1 << n)) !== 0;
  const leaf1 = find(1);
  return {
    x2apic: bit(leaf1?.ecx, 21),
    xsave: bit(leaf1?.ecx, 26),
    avx: bit(leaf1?.ecx, 28),
    avx512: bit(find(7)?.ebx, 16),
    cmpxchg16b: bit(leaf1?.ecx, 13),
    kvm: kvmFeatures(find(KVM_CPUID_FEATURES)?.eax),
    virtualization: bit(leaf1?.ecx, 5) || bit(find(0x80000001)?.ecx, 2),
  };
}
