/** Why KVM_RUN came back: `struct kvm_run` and the return value, decoded into one closed union. */
import { exitReason, runOffset } from "./abi.ts";

export type VcpuExit =
  | {
      readonly kind: "io";
      readonly direction: "in" | "out";
      readonly port: number;
      readonly size: number;
      readonly count: number;
      /** First element of an `out`; 0 for `in`. */
      readonly value: number;
    }
  | {
      readonly kind: "mmio";
      readonly gpa: bigint;
      readonly isWrite: boolean;
      readonly lengthBytes: number;
    }
  | { readonly kind: "hlt" }
  | { readonly kind: "shutdown" }
  | { readonly kind: "internal-error"; readonly suberror: number }
  | { readonly kind: "fail-entry"; readonly hardwareReason: bigint }
  /** KVM_EXIT_MEMORY_FAULT: -1 with EFAULT or EHWPOISON and the exit filled in (api.rst 5, KVM_CAP_MEMORY_FAULT_INFO). */
  | {
      readonly kind: "memory-fault";
      readonly errno: string;
      readonly flags: bigint;
      readonly gpa: bigint;
      readonly sizeBytes: bigint;
    }
  /** -1 with an errno and no exit with details: the result of a truncated page. */
  | { readonly kind: "error"; readonly errno: string; readonly exitReason: number }
  /** A signal of the host's (the watchdog's, or immediate_exit). */
  | { readonly kind: "interrupted" }
  | { readonly kind: "other"; readonly exitReason: number };

/**
 * @param run the vCPU's `struct kvm_run` page(s)
 * @param errno null if KVM_RUN returned 0, else the errno's name
 */
export function decodeExit(run: DataView, errno: string | null): VcpuExit {
  const reason = run.getUint32(runOffset.exit_reason, true);
  if (errno === "EINTR" || errno === "EAGAIN") return { kind: "interrupted" };
  if (errno !== null) {
    // A kernel before 6.8 leaves the previous exit_reason in place on -EFAULT: only 39 itself is evidence, and only with these.
    if (reason === exitReason.KVM_EXIT_MEMORY_FAULT && (errno === "EFAULT" || errno === "EHWPOISON")) {
      return {
        kind: "memory-fault",
        errno,
        flags: run.getBigUint64(runOffset["memory_fault.flags"], true),
        gpa: run.getBigUint64(runOffset["memory_fault.gpa"], true),
        sizeBytes: run.getBigUint64(runOffset["memory_fault.size"], true),
      };
    }
    return { kind: "error", errno, exitReason: reason };
  }
  return decodeReason(run, reason);
}

function decodeReason(run: DataView, reason: number): VcpuExit {
  switch (reason) {
    case exitReason.KVM_EXIT_IO:
      return decodeIo(run);
    case exitReason.KVM_EXIT_MMIO:
      return {
        kind: "mmio",
        gpa: run.getBigUint64(runOffset["mmio.phys_addr"], true),
        isWrite: run.getUint8(runOffset["mmio.is_write"]) !== 0,
        lengthBytes: run.getUint32(runOffset["mmio.len"], true),
      };
    case exitReason.KVM_EXIT_HLT:
      return { kind: "hlt" };
    case exitReason.KVM_EXIT_SHUTDOWN:
      return { kind: "shutdown" };
    case exitReason.KVM_EXIT_INTERNAL_ERROR:
      return { kind: "internal-error", suberror: run.getUint32(runOffset["internal.suberror"], true) };
    case exitReason.KVM_EXIT_FAIL_ENTRY:
      return {
        kind: "fail-entry",
        hardwareReason: run.getBigUint64(runOffset["fail_entry.hardware_entry_failure_reason"], true),
      };
    case exitReason.KVM_EXIT_INTR:
      return { kind: "interrupted" };
    default:
      return { kind: "other", exitReason: reason };
  }
}

function decodeIo(run: DataView): VcpuExit {
  const size = run.getUint8(runOffset["io.size"]);
  const direction = run.getUint8(runOffset["io.direction"]) === 1 ? "out" : "in";
  // KVM writes the offset (its own page), but it is a number from outside this program: keep it inside the mapping.
  const offset = Number(run.getBigUint64(runOffset["io.data_offset"], true));
  const inside = offset >= 0 && offset + size <= run.byteLength;
  const value = direction === "in" || !inside ? 0 : readValue(run, offset, size);
  return {
    kind: "io",
    direction,
    port: run.getUint16(runOffset["io.port"], true),
    size,
    count: run.getUint32(runOffset["io.count"], true),
    value,
  };
}

function readValue(view: DataView, offset: number, size: number): number {
  if (size === 1) return view.getUint8(offset);
  if (size === 2) return view.getUint16(offset, true);
  return view.getUint32(offset, true);
}
