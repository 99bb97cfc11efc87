/**
 * Why a guest in QEMU has stopped, or QEMU has gone: from its run state, its standard error and its wait status. Pure.
 *
 * Source: kvm_cpu_exec() (accel/kvm/kvm-all.c), cpu_dump_state() (target/i386/cpu-dump.c), runstate_needs_reset().
 */
import type { EndReason, Place, VcpuExit } from "../../../../../vmm/src/index.ts";
import type { QmpEvent } from "./qmp.ts";

/** Registers of a vCPU as QEMU prints them when KVM_RUN has failed. */
export type RegisterDump = { readonly rip: bigint; readonly cpl: number };

/** The last dump in the text; null: there is none. `RIP=ffffffff81c00d12 RFL=00010046 [---Z-P-] CPL=0 II=0`. */
export function registersIn(stderr: string): RegisterDump | null {
  const last = [...stderr.matchAll(/\b[RE]IP=([0-9a-f]+) [RE]FL=[0-9a-f]+ \[[^\]]*\] CPL=([0-3])/g)].at(-1);
  if (last === undefined) return null;
  const [, rip = "0", cpl = "0"] = last;
  return { rip: BigInt(`0x${rip}`), cpl: Number(cpl) };
}

/** QEMU prints strerror(). Others than these have no errno of our vocabulary. */
const errnoNames: Readonly<Record<string, string>> = {
  "Bad address": "EFAULT",
  "Memory page has hardware error": "EHWPOISON",
};

/** Why KVM_RUN gave up, of a VM in the run state `internal-error`. */
export function exitIn(stderr: string): VcpuExit {
  const failed = /kvm run failed ([^\n]+)/.exec(stderr)?.[1]?.trim();
  if (failed !== undefined) return { kind: "error", errno: errnoNames[failed] ?? failed, exitReason: 0 };
  const suberror = /KVM internal error\. Suberror: ([0-9]+)/.exec(stderr)?.[1];
  if (suberror !== undefined) return { kind: "internal-error", suberror: Number(suberror) };
  const hardware = /KVM: entry failed, hardware error (0x[0-9a-f]+)/.exec(stderr)?.[1];
  if (hardware !== undefined) return { kind: "fail-entry", hardwareReason: BigInt(hardware) };
  return { kind: "other", exitReason: 0 };
}

/** Where the vCPU was: what a register dump has, and the step that was under way. */
export function placeOf(
  dump: RegisterDump | null,
  pending: { readonly task: number; readonly step: number; readonly gva: bigint } | null,
): Place | null {
  if (dump === null) return null;
  const { task = -1, step = -1, gva = 0n } = pending ?? {};
  return { ...dump, task, step, gva, gpa: null, hva: null };
}

/** How QEMU's process ended. */
export type QemuExit = {
  readonly exitCode: number | undefined;
  readonly signal: string | undefined;
  readonly stderr: string;
};

/** Who ended or reset the machine from outside (ShutdownCause, qapi/run-state.json). */
const outsiders: Readonly<Record<string, string>> = {
  "host-qmp-quit": "by `quit` of QMP",
  "host-qmp-system-reset": "by `system_reset` of QMP",
  "host-signal": "by SIGTERM, SIGINT or SIGHUP",
  "host-ui": "by its user interface",
  "host-error": "by an error of the host's",
};

/** What QEMU said of its end (`SHUTDOWN`); null: it said nothing. */
function saidEnd(events: readonly QmpEvent[]): EndReason | null {
  const shutdown = events.findLast(({ name }) => name === "SHUTDOWN");
  const reason = String(shutdown?.data.reason ?? "");
  const outsider = outsiders[reason];
  if (outsider !== undefined) {
    return { kind: "defect", message: `QEMU was ended from outside, ${outsider} (${reason})` };
  }
  switch (reason) {
    case "guest-shutdown":
      return { kind: "guest-off", how: "power-off" };
    case "guest-reset":
    case "subsystem-reset":
      return { kind: "guest-off", how: "reset" };
    case "guest-panic":
      return { kind: "guest-panic", reason: "QEMU reports a panic of the guest" };
    default:
      return null;
  }
}

/** The last line of what QEMU printed, without its name. */
export function lastWords(stderr: string): string {
  const line = stderr.trim().split("\n").at(-1) ?? "";
  return line.replace(/^\S*qemu-system-x86_64: /, "");
}

/** What a process gets for what it does itself: a lost page, a defect of its own. Whoever sends another one is outside. */
const ownSignals: ReadonlySet<string> = new Set([
  "SIGBUS",
  "SIGSEGV",
  "SIGABRT",
  "SIGILL",
  "SIGFPE",
  "SIGTRAP",
  "SIGSYS",
]);

/** Why QEMU has gone. @param isOurs this side killed it */
export function causeOf(exit: QemuExit, events: readonly QmpEvent[], isOurs: boolean): EndReason {
  if (isOurs) return { kind: "stopped-from-outside" };
  if (exit.signal !== undefined) {
    if (ownSignals.has(exit.signal)) return { kind: "vmm-killed", signal: exit.signal };
    return { kind: "defect", message: `QEMU was killed from outside, by ${exit.signal}` };
  }
  const ending = exit.exitCode === 0 ? saidEnd(events) : null;
  if (ending !== null) return ending;
  const said = lastWords(exit.stderr);
  const how = exit.exitCode === undefined ? "was not started" : `ended with ${exit.exitCode}`;
  return { kind: "defect", message: said === "" ? `QEMU ${how}` : `QEMU ${how}: ${said}` };
}
