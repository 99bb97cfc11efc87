/**
 * From the lines of a kernel's trace to the tracepoints that it has in common with the model. What the model lacks is
 * treated here, and nowhere else: permissions of a mapping, host-initiated zaps that no step of the scenario causes, the
 * end of the VM.
 */
import { type Observed, tracepointText } from "../../../kvm-model/src/index.ts";
import {
  type Attestation,
  allAccesses,
  effectsOf,
  fileOffsetAt,
  fileSizes,
  isNested,
  mappingAt,
  type Scenario,
} from "../../../language/src/index.ts";
import { PAGE_SIZE } from "../../../sys/src/index.ts";
import { WINDOW_BASE } from "../../../vmm/src/index.ts";
import { QEMU_WINDOW_BASE } from "../engines/linux/qemu/arguments.ts";
import { pagesOf } from "../engines/model/translate.ts";
import { type KvmTracepoint, parseTraceLine } from "../tracing/kvm-trace.ts";

/** A tracepoint of the kernel that is compared. */
export type ComparedEvent = Observed & {
  /** Index of its line. */
  readonly line: number;
};

export type TracepointOptions = {
  /** Has the trace a tracepoint for each SPTE that is set or cleared? */
  readonly tracesSptes: boolean;
  /** Where the guest has the window; left out: where our own VMM puts it. */
  readonly windowBase?: bigint;
};

/** A guest in QEMU has the window where its firmware puts it. */
export function windowBaseOf({ guest }: Attestation): bigint {
  return guest?.qemu === undefined ? WINDOW_BASE : QEMU_WINDOW_BASE;
}

/**
 * The TDP MMU has one for each SPTE, the shadow MMU (also of NPT and EPT) has none; a guest's guest is the shadow MMU's,
 * whatever the guest is.
 */
export function tracesSptes({ kvmParameters }: Attestation, scenario: Scenario): boolean {
  return kvmParameters["kvm.tdp_mmu"] === "Y" && !isNested(scenario);
}

/** Where the model's pages are, and which of them the scenario's host truncates or punches. */
type Pages = {
  /** The number of the model's page at a guest physical address; -1: none that the scenario touches. */
  readonly at: (gpa: bigint) => number;
  readonly isDoomed: (page: number) => boolean;
  /** Those in a range, ascending; without any: -1 alone. */
  readonly within: (gpa: bigint, pageCount: number) => readonly number[];
  /** Is it one of several that a single access touches? */
  readonly isSpanned: (page: number) => boolean;
};

const EFAULT = 14;
/** Of x86-64's tables, 4 KiB each. */
const PTES_PER_TABLE = 512;
const PAGE = BigInt(PAGE_SIZE);

/** @param filePages the model's pages, by their number in the file */
function windowPages(scenario: Scenario, filePages: readonly bigint[], windowBase: bigint): Pages {
  const sizes = fileSizes(scenario);
  const holes = effectsOf(scenario).flatMap(({ effect }) => (effect.kind === "hole" ? [effect.range] : []));
  const spanned = allAccesses(scenario)
    .map((step) => pagesOf(scenario, step))
    .filter((pages) => pages.length > 1);
  const at = (gpa: bigint): number => {
    const offset = gpa - windowBase;
    if (mappingAt(scenario, offset, 1) === null) return -1;
    return filePages.indexOf(fileOffsetAt(scenario, offset) / PAGE);
  };
  return {
    at,
    within(gpa, pageCount) {
      const all = Array.from({ length: pageCount }, (_, index) => at(gpa + BigInt(index) * PAGE));
      const found = [...new Set(all)].filter((page) => page >= 0).sort((a, b) => a - b);
      return found.length === 0 ? [-1] : found;
    },
    isSpanned(page) {
      const number = filePages[page] ?? -1n;
      return spanned.some((pages) => pages.includes(number));
    },
    isDoomed(page) {
      const start = (filePages[page] ?? 0n) * PAGE;
      return sizes.some((size) => start >= size) || holes.some(({ from, to }) => start >= from && start < to);
    },
  };
}

class Reader {
  readonly events: ComparedEvent[] = [];
  readonly #pages: Pages;
  readonly #tracesSptes: boolean;
  /** By thread. */
  readonly #vcpus = new Map<number, number>();
  /** By thread: an announcement whose outcome is the thread's next line. */
  readonly #announced = new Map<number, ComparedEvent>();
  /** By thread: the page whose mapping does not do for what it wants. */
  readonly #upgrading = new Map<number, number>();
  /** By thread: the page of its last fault. */
  readonly #faulted = new Map<number, number>();
  /** Pages that are mapped because another one of the same huge page is: no fault of theirs did it. */
  readonly #beside = new Set<number>();
  /** Pages whose mapping has gone for that, and has not come back yet. */
  readonly #replaced = new Set<number>();

  constructor(pages: Pages, { tracesSptes }: TracepointOptions) {
    this.#pages = pages;
    this.#tracesSptes = tracesSptes;
  }

  /** Only some lines show that a thread is a vCPU: call with all lines first. */
  recordThread(tracepoint: KvmTracepoint): void {
    if ("vcpu" in tracepoint) this.#vcpus.set(tracepoint.thread, tracepoint.vcpu);
  }

