/** The guard of the files in a VMM's DAX window, by its name on the command line. */
import { KernelLeaseGuard } from "../guard/kernel-lease.ts";
import { NotifyGuard } from "../guard/notify.ts";
import { PreContentGuard } from "../guard/pre-content.ts";
import { SealedGuard } from "../guard/sealed.ts";
import type { GuardName, GuardOptions, TruncationGuard } from "../guard/truncation-guard.ts";
import { FuseLeaseGuard } from "../lease/fuse-lease.ts";

export type WindowGuard =
  | { readonly name: Exclude<GuardName, "fuse-lease"> }
  /** Of the server that has mounted the source (--guard fuse-lease there). */
  | { readonly name: "fuse-lease"; readonly leaseSocket: string };

/** Rejects with a GuardRefused. */
export async function openGuard(guard: WindowGuard, options: GuardOptions): Promise<TruncationGuard> {
  switch (guard.name) {
    case "notify":
      return new NotifyGuard("inotify", options);
    case "pre-content":
      return await PreContentGuard.open(options);
    case "kernel-lease":
      return await KernelLeaseGuard.open(options);
    case "sealed":
      return new SealedGuard();
    case "fuse-lease":
      return await FuseLeaseGuard.open(guard.leaseSocket, options);
  }
}
