/**
 * The part of <linux/kvm.h> that the VMM uses: ioctl numbers, structure sizes and offsets. Not <asm/kvm.h>, which is
 * arch/x86/abi.ts.
 *
 * No other file of the VMM has a number of KVM's. `vmm/test/kvm/abi.test.ts` compiles a C program against the installed
 * headers and compares every row of both tables.
 */

/** Sizes in bytes of the structures that ioctls carry. */
export const sizeOf = {
  kvm_userspace_memory_region: 32,
  kvm_userspace_memory_region2: 160,
  kvm_translation: 24,
  kvm_signal_mask: 4,
  kvm_enable_cap: 104,
  kvm_x86_mce: 64,
  kvm_msi: 32,
  kvm_irq_level: 8,
  kvm_pit_config: 64,
  kvm_mp_state: 4,
  kvm_stats_header: 24,
  kvm_create_guest_memfd: 64,
} as const;

const KVMIO = 0xae;
const directionBits = { none: 0, write: 1, read: 2, "read-write": 3 } as const;

/** Direction (seen from user space), number and size in bytes of the argument: `_IO`, `_IOW`, `_IOR`, `_IOWR`. */
export const requests = {
  KVM_GET_API_VERSION: ["none", 0x00, 0],
  KVM_CREATE_VM: ["none", 0x01, 0],
  KVM_CHECK_EXTENSION: ["none", 0x03, 0],
  KVM_GET_VCPU_MMAP_SIZE: ["none", 0x04, 0],
  KVM_GET_SUPPORTED_CPUID: ["read-write", 0x05, 8],
  KVM_CREATE_VCPU: ["none", 0x41, 0],
  KVM_SET_USER_MEMORY_REGION: ["write", 0x46, 32],
  KVM_SET_USER_MEMORY_REGION2: ["write", 0x49, 160],
  KVM_SET_TSS_ADDR: ["none", 0x47, 0],
  KVM_SET_IDENTITY_MAP_ADDR: ["write", 0x48, 8],
  KVM_CREATE_IRQCHIP: ["none", 0x60, 0],
  KVM_IRQ_LINE: ["write", 0x61, 8],
  KVM_CREATE_PIT2: ["write", 0x77, 64],
  KVM_RUN: ["none", 0x80, 0],
  KVM_GET_REGS: ["read", 0x81, 144],
  KVM_SET_REGS: ["write", 0x82, 144],
  KVM_GET_SREGS: ["read", 0x83, 312],
  KVM_SET_SREGS: ["write", 0x84, 312],
  KVM_TRANSLATE: ["read-write", 0x85, 24],
  KVM_INTERRUPT: ["write", 0x86, 4],
  KVM_GET_MSRS: ["read-write", 0x88, 8],
  KVM_SET_MSRS: ["write", 0x89, 8],
  KVM_SET_SIGNAL_MASK: ["write", 0x8b, 4],
  KVM_SET_CPUID2: ["write", 0x90, 8],
  KVM_GET_CPUID2: ["read-write", 0x91, 8],
  KVM_SET_MP_STATE: ["write", 0x99, 4],
  KVM_NMI: ["none", 0x9a, 0],
  KVM_X86_GET_MCE_CAP_SUPPORTED: ["read", 0x9d, 8],
  KVM_X86_SETUP_MCE: ["write", 0x9c, 8],
  KVM_X86_SET_MCE: ["write", 0x9e, 64],
  KVM_GET_VCPU_EVENTS: ["read", 0x9f, 64],
  KVM_SET_VCPU_EVENTS: ["write", 0xa0, 64],
  KVM_GET_TSC_KHZ: ["none", 0xa3, 0],
  KVM_KVMCLOCK_CTRL: ["none", 0xad, 0],
  KVM_ENABLE_CAP: ["write", 0xa3, 104],
  KVM_SIGNAL_MSI: ["write", 0xa5, 32],
  KVM_GET_XCRS: ["read", 0xa6, 392],
  KVM_SET_XCRS: ["write", 0xa7, 392],
  KVM_GET_STATS_FD: ["none", 0xce, 0],
  KVM_CREATE_GUEST_MEMFD: ["read-write", 0xd4, 64],
} as const;

export type RequestName = keyof typeof requests;

