/**
 * The machine that runs the micro-guest: RAM with the image in it, the window's memslot, vCPUs at the image's entry.
 *
 * Nothing here runs a vCPU; see runner/.
 */
import type { GuestPersona, NmiVariant } from "../../language/src/index.ts";
import { type Mapping, mapAnonymous } from "../../sys/src/index.ts";
import {
  channelOf,
  enterLongMode,
  type GuestImage,
  loadImage,
  machineLayout,
  type Vcpu,
  Vm,
  type VmOptions,
  writePageTables,
} from "./arch/index.ts";
import { type Channel, channelLayout, cpuCount, type TaskProgram, WINDOW_BASE } from "./guest/channel.ts";
import type { GuestInput } from "./guest-input.ts";
import { Kvm } from "./kvm/device.ts";
import { policies } from "./policy/index.ts";
import type { PolicyName } from "./policy/policy.ts";

export type MachineOptions = VmOptions & {
  /** The guest enables paravirtual async page faults, as Linux does. Needs `lapicInKernel`. */
  readonly asyncPageFaults: GuestPersona["asyncPageFaults"];
  /** The guest takes an NMI for the failure of the access that it interrupts, as gVisor's sentry does. */
  readonly nmiIsSigbus: boolean;
  /** The guest takes a #PF that its page tables do not explain for an error; Linux takes it for spurious and retries. */
  readonly pageFaultIsError: boolean;
  /** Which of the guest kernel's copies survive a machine check: Linux's are `reads` (copy_from_user) at best. */
  readonly machineCheckSafe: "none" | "reads" | "all";
  /** The guest understands an error in page-ready (Goyal's RFC of 2020). */
  readonly pageReadyErrors: boolean;
  /** The guest hands KVM its #VE information area. Needs KVM_FEATURE_VE_INFO. */
  readonly handsOverVeInfo: boolean;
  readonly kvmRaisesMachineChecks: boolean;
  /** CR4.MCE: without it a machine check is a shutdown. */
  readonly takesMachineChecks: boolean;
  /** The guest lets page-ready in before its task sleeps: the wake-up comes first. */
  readonly sleepsLate: boolean;
  /** One NMI before the first event's handler reads anything, with a #PF inside; and what is kept aside around that. */
  readonly nmi: NmiVariant | "off";
  readonly windowHva: bigint;
  readonly windowBytes: number;
  readonly programs: readonly TaskProgram[];
  /** The policy for a KVM_RUN that gives up on a page of the window. */
  readonly policy: PolicyName;
  /** The states of the window's pages, where a guard recalls them (`PageStates`). */
  readonly pageStates?: SharedArrayBuffer;
  /** How often the policy may deal with the same instruction of the same step before the VM stops; 8 by default. */
  readonly maxRepeats?: number;
};

/** The least machine: no APIC in the kernel, a guest without features, a VMM that stops. Spread it and add the differences. */
export const plainMachine: Omit<MachineOptions, "windowHva" | "windowBytes" | "programs"> = {
  lapicInKernel: false,
  hltInGuest: false,
  asyncPageFaults: "off",
  nmiIsSigbus: false,
  pageFaultIsError: false,
  machineCheckSafe: "none",
  pageReadyErrors: false,
  handsOverVeInfo: false,
  kvmRaisesMachineChecks: false,
  takesMachineChecks: true,
  sleepsLate: false,
  nmi: "off",
  policy: "stop",
};

/** What a runner needs of a machine, whatever guest is in it. */
export type RunnableMachine = {
  readonly vm: Vm;
  readonly vcpus: readonly Vcpu[];
  readonly guest: GuestInput;
  readonly ramAddress: bigint;
  readonly window: { readonly hva: bigint; readonly sizeBytes: number };
  readonly policy: PolicyName;
  readonly pageStates: SharedArrayBuffer | null;
  readonly maxRepeats: number;
};

/** With as many vCPUs as the programs ask for. */
export type Machine = RunnableMachine & {
  /** Lent: `close` leaves it open, unless `openMachine` opened it. */
  readonly kvm: Kvm;
  readonly programs: readonly TaskProgram[];
  readonly channel: Channel;
  close(): void;
};

/** A guest that comes back to the same instruction as often has not understood the report. */
export const MAX_REPEATS = 8;

