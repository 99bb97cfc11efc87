/**
 * Mutations: a check removed from the kernel, the guest, the VMM or the server, and the claim that fails then. If no claim
 * fails without a check, the model does not really have that check.
 */
import type { ExploreOptions } from "../explore/explorer.ts";
import type { Check } from "../model/case.ts";
import { modelCase } from "../model/case.ts";
import { type ClaimVerdict, claims, decideClaim } from "./claims.ts";

/** By mutation: the claim that is no longer confirmed. */
export const caughtBy: Readonly<Record<Check, string>> = {
  "stale-check": "no-stale-mapping",
  "snapshot-first": "no-stale-mapping",
  "invalidation-counted": "no-stale-mapping",
  "i-size-first": "no-stale-mapping",
  "zap-on-truncate": "no-stale-mapping",
  "i-size-test": "loop",
  "fast-gup-cleared": "no-stale-mapping",
  "gfn-hash-cleared": "loop-two-vcpus",
  "gfn-hash-lookup": "loop",
  "interrupt-flag-test": "efault-if-off",
  "lapic-test": "efault",
  "user-only-test": "user-only",
  "vma-test": "fence",
  "hwpoison-before-async": "poison-never-loops",
  "ready-clears-halt": "loop-two-vcpus",
  "ready-kicks": "uniform",
  "slot-free-test": "ack",
  "ack-rescans": "ack",
  "token-matched": "no-ack",
  "nmi-saves-cr2": "nmi-saved",
  "nmi-leaves-flags": "nmi-linux",
  "vmexit-delivery-test": "nested-io-halt",
  "ready-if-injected": "ready-if-injected",
  "prefetch-stale-check": "prefetch-no-stale-mapping",
  "prefetch-same-mmu": "uniform-nested",
  "hlt-deliver-test": "hlt-apf-loops",
  "async-limit": "efault-limit",
  "apf-enabled-test": "loop",
  "token-zeroed": "ack",
  "error-only-if-injected": "ready-error-kernel",
  "seq-bumped": "no-stale-mapping",
  "pmd-in-file": "large-page",
  "mce-enabled-test": "mce-unaware",
  "interrupt-window-test": "pv-interrupt-if-off",
  "lease-time-out": "kernel-lease-45s",
  "notified-afterwards": "notify-ends-loop",
  "seal-refuses": "sealed",
  "not-present-first": "by-interrupt",
  "dummy-node": "nested-early-ready",
  "nested-interception": "nested-kvm-ve",
  "error-slot-cleared": "uniform-reported",
  "error-is-recorded": "uniform",
  "error-pending-cleared": "error-pending-reported",
  "ready-error-user-only": "ready-error-nested",
  "extable-consulted": "mce-copy-from-user",
  "poison-is-remembered": "mce-permanent",
  "grant-waits-for-revoke": "kernel-lease",
  "guest-size-updated": "kernel-lease",
  "no-mapping-while-recalled": "kernel-lease",
  "lease-blocks-truncate": "kernel-lease",
  "open-permission-asked": "pre-content-o-trunc",
  "worker-completes": "uniform",
  "content-zeroed": "regrown-zeros",
  "large-page-zapped": "large-page",
};

/** The claim that should notice, decided without that check. */
export function decideMutation(check: Check, options: Partial<ExploreOptions> = {}): ClaimVerdict {
  const claim = claims.find((candidate) => candidate.id === caughtBy[check]);
  if (claim === undefined) throw new Error(`mutation ${check}: there is no claim ${caughtBy[check]}`);
  return decideClaim({ ...claim, of: modelCase({ ...claim.of, without: [check] }) }, options);
}
