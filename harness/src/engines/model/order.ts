/**
 * Holds the order of a kernel's tracepoints against the model's steps: is there a path of the model that passes exactly
 * these, in this order? Where there is none, the first line that no path has is named, with what the model would show.
 */
import {
  type Followed,
  follow,
  guestModel,
  type ModelCase,
  modelCase,
  type Observed,
  passage,
  passagesOf,
} from "../../../../kvm-model/src/index.ts";
import { PAGE_SIZE } from "../../../../sys/src/index.ts";
import { WINDOW_BASE } from "../../../../vmm/src/index.ts";
import type { KvmTrace } from "../../evidence.ts";
import type { Proposal } from "../../proposal.ts";
import type { Scenario } from "../../scenario/scenario.ts";
import { fileOffsetAt, mappingAt } from "../../scenario/window.ts";
import { type KvmTracepoint, parseTraceLine, TraceError } from "../../tracing/kvm-trace.ts";
import { type Backend, translate } from "./translate.ts";

export type Order =
  | {
      readonly kind: "followed";
      /** How many of the kernel's events were compared. */
      readonly events: number;
      readonly token: string;
      readonly timer: boolean;
    }
  | {
      readonly kind: "diverges";
      readonly events: number;
      /** Index of the line in the trace. */
      readonly line: number;
      /** The event of that line in the words that model and kernel share. */
      readonly observed: string;
      /** What the model shows after the same beginning; empty: nothing more. */
      readonly instead: readonly string[];
      /** A path with the same beginning. */
      readonly token: string;
      readonly timer: boolean;
    }
  | { readonly kind: "none"; readonly reason: string };

/** An event of the kernel's that is compared. */
export type ComparedEvent = Observed & {
  /** Index of its line. */
  readonly line: number;
};

export type OrderOptions = {
  /** Does this kernel say what its second level maps? Only the TDP MMU does. */
  readonly tellsMappings: boolean;
  readonly maxPairs?: number;
  /** Changes to the case: mutations. */
  readonly more?: Partial<ModelCase>;
};

const PAIRS_MAX = 2_000_000;
const EFAULT = 14;

/** The number of the model's page at a guest physical address; -1: none that the scenario touches. */
function pageAt(scenario: Scenario, filePages: readonly bigint[], gpa: bigint): number {
  const offset = gpa - WINDOW_BASE;
  if (mappingAt(scenario, offset, 1) === null) return -1;
  return filePages.indexOf(fileOffsetAt(scenario, offset) / BigInt(PAGE_SIZE));
}

class Reader {
  readonly events: ComparedEvent[] = [];
  readonly #pageOf: (gpa: bigint) => number;
  readonly #tellsMappings: boolean;
  /** By thread. */
  readonly #vcpus = new Map<number, number>();

  constructor(pageOf: (gpa: bigint) => number, tellsMappings: boolean) {
    this.#pageOf = pageOf;
    this.#tellsMappings = tellsMappings;
  }

  /** Threads that are vCPUs say so in some lines only: call with all lines first. */
  learn(tracepoint: KvmTracepoint): void {
    if ("vcpu" in tracepoint) this.#vcpus.set(tracepoint.thread, tracepoint.vcpu);
  }

  isVcpu({ thread }: KvmTracepoint): boolean {
    return this.#vcpus.has(thread);
  }

