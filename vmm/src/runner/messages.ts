/** What passes between the thread that runs the vCPU and the one that conducts the case. */

import type { TaskProgram } from "../guest/channel.ts";
import type { VcpuExit } from "../kvm/exit.ts";
import type { Memslot } from "../kvm/vm.ts";
import type { PolicyName } from "../policy/policy.ts";

/** Everything the vCPU's thread needs; addresses and descriptors are good in the whole process. */
export type VcpuThreadInput = {
  readonly vmFd: number;
  readonly vcpuFd: number;
  readonly runBytes: number;
  readonly ramAddress: bigint;
  readonly lapicInKernel: boolean;
  readonly memslots: readonly Memslot[];
  readonly window: { readonly hva: bigint; readonly sizeBytes: number };
  readonly policy: PolicyName;
  readonly programs: readonly TaskProgram[];
  /** Int32Array of `controlWords`. */
  readonly control: SharedArrayBuffer;
  readonly tickMs: number;
};

/** Words of the control buffer. */
export const controlWord = { command: 0, threadId: 1 } as const;
export const controlWords = 2;
/** Values of `command`. The conductor sets `resume` or `stop`; the thread sets it back to `none`. */
export const command = { none: 0, resume: 1, stop: 2 } as const;

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

export type VcpuMessage =
  | { readonly type: "signal"; readonly number: number; readonly task: number }
  /** KVM_RUN gave up. The thread waits for `resume` or `stop`. */
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
      readonly policy: PolicyName;
      readonly detail: string;
      readonly exit: VcpuExit;
      readonly place: Place | null;
    }
  /** Proven; the vCPU goes on looping until something changes or `stop` comes. Said once for each proof. */
  | {
      readonly type: "looping";
      readonly faultsPerSecond: number;
      readonly overMs: number;
      readonly place: Place | null;
    }
  /** An access that had been said to loop has finished after all. */
  | { readonly type: "unstuck" }
  | { readonly type: "ended"; readonly why: EndReason; readonly final: FinalState };

export type EndReason =
  | { readonly kind: "finished" }
  | { readonly kind: "stopped-by-conductor" }
  | { readonly kind: "guest-panic"; readonly reason: string }
  | { readonly kind: "defect"; readonly message: string };

/** Read on the vCPU's own thread at the very end. */
export type FinalState = {
  readonly counters: Readonly<Record<string, bigint>>;
  /** MSR_KVM_ASYNC_PF_EN, or null if KVM does not know it. */
  readonly asyncPageFaultMsr: bigint | null;
  readonly clock: GuestClock | null;
};

/** Ties the guest's time-stamp counter to the host's clock: `tsc` was read at `atMs` (`monotonicMs`). */
export type GuestClock = { readonly tsc: bigint; readonly atMs: number; readonly tscKhz: number };

/** Host time (`monotonicMs`) of a guest time stamp. */
export function guestTimeMs(clock: GuestClock, tsc: bigint): number {
  return clock.atMs + Number(BigInt.asIntN(64, tsc - clock.tsc)) / clock.tscKhz;
}

/** CLOCK_MONOTONIC in milliseconds with fractions: the same in all threads and processes of this machine. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
