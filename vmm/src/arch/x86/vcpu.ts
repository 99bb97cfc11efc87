/**
 * An x86 vCPU: general and special registers, MSRs, events and machine checks. KVM_RUN itself is kvm/vcpu.ts, as is the
 * rule about threads.
 */

import { SyscallError } from "../../../../sys/src/index.ts";
import { runOffset, sizeOf } from "../../kvm/abi.ts";
import { ioctlStruct, ioctlWord } from "../../kvm/device.ts";
import type { VcpuExit } from "../../kvm/exit.ts";
import { RunnableVcpu } from "../../kvm/vcpu.ts";
import {
  eventsOffset,
  type GeneralRegisters,
  generalRegisters,
  KVM_VCPUEVENT_VALID_PAYLOAD,
  msr,
  segmentOffset,
  sregsOffset,
  syncBit,
  syncOffset,
  x86SizeOf,
} from "./abi.ts";

/** `struct kvm_segment` without what follows from the rest. */
export type Segment = {
  readonly base: bigint;
  readonly limit: number;
  readonly selector: number;
  readonly type: number;
  /** Descriptor type: 1 for code and data, 0 for system segments. */
  readonly s: number;
  readonly dpl: number;
  /** 64-bit code. */
  readonly l: number;
  readonly db: number;
  readonly g: number;
};

const VECTOR_PF = 14;
/** All that a policy reads and changes at an exit. */
const SYNC_ALL: number = syncBit.KVM_SYNC_X86_REGS | syncBit.KVM_SYNC_X86_SREGS | syncBit.KVM_SYNC_X86_EVENTS;

function isLostPage(exit: VcpuExit): boolean {
  return exit.kind === "memory-fault" || (exit.kind === "error" && exit.errno === "EFAULT");
}

/** "Genu" */
const GENUINE_INTEL_EBX = 0x756e6547;

export type SpecialRegisters = {
  readonly segments: Partial<Record<"cs" | "ds" | "es" | "fs" | "gs" | "ss" | "tr", Segment>>;
  readonly tables: Partial<Record<"gdt" | "idt", { readonly base: bigint; readonly limit: number }>>;
  readonly control: Partial<Record<"cr0" | "cr2" | "cr3" | "cr4" | "efer" | "apic_base", bigint>>;
};

export class Vcpu extends RunnableVcpu {
  readonly #regs: BigUint64Array = new BigUint64Array(generalRegisters.length);
  // One buffer each for the vCPU's life: making one costs more than the call that fills it.
  readonly #sregs: DataView = new DataView(new ArrayBuffer(x86SizeOf.kvm_sregs));
  readonly #events: DataView = new DataView(new ArrayBuffer(x86SizeOf.kvm_vcpu_events));

  /** KVM can keep registers in `struct kvm_run` (KVM_CAP_SYNC_REGS). */
  #canSync = false;
  /** Those there are the vCPU's, as of the last exit. */
  #isSynced = false;

  /** The VM has KVM_CAP_EXCEPTION_PAYLOAD enabled. */
  #hasPayload = false;

  useExceptionPayload(): void {
    this.#hasPayload = true;
  }

  /** @param fields KVM's answer to KVM_CAP_SYNC_REGS */
  syncRegisters(fields: number): void {
    this.#canSync = (fields & SYNC_ALL) === SYNC_ALL;
  }

  /**
   * After an exit for a lost page, others are likely: KVM then leaves the registers in `struct kvm_run` at the next exit, and
   * takes from there what was changed, which saves a call for each. At any other exit nobody looks at them.
   */
  override run(): VcpuExit {
    const exit = super.run();
    if (!this.#canSync) return exit;
    this.#isSynced = this.shared.getBigUint64(runOffset.kvm_valid_regs, true) !== 0n;
    this.shared.setBigUint64(runOffset.kvm_valid_regs, isLostPage(exit) ? BigInt(SYNC_ALL) : 0n, true);
    return exit;
  }

  /** Whole parts of the shared page, named by `syncBit`, have been changed: KVM takes them at the next entry. */
  #markDirty(bit: number): void {
    const dirty = this.shared.getBigUint64(runOffset.kvm_dirty_regs, true);
    this.shared.setBigUint64(runOffset.kvm_dirty_regs, dirty | BigInt(bit), true);
  }

