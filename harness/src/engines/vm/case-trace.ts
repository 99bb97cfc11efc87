/** Records the events of the VM process for the trace of the case. Decides nothing. */
import type { GuardEvent } from "../../../../fs-server/src/index.ts";
import { type EventKind, stepText, type VmmAction } from "../../../../language/src/index.ts";
import { PAGE_SIZE } from "../../../../sys/src/index.ts";
import {
  type FenceEvent,
  type GuestClock,
  type GuestEvent,
  guestTimeMs,
  type HolderEvent,
  monotonicMs,
  type VcpuMessage,
} from "../../../../vmm/src/index.ts";
import type { VmEvent } from "./messages.ts";

const actionEvents: Readonly<Record<VmmAction["verb"], EventKind>> = {
  unmap: "unmap",
  map: "map",
  protect: "unmap",
  discard: "punch",
  "memory-failure": "memory-failure",
  "device-read": "fault",
  "device-write": "fault",
};

export class CaseTrace {
  readonly #events: VmEvent[] = [];

  get events(): readonly VmEvent[] {
    return this.#events;
  }

  /** The fence has moved. */
  fenced({ kind, hva, lengthBytes }: FenceEvent): void {
    const what = kind === "fence" ? "PROT_NONE" : "readable and writable again";
    this.#record(
      kind === "fence" ? "unmap" : "remap",
      "fence",
      null,
      `${lengthBytes} bytes from hva 0x${hva.toString(16)}: ${what}`,
    );
  }

  /** The guard has learnt of a truncation, or has answered it. */
  guarded(event: GuardEvent): void {
    switch (event.kind) {
      case "recall":
        this.#record(
          "lease-break",
          "guard",
          null,
          `recall from ${event.threat.fromBytes} on: ${event.threat.by}`,
        );
        return;
      case "recalled":
        this.#record("lease-release", "guard", null, event.end);
        return;
      case "settle":
        this.#record("remap", "guard", null, `the file has ${event.sizeBytes} bytes`);
        return;
      case "cut-off":
        this.#record("guard-refused", "guard", null, event.reason);
    }
  }

  /** The window's owner has done something for the guard. */
  heldBy({ kind, hva, lengthBytes, detail }: HolderEvent): void {
    const what = `${kind}: ${lengthBytes} bytes from hva 0x${hva.toString(16)}: ${detail}`;
    this.#record(kind === "restored" ? "map" : "unmap", "vmm", null, what);
  }

  /** Nothing of the memory is in memory any more. */
  swappedOut(lengthBytes: number): void {
    this.#record(
      "swap-out",
      "vmm",
      null,
      `${lengthBytes / PAGE_SIZE} pages; mincore finds none of them in memory`,
    );
  }

  /** KVM has mapped a large page for the guest. Once is enough. */
  hugePage(): void {
    if (this.#events.some(({ kind }) => kind === "huge-page")) return;
    this.#record("huge-page", "kvm", null, "pages_2m is not 0: a large page of the second level");
  }

  /** A VMM's step, about to be done. */
  acted(actor: string, action: VmmAction): void {
    this.#record(actionEvents[action.verb], actor, null, stepText(action));
  }

  unguarded(reason: string): void {
    this.#record("guard-refused", "guard", null, reason);
  }

  stopped({ exit, place }: Extract<VcpuMessage, { type: "stopped" }>): void {
    this.#record("exit", "kvm", place?.gpa ?? null, JSON.stringify(exit, bigintText));
  }

  looping({ faultsPerSecond, overMs, place }: Extract<VcpuMessage, { type: "looping" }>): void {
    const rate = `${Math.round(faultsPerSecond)} faults/s over ${Math.round(overMs)} ms`;
    this.#record("fault", "kvm", place?.gpa ?? null, rate);
  }

  waiting({ in: where, detail, overMs, place }: Extract<VcpuMessage, { type: "waiting" }>): void {
    const words = `waits in a ${where} for ${Math.round(overMs)} ms: ${detail}`;
    this.#record("fault", "kvm", place?.gpa ?? null, words.replace("in a guest", "in the guest"));
  }

  handled({ policy, detail, place }: Extract<VcpuMessage, { type: "handled" }>): void {
    this.#record("inject", "vmm", place?.gpa ?? null, `${policy}: ${detail}`);
  }

  resumed(actor: string): void {
    this.#record("exit", actor, null, "KVM_RUN again");
  }

  #record(kind: VmEvent["kind"], actor: string, gpa: bigint | null, detail: string): void {
    this.#events.push({ kind, actor, atMonotonicMs: monotonicMs(), gpa, detail });
  }
}

/** The guest's own events. `actors`: of the tasks, by number. */
export function guestTrace(
  events: readonly GuestEvent[],
  actors: readonly string[],
  clock: GuestClock | null,
): VmEvent[] {
  return events.map((event) => ({
    kind: traceKind(event.kind),
    actor: actors[event.task] ?? "guest",
    atMonotonicMs: clock === null ? monotonicMs() : guestTimeMs(clock, event.tsc),
    gpa: null,
    detail: eventText(event),
  }));
}

/** The vocabulary has one word for every interruption of a task; the text names which it was. */
function traceKind(kind: GuestEvent["kind"]): EventKind {
  switch (kind) {
    case "apf-not-present":
    case "apf-ready":
    case "sigbus":
    case "sigsegv":
    case "fixup":
    case "nmi":
      return kind;
    case "exception":
    case "machine-check":
    case "virtualization-exception":
    case "pv-error":
    case "unknown":
      return "exception";
  }
}

function eventText(event: GuestEvent): string {
  const hex = (value: bigint) => `0x${value.toString(16)}`;
  const where = `rip ${hex(event.rip)} cpl ${event.cpl}`;
  switch (event.kind) {
    case "apf-not-present":
    case "apf-ready":
      return `token ${hex(event.cr2)} ${where}`;
    case "sigbus":
    case "sigsegv":
      return `si_code ${event.errorCode} address ${hex(event.cr2)} ${where}`;
    case "fixup":
      return `address ${hex(event.cr2)} ${where}`;
    default:
      return `${event.kind} vector ${event.vector} error ${hex(event.errorCode)} address ${hex(event.cr2)} ${where}`;
  }
}

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? `0x${value.toString(16)}` : value;
}
