/**
 * The VMM: what it does when KVM_RUN returns (the `vmm` axis). QEMU's and everybody's `stop` first.
 * Injections go in before the vCPU is entered again, so the event meets the task that is current there.
 */
import type { Action, EventSink } from "../explore/model.ts";
import { AT, alive, at, type Context, EPT, EVENT, interruptsOn, STOP, tell, VMA } from "./fields.ts";
import { understands } from "./guest.ts";
import { replaceVma } from "./host-mm.ts";
import { injectMachineCheck, injectVe } from "./proposals.ts";

/** What people call the ways a VM can end; index by STOP. */
export const stopReasons = [
  "running",
  "efault",
  "memory-fault",
  "efault",
  "mmio",
  "internal-error",
  "triple-fault",
] as const;

function enter(ctx: Context, s: Uint8Array, v: number): void {
  s[ctx.f.vAt + v] = AT.guest;
  s[ctx.f.vStop + v] = STOP.none;
  s[ctx.f.vSeq + v] = 0;
  s[ctx.f.vError + v] = 0;
  s[ctx.f.vPfn + v] = EPT.none;
}

function giveUp(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  const reason = at(s, ctx.f.vStop + v);
  s[ctx.f.vm] = reason;
  tell(events, "exit", "vmm", "vmm", `the VM stops: ${stopReasons[reason]}`);
}

function inject(
  ctx: Context,
  s: Uint8Array,
  v: number,
  event: number,
  name: string,
  events: EventSink | null,
): void {
  enter(ctx, s, v);
  s[ctx.f.vEvent + v] = event;
  tell(events, "inject", "vmm", "guest", `${name} for page ${at(s, ctx.f.vPage + v)}`);
}

/** KVM_RUN returned -EFAULT, with or without KVM_EXIT_MEMORY_FAULT. */
function onFault(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  const page = at(s, ctx.f.vPage + v);
  switch (ctx.case.vmm) {
    case "fence":
      tellAsUnderstood(ctx, s, v, events);
      return;
    case "stop":
    case "no-hlt-exits":
      giveUp(ctx, s, v, events);
      return;
    case "inject-mce":
      machineCheck(ctx, s, v, events);
      return;
    case "inject-ve":
      enter(ctx, s, v);
      if (!injectVe(ctx, s, v, "vmm", events)) tell(events, "inject", "vmm", "vmm", "#VE busy: try again");
      return;
    case "inject-pf":
      inject(ctx, s, v, EVENT.pageFault, "#PF", events);
      return;
    case "nmi":
      inject(ctx, s, v, EVENT.nmi, "NMI", events);
      return;
    case "inject-pv":
      // An interrupt: with IF=0 it would stay pending while the access faults again and again.
      if (interruptsOn(ctx, s, v)) {
        inject(ctx, s, v, EVENT.pvError, "paravirtual error interrupt", events);
        return;
      }
      tell(events, "inject", "vmm", "vmm", "interrupts are off: the error cannot be delivered");
      giveUp(ctx, s, v, events);
      return;
    case "remap-zero":
      tell(events, "remap", "vmm", "kvm", `page ${page}: anonymous zero memory`);
      replaceVma(ctx, s, page, page + 1, VMA.anonymous);
      enter(ctx, s, v);
      return;
    case "poison":
      tell(events, "remap", "vmm", "kvm", `page ${page}: anonymous, UFFDIO_POISON`);
      replaceVma(ctx, s, page, page + 1, VMA.poisoned);
      enter(ctx, s, v);
      return;
  }
}

/** The fence has turned the loop into an exit; a guest that can be told is told, in the way that it understands. */
function tellAsUnderstood(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  switch (ctx.case.guest) {
    case "mce-safe-loads":
    case "mce-safe-all":
      machineCheck(ctx, s, v, events);
      return;
    case "ve":
      enter(ctx, s, v);
      injectVe(ctx, s, v, "vmm", events);
      return;
    case "unaware":
    case "apf":
    case "apf-error":
    case "pv-error":
      if (understands(ctx, EVENT.pageFault)) inject(ctx, s, v, EVENT.pageFault, "#PF", events);
      else giveUp(ctx, s, v, events);
  }
}

function machineCheck(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  enter(ctx, s, v);
  injectMachineCheck(ctx, s, v, "vmm", events);
}

function onReturn(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  switch (at(s, ctx.f.vStop + v)) {
    case STOP.efault:
    case STOP.memoryFault:
      onFault(ctx, s, v, events);
      return;
    case STOP.poison:
      // SIGBUS BUS_MCEERR_AR to the vCPU thread: every VMM that handles it at all injects #MC.
      machineCheck(ctx, s, v, events);
      return;
    default:
      giveUp(ctx, s, v, events);
      return;
  }
}

export function vmmActions(ctx: Context): Action[] {
  return Array.from(
    { length: ctx.vcpus },
    (_, v): Action => ({
      name: `vmm: KVM_RUN of vcpu${v} returned`,
      actor: "vmm",
      guard: (s) => at(s, ctx.f.vAt + v) === AT.stopped && alive(ctx, s),
      apply: (s, e) => onReturn(ctx, s, v, e),
    }),
  );
}