  #readRegs(): void {
    if (!this.#isSynced) {
      ioctlStruct(this.fd, "KVM_GET_REGS", this.#regs);
      return;
    }
    for (let i = 0; i < this.#regs.length; i++) {
      this.#regs[i] = this.shared.getBigUint64(runOffset.s + syncOffset.regs + 8 * i, true);
    }
  }

  getRegisters(): GeneralRegisters {
    this.#readRegs();
    const entries = generalRegisters.map((name, index) => [name, this.#regs[index] ?? 0n]);
    return Object.fromEntries(entries) as GeneralRegisters;
  }

  /** Changes the named registers, keeps the others. */
  setRegisters(changes: Partial<GeneralRegisters>): void {
    ioctlStruct(this.fd, "KVM_GET_REGS", this.#regs);
    this.#isSynced = false;
    for (const [index, name] of generalRegisters.entries()) {
      const value = changes[name];
      if (value !== undefined) this.#regs[index] = BigInt.asUintN(64, value);
    }
    ioctlStruct(this.fd, "KVM_SET_REGS", this.#regs);
  }

  /** Good until the next call. */
  #readSregs(): DataView {
    if (this.#isSynced) {
      const { buffer, byteOffset } = this.shared;
      return new DataView(buffer, byteOffset + runOffset.s + syncOffset.sregs, x86SizeOf.kvm_sregs);
    }
    ioctlStruct(this.fd, "KVM_GET_SREGS", this.#sregs);
    return this.#sregs;
  }

  #writeSregs(sregs: DataView): void {
    if (this.#isSynced) this.#markDirty(syncBit.KVM_SYNC_X86_SREGS);
    else ioctlStruct(this.fd, "KVM_SET_SREGS", sregs);
  }

  #readEvents(): DataView {
    if (this.#isSynced) {
      const { buffer, byteOffset } = this.shared;
      return new DataView(buffer, byteOffset + runOffset.s + syncOffset.events, x86SizeOf.kvm_vcpu_events);
    }
    ioctlStruct(this.fd, "KVM_GET_VCPU_EVENTS", this.#events);
    return this.#events;
  }

  #writeEvents(events: DataView): void {
    if (this.#isSynced) this.#markDirty(syncBit.KVM_SYNC_X86_EVENTS);
    else ioctlStruct(this.fd, "KVM_SET_VCPU_EVENTS", events);
  }

  /** `struct kvm_regs` and `struct kvm_sregs` as KVM has them. */
  rawState(): readonly [Uint8Array, Uint8Array] {
    ioctlStruct(this.fd, "KVM_GET_REGS", this.#regs);
    ioctlStruct(this.fd, "KVM_GET_SREGS", this.#sregs);
    return [new Uint8Array(this.#regs.buffer.slice(0)), new Uint8Array(this.#sregs.buffer.slice(0))];
  }

  /** Current privilege level: the low two bits of CS's selector. */
  currentPrivilegeLevel(): number {
    return this.#readSregs().getUint16(sregsOffset.cs + segmentOffset.selector, true) & 3;
  }

  /** Of FS and GS, which 64-bit code still adds to addresses. */
  segmentBases(): { readonly fs: bigint; readonly gs: bigint } {
    const sregs = this.#readSregs();
    const base = (name: "fs" | "gs") => sregs.getBigUint64(sregsOffset[name] + segmentOffset.base, true);
    return { fs: base("fs"), gs: base("gs") };
  }

  /** Changes what is named, keeps the rest. */
  setSpecialRegisters(changes: SpecialRegisters): void {
    const sregs = this.#readSregs();
    for (const [name, segment] of Object.entries(changes.segments)) {
      writeSegment(sregs, sregsOffset[name as keyof typeof changes.segments], segment);
    }
    for (const [name, table] of Object.entries(changes.tables)) {
      const offset = sregsOffset[name as "gdt" | "idt"];
      sregs.setBigUint64(offset, table.base, true);
      sregs.setUint16(offset + 8, table.limit, true);
    }
    for (const [name, value] of Object.entries(changes.control)) {
      sregs.setBigUint64(sregsOffset[name as keyof typeof changes.control], value, true);
    }
    this.#writeSregs(sregs);
  }

  /** XCR0 (KVM_CAP_XCRS). Register state that is not enabled here is not the guest's to use. */
  setXcr0(value: bigint): void {
    const xcrs = new DataView(new ArrayBuffer(x86SizeOf.kvm_xcrs));
    xcrs.setUint32(0, 1, true);
    // struct kvm_xcr { u32 xcr; u32 reserved; u64 value } behind nr_xcrs and flags.
    xcrs.setBigUint64(16, value, true);
    ioctlStruct(this.fd, "KVM_SET_XCRS", xcrs);
  }

  /** One MSR, or null if KVM does not know it. */
  getMsr(index: number): bigint | null {
    const msrs = msrBuffer(index, 0n);
    return ioctlStruct(this.fd, "KVM_GET_MSRS", msrs) === 1 ? msrs.getBigUint64(16, true) : null;
  }

  /** Whether KVM took it: unknown MSRs and refused values are not errors of the call. */
  setMsr(index: number, value: bigint): boolean {
    return ioctlStruct(this.fd, "KVM_SET_MSRS", msrBuffer(index, value)) === 1;
  }

  /** Time-stamp counter of the guest (IA32_TIME_STAMP_COUNTER), or null if KVM does not know it. */
  timeStampCounter(): bigint | null {
    return this.getMsr(msr.MSR_IA32_TSC);
  }

  /** MSR_KVM_ASYNC_PF_EN, or null if KVM does not know it. */
  asyncPageFaultMsr(): bigint | null {
    return this.getMsr(msr.MSR_KVM_ASYNC_PF_EN);
  }

  /** Does the guest see an Intel processor? Decides the form of what is injected. */
  isIntel(): boolean {
    const maxEntries = 256;
    const cpuid = new DataView(
      new ArrayBuffer(x86SizeOf.kvm_cpuid2 + maxEntries * x86SizeOf.kvm_cpuid_entry2),
    );
    cpuid.setUint32(0, maxEntries, true);
    ioctlStruct(this.fd, "KVM_GET_CPUID2", cpuid);
    // Leaf 0 is the first entry; its EBX.
    return cpuid.getUint32(x86SizeOf.kvm_cpuid2 + 16, true) === GENUINE_INTEL_EBX;
  }

  control4(): bigint {
    return this.#readSregs().getBigUint64(sregsOffset.cr4, true);
  }

  /** RFLAGS.IF. */
  interruptsOn(): boolean {
    return (this.getRegisters().rflags & 0x200n) !== 0n;
  }

  /** Sets CR2, keeps the rest. */
  setCr2(address: bigint): void {
    const sregs = this.#readSregs();
    sregs.setBigUint64(sregsOffset.cr2, address, true);
    this.#writeSregs(sregs);
  }

  /**
   * Queues an exception for the next entry (KVM_SET_VCPU_EVENTS), as hardware would have raised it at the current rip.
   * @param errorCode null for vectors that push none
   */
  injectException(vector: number, errorCode: number | null): void {
    const events = this.#readEvents();
    events.setUint8(eventsOffset["exception.injected"], 1);
    events.setUint8(eventsOffset["exception.nr"], vector);
    events.setUint8(eventsOffset["exception.has_error_code"], errorCode === null ? 0 : 1);
    events.setUint8(eventsOffset["exception.pending"], 0);
    events.setUint32(eventsOffset["exception.error_code"], errorCode ?? 0, true);
    this.#writeEvents(events);
  }

  /**
   * Queues a #PF at the current rip, with CR2. With a payload (KVM_CAP_EXCEPTION_PAYLOAD) it is a pending exception, for which
   * KVM sets CR2 when it delivers it, as QEMU does it. Without, CR2 is set by KVM_SET_SREGS, which sets TR as well: QEMU's
   * emulated SVM then refuses user space every port (helper_check_io() wants a TSS that is not busy, KVM says that it is).
   */
  injectPageFault(address: bigint, errorCode: number): void {
    if (!this.#hasPayload) {
      this.setCr2(address);
      this.injectException(VECTOR_PF, errorCode);
      return;
    }
    const events = this.#readEvents();
    events.setUint8(eventsOffset["exception.injected"], 0);
    events.setUint8(eventsOffset["exception.nr"], VECTOR_PF);
    events.setUint8(eventsOffset["exception.has_error_code"], 1);
    events.setUint8(eventsOffset["exception.pending"], 1);
    events.setUint32(eventsOffset["exception.error_code"], errorCode, true);
    const flags = events.getUint32(eventsOffset.flags, true);
    events.setUint32(eventsOffset.flags, flags | KVM_VCPUEVENT_VALID_PAYLOAD, true);
    events.setUint8(eventsOffset.exception_has_payload, 1);
    events.setBigUint64(eventsOffset.exception_payload, address, true);
    this.#writeEvents(events);
  }

  /** Queues a non-maskable interrupt (KVM_NMI). */
  injectNmi(): void {
    ioctlWord(this.fd, "KVM_NMI");
  }

  /** Queues an external interrupt; only without an in-kernel APIC and while the guest takes interrupts (KVM_INTERRUPT). */
  injectInterrupt(vector: number): void {
    const interrupt = new DataView(new ArrayBuffer(4));
    interrupt.setUint32(0, vector, true);
    ioctlStruct(this.fd, "KVM_INTERRUPT", interrupt);
  }

  /** Machine-check banks and capabilities (KVM_X86_SETUP_MCE); before the guest's first instruction. */
  setupMachineChecks(capabilities: bigint): void {
    const value = new BigUint64Array([capabilities]);
    ioctlStruct(this.fd, "KVM_X86_SETUP_MCE", value);
  }

  /** Raises a machine check (KVM_X86_SET_MCE). Throws EINVAL for a bank that there is not or a status without VAL. */
  injectMachineCheck(error: {
    readonly bank: number;
    readonly status: bigint;
    readonly address: bigint;
    readonly misc: bigint;
    readonly globalStatus: bigint;
  }): void {
    const mce = new DataView(new ArrayBuffer(sizeOf.kvm_x86_mce));
    mce.setBigUint64(0, error.status, true);
    mce.setBigUint64(8, error.address, true);
    mce.setBigUint64(16, error.misc, true);
    mce.setBigUint64(24, error.globalStatus, true);
    mce.setUint8(32, error.bank);
    ioctlStruct(this.fd, "KVM_X86_SET_MCE", mce);
  }

  /** Frequency of the guest's TSC (KVM_GET_TSC_KHZ), or null where the host's is not stable. */
  tscKhz(): number | null {
    try {
      return ioctlWord(this.fd, "KVM_GET_TSC_KHZ") || null;
    } catch {
      return null;
    }
  }

  /**
   * Lets the guest know that it was stopped (KVM_KVMCLOCK_CTRL): its watchdogs then do not take the time for a stall. Does
   * nothing for a guest that has not turned its kvm-clock on.
   */
  noteStopped(): void {
    try {
      ioctlWord(this.fd, "KVM_KVMCLOCK_CTRL");
    } catch (error) {
      if (!(error instanceof SyscallError) || error.code !== "EINVAL") throw error;
    }
  }

  /** Guest virtual to guest physical with the vCPU's page tables (KVM_TRANSLATE), or null. */
  translate(gva: bigint): bigint | null {
    const translation = new DataView(new ArrayBuffer(sizeOf.kvm_translation));
    translation.setBigUint64(0, gva, true);
    ioctlStruct(this.fd, "KVM_TRANSLATE", translation);
    return translation.getUint8(16) === 1 ? translation.getBigUint64(8, true) : null;
  }
}

function msrBuffer(index: number, value: bigint): DataView {
  const msrs = new DataView(new ArrayBuffer(x86SizeOf.kvm_msrs + x86SizeOf.kvm_msr_entry));
  msrs.setUint32(0, 1, true);
  msrs.setUint32(8, index, true);
  msrs.setBigUint64(16, value, true);
  return msrs;
}

function writeSegment(sregs: DataView, offset: number, segment: Segment): void {
  sregs.setBigUint64(offset + segmentOffset.base, segment.base, true);
  sregs.setUint32(offset + segmentOffset.limit, segment.limit, true);
  sregs.setUint16(offset + segmentOffset.selector, segment.selector, true);
  const bytes = { present: 1, unusable: 0, avl: 0, ...segment };
  for (const field of ["type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable"] as const) {
    sregs.setUint8(offset + segmentOffset[field], bytes[field]);
  }
}
