/** A virtual machine: memslots, in-kernel interrupt controller, vCPUs. */
import { closeSync } from "node:fs";
import {
  capability,
  GUEST_MEMFD_FLAG_INIT_SHARED,
  GUEST_MEMFD_FLAG_MMAP,
  KVM_CPUID_FEATURES,
  KVM_FEATURE_ASYNC_PF_INT,
  KVM_X86_DISABLE_EXITS_HLT,
  sizeOf,
} from "./abi.ts";
import { ioctlStruct, ioctlWord, type Kvm } from "./device.ts";
import { Vcpu } from "./vcpu.ts";

export type Memslot = {
  readonly slot: number;
  readonly gpa: bigint;
  readonly sizeBytes: number;
  readonly hva: bigint;
};

/** Vendors by CPUID leaf 0: EBX, EDX, ECX spell "GenuineIntel" and "AuthenticAMD". */
export const cpuVendors = {
  intel: { ebx: 0x756e6547, edx: 0x49656e69, ecx: 0x6c65746e },
  amd: { ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 },
} as const;
export type CpuVendor = keyof typeof cpuVendors;

export type VmOptions = {
  /** What the guest takes its processor for; left out: what it is. Decides the form of machine checks, as with QEMU's -cpu. */
  readonly cpuVendor?: CpuVendor;
  /** KVM_CREATE_IRQCHIP: local APIC, IOAPIC and PIC in the kernel. Without it no async page fault is possible. */
  readonly lapicInKernel: boolean;
  /** KVM_CAP_X86_DISABLE_EXITS with HLT: the guest halts the physical CPU itself. */
  readonly hltInGuest: boolean;
};

/** Most entries KVM has been seen to return is below 100; the call says E2BIG if this were too few. */
const MAX_CPUID_ENTRIES = 256;
/** Three pages below 4 GiB that Intel VMX needs for real-mode tricks (api.rst, KVM_SET_TSS_ADDR); the usual place. */
const TSS_ADDRESS = 0xfffbd000n;

export type CpuidEntry = {
  readonly leaf: number;
  readonly index: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
};

export class Vm {
  readonly fd: number;
  readonly options: VmOptions;
  readonly #kvm: Kvm;
  readonly #slots: Memslot[] = [];

  private constructor(kvm: Kvm, fd: number, options: VmOptions) {
    this.#kvm = kvm;
    this.fd = fd;
    this.options = options;
  }

  /** Throws a SyscallError named after the ioctl that failed. */
  static create(kvm: Kvm, options: VmOptions): Vm {
    const vm = new Vm(kvm, ioctlWord(kvm.fd, "KVM_CREATE_VM"), options);
    ioctlWord(vm.fd, "KVM_SET_TSS_ADDR", TSS_ADDRESS);
    if (options.lapicInKernel) ioctlWord(vm.fd, "KVM_CREATE_IRQCHIP");
    if (options.hltInGuest)
      vm.#enableCapability(capability.KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT);
    return vm;
  }