  take(line: number, tracepoint: KvmTracepoint): void {
    const add = (event: string, optional = false): void => {
      this.events.push({ event, optional, line });
    };
    const vcpu = this.#vcpus.get(tracepoint.thread) ?? -1;
    switch (tracepoint.kind) {
      case "kvm_page_fault":
        // The model has no permissions: a store to what is mapped for loads only may fault once more, or may not.
        add(passage.fault(tracepoint.kind, vcpu, this.#pageOf(tracepoint.gpa)), tracepoint.isPresent);
        return;
      case "kvm_try_async_get_page":
      case "kvm_async_pf_repeated_fault":
      case "kvm_async_pf_not_present":
      case "kvm_async_pf_ready":
        add(passage.fault(tracepoint.kind, vcpu, this.#pageOf(tracepoint.gpa)));
        return;
      case "kvm_async_pf_completed":
        // Its place among the others is chance: see kvm-model/src/model/tracepoints.ts.
        return;
      case "kvm_tdp_mmu_spte_changed":
        this.#takeMapping(line, tracepoint);
        return;
      case "kvm_userspace_exit": {
        const { errno, reason } = tracepoint;
        if (errno === EFAULT) add(passage.exit(vcpu, "EFAULT"));
        else if (reason === "KVM_EXIT_MMIO" || reason === "KVM_EXIT_INTERNAL_ERROR")
          add(passage.exit(vcpu, reason));
        else if (reason === "KVM_EXIT_SHUTDOWN") add(passage.exit(vcpu, reason));
      }
    }
  }

  #takeMapping(line: number, tracepoint: KvmTracepoint & { kind: "kvm_tdp_mmu_spte_changed" }): void {
    const { gpa, before, after, isKworker } = tracepoint;
    if (!this.#tellsMappings) return;
    const [was, is] = [before === "page", after === "page"];
    if (was === is) return;
    const page = this.#pageOf(gpa);
    const unmapped = isKworker ? passage.writeBack(page) : passage.unmap(page);
    this.events.push({ event: is ? passage.map(page) : unmapped, optional: false, line });
  }
}

/**
 * The lines that are compared: up to the last one of a vCPU's. What others do to the window after that is the VM's end,
 * not the guest's story. Throws a TraceError.
 */
export function comparedEvents(
  scenario: Scenario,
  filePages: readonly bigint[],
  lines: readonly string[],
  tellsMappings: boolean,
): readonly ComparedEvent[] {
  const tracepoints = lines.map(parseTraceLine);
  const reader = new Reader((gpa) => pageAt(scenario, filePages, gpa), tellsMappings);
  for (const tracepoint of tracepoints) reader.learn(tracepoint);
  const last = tracepoints.findLastIndex((tracepoint) => reader.isVcpu(tracepoint));
  for (const [line, tracepoint] of tracepoints.slice(0, last + 1).entries()) reader.take(line, tracepoint);
  return reader.events;
}

type Attempt = { readonly followed: Followed; readonly timer: boolean };

const furthest = ({ followed }: Attempt): number => (followed.kind === "followed" ? Infinity : followed.at);

/** Guests with and without a timer are both allowed, as in `allowed.ts`. */
export function orderOf(
  scenario: Scenario,
  proposal: Proposal,
  backend: Backend,
  trace: KvmTrace,
  options: OrderOptions,
): Order {
  if (trace.kind === "none") return { kind: "none", reason: `no tracepoints: ${trace.reason}` };
  const attempts: Attempt[] = [];
  let events: readonly ComparedEvent[] = [];
  for (const timer of [true, false]) {
    const translation = translate(scenario, proposal, backend, timer);
    if (translation.kind === "no") return { kind: "none", reason: translation.reason };
    try {
      events = comparedEvents(scenario, translation.plan.filePages, trace.lines, options.tellsMappings);
    } catch (error) {
      if (error instanceof TraceError) return { kind: "none", reason: error.message };
      throw error;
    }
    const { model, ctx } = guestModel(modelCase({ ...translation.case, writeBack: true, ...options.more }));
    const isMapping = (event: string): boolean => event.startsWith("spte ");
    const followed = follow(model, events, {
      visibleOf: (before, after, said) => {
        const passages = passagesOf(ctx, before, after, said);
        return options.tellsMappings ? passages : passages.filter((event) => !isMapping(event));
      },
      maxPairs: options.maxPairs ?? PAIRS_MAX,
    });
    if (followed.kind === "followed")
      return { kind: "followed", events: events.length, token: followed.token, timer };
    attempts.push({ followed, timer });
  }
  const [best] = attempts.sort((a, b) => furthest(b) - furthest(a));
  if (best?.followed.kind !== "diverges" || attempts.some(({ followed }) => followed.kind === "bounded"))
    return { kind: "none", reason: "the search was cut off by its bound" };
  const { at, instead, token } = best.followed;
  const divergent = events[at];
  return {
    kind: "diverges",
    events: events.length,
    line: divergent?.line ?? trace.lines.length,
    observed: divergent?.event ?? "-",
    instead,
    token,
    timer: best.timer,
  };
}
