/**
 * Parses the lines of a KvmTrace. The texts are those of the kernel's TP_printk (include/trace/events/kvm.h,
 * arch/x86/kvm/trace.h, arch/x86/kvm/mmu/mmutrace.h); a line that is none of them is refused, not passed over.
 */
import { PAGE_SIZE } from "../../../sys/src/looking.ts";

/**
 * @property thread PID of the thread that wrote the line: a vCPU's, a kworker's, or another of the host's
 * @property isKworker it is the kernel's own: it brings pages in, or writes them back
 */
export type KvmTracepoint = { readonly thread: number; readonly isKworker: boolean } & (
  | {
      readonly kind: "kvm_page_fault";
      readonly vcpu: number;
      readonly gpa: bigint;
      /** The second level maps the page, but not for this access: a store to what is mapped read-only. */
      readonly isPresent: boolean;
    }
  | {
      readonly kind: "kvm_try_async_get_page" | "kvm_async_pf_repeated_fault" | "kvm_async_pf_completed";
      readonly gpa: bigint;
    }
  | {
      readonly kind: "kvm_async_pf_not_present" | "kvm_async_pf_ready";
      readonly gpa: bigint;
      readonly vcpu: number;
    }
  | {
      readonly kind: "kvm_tdp_mmu_spte_changed";
      readonly gpa: bigint;
      /** 1: a page of 4 KiB. */
      readonly level: number;
      readonly before: SpteState;
      readonly after: SpteState;
    }
  /** @property errno positive, where KVM_RUN failed; then there is no reason */
  | { readonly kind: "kvm_userspace_exit"; readonly errno: number | null; readonly reason: string }
);

export type SpteState = "absent" | "page" | "table";

export class TraceError extends Error {
  override readonly name = "TraceError";
}

/** `CPU 0/KVM-125  [001] .....  27.510883: kvm_page_fault: vcpu 0 rip ..`: TASK-PID, CPU, flags, time, event, its text. */
const LINE = /^(.*?)-([0-9]+) +\[[0-9]+\] +(?:[^ ]+ +)?[0-9.]+: (\w+): (.*)$/;

/** SPTE_MMU_PRESENT_MASK, arch/x86/kvm/mmu/spte.h; a large page has PT_PAGE_SIZE_MASK. */
const PRESENT = 1n << 11n;
const LARGE = 1n << 7n;
/** PFERR_PRESENT_MASK */
const FAULT_PRESENT = 1n;
/** Tokens are `id << 12 | vcpu_id` (kvm_arch_setup_async_pf()). */
const TOKEN_VCPU = 0xfffn;

/** The values after the names: `gfn 40001 level 1`. With or without "=" and "0x"; numbers without "0x" are `base`. */
function values(line: string, text: string, base: 10 | 16, names: readonly string[]): readonly bigint[] {
  return names.map((name) => {
    const found = new RegExp(`(?:^|[ ,])${name}(?: =)? (0x)?([0-9a-f]+)(?:[ ,]|$)`).exec(text);
    const digits = found?.[2];
    if (digits === undefined) throw new TraceError(`"${line}": no ${name}`);
    if (found?.[1] !== undefined || base === 16) return BigInt(`0x${digits}`);
    if (!/^[0-9]+$/.test(digits)) throw new TraceError(`"${line}": ${name} ${digits} is no decimal number`);
    return BigInt(digits);
  });
}

function spteState(spte: bigint, level: number): SpteState {
  if ((spte & PRESENT) === 0n) return "absent";
  return level === 1 || (spte & LARGE) !== 0n ? "page" : "table";
}

type Writer = Pick<KvmTracepoint, "thread" | "isKworker">;

function tracepointOf(line: string, name: string, text: string, writer: Writer): KvmTracepoint {
  switch (name) {
    case "kvm_page_fault": {
      const [vcpu] = values(line, text, 10, ["vcpu"]) as [bigint];
      const [gpa, errorCode] = values(line, text, 16, ["address", "error_code"]) as [bigint, bigint];
      return {
        ...writer,
        kind: name,
        vcpu: Number(vcpu),
        gpa,
        isPresent: (errorCode & FAULT_PRESENT) !== 0n,
      };
    }
    case "kvm_try_async_get_page":
    case "kvm_async_pf_repeated_fault":
    case "kvm_async_pf_completed": {
      const [gpa] = values(line, text, 16, ["gva"]) as [bigint];
      return { ...writer, kind: name, gpa };
    }
    case "kvm_async_pf_not_present":
    case "kvm_async_pf_ready": {
      const [token, gpa] = values(line, text, 16, ["token", "gva"]) as [bigint, bigint];
      return { ...writer, kind: name, gpa, vcpu: Number(token & TOKEN_VCPU) };
    }
    case "kvm_tdp_mmu_spte_changed": {
      const [gfn, old, now] = values(line, text, 16, ["gfn", "old_spte", "new_spte"]) as [
        bigint,
        bigint,
        bigint,
      ];
      const level = Number(values(line, text, 10, ["level"])[0]);
      return {
        ...writer,
        kind: name,
        gpa: gfn * BigInt(PAGE_SIZE),
        level,
        before: spteState(old, level),
        after: spteState(now, level),
      };
    }
    case "kvm_userspace_exit": {
      const [, reason, number] = /^reason (\w+) \(([0-9]+)\)$/.exec(text) ?? [];
      if (reason === undefined) throw new TraceError(`"${line}": no reason`);
      return { ...writer, kind: name, errno: reason === "error" ? Number(number) : null, reason };
    }
    default:
      throw new TraceError(`"${line}": an unknown tracepoint`);
  }
}

/** Throws a TraceError. */
export function parseTraceLine(line: string): KvmTracepoint {
  const [, task, thread, name, text] = LINE.exec(line) ?? [];
  if (task === undefined || name === undefined || text === undefined) {
    throw new TraceError(`"${line}": not a line of tracefs`);
  }
  return tracepointOf(line, name, text, { thread: Number(thread), isKworker: task.startsWith("kworker/") });
}
