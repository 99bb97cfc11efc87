/**
 * Devices of the VM that the program inside finds by name: qemu.ts gives them, the plan of init (initramfs.ts) and the
 * program look for them.
 */

/** 9p tag of the host's root file system. */
export const ROOT_TAG = "daxfault-root";
/** Name of the virtio-serial port that carries messages. */
export const CHANNEL_PORT = "daxfault";
/** Serial number of the swap disk (/sys/block/NAME/serial). */
export const SWAP_SERIAL = "daxfault-swap";

/** KVM's module for the CPU that the VM has. */
export type KvmModule = "kvm_amd" | "kvm_intel";
