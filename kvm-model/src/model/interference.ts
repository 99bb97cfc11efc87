/**
 * Actions of the host for reasons of its own, at any time. Where KVM remembers no failure, none of them changes what a
 * guest sees; all of it shows in a real kernel's trace, as one more turn or one less.
 *
 * - A mapping goes: write-back (folio_mkclean()), a large folio that is split, migration, reclaim.
 * - An invalidation of something else is under way: KVM tries a fault again (mmu_invalidate_retry_gfn_unsafe(),
 *   is_page_fault_stale()), and a page-ready does not map its page.
 * - A page is read ahead of its fault, or the lookup itself waits for the READ although it is not to (swap-in of a single
 *   page before Linux 6.3, swap_cluster_readahead()).
 * - A signal ends a synchronous wait (KVM_PFN_ERR_SIGPENDING): the access begins once more.
 */
import type { Action } from "../explore/model.ts";
import { canBeReady, firstDone, pageReady } from "./apf.ts";
import { zapByHost } from "./host-mm.ts";
import { resumeGuest } from "./kvm.ts";
import type { Machine } from "./machine.ts";
import type { Page } from "./page.ts";
import { remembersFailure } from "./proposals.ts";
import type { Vcpu } from "./vcpu.ts";

/** The actor; it may never act although it could. */
export const INTERFERENCE = "interference";

function pageActions(m: Machine, page: Page): Action[] {
  return [
    {
      name: `interference: the host lets go of page ${page.index}`,
      actor: INTERFERENCE,
      guard: () => page.ept === "file" && m.alive,
      apply: () => {
        const words = `lets go of page ${page.index} for reasons of its own: the guest's mapping goes`;
        m.log?.("unmap", "host", "kvm", words);
        m.traceHostZap(page);
        zapByHost(m, page);
      },
    },
    {
      name: `interference: page ${page.index} is read ahead`,
      actor: INTERFERENCE,
      guard: () => page.start === "on-disk" && page.cache === "absent" && page.isInFile && m.alive,
      apply: () => {
        m.log?.("fault", "host", "host", `page ${page.index} is read before anybody waits for it`);
        page.cache = "resident";
      },
    },
  ];
}

function isMidFault(vcpu: Vcpu): boolean {
  return vcpu.place === "lookup" || vcpu.place === "sync" || vcpu.place === "map";
}

function vcpuActions(m: Machine, vcpu: Vcpu): Action[] {
  const tryAgain: Action = {
    name: `vcpu${vcpu.index}: tries again, for an invalidation of something else or a signal`,
    actor: INTERFERENCE,
    guard: () => isMidFault(vcpu) && m.alive,
    apply: () => {
      m.log?.("fault", "kvm", "kvm", "an invalidation is under way, or a signal is pending: try again");
      resumeGuest(vcpu);
    },
  };
  const unmapped: Action = {
    name: `vcpu${vcpu.index}: page ready, and an invalidation keeps it from being mapped`,
    actor: INTERFERENCE,
    guard: () => canBeReady(m, vcpu),
    apply: () => pageReady(m, vcpu, "no prefetch"),
  };
  return [tryAgain, unmapped];
}

/**
 * A completion's lookup that ends without a result: a signal ends its wait for a READ (-EINTR of an interruptible lookup,
 * __kvm_faultin_pfn()), or an invalidation is under way (RET_PF_RETRY, kvm_mmu_faultin_pfn()). No failure is known then, which
 * a guest sees if KVM would have remembered it.
 */
function undecidedReady(m: Machine, vcpu: Vcpu): Action {
  const mayBeUndecided = (page: Page): boolean =>
    m.mmuInvalidateInProgress > 0 || (page.start === "io-error" && page.isInFile);
  return {
    name: `vcpu${vcpu.index}: page ready, and a signal or an invalidation ends the lookup of its page`,
    actor: INTERFERENCE,
    guard: () => canBeReady(m, vcpu) && mayBeUndecided(firstDone(m, vcpu).page),
    apply: () => pageReady(m, vcpu, "no prefetch"),
  };
}

/** Last of all actions: the index of no other action depends on whether they are there. */
export function interferenceActions(m: Machine): Action[] {
  if (!m.case.interference) {
    return remembersFailure(m) ? m.vcpus.map((vcpu) => undecidedReady(m, vcpu)) : [];
  }
  return [
    ...m.pages.flatMap((page) => pageActions(m, page)),
    ...m.vcpus.flatMap((vcpu) => vcpuActions(m, vcpu)),
  ];
}
