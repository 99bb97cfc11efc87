/** Messages between the threads that run the vCPUs and the one that runs the machine. */

import { SyscallError, signalThread } from "../../../sys/src/index.ts";
import { type GuestInput, MAX_VCPUS } from "../guest-input.ts";
import type { VcpuExit } from "../kvm/exit.ts";
import type { Memslot } from "../kvm/vm.ts";
import type { PolicyName } from "../policy/policy.ts";
import { KICK_SIGNAL } from "./kick.ts";
import type { LoopProof } from "./watchdog.ts";

/** Everything a vCPU's thread needs; addresses and descriptors are good in the whole process. */
export type VcpuThreadInput = {
  readonly cpu: number;
  readonly vmFd: number;
  readonly vcpuFd: number;
  readonly runBytes: number;
  readonly ramAddress: bigint;
  readonly lapicInKernel: boolean;
  readonly memslots: readonly Memslot[];
  readonly window: { readonly hva: bigint; readonly sizeBytes: number };
  readonly pageStates: SharedArrayBuffer | null;
  /** How often a policy may deal with the same instruction of the same step before the VM stops. */
  readonly maxRepeats: number;
  readonly guest: GuestInput;
  /** Int32Array of `controlWords`. */
  readonly control: SharedArrayBuffer;
  readonly tickMs: number;
  /** See `WatchdogOptions`. */
  readonly ioPatienceMs: number;
  readonly isIoAnswered: boolean;
  /** The VMM asks to be told of memory errors that nobody has met (PR_MCE_KILL_EARLY). */
  readonly isToldEarly: boolean;
};

/**
 * Words of the control buffer, one for all threads: the VM runs or stops as a whole, as QEMU's vm_stop() has it. `policy`:
 * the number of the policy in `vmmParts`. `threadIds`: of the vCPUs' threads, 0 while there is none. `round`: how many rounds of
 * machine checks were begun, `joinedRounds`: for each vCPU the last one that it has come to (broadcast.ts).
 */
export const controlWord: {
  readonly [word in "command" | "policy" | "threadIds" | "round" | "joinedRounds"]: number;
} = { command: 0, policy: 1, threadIds: 2, round: 2 + MAX_VCPUS, joinedRounds: 3 + MAX_VCPUS };
export const controlWords: number = 3 + 2 * MAX_VCPUS;
/**
 * Values of `command`. A thread whose KVM_RUN gave up sets `pause`, which holds the others, too; the machine's owner answers with
 * `run` or `stop`.
 */
export const command = { run: 0, pause: 1, stop: 2 } as const;

/** Gets the threads of all vCPUs out of KVM_RUN. A thread that is gone is fine: it is not in KVM_RUN. */
export function kickAll(control: Int32Array): void {
  for (let cpu = 0; cpu < MAX_VCPUS; cpu++) {
    const tid = Atomics.load(control, controlWord.threadIds + cpu);
    if (tid === 0) continue;
    try {
      signalThread(tid, KICK_SIGNAL);
    } catch (error) {
      if (!(error instanceof SyscallError) || error.code !== "ESRCH") throw error;
    }
  }
}

/** In place of a task or step where the guest does not say. */
export const NO_STEP = -1;

/** Where the vCPU was, with the access that was under way. */
export type Place = {
  readonly rip: bigint;
  readonly cpl: number;
  readonly task: number;
  readonly step: number;
  readonly gva: bigint;
  readonly gpa: bigint | null;
  readonly hva: bigint | null;
};

/** News of one vCPU, `cpu`. */
export type VcpuMessage = { readonly cpu: number } & VcpuNews;

