/**
 * What the host does besides, for reasons of its own and at any time. None of it changes what a guest sees; all of it
 * shows in a real kernel's trace, as one more turn or one less.
 *
 * - A mapping goes: write-back (folio_mkclean()), a large folio that is split, migration, reclaim.
 * - An invalidation of something else is under way: KVM tries a fault again (mmu_invalidate_retry_gfn_unsafe(),
 *   is_page_fault_stale()), and a page-ready does not map its page.
 * - A page is read ahead of its fault, or the lookup itself waits for the READ although it is not to (swap-in of a single
 *   page before Linux 6.3, swap_cluster_readahead()).
 * - A signal ends a synchronous wait (KVM_PFN_ERR_SIGPENDING): the access begins once more.
 */
import type { Action } from "../explore/model.ts";
import { canBeReady, pageReady } from "./apf.ts";
import { AT, alive, at, CACHE, type Context, EPT, tell } from "./fields.ts";
import { letGo } from "./host-mm.ts";
import { resumeGuest } from "./kvm.ts";
import { mappingLetGo } from "./tracepoints.ts";

/** The actor; it may never act although it could. */
export const INTERFERENCE = "interference";

function pageActions(ctx: Context, page: number): Action[] {
  const { f } = ctx;
  return [
    {
      name: `interference: the host lets go of page ${page}`,
      actor: INTERFERENCE,
      guard: (s) => at(s, f.ept + page) === EPT.file && alive(ctx, s),
      apply: (s, e) => {
        tell(
          e,
          "unmap",
          "host",
          "kvm",
          `lets go of page ${page} for reasons of its own: the guest's mapping goes`,
        );
        mappingLetGo(e, page);
        letGo(ctx, s, page);
      },
    },
    {
      name: `interference: page ${page} is read ahead`,
      actor: INTERFERENCE,
      guard: (s) =>
        ctx.case.pages[page] === "on-disk" &&
        at(s, f.cache + page) === CACHE.absent &&
        page < at(s, f.size) &&
        alive(ctx, s),
      apply: (s, e) => {
        tell(e, "fault", "host", "host", `page ${page} is read before anybody waits for it`);
        s[f.cache + page] = CACHE.resident;
      },
    },
  ];
}

const MID_FAULT: readonly number[] = [AT.lookup, AT.sync, AT.map];

function vcpuActions(ctx: Context, v: number): Action[] {
  const { f } = ctx;
  const tryAgain: Action = {
    name: `vcpu${v}: tries again, for an invalidation of something else or a signal`,
    actor: INTERFERENCE,
    guard: (s) => MID_FAULT.includes(at(s, f.vAt + v)) && alive(ctx, s),
    apply: (s, e) => {
      tell(e, "fault", "kvm", "kvm", "an invalidation is under way, or a signal is pending: try again");
      resumeGuest(ctx, s, v);
    },
  };
  const unmapped = Array.from(
    { length: ctx.works },
    (_, w): Action => ({
      name: `vcpu${v}: page ready, entry ${w}, and an invalidation keeps it from being mapped`,
      actor: INTERFERENCE,
      guard: (s) => canBeReady(ctx, s, v, w),
      apply: (s, e) => pageReady(ctx, s, v, w, e, false),
    }),
  );
  return [tryAgain, ...unmapped];
}

/** Last of all actions: what a path is called does not depend on whether they are there. */
export function interferenceActions(ctx: Context): Action[] {
  if (!ctx.case.interference) return [];
  return [
    ...Array.from({ length: ctx.pages }, (_, page) => pageActions(ctx, page)).flat(),
    ...Array.from({ length: ctx.vcpus }, (_, v) => vcpuActions(ctx, v)).flat(),
  ];
}
