/**
 * The tracepoints of KVM's fault path for the vCPUs' threads, page by page.
 *
 * Which host address a guest page has, KVM tells in one place: kvm_async_pf_completed (virt/kvm/async_pf.c), which a worker
 * writes when the work for a page is done. Its line is no vCPU's, so it comes from a second instance, of all threads, and
 * is matched by the guest's address.
 */
import { parseTraceLine, TraceError } from "../tracing/kvm-trace.ts";
import type { TraceSelection } from "../tracing/tracefs.ts";
import { PAGE_BYTES, type PageEvents } from "./facts.ts";

/** Some thousand events a CPU: of a loop, the first turns are enough. */
const VCPU_BUFFER_KIB = 64;
const PAGE_BUFFER_KIB = 16;
const EINTR = 4;
/** PFERR_RSVD_MASK, arch/x86/include/asm/kvm_host.h */
const RESERVED = 1n << 3n;
const PAGES_MAX = 8;
/** 512 entries a table. */
const LEVEL_BITS = 9n;

export const vcpuSelection = (tids: readonly number[]): TraceSelection => ({
  name: "vcpus",
  events: [
    { event: "kvm/kvm_page_fault", filter: null },
    { event: "kvm/kvm_try_async_get_page", filter: null },
    { event: "kvm/kvm_async_pf_repeated_fault", filter: null },
    { event: "kvm/kvm_async_pf_ready", filter: null },
    { event: "kvmmmu/kvm_tdp_mmu_spte_changed", filter: null },
    { event: "kvm/kvm_userspace_exit", filter: `errno < 0 && errno != -${EINTR}` },
  ],
  except: [],
  bufferKib: VCPU_BUFFER_KIB,
  processes: tids,
});

export const pageSelection: TraceSelection = {
  name: "pages",
  events: [{ event: "kvm/kvm_async_pf_completed", filter: null }],
  except: [],
  bufferKib: PAGE_BUFFER_KIB,
  processes: "all",
};

type Gathered = { -readonly [Member in keyof PageEvents]: PageEvents[Member] } & { rips: Set<bigint> };

export type ThreadEvents = {
  readonly vcpu: number | null;
  readonly pages: readonly PageEvents[];
  readonly failures: Readonly<Record<string, number>>;
};

const pageOf = (gpa: bigint): bigint => gpa - (gpa % PAGE_BYTES);
const hex = (line: string, name: string): bigint | null => {
  const digits = new RegExp(`[ ,]${name}(?: =)? (?:0x)?([0-9a-f]+)`).exec(line)?.[1];
  return digits === undefined ? null : BigInt(`0x${digits}`);
};

const linesOf = (text: string): readonly string[] =>
  text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));

/** The line's meaning; null: it is none that is known here. */
function parsed(line: string): ReturnType<typeof parseTraceLine> | null {
  try {
    return parseTraceLine(line);
  } catch (error) {
    if (error instanceof TraceError) return null;
    throw error;
  }
}

/** By guest page, of all VMs: the host addresses that workers brought it in for. */
export function hostAddresses(text: string): ReadonlyMap<bigint, readonly bigint[]> {
  const found = new Map<bigint, bigint[]>();
  for (const line of linesOf(text)) {
    const event = parsed(line);
    const hva = hex(line, "address");
    if (event?.kind !== "kvm_async_pf_completed" || hva === null) continue;
    const gpa = pageOf(event.gpa);
    const known = found.get(gpa) ?? [];
    if (!known.includes(hva)) known.push(hva);
    found.set(gpa, known);
  }
  return found;
}

class Thread {
  vcpu: number | null = null;
  readonly failures: Record<string, number> = {};
  readonly #pages = new Map<bigint, Gathered>();

  page(gpa: bigint): Gathered {
    const at = pageOf(gpa);
    const known = this.#pages.get(at);
    if (known !== undefined) return known;
    const page: Gathered = {
      gpa: at,
      faults: 0,
      deviceFaults: 0,
      rip: null,
      asked: 0,
      repeated: 0,
      ready: 0,
      fixed: 0,
      hva: null,
      rips: new Set(),
    };
    this.#pages.set(at, page);
    return page;
  }

  /** Of a large page every part that was asked for. */
  mapped(gpa: bigint, level: number): void {
    const bytes = PAGE_BYTES << (LEVEL_BITS * BigInt(level - 1));
    for (const page of this.#pages.values()) if (page.gpa >= gpa && page.gpa < gpa + bytes) page.fixed += 1;
  }

  /** @param addresses @param isOwn does the VMM's process have a file mapped there? Two VMs may use one guest address */
  events(addresses: ReadonlyMap<bigint, readonly bigint[]>, isOwn: (hva: bigint) => boolean): ThreadEvents {
    const weight = (page: Gathered): number => page.faults + page.asked + page.repeated + page.ready;
    const pages = [...this.#pages.values()]
      .sort((a, b) => weight(b) - weight(a))
      .slice(0, PAGES_MAX)
      .map(({ rips, ...page }) => ({
        ...page,
        rip: rips.size === 1 ? ([...rips][0] ?? null) : null,
        hva: (addresses.get(page.gpa) ?? []).find(isOwn) ?? null,
      }));
    return { vcpu: this.vcpu, pages, failures: this.failures };
  }
}

/** By thread. */
export function threadEvents(text: string): ReadonlyMap<number, Thread> {
  const threads = new Map<number, Thread>();
  for (const line of linesOf(text)) {
    const event = parsed(line);
    if (event === null) continue;
    const thread = threads.get(event.thread) ?? new Thread();
    threads.set(event.thread, thread);
    switch (event.kind) {
      case "kvm_page_fault": {
        thread.vcpu = event.vcpu;
        const page = thread.page(event.gpa);
        page.faults += 1;
        if (((hex(line, "error_code") ?? 0n) & RESERVED) !== 0n) page.deviceFaults += 1;
        const rip = hex(line, "rip");
        if (rip !== null) page.rips.add(rip);
        break;
      }
      case "kvm_try_async_get_page":
        thread.page(event.gpa).asked += 1;
        break;
      case "kvm_async_pf_repeated_fault":
        thread.page(event.gpa).repeated += 1;
        break;
      case "kvm_async_pf_ready":
        thread.page(event.gpa).ready += 1;
        break;
      case "kvm_userspace_exit":
        if (event.errno !== null) {
          thread.failures[event.errno] = (thread.failures[event.errno] ?? 0) + 1;
        }
        break;
      case "kvm_tdp_mmu_spte_changed":
        if (event.after === "page") thread.mapped(event.gpa, event.level);
        break;
      case "kvm_async_pf_completed":
      case "kvm_async_pf_not_present":
        break;
    }
  }
  return threads;
}
