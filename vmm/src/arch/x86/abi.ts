/**
 * The part of <asm/kvm.h> and <asm/kvm_para.h> (x86-64) that the VMM uses: registers, events, MSRs, CPUID.
 * Compared with the installed headers by `vmm/test/kvm/abi.test.ts`; what all architectures share is kvm/abi.ts.
 */

/** Sizes in bytes of the structures that ioctls carry. */
export const x86SizeOf = {
  kvm_regs: 144,
  kvm_sregs: 312,
  kvm_segment: 24,
  kvm_msrs: 8,
  kvm_msr_entry: 16,
  kvm_cpuid2: 8,
  kvm_cpuid_entry2: 40,
  kvm_xcrs: 392,
  kvm_vcpu_events: 64,
} as const;

/** `struct kvm_regs`: eighteen 64-bit words in this order. */
export const generalRegisters = [
  "rax",
  "rbx",
  "rcx",
  "rdx",
  "rsi",
  "rdi",
  "rsp",
  "rbp",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
  "rip",
  "rflags",
] as const;
export type GeneralRegister = (typeof generalRegisters)[number];
export type GeneralRegisters = Readonly<Record<GeneralRegister, bigint>>;

/** Offsets in `struct kvm_sregs`. */
export const sregsOffset = {
  cs: 0,
  ds: 24,
  es: 48,
  fs: 72,
  gs: 96,
  ss: 120,
  tr: 144,
  ldt: 168,
  gdt: 192,
  idt: 208,
  cr0: 224,
  cr2: 232,
  cr3: 240,
  cr4: 248,
  cr8: 256,
  efer: 264,
  apic_base: 272,
} as const;

/** Offsets in `struct kvm_sync_regs`, and the bits that name its parts in kvm_valid_regs and kvm_dirty_regs. */
export const syncOffset = { regs: 0, sregs: 144, events: 456 } as const;
export const syncBit = { KVM_SYNC_X86_REGS: 1, KVM_SYNC_X86_SREGS: 2, KVM_SYNC_X86_EVENTS: 4 } as const;

/** Offsets in `struct kvm_segment`. */
export const segmentOffset = {
  base: 0,
  limit: 8,
  selector: 12,
  type: 14,
  present: 15,
  dpl: 16,
  db: 17,
  s: 18,
  l: 19,
  g: 20,
  avl: 21,
  unusable: 22,
} as const;

/** Offsets in `struct kvm_vcpu_events`. */
export const eventsOffset = {
  "exception.injected": 0,
  "exception.nr": 1,
  "exception.has_error_code": 2,
  "exception.pending": 3,
  "exception.error_code": 4,
  flags: 20,
  exception_has_payload: 55,
  exception_payload: 56,
} as const;

/** Of kvm_vcpu_events.flags: exception_has_payload means something. */
export const KVM_VCPUEVENT_VALID_PAYLOAD = 0x10;

/** Architectural ones, and paravirtual async page faults (Documentation/virt/kvm/x86/msr.rst). */
export const msr = {
  MSR_IA32_TSC: 0x10,
  MSR_IA32_MCG_STATUS: 0x17a,
  MSR_IA32_MC0_STATUS: 0x401,
  MSR_KVM_ASYNC_PF_EN: 0x4b564d02,
  MSR_KVM_ASYNC_PF_INT: 0x4b564d06,
  MSR_KVM_ASYNC_PF_ACK: 0x4b564d07,
} as const;
export const KVM_ASYNC_PF_ENABLED = 1n;

export const KVM_CPUID_FEATURES = 0x40000001;
/**
 * Bits of EAX of leaf KVM_CPUID_FEATURES that decide how a lost page can be reported. The last two are those of
 * `sigbus-injection` and `kvm-ve-injection` (fixtures/kernels): no release of Linux has them.
 */
export const kvmFeatureBit = {
  KVM_FEATURE_ASYNC_PF: 4,
  KVM_FEATURE_ASYNC_PF_VMEXIT: 10,
  KVM_FEATURE_ASYNC_PF_INT: 14,
  KVM_FEATURE_ASYNC_PF_ERROR: 20,
  KVM_FEATURE_VE_INFO: 21,
} as const;
export type KvmFeature = keyof typeof kvmFeatureBit;

/** Counter of KVM_GET_STATS_FD: the page faults that KVM has taken for a vCPU (kvm_vcpu_stats_desc, arch/x86/kvm/x86.c). */
export const FAULT_COUNTER = "pf_taken";
/**
 * The same: the #PFs that KVM has injected (kvm_inject_page_fault()). With nested page tables a guest's own #PFs do not come
 * to KVM, and these are its page-not-present events.
 */
export const INJECTED_FAULT_COUNTER = "pf_guest";
