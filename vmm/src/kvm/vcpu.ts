/**
 * The part of a vCPU that all architectures share: KVM_RUN and its shared page. Its registers are arch/x86/vcpu.ts.
 *
 * All methods must be called on the thread that runs the vCPU (api.rst 2: "vcpu ioctls should be issued from the same
 * thread that was used to create the vcpu"); KVM allows the first ioctl from another thread to move it there.
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
import { KVM_MP_STATE_RUNNABLE, runOffset, sizeOf } from "./abi.ts";
import { ioctlRun, ioctlStruct } from "./device.ts";
import { decodeExit, type VcpuExit } from "./exit.ts";

export class RunnableVcpu {
  readonly fd: number;
  /** KVM_GET_VCPU_MMAP_SIZE */
  readonly runBytes: number;
  readonly #runAddress: bigint;
  readonly #run: DataView;
  /** `struct kvm_run`, for the registers that KVM may keep there. */
  protected get shared(): DataView {
    return this.#run;
  }

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

  /**
   * The bytes of the port access that KVM_RUN has just given up on: written by the guest, or to be filled in before the next
   * KVM_RUN. Good until then.
   */
  portData(): Uint8Array {
    const run = this.#run;
    const offset = Number(run.getBigUint64(runOffset["io.data_offset"], true));
    const bytes = run.getUint8(runOffset["io.size"]) * run.getUint32(runOffset["io.count"], true);
    if (offset + bytes > run.byteLength) throw new RangeError(`port data at ${offset}: ${bytes} bytes`);
    return new Uint8Array(run.buffer, run.byteOffset + offset, bytes);
  }

  /** The same for memory-mapped I/O: up to eight bytes. */
  mmioData(): Uint8Array {
    const bytes = Math.min(8, this.#run.getUint32(runOffset["mmio.len"], true));
    return new Uint8Array(this.#run.buffer, this.#run.byteOffset + runOffset["mmio.data"], bytes);
  }

  /** Starts a secondary vCPU as it is, without INIT and SIPI (KVM_SET_MP_STATE); on x86 only with an in-kernel APIC. */
  makeRunnable(): void {
    const state = new DataView(new ArrayBuffer(sizeOf.kvm_mp_state));
    state.setUint32(0, KVM_MP_STATE_RUNNABLE, true);
    ioctlStruct(this.fd, "KVM_SET_MP_STATE", state);
  }

  /** Blocks every signal but the kernel set's zeros while the vCPU is in KVM_RUN (KVM_SET_SIGNAL_MASK). */
  setSignalMask(kernelSet: bigint): void {
    const mask = new DataView(new ArrayBuffer(sizeOf.kvm_signal_mask + 8));
    mask.setUint32(0, 8, true);
    mask.setBigUint64(4, kernelSet, true);
    ioctlStruct(this.fd, "KVM_SET_SIGNAL_MASK", mask);
  }

  /** For a holder that does not own the descriptor: unmaps `struct kvm_run`. No other method works afterwards. */
  unmapRun(): void {
    munmap(this.#runAddress, this.runBytes);
  }

  close(): void {
    this.unmapRun();
    closeSync(this.fd);
  }
}
