/** The part of a virtual machine that all architectures share: memslots, capabilities, guest_memfd. The rest is arch/x86/vm.ts. */
import { closeSync } from "node:fs";
import { GUEST_MEMFD_FLAG_INIT_SHARED, GUEST_MEMFD_FLAG_MMAP, KVM_MEM_GUEST_MEMFD, sizeOf } from "./abi.ts";
import { ioctlStruct } from "./device.ts";
import { Stats } from "./stats.ts";

export type Memslot = {
  readonly slot: number;
  readonly gpa: bigint;
  readonly sizeBytes: number;
  readonly hva: bigint;
};

export class MemoryVm {
  readonly fd: number;
  readonly #slots: Memslot[] = [];
  #stats: Stats | null = null;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** KVM_ENABLE_CAP with one argument. Throws a SyscallError. */
  enableCapability(number: number, argument: bigint): void {
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
   * KVM_CREATE_GUEST_MEMFD: memory that the host may map as well (KVM_CAP_GUEST_MEMFD_FLAGS), whose size cannot be changed
   * (ftruncate gives EINVAL). Returns a descriptor, the caller's to close; it can be mapped, not read or written. Throws a
   * SyscallError.
   */
  createGuestMemfd(sizeBytes: number): number {
    const create = new DataView(new ArrayBuffer(sizeOf.kvm_create_guest_memfd));
    create.setBigUint64(0, BigInt(sizeBytes), true);
    create.setBigUint64(8, BigInt(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED), true);
    return ioctlStruct(this.fd, "KVM_CREATE_GUEST_MEMFD", create);
  }

  /**
   * KVM_SET_USER_MEMORY_REGION2: has a memslot's pages come from a guest_memfd of this VM, and from nowhere else. KVM looks
   * none of them up by its host virtual address, which is the VMM's own mapping of the same memory. Throws a SyscallError.
   */
  moveToGuestMemfd(slot: Memslot, fd: number): void {
    const remove = new DataView(new ArrayBuffer(sizeOf.kvm_userspace_memory_region));
    remove.setUint32(0, slot.slot, true);
    ioctlStruct(this.fd, "KVM_SET_USER_MEMORY_REGION", remove);
    const region = new DataView(new ArrayBuffer(sizeOf.kvm_userspace_memory_region2));
    region.setUint32(0, slot.slot, true);
    region.setUint32(4, KVM_MEM_GUEST_MEMFD, true);
    region.setBigUint64(8, slot.gpa, true);
    region.setBigUint64(16, BigInt(slot.sizeBytes), true);
    region.setBigUint64(24, slot.hva, true);
    region.setUint32(40, fd, true);
    ioctlStruct(this.fd, "KVM_SET_USER_MEMORY_REGION2", region);
  }

  get memslots(): readonly Memslot[] {
    return this.#slots;
  }

  /** One of KVM's counters of the VM now (`pages_2m`), or null if this kernel has none of that name. Throws a SyscallError. */
  stat(name: string): bigint | null {
    this.#stats ??= new Stats(this.fd);
    return this.#stats.read(name);
  }

  close(): void {
    this.#stats?.close();
    closeSync(this.fd);
  }
}

/** Host virtual address behind a guest physical one by the memslot table, or null outside every slot. */
export function gpaToHva(slots: readonly Memslot[], gpa: bigint): bigint | null {
  for (const slot of slots) {
    const offset = gpa - slot.gpa;
    if (offset >= 0n && offset < BigInt(slot.sizeBytes)) return slot.hva + offset;
  }
  return null;
}