/** Builds everything up to the first KVM_RUN. Throws a SyscallError, RangeError, or Error that says what is missing. */
export function buildMachine(kvm: Kvm, image: GuestImage, options: MachineOptions): Machine {
  if (options.asyncPageFaults !== "off" && !options.lapicInKernel) {
    throw new Error("async page faults need the in-kernel APIC: MSR_KVM_ASYNC_PF_EN is refused without it");
  }
  const ram = mapAnonymous(Number(machineLayout.RAM_BYTES));
  ram.bytes.set(image.bytes, Number(machineLayout.IMAGE_ADDRESS));
  writePageTables(ram.bytes, options.windowBytes, [
    image.user,
    {
      start: machineLayout.CHANNEL_ADDRESS,
      end: machineLayout.CHANNEL_ADDRESS + BigInt(channelLayout.sizeofChannel),
    },
  ]);
  const channel = channelOf(ram.bytes);
  channel.configure(configurationBits(options), options.programs);

  const vm = Vm.create(kvm, options);
  vm.addMemslot(0n, ram.address, ram.bytes.length);
  vm.addMemslot(WINDOW_BASE, options.windowHva, options.windowBytes);
  const vcpus = Array.from({ length: cpuCount(options.programs) }, (_, cpu) => {
    const vcpu = vm.createVcpu(cpu);
    enterLongMode(kvm, vcpu, cpu, image, options);
    if (options.kvmRaisesMachineChecks) policies["inject-mce"].prepare(vcpu);
    policies[options.policy].prepare(vcpu);
    return vcpu;
  });
  return {
    kvm,
    vm,
    vcpus,
    programs: options.programs,
    guest: { kind: "micro", programs: options.programs },
    channel,
    ramAddress: ram.address,
    window: { hva: options.windowHva, sizeBytes: options.windowBytes },
    policy: options.policy,
    pageStates: options.pageStates ?? null,
    maxRepeats: options.maxRepeats ?? MAX_REPEATS,
    close: () => closeMachine(vm, vcpus, ram),
  };
}

/** A machine on this host's /dev/kvm with the built image; its `close` closes the device, too. Throws as `buildMachine`. */
export function openMachine(options: MachineOptions): Machine {
  const kvm = Kvm.open();
  const machine = buildMachine(kvm, loadImage(), options);
  return {
    ...machine,
    close() {
      machine.close();
      kvm.close();
    },
  };
}

function configurationBits(options: MachineOptions): number {
  const bits = channelLayout;
  const { machineCheckSafe, nmi } = options;
  const savesBoth = nmi === "saved" || nmi === "lost-page";
  return (
    // The timer is the in-kernel APIC's: without it tasks give way to one another only when they ask to.
    (options.lapicInKernel ? bits.CONFIGURE_LAPIC | bits.CONFIGURE_TIMER : 0) |
    (options.asyncPageFaults === "off" ? 0 : bits.CONFIGURE_APF) |
    (options.asyncPageFaults === "send-always" ? bits.CONFIGURE_APF_SEND_ALWAYS : 0) |
    (options.nmiIsSigbus ? bits.CONFIGURE_NMI_IS_SIGBUS : 0) |
    (options.pageFaultIsError ? bits.CONFIGURE_PF_IS_ERROR : 0) |
    (options.pageReadyErrors ? bits.CONFIGURE_APF_ERROR : 0) |
    (options.handsOverVeInfo ? bits.CONFIGURE_VE_INFO : 0) |
    (options.sleepsLate ? bits.CONFIGURE_APF_SLEEPS_LATE : 0) |
    (nmi === "off" ? 0 : bits.CONFIGURE_NMI_BEFORE_READING) |
    (nmi === "flags-lost" || savesBoth ? bits.CONFIGURE_NMI_SAVES_CR2 : 0) |
    (nmi === "cr2-lost" || savesBoth ? bits.CONFIGURE_NMI_SAVES_FLAGS : 0) |
    (nmi === "lost-page" ? bits.CONFIGURE_NMI_READS_PAGE : 0) |
    (machineCheckSafe !== "none" ? bits.CONFIGURE_MCE_SAFE_READS : 0) |
    (machineCheckSafe === "all" ? bits.CONFIGURE_MCE_SAFE_WRITES : 0)
  );
}

function closeMachine(vm: Vm, vcpus: readonly Vcpu[], ram: Mapping): void {
  for (const vcpu of vcpus) vcpu.close();
  vm.close();
  ram.free();
}
