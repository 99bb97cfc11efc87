/**
 * The host's view of the micro-guest's machine: mirrors vmm/guest/micro/x86/machine.h, number by number. Compared with the
 * compiler by `vmm/test/guest/channel.test.ts`.
 */
import { Channel } from "../../guest/channel.ts";

export const machineLayout = {
  IMAGE_ADDRESS: 0x40000n,
  CHANNEL_ADDRESS: 0x100000n,
  VE_INFORMATION_ADDRESS: 0x1d0000n,
  PV_ERROR_ADDRESS: 0x1e0000n,
  APF_AREA_ADDRESS: 0x1f0000n,
  CPU_AREA_BYTES: 0x1000,
  VECTOR_APF_READY: 0xf3,
  VECTOR_PV_ERROR: 0xf4,
  VECTOR_TIMER: 0xf5,
  RAM_BYTES: 0x200000n,
  DOORBELL_PORT: 0x10,
  ACCESS_SIZES: 7,
  SELECTOR_TSS: 0x28,
  BOOT_STACK_BYTES: 4096,
  PAGE_ERROR: 1,
  offsetofApfReadyFlags: 8,
  sizeofVeInformation: 32,
  offsetofVeBusy: 4,
  offsetofVeExitQualification: 8,
  offsetofVeLinearAddress: 16,
  offsetofVePhysicalAddress: 24,
  sizeofPvError: 24,
  offsetofPvErrorLinearAddress: 8,
  offsetofPvErrorPhysicalAddress: 16,
} as const;

/** @param ram the guest's RAM from guest physical address 0 */
export function channelOf(ram: Uint8Array): Channel {
  return new Channel(ram.subarray(Number(machineLayout.CHANNEL_ADDRESS)));
}
