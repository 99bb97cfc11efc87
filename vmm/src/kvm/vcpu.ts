/**
 * One vCPU: registers, MSRs, and KVM_RUN. All methods must be called on the thread that runs the vCPU
 * (api.rst 2: "vcpu ioctls should be issued from the same thread that was used to create the vcpu"; `attach` is the
 * one exception that KVM makes work: the first ioctl from another thread moves it there).
 */
import { closeSync } from "node:fs";
import {
  errnoName,
  lastErrno,
  MAP_SHARED,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from "../../../sys/src/index.ts";
import {
  type GeneralRegister,
  generalRegisters,
  runOffset,
  segmentOffset,
  sizeOf,
  sregsOffset,
} from "./abi.ts";
import { ioctlRun, ioctlStruct, ioctlWord } from "./device.ts";
import { decodeExit, type VcpuExit } from "./exit.ts";

export type GeneralRegisters = Readonly<Record<GeneralRegister, bigint>>;

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

export type SpecialRegisters = {
  readonly segments: Partial<Record<"cs" | "ds" | "es" | "fs" | "gs" | "ss" | "tr", Segment>>;
  readonly tables: Partial<Record<"gdt" | "idt", { readonly base: bigint; readonly limit: number }>>;
  readonly control: Partial<Record<"cr0" | "cr2" | "cr3" | "cr4" | "efer" | "apic_base", bigint>>;
};

export class Vcpu {
  readonly fd: number;
  /** KVM_GET_VCPU_MMAP_SIZE */
  readonly runBytes: number;
  readonly #runAddress: bigint;
  readonly #run: DataView;
  readonly #regs: BigUint64Array = new BigUint64Array(generalRegisters.length);

  constructor(fd: number, runBytes: number) {
    this.fd = fd;
    this.runBytes = runBytes;
    this.#runAddress = mmap({ lengthBytes: runBytes, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
    const bytes = viewOf(this.#runAddress, runBytes);
    this.#run = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Enters the guest until something needs the host. Never throws for what the guest or its memory does. */
  run(): VcpuExit {
    const failed = ioctlRun(this.fd) !== 0;
    return decodeExit(this.#run, failed ? errnoName(lastErrno()) : null);
  }

  /** The raw exit reason of the last KVM_RUN, as left in `struct kvm_run`. */
  get lastExitReason(): number {
    return this.#run.getUint32(runOffset.exit_reason, true);
  }

  /** The next KVM_RUN returns at once (KVM_CAP_IMMEDIATE_EXIT), completing pending port and MMIO accesses first. */
  set immediateExit(on: boolean) {
    this.#run.setUint8(runOffset.immediate_exit, on ? 1 : 0);
  }

  getRegisters(): GeneralRegisters {
    ioctlStruct(this.fd, "KVM_GET_REGS", this.#regs);
    const entries = generalRegisters.map((name, index) => [name, this.#regs[index] ?? 0n]);
    return Object.fromEntries(entries) as GeneralRegisters;
  }

  /** Changes the named registers, keeps the others. */
  setRegisters(changes: Partial<GeneralRegisters>): void {
    ioctlStruct(this.fd, "KVM_GET_REGS", this.#regs);
    for (const [index, name] of generalRegisters.entries()) {
      const value = changes[name];
      if (value !== undefined) this.#regs[index] = BigInt.asUintN(64, value);
    }
    ioctlStruct(this.fd, "KVM_SET_REGS", this.#regs);
  }

  #readSregs(): DataView {
    const sregs = new DataView(new ArrayBuffer(sizeOf.kvm_sregs));
    ioctlStruct(this.fd, "KVM_GET_SREGS", sregs);
    return sregs;
  }

  /** Current privilege level: the low two bits of CS's selector. */
  currentPrivilegeLevel(): number {
    return this.#readSregs().getUint16(sregsOffset.cs + segmentOffset.selector, true) & 3;
  }

  controlRegister(name: "cr0" | "cr2" | "cr3" | "cr4" | "efer" | "apic_base"): bigint {
    return this.#readSregs().getBigUint64(sregsOffset[name], true);
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
    ioctlStruct(this.fd, "KVM_SET_SREGS", sregs);
  }

  /** XCR0 (KVM_CAP_XCRS). Register state that is not enabled here is not the guest's to use. */
  setXcr0(value: bigint): void {
    const xcrs = new DataView(new ArrayBuffer(sizeOf.kvm_xcrs));
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

  /** Frequency of the guest's TSC (KVM_GET_TSC_KHZ), or null where the host's is not stable. */
  tscKhz(): number | null {
    try {
      return ioctlWord(this.fd, "KVM_GET_TSC_KHZ") || null;
    } catch {
      return null;
    }
  }

  /** Guest virtual to guest physical with the vCPU's page tables (KVM_TRANSLATE), or null. */
  translate(gva: bigint): bigint | null {
    const translation = new DataView(new ArrayBuffer(sizeOf.kvm_translation));
    translation.setBigUint64(0, gva, true);
    ioctlStruct(this.fd, "KVM_TRANSLATE", translation);
    return translation.getUint8(16) === 1 ? translation.getBigUint64(8, true) : null;
  }

  /** Blocks every signal but the kernel set's zeros while the vCPU is in KVM_RUN (KVM_SET_SIGNAL_MASK). */
  setSignalMask(kernelSet: bigint): void {
    const mask = new DataView(new ArrayBuffer(sizeOf.kvm_signal_mask + 8));
    mask.setUint32(0, 8, true);
    mask.setBigUint64(4, kernelSet, true);
    ioctlStruct(this.fd, "KVM_SET_SIGNAL_MASK", mask);
  }

  close(): void {
    munmap(this.#runAddress, this.runBytes);
    closeSync(this.fd);
  }
}

function msrBuffer(index: number, value: bigint): DataView {
  const msrs = new DataView(new ArrayBuffer(sizeOf.kvm_msrs + sizeOf.kvm_msr_entry));
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