export type VcpuNews =
  /** `asyncPageFaultMsr`: as in the final state, which a VMM that a device's access kills does not come to. */
  | ({ readonly type: "signal"; readonly number: number; readonly task: number } & Pick<
      FinalState,
      "asyncPageFaultMsr"
    >)
  /** KVM_RUN gave up, and all vCPUs wait for `resume` or `stop`. Sent by the first one whose KVM_RUN did. */
  | {
      readonly type: "stopped";
      readonly exit: VcpuExit;
      readonly place: Place | null;
      /** Why the policy did not go on. */
      readonly reason: string;
    }
  /** The policy dealt with it and the guest was entered again. */
  | {
      readonly type: "handled";
      /** When KVM_RUN gave up (`monotonicMs`). */
      readonly atMs: number;
      readonly policy: PolicyName;
      readonly detail: string;
      readonly exit: VcpuExit;
      readonly place: Place | null;
    }
  /** Proven; the vCPU goes on looping until something changes or `stop` comes. Sent once for each proof. */
  | {
      readonly type: "looping";
      readonly proof: LoopProof;
      readonly faultsPerSecond: number;
      readonly overMs: number;
      readonly place: Place | null;
    }
  /**
   * Proven; the vCPU goes on waiting until something changes or `stop` comes. `page fault`: its thread sleeps in a synchronous
   * fault and is not interruptible. `halt`: KVM has halted the vCPU for a page (apf.halted). `guest`: the guest's task
   * sleeps, and the vCPU runs whatever else there is.
   */
  | {
      readonly type: "waiting";
      readonly in: "page fault" | "halt" | "guest";
      readonly overMs: number;
      /** null: the registers of a vCPU cannot be read while its thread is in KVM_RUN. */
      readonly place: Place | null;
      readonly detail: string;
    }
  /** KVM_RUN was interrupted by SIGBUS (BUS_MCEERR_AR) for this thread, and the VMM has no handler: the end follows. */
  | { readonly type: "sigbus"; readonly address: bigint; readonly place: Place | null }
  /** A Linux guest has written to its console (`ConsoleRing`). */
  | { readonly type: "console" }
  /** A Linux guest touches a register of a device; its vCPU waits for the answer (`Mailbox`). */
  | { readonly type: "mmio" }
  /** An access that had been reported to loop or to wait has finished after all. */
  | { readonly type: "unstuck" }
  | { readonly type: "ended"; readonly why: EndReason; readonly final: FinalState };

export type EndReason =
  | { readonly kind: "finished" }
  | { readonly kind: "stopped-from-outside" }
  | { readonly kind: "guest-panic"; readonly reason: string }
  /** A Linux guest turned its machine off, reset it, or took a triple fault. */
  | { readonly kind: "guest-off"; readonly how: "power-off" | "reset" | "triple-fault" }
  /** Of a VMM that is a program of its own: its process was killed. `SIGBUS`. */
  | { readonly kind: "vmm-killed"; readonly signal: string }
  | { readonly kind: "defect"; readonly message: string };

/** Read on the vCPU's own thread at the very end. `finalOfAll` puts those of several together. */
export type FinalState = {
  readonly counters: Readonly<Record<string, bigint>>;
  /** MSR_KVM_ASYNC_PF_EN, or null if KVM does not know it. */
  readonly asyncPageFaultMsr: bigint | null;
  readonly clock: GuestClock | null;
};

/** Ties the guest's time-stamp counter to the host's clock: `tsc` was read at `atMs` (`monotonicMs`). */
export type GuestClock = { readonly tsc: bigint; readonly atMs: number; readonly tscKhz: number };

/**
 * The final state of a VM: counters added up, MSR and clock of vCPU 0. Null if a vCPU gave none.
 * @param finals by vCPU
 */
export function finalOfAll(finals: readonly (FinalState | undefined)[]): FinalState | null {
  const [first] = finals;
  if (first === undefined) return null;
  const counters: Record<string, bigint> = {};
  for (const final of finals) {
    if (final === undefined) return null;
    for (const [name, value] of Object.entries(final.counters))
      counters[name] = (counters[name] ?? 0n) + value;
  }
  return { ...first, counters };
}

/** Host time (`monotonicMs`) of a guest time stamp. */
export function guestTimeMs(clock: GuestClock, tsc: bigint): number {
  return clock.atMs + Number(BigInt.asIntN(64, tsc - clock.tsc)) / clock.tscKhz;
}

/** CLOCK_MONOTONIC in milliseconds with fractions: the same in all threads and processes of this machine. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
