/** In the VM process: the guard that a case asks for (the `server` axis), armed for the file that the window shows. */
import {
  type ArmedFile,
  DEFAULT_BOUND_MS,
  FuseLeaseGuard,
  type GuardEvent,
  type GuardOptions,
  GuardRefused,
  KernelLeaseGuard,
  type MappingHolder,
  NotifyGuard,
  PreContentGuard,
  SealedGuard,
  type TruncationGuard,
} from "../../../../fs-server/src/index.ts";
import type { ServerPart } from "../../../../language/src/index.ts";

export type GuardPlan = {
  readonly name: Exclude<ServerPart, "none">;
  /** Where the file server grants leases; only for `fuse-lease`. */
  readonly leaseSocket: string | null;
};

function openGuard(plan: GuardPlan, options: GuardOptions): Promise<TruncationGuard> {
  switch (plan.name) {
    case "fuse-lease":
      return FuseLeaseGuard.open(plan.leaseSocket ?? "", options);
    case "kernel-lease":
      return KernelLeaseGuard.open(options);
    case "pre-content":
      return PreContentGuard.open(options);
    case "notify":
      return Promise.resolve(new NotifyGuard("inotify", options));
    case "sealed":
      return Promise.resolve(new SealedGuard());
  }
}

/** The holder is known only once the window is there, and the window only once the file is armed. */
export class LateHolder implements MappingHolder {
  #holder: MappingHolder | null = null;

  /** Passes all further calls to `holder`. */
  become(holder: MappingHolder): void {
    this.#holder = holder;
  }
  recall(...args: Parameters<MappingHolder["recall"]>): void | Promise<void> {
    // Nothing is mapped yet: there is nothing to take away.
    return this.#holder?.recall(...args);
  }
  settle(sizeBytes: bigint): void {
    this.#holder?.settle(sizeBytes);
  }
  cutOff(reason: string): void {
    this.#holder?.cutOff(reason);
  }
}

export type Guarding = {
  /** Map this. */
  readonly fd: number;
  readonly holder: LateHolder;
  /** Why the file is not guarded after all, or null. */
  readonly refusal: string | null;
  /** `TruncationGuard.caughtUp`. */
  caughtUp(): Promise<void>;
  /** `TruncationGuard.lost`. */
  lost(): Promise<string | null>;
  close(): Promise<void>;
};

/** Arms `fd`. A guard that refuses leaves the file unguarded and reports it: that is a result. */
export async function guardFile(
  plan: GuardPlan,
  fd: number,
  onEvent: (event: GuardEvent) => void,
): Promise<Guarding> {
  const holder = new LateHolder();
  let guard: TruncationGuard | null = null;
  let armed: ArmedFile | null = null;
  let refusal: string | null = null;
  try {
    guard = await openGuard(plan, { boundMs: DEFAULT_BOUND_MS, onEvent });
    armed = await guard.arm({ fd }, holder);
  } catch (error) {
    if (!(error instanceof GuardRefused)) throw error;
    refusal = error.message;
  }
  return {
    fd: armed?.fd ?? fd,
    holder,
    refusal,
    caughtUp: async () => guard?.caughtUp(),
    lost: async () => (await guard?.lost()) ?? null,
    async close() {
      armed?.disarm();
      await guard?.close();
    },
  };
}