/** The number that ioctl(2) takes (asm-generic/ioctl.h). */
export function requestNumber(name: RequestName): bigint {
  const [direction, nr, sizeBytes] = requests[name];
  return BigInt(directionBits[direction] * 2 ** 30 + sizeBytes * 2 ** 16 + KVMIO * 2 ** 8 + nr);
}

/** Capabilities that decide what a case can show; all are asked of KVM and attested. */
export const capability = {
  KVM_CAP_IRQCHIP: 0,
  KVM_CAP_USER_MEMORY: 3,
  KVM_CAP_SET_TSS_ADDR: 4,
  KVM_CAP_MP_STATE: 14,
  KVM_CAP_SYNC_MMU: 16,
  KVM_CAP_MCE: 31,
  KVM_CAP_PIT2: 33,
  KVM_CAP_VCPU_EVENTS: 41,
  KVM_CAP_ENABLE_CAP_VM: 98,
  KVM_CAP_XCRS: 56,
  KVM_CAP_ASYNC_PF: 59,
  KVM_CAP_SYNC_REGS: 74,
  KVM_CAP_TSC_CONTROL: 60,
  KVM_CAP_TSC_DEADLINE_TIMER: 72,
  KVM_CAP_READONLY_MEM: 81,
  KVM_CAP_SPLIT_IRQCHIP: 121,
  KVM_CAP_IMMEDIATE_EXIT: 136,
  KVM_CAP_X86_DISABLE_EXITS: 143,
  KVM_CAP_EXCEPTION_PAYLOAD: 164,
  KVM_CAP_ASYNC_PF_INT: 183,
  KVM_CAP_BINARY_STATS_FD: 203,
  KVM_CAP_EXIT_ON_EMULATION_FAILURE: 204,
  KVM_CAP_MEMORY_FAULT_INFO: 232,
  KVM_CAP_GUEST_MEMFD: 234,
  KVM_CAP_PRE_FAULT_MEMORY: 236,
  KVM_CAP_GUEST_MEMFD_FLAGS: 244,
} as const;
export type Capability = keyof typeof capability;

export const KVM_X86_DISABLE_EXITS_HLT = 2n;

/** Bits of KVM_CAP_GUEST_MEMFD_FLAGS and of kvm_create_guest_memfd.flags: the host may map it, and its pages are shared. */
export const GUEST_MEMFD_FLAG_MMAP = 1;
export const GUEST_MEMFD_FLAG_INIT_SHARED = 2;
/** Of kvm_userspace_memory_region2.flags. */
export const KVM_MEM_GUEST_MEMFD = 4;

export const exitReason = {
  KVM_EXIT_UNKNOWN: 0,
  KVM_EXIT_EXCEPTION: 1,
  KVM_EXIT_IO: 2,
  KVM_EXIT_HLT: 5,
  KVM_EXIT_MMIO: 6,
  KVM_EXIT_IRQ_WINDOW_OPEN: 7,
  KVM_EXIT_SHUTDOWN: 8,
  KVM_EXIT_FAIL_ENTRY: 9,
  KVM_EXIT_INTR: 10,
  KVM_EXIT_INTERNAL_ERROR: 17,
  KVM_EXIT_SYSTEM_EVENT: 24,
  KVM_EXIT_MEMORY_FAULT: 39,
} as const;

/** Offsets in `struct kvm_run`, the page shared with the vCPU. The union begins at 32. */
export const runOffset = {
  immediate_exit: 1,
  exit_reason: 8,
  apic_base: 24,
  "io.direction": 32,
  "io.size": 33,
  "io.port": 34,
  "io.count": 36,
  "io.data_offset": 40,
  "mmio.phys_addr": 32,
  "mmio.data": 40,
  "mmio.len": 48,
  "mmio.is_write": 52,
  "internal.suberror": 32,
  "fail_entry.hardware_entry_failure_reason": 32,
  "memory_fault.flags": 32,
  "memory_fault.gpa": 40,
  "memory_fault.size": 48,
  kvm_valid_regs: 288,
  kvm_dirty_regs: 296,
  /** `struct kvm_sync_regs`, which each architecture has for itself. */
  s: 304,
} as const;

/** struct kvm_mp_state: no INIT and no SIPI to be waited for. */
export const KVM_MP_STATE_RUNNABLE = 0;
