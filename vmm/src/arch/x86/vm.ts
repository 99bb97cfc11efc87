/** An x86 virtual machine: in-kernel interrupt controller, exits, vCPUs with their CPUID. */
import { capability, KVM_X86_DISABLE_EXITS_HLT, sizeOf } from "../../kvm/abi.ts";
import { ioctlStruct, ioctlWord, type Kvm } from "../../kvm/device.ts";
import { MemoryVm } from "../../kvm/vm.ts";
import {
  type CpuVendor,
  cpuVendors,
  offerMachineCheckRecovery,
  setVendor,
  supportedCpuidBuffer,
} from "./cpuid.ts";
import { type LinuxCpu, makeLinuxCpuid } from "./linux/cpuid.ts";
import { Vcpu } from "./vcpu.ts";

export type VmOptions = {
  /** The vendor that the guest sees; left out: the real one. Decides the form of machine checks, as with QEMU's -cpu. */
  readonly cpuVendor?: CpuVendor;
  /** KVM_CREATE_IRQCHIP: local APIC, IOAPIC and PIC in the kernel. Without it no async page fault is possible. */
  readonly lapicInKernel: boolean;
  /** KVM_CAP_X86_DISABLE_EXITS with HLT: the guest halts the physical CPU itself. */
  readonly hltInGuest: boolean;
  /** What a Linux guest takes for granted beside the local APIC: a PIT, and CPUID of its own for each vCPU. */
  readonly linux?: LinuxCpu;
  /** CPUID and banks offer recovery from machine checks, though no policy raises any: KVM does. Left out: false. */
  readonly kvmRaisesMachineChecks?: boolean;
};

/** Three pages below 4 GiB that Intel VMX needs for real-mode tricks (api.rst, KVM_SET_TSS_ADDR); the usual place. */
const TSS_ADDRESS = 0xfffbd000n;
/** The page before: an identity map for the same purpose (KVM_SET_IDENTITY_MAP_ADDR); VMX only, as KVM's default is. */
const IDENTITY_MAP_ADDRESS = 0xfffbc000n;
/** kvm_pit_config.flags: port 0x61 is the PIT's, with a speaker that makes no sound. */
const KVM_PIT_SPEAKER_DUMMY = 1;

export class Vm extends MemoryVm {
  readonly options: VmOptions;
  readonly #kvm: Kvm;

  private constructor(kvm: Kvm, fd: number, options: VmOptions) {
    super(fd);
    this.#kvm = kvm;
    this.options = options;
  }

  /** Throws a SyscallError named after the ioctl that failed. */
  static create(kvm: Kvm, options: VmOptions): Vm {
    const vm = new Vm(kvm, ioctlWord(kvm.fd, "KVM_CREATE_VM"), options);
    ioctlWord(vm.fd, "KVM_SET_TSS_ADDR", TSS_ADDRESS);
    if (options.linux !== undefined) {
      ioctlStruct(vm.fd, "KVM_SET_IDENTITY_MAP_ADDR", new BigUint64Array([IDENTITY_MAP_ADDRESS]));
    }
    if (options.lapicInKernel) ioctlWord(vm.fd, "KVM_CREATE_IRQCHIP");
    if (options.linux !== undefined) {
      const pit = new DataView(new ArrayBuffer(sizeOf.kvm_pit_config));
      pit.setUint32(0, KVM_PIT_SPEAKER_DUMMY, true);
      ioctlStruct(vm.fd, "KVM_CREATE_PIT2", pit);
    }
    if (options.hltInGuest)
      vm.enableCapability(capability.KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT);
    return vm;
  }

  /** Creates vCPU `id` with all that KVM supports in its CPUID. */
  createVcpu(id: number): Vcpu {
    const vcpu = new Vcpu(
      ioctlWord(this.fd, "KVM_CREATE_VCPU", BigInt(id)),
      ioctlWord(this.#kvm.fd, "KVM_GET_VCPU_MMAP_SIZE"),
    );
    const cpuid = supportedCpuidBuffer(this.#kvm);
    if (this.options.linux !== undefined) {
      const tscDeadline = this.#kvm.check("KVM_CAP_TSC_DEADLINE_TIMER") > 0;
      makeLinuxCpuid(cpuid, id, this.options.linux, { tscDeadline });
    }
    if (this.options.kvmRaisesMachineChecks === true) offerMachineCheckRecovery(cpuid);
    if (this.options.cpuVendor !== undefined) setVendor(cpuid, cpuVendors[this.options.cpuVendor]);
    ioctlStruct(vcpu.fd, "KVM_SET_CPUID2", cpuid);
    return vcpu;
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

/** Sets the level of an interrupt line of the in-kernel interrupt controllers (KVM_IRQ_LINE). */
export function setInterruptLine(vmFd: number, gsi: number, level: 0 | 1): void {
  ioctlStruct(vmFd, "KVM_IRQ_LINE", new Uint32Array([gsi, level]));
}

/** What KVM can keep in `struct kvm_run` (KVM_CAP_SYNC_REGS): bits of `syncBit`. */
export function syncedRegisters(vmFd: number): number {
  return ioctlWord(vmFd, "KVM_CHECK_EXTENSION", BigInt(capability.KVM_CAP_SYNC_REGS));
}
