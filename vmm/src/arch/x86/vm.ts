/** An x86 virtual machine: in-kernel interrupt controller, exits, vCPUs with their CPUID. */
import { capability, KVM_X86_DISABLE_EXITS_HLT, sizeOf } from "../../kvm/abi.ts";
import { ioctlStruct, ioctlWord, type Kvm } from "../../kvm/device.ts";
import { MemoryVm } from "../../kvm/vm.ts";
import { type CpuVendor, cpuVendors, setVendor, supportedCpuidBuffer } from "./cpuid.ts";
import { Vcpu } from "./vcpu.ts";

export type VmOptions = {
  /** The vendor that the guest sees; left out: the real one. Decides the form of machine checks, as with QEMU's -cpu. */
  readonly cpuVendor?: CpuVendor;
  /** KVM_CREATE_IRQCHIP: local APIC, IOAPIC and PIC in the kernel. Without it no async page fault is possible. */
  readonly lapicInKernel: boolean;
  /** KVM_CAP_X86_DISABLE_EXITS with HLT: the guest halts the physical CPU itself. */
  readonly hltInGuest: boolean;
};

/** Three pages below 4 GiB that Intel VMX needs for real-mode tricks (api.rst, KVM_SET_TSS_ADDR); the usual place. */
const TSS_ADDRESS = 0xfffbd000n;

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
    if (options.lapicInKernel) ioctlWord(vm.fd, "KVM_CREATE_IRQCHIP");
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
