/**
 * What a Linux guest's CPUID says, made from what KVM supports (KVM_GET_SUPPORTED_CPUID): the vCPU's APIC id, the
 * hypervisor bit, and the features that decide what becomes of a lost page: async page faults, recovery from machine
 * checks, the vendor. Pure.
 */
import { KVM_CPUID_FEATURES, x86SizeOf } from "../abi.ts";
import { type CpuVendor, cpuVendors, setVendor } from "../cpuid.ts";

export type LinuxCpu = {
  readonly cpus: number;
  /** Left out: the real one. With another, Linux takes that vendor's rules for machine checks. */
  readonly vendor?: CpuVendor;
  /** KVM_FEATURE_ASYNC_PF and its relatives: Linux enables async page faults by itself where it sees them. */
  readonly asyncPageFaults: "offered" | "hidden";
  /**
   * AMD's overflow recovery and SUCCOR (leaf 0x80000007 EBX, bits 0 and 1), without which Linux panics at any uncorrected
   * error there (mce_severity_amd()).
   */
  readonly machineCheckRecovery: "offered" | "hidden";
  /** SVM or VMX, where KVM has it for a guest (module parameter `nested`): the guest's own KVM needs it. Left out: hidden. */
  readonly virtualization?: "offered" | "hidden";
};

const HYPERVISOR = 1 << 31;
const TSC_DEADLINE = 1 << 24;
const HYPER_THREADING = 1 << 28;
/** KVM_FEATURE_ASYNC_PF, _ASYNC_PF_VMEXIT, _ASYNC_PF_INT. */
const ASYNC_PF_BITS = (1 << 4) | (1 << 10) | (1 << 14);
/**
 * KVM_FEATURE_PV_UNHALT, _PV_SEND_IPI, _PV_SCHED_YIELD, _HC_MAP_GPA_RANGE: what Linux makes hypercalls for. It takes the instruction of the
 * vendor (X86_FEATURE_VMMCALL); at the other one KVM patches the kernel's text, which is read-only: an oops of the guest's.
 */
const HYPERCALL_BITS = (1 << 7) | (1 << 11) | (1 << 13) | (1 << 16);
const OVERFLOW_RECOVERY_SUCCOR = 3;
/** VMX and SVM, by leaf, in ECX. */
const virtualizationBits: ReadonlyMap<number, number> = new Map([
  [1, 1 << 5],
  [0x80000001, 1 << 2],
]);

const WORD = { leaf: 0, index: 1, eax: 3, ebx: 4, ecx: 5, edx: 6 } as const;
type Word = keyof typeof WORD;

type Entry = {
  get(word: Word): number;
  set(word: Word, value: number): void;
};

function entries(cpuid: DataView): readonly Entry[] {
  const room = Math.floor((cpuid.byteLength - x86SizeOf.kvm_cpuid2) / x86SizeOf.kvm_cpuid_entry2);
  return Array.from({ length: Math.min(cpuid.getUint32(0, true), room) }, (_, i) => {
    const at = x86SizeOf.kvm_cpuid2 + i * x86SizeOf.kvm_cpuid_entry2;
    return {
      get: (word) => cpuid.getUint32(at + 4 * WORD[word], true),
      set: (word, value) => cpuid.setUint32(at + 4 * WORD[word], value, true),
    };
  });
}

function setTopology(entry: Entry, apicId: number, cpus: number): void {
  switch (entry.get("leaf")) {
    case 1:
      entry.set("ebx", (entry.get("ebx") & 0xffff) | (cpus << 16) | (apicId << 24));
      entry.set("ecx", entry.get("ecx") | HYPERVISOR);
      if (cpus > 1) entry.set("edx", entry.get("edx") | HYPER_THREADING);
      return;
    case 0xb:
    case 0x1f:
      // The x2APIC id, in every subleaf.
      entry.set("edx", apicId);
      return;
    case 0x80000008:
      // NC: cores of the package, less one.
      entry.set("ecx", (entry.get("ecx") & ~0xff) | (cpus - 1));
      return;
    case 0x8000001e:
      entry.set("eax", apicId);
  }
}

/** What KVM can do that KVM_GET_SUPPORTED_CPUID leaves to the VMM. */
export type KvmExtras = {
  /**
   * KVM_CAP_TSC_DEADLINE_TIMER. Without it Linux measures the APIC's timer against another one, does not trust what it
   * finds under emulation ("APIC timer disabled due to verification failure"), and is left with the PIT.
   */
  readonly tscDeadline: boolean;
};

/** Without them Linux looks at no other leaf and no MSR of theirs. */
function hideVirtualization(entry: Entry): void {
  const bit = virtualizationBits.get(entry.get("leaf")) ?? 0;
  entry.set("ecx", entry.get("ecx") & ~bit);
}

/** The first word of the vendor's name; null: there is no leaf 0. */
function vendorOf(cpuid: DataView): number | null {
  return (
    entries(cpuid)
      .find((entry) => entry.get("leaf") === 0)
      ?.get("ebx") ?? null
  );
}

/** Changes a `struct kvm_cpuid2` of all that KVM supports into that of vCPU `apicId`. */
export function makeLinuxCpuid(
  cpuid: DataView,
  apicId: number,
  cpu: LinuxCpu,
  { tscDeadline }: KvmExtras,
): void {
  const isForeign = cpu.vendor !== undefined && vendorOf(cpuid) !== cpuVendors[cpu.vendor].ebx;
  if (cpu.vendor !== undefined) setVendor(cpuid, cpuVendors[cpu.vendor]);
  for (const entry of entries(cpuid)) {
    if (entry.get("leaf") === KVM_CPUID_FEATURES && isForeign) {
      entry.set("eax", entry.get("eax") & ~HYPERCALL_BITS);
    }
    setTopology(entry, apicId, cpu.cpus);
    if (cpu.virtualization !== "offered") hideVirtualization(entry);
    if (entry.get("leaf") === 1 && tscDeadline) entry.set("ecx", entry.get("ecx") | TSC_DEADLINE);
    if (entry.get("leaf") === 0x80000007) {
      const ebx = entry.get("ebx");
      const offered = cpu.machineCheckRecovery === "offered";
      entry.set("ebx", offered ? ebx | OVERFLOW_RECOVERY_SUCCOR : ebx & ~OVERFLOW_RECOVERY_SUCCOR);
    }
    if (entry.get("leaf") === KVM_CPUID_FEATURES && cpu.asyncPageFaults === "hidden") {
      entry.set("eax", entry.get("eax") & ~ASYNC_PF_BITS);
    }
  }
}
