/** A small real VMM on /dev/kvm: KVM's interface, the micro-guest, the window, and the thread that runs a vCPU. */
export { benchExits, type ExitBenchOptions, type ExitBenchRow, type ExitCycle } from "./arch/bench.ts";
export {
  BootImageError,
  type CpuFeatures,
  cpuFeatures,
  FAULT_COUNTER,
  type GuestImage,
  imagePath,
  KVM_ASYNC_PF_ENABLED,
  type KvmFeature,
  type LinuxCpu,
  loadImage,
  MAX_WINDOW_BYTES,
  machineLayout,
  parseKernel,
  supportedCpuid,
  Vm,
} from "./arch/index.ts";
export { Fence, type FencedMapping, type FenceEvent } from "./fence.ts";
export * from "./guest/channel.ts";
export * from "./guest/linux-case.ts";
export * from "./kvm/abi.ts";
export { KVM_API_VERSION, Kvm } from "./kvm/device.ts";
export type { VcpuExit } from "./kvm/exit.ts";
export { Stats } from "./kvm/stats.ts";
export { gpaToHva, type Memslot } from "./kvm/vm.ts";
export type { MmioDevice } from "./linux-devices.ts";
export { buildLinuxMachine, type LinuxMachine, type LinuxMachineOptions } from "./linux-machine.ts";
export {
  buildMachine,
  type Machine,
  type MachineOptions,
  openMachine,
  plainMachine,
} from "./machine.ts";
export type { PageFaultForm, PolicyName } from "./policy/policy.ts";
export * from "./recall.ts";
export {
  type EndReason,
  type FinalState,
  finalOfAll,
  type GuestClock,
  guestTimeMs,
  monotonicMs,
  type Place,
  type VcpuMessage,
} from "./runner/messages.ts";
export { type LinuxHandlers, type LinuxRun, runLinux } from "./runner/run-linux.ts";
export { type MachineHandlers, type MachineRun, runMachine } from "./runner/run-machine.ts";
export { startVm, type VmRunner } from "./runner/vm-runner.ts";
export { watchSleep } from "./runner/watch-sleep.ts";
export * from "./runner/watchdog.ts";
export { MmapWindow } from "./window.ts";
