/** A Linux kernel that can be booted by the 64-bit protocol, whatever file it came in. Pure. */

export type LinuxImage = {
  /** `uname -r` that it will have; empty where the file does not say. */
  readonly release: string;
  /** The setup header, from its first field (0x1f1) on, as a loader copies it into `struct boot_params`. */
  readonly setupHeader: Uint8Array;
  /** To be copied to guest physical addresses. */
  readonly segments: readonly { readonly address: bigint; readonly bytes: Uint8Array }[];
  /** Memory that the kernel uses before it looks at the memory map, from here .. */
  readonly start: bigint;
  /** .. to here. */
  readonly end: bigint;
  readonly entry: bigint;
  /** Bytes of command line that it takes, without the final zero. */
  readonly maxCommandLineBytes: number;
  /** The last byte of an initrd may lie here. */
  readonly maxInitrdAddress: bigint;
};

/** Below lies what the loader itself needs. */
export const LOWEST_KERNEL = 0x100000n;

export class BootImageError extends Error {
  override readonly name = "BootImageError";
}

export function refuse(why: string): never {
  throw new BootImageError(`not a kernel that can be booted: ${why}`);
}

export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
