/**
 * The machine that runs a Linux guest: kernel, initrd and tables in RAM, interrupt controllers and PIT in the kernel,
 * memory behind a file at `WINDOW_BASE`, machine-check banks, one to four vCPUs.
 *
 * Nothing here runs a vCPU; see runner/. What makes the guest's initrd and its program is the caller's.
 */
import {
  MAP_ANONYMOUS,
  MAP_NORESERVE,
  MAP_PRIVATE,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from "../../sys/src/index.ts";
import {
  acpiTables,
  enterLinux,
  hasNestedPaging,
  type LinuxCpu,
  type LinuxImage,
  linuxLayout,
  parseKernel,
  setUpMachineChecks,
  sharedAddress,
  Vm,
  writeLinux,
} from "./arch/index.ts";
import { WINDOW_BASE } from "./guest/channel.ts";
import { MAX_VCPUS } from "./guest-input.ts";
import { capability } from "./kvm/abi.ts";
import type { Kvm } from "./kvm/device.ts";
import { ConsoleRing, createLinuxDevices, Mailbox, type MmioDevice, WatchedAccess } from "./linux-devices.ts";
import { MAX_REPEATS, type RunnableMachine } from "./machine.ts";
import { policies } from "./policy/index.ts";
import type { PageFaultForm, PolicyName } from "./policy/policy.ts";

/** Interrupt lines of devices: the first behind those of ISA, and as many as the I/O APIC has. */
const FIRST_DEVICE_GSI = 16;
const MAX_DEVICES = 8;
const PAGE = 4096n;

export type LinuxMachineOptions = {
  /** A bzImage or vmlinux. */
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly commandLine: string;
  readonly ramBytes: number;
  /**
   * Whole pages at the end of RAM that the guest's program shares with the host; 0: none. The command line names their place
   * (`daxfault.channel=`), as vmm/guest/linux looks for it.
   */
  readonly sharedBytes: number;
  readonly cpu: LinuxCpu;
  /** See `VmOptions`; false if left out. */
  readonly hltInGuest?: boolean;
  /**
   * What appears at `WINDOW_BASE`. `persistent`: Linux takes it for persistent memory (/dev/pmem0, module nd_e820);
   * `device`: it is a device's (the window of a virtio-fs, the range of a virtio-pmem), and not in the memory map.
   */
  readonly window: { readonly hva: bigint; readonly sizeBytes: number; readonly as: "persistent" | "device" };
  /** Makes the devices by MMIO, which have the guest's RAM from address 0; each gets a page of registers and an interrupt line. */
  readonly devices: (ram: Uint8Array) => readonly MmioDevice[];
  readonly policy: PolicyName;
  readonly pageFaultForm: PageFaultForm;
  readonly pageStates?: SharedArrayBuffer;
  readonly maxRepeats?: number;
};

export type LinuxMachine = RunnableMachine & {
  /** `uname -r`, as the image says; empty where it does not. */
  readonly release: string;
  readonly devices: readonly { readonly device: MmioDevice; readonly gsi: number }[];
  /** What the guest's program shares with the host. */
  readonly shared: Uint8Array;
  readonly console: ConsoleRing;
  readonly watched: WatchedAccess;
  /** By vCPU. */
  readonly mailboxes: readonly Mailbox[];
  close(): void;
};

function checkCpus({ cpus }: LinuxCpu): void {
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > MAX_VCPUS) {
    throw new RangeError(`${cpus} vCPUs: expected 1 to ${MAX_VCPUS}`);
  }
}

type PlacedDevice = { readonly device: MmioDevice; readonly gsi: number; readonly address: bigint };

function place(devices: readonly MmioDevice[]): readonly PlacedDevice[] {
  if (devices.length > MAX_DEVICES) {
    throw new RangeError(`${devices.length} devices: at most ${MAX_DEVICES}`);
  }
  return devices.map((device, index) => ({
    device,
    gsi: FIRST_DEVICE_GSI + index,
    address: linuxLayout.MMIO + BigInt(index) * PAGE,
  }));
}

/** Kernel, initrd and tables in the RAM. */
function load(ram: Uint8Array, options: LinuxMachineOptions, placed: readonly PlacedDevice[]): LinuxImage {
  const { initrd, ramBytes, sharedBytes, window, cpu } = options;
  const shared = sharedBytes === 0 ? "" : ` daxfault.channel=0x${sharedAddress(options).toString(16)}`;
  const commandLine = `${options.commandLine}${shared}`;
  const kernel = parseKernel(options.kernel);
  const persistent =
    window.as === "persistent" ? { start: WINDOW_BASE, bytes: BigInt(window.sizeBytes) } : null;
  const acpi = acpiTables({ cpus: cpu.cpus, virtio: placed });
  writeLinux(ram, { kernel, initrd, commandLine, ramBytes, sharedBytes, persistent, acpi });
  return kernel;
}

/** Builds everything up to the first KVM_RUN. Throws a BootImageError, SyscallError or RangeError. */
export function buildLinuxMachine(kvm: Kvm, options: LinuxMachineOptions): LinuxMachine {
  checkCpus(options.cpu);
  const { ramBytes, window, policy } = options;
  const ramAddress = mmap({
    lengthBytes: ramBytes,
    prot: PROT_READ | PROT_WRITE,
    flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
  });
  const ram = viewOf(ramAddress, ramBytes);
  const placed = place(options.devices(ram));
  const kernel = load(ram, options, placed);

  const vm = Vm.create(kvm, {
    lapicInKernel: true,
    hltInGuest: options.hltInGuest ?? false,
    linux: options.cpu,
  });
  vm.enableCapability(capability.KVM_CAP_EXCEPTION_PAYLOAD, 1n);
  vm.addMemslot(0n, ramAddress, ramBytes);
  vm.addMemslot(WINDOW_BASE, window.hva, window.sizeBytes);
  const vcpus = Array.from({ length: options.cpu.cpus }, (_, id) => {
    const vcpu = vm.createVcpu(id);
    setUpMachineChecks(kvm, vcpu);
    policies[policy].prepare(vcpu);
    return vcpu;
  });
  const [boot] = vcpus;
  if (boot !== undefined) enterLinux(boot, kernel);
  const devices = createLinuxDevices();
  return {
    release: kernel.release,
    vm,
    vcpus,
    guest: {
      kind: "linux",
      ramBytes,
      sharedBytes: options.sharedBytes,
      devices,
      mmio: placed.map(({ address }) => address),
      hasNestedPaging: hasNestedPaging(),
      pageFaultForm: options.pageFaultForm,
    },
    ramAddress,
    window: { hva: window.hva, sizeBytes: window.sizeBytes },
    policy,
    pageStates: options.pageStates ?? null,
    maxRepeats: options.maxRepeats ?? MAX_REPEATS,
    devices: placed,
    shared: ram.subarray(ramBytes - options.sharedBytes),
    console: new ConsoleRing(devices),
    watched: new WatchedAccess(devices),
    mailboxes: vcpus.map((_, cpu) => new Mailbox(devices, cpu)),
    close() {
      for (const vcpu of vcpus) vcpu.close();
      vm.close();
      munmap(ramAddress, ramBytes);
    },
  };
}