  #enableCapability(number: number, argument: bigint): void {
    const enable = new DataView(new ArrayBuffer(sizeOf.kvm_enable_cap));
    enable.setUint32(0, number, true);
    enable.setBigUint64(8, argument, true);
    ioctlStruct(this.fd, "KVM_ENABLE_CAP", enable);
  }

  /** KVM_SET_USER_MEMORY_REGION. The memory behind `hva` may be remapped at will afterwards: KVM follows. */
  addMemslot(gpa: bigint, hva: bigint, sizeBytes: number): Memslot {
    const slot = { slot: this.#slots.length, gpa, sizeBytes, hva };
    const region = new DataView(new ArrayBuffer(sizeOf.kvm_userspace_memory_region));
    region.setUint32(0, slot.slot, true);
    region.setBigUint64(8, gpa, true);
    region.setBigUint64(16, BigInt(sizeBytes), true);
    region.setBigUint64(24, hva, true);
    ioctlStruct(this.fd, "KVM_SET_USER_MEMORY_REGION", region);
    this.#slots.push(slot);
    return slot;
  }

  /**
   * KVM_CREATE_GUEST_MEMFD: memory that the host may map as well (KVM_CAP_GUEST_MEMFD_FLAGS), whose size nobody can change
   * (ftruncate gives EINVAL). Returns a descriptor, the caller's to close; it can be mapped, not read or written. Throws a
   * SyscallError.
   */
  createGuestMemfd(sizeBytes: number): number {
    const create = new DataView(new ArrayBuffer(sizeOf.kvm_create_guest_memfd));
    create.setBigUint64(0, BigInt(sizeBytes), true);
    create.setBigUint64(8, BigInt(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED), true);
    return ioctlStruct(this.fd, "KVM_CREATE_GUEST_MEMFD", create);
  }

  get memslots(): readonly Memslot[] {
    return this.#slots;
  }

  /** Creates vCPU `id` with all that KVM supports in its CPUID. */
  createVcpu(id: number): Vcpu {
    const vcpu = new Vcpu(
      ioctlWord(this.fd, "KVM_CREATE_VCPU", BigInt(id)),
      ioctlWord(this.#kvm.fd, "KVM_GET_VCPU_MMAP_SIZE"),
    );
    const cpuid = supportedCpuidBuffer(this.#kvm);
    if (this.options.cpuVendor !== undefined) setVendor(cpuid, cpuVendors[this.options.cpuVendor]);
    ioctlStruct(vcpu.fd, "KVM_SET_CPUID2", cpuid);
    return vcpu;
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** Sends an interrupt to a vCPU as a message would (KVM_SIGNAL_MSI); needs the in-kernel APIC, whose id is the vCPU's. */
export function signalMsi(vmFd: number, cpu: number, vector: number): void {
  const msi = new DataView(new ArrayBuffer(sizeOf.kvm_msi));
  // Message address (SDM vol. 3, 11.11.1): destination id in bits 12 to 19.
  msi.setUint32(0, 0xfee00000 + (cpu << 12), true);
  msi.setUint32(8, vector, true);
  ioctlStruct(vmFd, "KVM_SIGNAL_MSI", msi);
}

/** Host virtual address behind a guest physical one by the memslot table, or null outside every slot. */
export function gpaToHva(slots: readonly Memslot[], gpa: bigint): bigint | null {
  for (const slot of slots) {
    const offset = gpa - slot.gpa;
    if (offset >= 0n && offset < BigInt(slot.sizeBytes)) return slot.hva + offset;
  }
  return null;
}

/** Leaf 0 and, where it is there, 0x80000000, which repeats it. */
function setVendor(cpuid: DataView, { ebx, ecx, edx }: (typeof cpuVendors)[CpuVendor]): void {
  for (let i = 0; i < Math.min(cpuid.getUint32(0, true), MAX_CPUID_ENTRIES); i++) {
    const offset = sizeOf.kvm_cpuid2 + i * sizeOf.kvm_cpuid_entry2;
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

function supportedCpuidBuffer(kvm: Kvm): DataView {
  const buffer = new DataView(
    new ArrayBuffer(sizeOf.kvm_cpuid2 + MAX_CPUID_ENTRIES * sizeOf.kvm_cpuid_entry2),
  );
  buffer.setUint32(0, MAX_CPUID_ENTRIES, true);
  ioctlStruct(kvm.fd, "KVM_GET_SUPPORTED_CPUID", buffer);
  return buffer;
}

/** What this KVM can show a guest (KVM_GET_SUPPORTED_CPUID). */
export function supportedCpuid(kvm: Kvm): CpuidEntry[] {
  const buffer = supportedCpuidBuffer(kvm);
  const count = Math.min(buffer.getUint32(0, true), MAX_CPUID_ENTRIES);
  return Array.from({ length: count }, (_, i) => {
    // struct kvm_cpuid_entry2: function, index, flags, eax, ebx, ecx, edx, padding[3].
    const offset = sizeOf.kvm_cpuid2 + i * sizeOf.kvm_cpuid_entry2;
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
  /** Page-ready by interrupt: what a guest needs to use async page faults since Linux 5.9. */
  readonly asyncPageFaultInterrupt: boolean;
};

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
    asyncPageFaultInterrupt: bit(find(KVM_CPUID_FEATURES)?.eax, KVM_FEATURE_ASYNC_PF_INT),
  };
}
