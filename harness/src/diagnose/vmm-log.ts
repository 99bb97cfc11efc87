/**
 * A VMM's log in which KVM_RUN failed: QEMU's messages and register dump (kvm_cpu_exec(), accel/kvm/kvm-all.c;
 * kvm_arch_handle_exit(), target/i386/kvm/kvm.c; x86_cpu_dump_state(), target/i386/cpu-dump.c), and the line of a VMM in Rust, whose error is `Bad address (os error 14)`.
 *
 * The dump has no address of the access that failed: CR2 is the guest's last page fault of its own. What is known is the
 * instruction (RIP, Code) and whether the guest's kernel or a program made it (CPL).
 */

export type LogFailure = {
  /** From 1. */
  readonly line: number;
  /** The line that says it; of a long one its beginning. */
  readonly message: string;
  /** Whose words they are. */
  readonly vmm: "qemu" | "other";
  /** `Bad address`, `entry failed, hardware error 0x80000021`; null: KVM_EXIT_INTERNAL_ERROR. */
  readonly error: string | null;
  /** By name, as the dump has them: `RIP`, `CPL`, `CR3`. */
  readonly registers: Readonly<Record<string, string>>;
  /** The bytes at the instruction; that at RIP is in `<>`. */
  readonly code: string | null;
};

// Linear in a line's length: a log is written by others, and a line of it may be as long as the log.
const FAILED = /error: kvm run failed (.*\S)/;
/** KVM_EXIT_FAIL_ENTRY and KVM_EXIT_UNKNOWN. */
const REFUSED = /KVM: ((?:entry failed, hardware error|unknown exit, hardware reason) (?:0x)?[0-9a-f]+)/;
const INTERNAL = /KVM internal error\. Suberror: ([0-9]+)/;
const RUST_ERROR = "bad address (os error 14)";
const RUST_CALL = /vcpu|kvm_run/;
const FAILURES_MAX = 64;
const MESSAGE_CHARACTERS = 300;
/** The dump is some thirty lines. */
const DUMP_LINES = 60;

const REGISTER = /\b([A-Z][A-Z0-9]{1,3}) ?= ?([0-9a-f]{8,16})\b/g;
const FLAG = /\b(CPL|HLT|SMM|II|A20)=([0-9])\b/g;

function shortened(text: string): string {
  return text.length > MESSAGE_CHARACTERS ? `${text.slice(0, MESSAGE_CHARACTERS)} ...` : text;
}

type Failed = Pick<LogFailure, "vmm" | "error">;

/** What of KVM_RUN a line says; null: nothing of a failure. */
function failureOf(line: string): Failed | null {
  const error = FAILED.exec(line)?.[1] ?? REFUSED.exec(line)?.[1];
  if (error !== undefined) return { vmm: "qemu", error: shortened(error) };
  if (INTERNAL.test(line)) return { vmm: "qemu", error: null };
  const text = line.toLowerCase();
  const end = text.lastIndexOf(RUST_ERROR);
  const isRust = end >= 0 && RUST_CALL.test(text.slice(0, end));
  return isRust ? { vmm: "other", error: "Bad address" } : null;
}

function dumpOf(lines: readonly string[]): Pick<LogFailure, "registers" | "code"> {
  const registers: Record<string, string> = {};
  let code: string | null = null;
  for (const line of lines) {
    if (failureOf(line) !== null) break;
    for (const pattern of [REGISTER, FLAG]) {
      for (const [, name, value] of line.matchAll(pattern)) {
        if (name !== undefined && value !== undefined) registers[name] ??= value;
      }
    }
    const bytes = /^Code=([0-9a-f<> ?]+)$/.exec(line.trim())?.[1];
    if (bytes === undefined) continue;
    code = bytes.trim();
    break;
  }
  return { registers, code };
}

/** Every failure in the log, in its order. Pure. */
export function parseVmmLog(text: string): readonly LogFailure[] {
  const lines = text.split(/\r?\n/);
  const failures: LogFailure[] = [];
  for (const [index, line] of lines.entries()) {
    const failed = failureOf(line);
    if (failed === null) continue;
    failures.push({
      line: index + 1,
      message: shortened(line.trim()),
      ...failed,
      ...dumpOf(lines.slice(index + 1, index + 1 + DUMP_LINES)),
    });
    if (failures.length === FAILURES_MAX) break;
  }
  return failures;
}

export type LogVerdict = {
  readonly kind: "killed-by-efault" | "failed" | "internal-error";
  readonly text: string;
  readonly remedy: string;
};

/** QEMU stops (vm_stop(RUN_STATE_INTERNAL_ERROR)), and then refuses `cont` (runstate_needs_reset()). */
const STOPPED: Readonly<Record<LogFailure["vmm"], string>> = {
  qemu: "QEMU has stopped the VM (internal-error) and takes no cont then: reset or end it.",
  other: "What becomes of the VM is this VMM's own matter: most end it.",
};

export function logVerdict({ vmm, error, registers, code }: LogFailure): LogVerdict {
  const rip = registers.RIP ?? registers.EIP ?? null;
  const by =
    registers.CPL === undefined
      ? "the guest"
      : registers.CPL === "0"
        ? "the guest's kernel"
        : "a program in the guest";
  const at = rip === null ? "" : ` at RIP ${rip}`;
  if (error === null) {
    return {
      kind: "internal-error",
      text: `KVM could not emulate an instruction of ${by}${at}: no page is missing, unless the instruction lies in one or is one that KVM has to emulate`,
      remedy: STOPPED[vmm],
    };
  }
  if (!/^Bad address/.test(error)) {
    return { kind: "failed", text: `KVM_RUN failed (${error})${at}`, remedy: STOPPED[vmm] };
  }
  const instruction = code === null ? "" : "; Code has the instruction, whose operand is the address";
  return {
    kind: "killed-by-efault",
    text:
      `killed by -EFAULT: ${by} touched a page${at} that the host cannot give it, as behind the end of a file that got ` +
      `shorter. Its address is not in the log (CR2 of a dump is the guest's own last page fault)${instruction}`,
    remedy:
      `${STOPPED[vmm]} Make the file as long again as it is mapped before the guest comes to it anew (daxfault ` +
      "diagnose --pid names it, as long as the process lives).",
  };
}
