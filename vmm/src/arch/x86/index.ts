/** x86-64: what the rest of the VMM may use of it. */
export * from "./abi.ts";
export {
  type CpuFeatures,
  type CpuidEntry,
  type CpuVendor,
  cpuFeatures,
  cpuVendors,
  supportedCpuid,
} from "./cpuid.ts";
export { type DecodedAccess, decodeAccess } from "./decode.ts";
export { type GuestImage, imagePath, loadImage } from "./image.ts";
export { MAX_INSTRUCTION_BYTES, type MemoryOperand, memoryOperands } from "./instruction.ts";
export { channelOf, machineLayout } from "./layout.ts";
export * from "./linux/index.ts";
export { enterLongMode } from "./long-mode.ts";
export { type SignalledVcpu, signalBroadcast } from "./machine-check.ts";
export { hasNestedPaging } from "./nested-paging.ts";
export { MAX_WINDOW_BYTES, writePageTables } from "./page-tables.ts";
export * from "./vcpu.ts";
export * from "./vm.ts";