  isVcpu({ thread }: KvmTracepoint): boolean {
    return this.#vcpus.has(thread);
  }

  read(line: number, tracepoint: KvmTracepoint): void {
    const { thread } = tracepoint;
    const add = (event: string): void => {
      this.events.push({ event, optional: false, line });
    };
    const vcpu = this.#vcpus.get(thread) ?? -1;
    // An announcement does nothing yet; between it and its outcome there may be lines of other vCPUs.
    const announced = this.#announced.get(thread);
    if (announced !== undefined) this.events.push(announced);
    this.#announced.delete(thread);
    switch (tracepoint.kind) {
      case "kvm_page_fault": {
        const page = this.#pages.at(tracepoint.gpa);
        this.#faulted.set(thread, page);
        // The model has no permissions. A store to what is mapped for loads faults once more, or copies the page first.
        if (tracepoint.isPresent) this.#upgrading.set(thread, page);
        else this.#upgrading.delete(thread);
        const optional = tracepoint.isPresent || this.#replaced.has(page);
        this.events.push({ event: tracepointText.fault(tracepoint.kind, vcpu, page), optional, line });
        return;
      }
      case "kvm_try_async_get_page": {
        const event = tracepointText.fault(tracepoint.kind, vcpu, this.#pages.at(tracepoint.gpa));
        this.#announced.set(thread, { event, optional: false, line });
        return;
      }
      case "kvm_async_pf_repeated_fault":
      case "kvm_async_pf_not_present":
      case "kvm_async_pf_ready":
        add(tracepointText.fault(tracepoint.kind, vcpu, this.#pages.at(tracepoint.gpa)));
        return;
      case "kvm_async_pf_completed":
        // Its place among the others is chance: see kvm-model/src/model/tracepoints.ts.
        return;
      case "kvm_tdp_mmu_spte_changed":
        this.#readSpte(line, tracepoint);
        return;
      case "kvm_userspace_exit": {
        const { errno, reason } = tracepoint;
        if (errno === EFAULT) add(tracepointText.exit(vcpu, "EFAULT"));
        else if (
          reason === "KVM_EXIT_MMIO" ||
          reason === "KVM_EXIT_INTERNAL_ERROR" ||
          reason === "KVM_EXIT_SHUTDOWN"
        ) {
          add(tracepointText.exit(vcpu, reason));
        }
      }
    }
  }

  /** A huge page is several of the model's, which maps page by page: those that were not faulted on are optional. */
  #readSpte(line: number, tracepoint: KvmTracepoint & { kind: "kvm_tdp_mmu_spte_changed" }): void {
    const { gpa, level, before, after, isKworker, thread } = tracepoint;
    const [was, is] = [before === "page", after === "page"];
    if (!this.#tracesSptes || was === is) return;
    for (const page of this.#pages.within(gpa, PTES_PER_TABLE ** (level - 1))) {
      if (is) this.#readSet(line, page, thread, level > 1 && this.#faulted.get(thread) !== page);
      else this.#readCleared(line, page, { isKworker, thread });
    }
  }

  #readSet(line: number, page: number, thread: number, isBeside: boolean): void {
    if (isBeside) this.#beside.add(page);
    else this.#beside.delete(page);
    const isUpgrade = this.#upgrading.get(thread) === page;
    const isReplaced = this.#replaced.delete(page);
    const optional = isBeside || isUpgrade || isReplaced;
    this.events.push({ event: tracepointText.map(page), optional, line });
  }

  #readCleared(
    line: number,
    page: number,
    { isKworker, thread }: Pick<KvmTracepoint, "isKworker" | "thread">,
  ): void {
    const isUpgrade = this.#upgrading.get(thread) === page;
    if (isUpgrade) this.#replaced.add(page);
    // The truncating thread is no kworker, and zaps no page in front of the file's end.
    const isOwnReason = isKworker || !this.#pages.isDoomed(page);
    const event = isOwnReason ? tracepointText.hostZap(page) : tracepointText.unmap(page);
    // An instruction begins again with its first page; to the model each page is a step, and what is done is done.
    if (isOwnReason && this.#pages.isSpanned(page)) this.#replaced.add(page);
    this.events.push({ event, optional: this.#beside.delete(page) || isUpgrade, line });
  }
}

/**
 * The lines that are compared: up to the last one of a vCPU's. What others do to the window after that is the VM's end,
 * not the guest's story. Throws a TraceError.
 *
 * @param filePages the model's pages, by their number in the file
 */
export function comparedEvents(
  scenario: Scenario,
  filePages: readonly bigint[],
  lines: readonly string[],
  options: TracepointOptions,
): readonly ComparedEvent[] {
  const tracepoints = lines.map(parseTraceLine);
  const reader = new Reader(windowPages(scenario, filePages, options.windowBase ?? WINDOW_BASE), options);
  for (const tracepoint of tracepoints) reader.recordThread(tracepoint);
  const last = tracepoints.findLastIndex((tracepoint) => reader.isVcpu(tracepoint));
  for (const [line, tracepoint] of tracepoints.slice(0, last + 1).entries()) reader.read(line, tracepoint);
  return reader.events;
}
