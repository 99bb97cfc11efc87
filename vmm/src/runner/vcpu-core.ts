/**
 * A vCPU's turn in its thread, whatever guest runs on it: KVM_RUN until the end, the policy at an exit that is a lost page,
 * pauses, and the kick signal's ticks. What the guest's own exits mean is its side's (guest-side.ts).
 *
 * While it runs it receives no messages: the machine's owner uses the control words, memory that it shares with the
 * guest, and the kick signal. A per-thread timer (SIGEV_THREAD_ID) interrupts KVM_RUN at every tick; the signal is blocked
 * outside KVM_RUN and unblocked inside by KVM_SET_SIGNAL_MASK, so that no tick is lost between test and entry
 * (api.rst, KVM_SET_SIGNAL_MASK).
 */

import { vmmParts } from "../../../language/src/index.ts";
import {
  BUS_MCEERR_AO,
  type BusError,
  blockSignal,
  consumeSignal,
  kernelSignalSetExcept,
  SIGBUS,
  startThreadTimer,
  takeBusError,
  tellOfMemoryErrors,
  threadId,
} from "../../../sys/src/index.ts";
import { syncedRegisters, Vcpu } from "../arch/index.ts";
import { WINDOW_BASE } from "../guest/channel.ts";
import type { VcpuExit } from "../kvm/exit.ts";
import { Stats } from "../kvm/stats.ts";
import { policies } from "../policy/index.ts";
import { type FaultPolicy, type PolicyAction, resume, stop } from "../policy/policy.ts";
import { PageStates, pageState } from "../recall.ts";
import { Broadcasts } from "./broadcast.ts";
import type { GuestSide } from "./guest-side.ts";
import { KICK_SIGNAL } from "./kick.ts";
import {
  command,
  controlWord,
  type EndReason,
  type FinalState,
  type GuestClock,
  kickAll,
  monotonicMs,
  type Place,
  type VcpuMessage,
  type VcpuNews,
  type VcpuThreadInput,
} from "./messages.ts";
import { defaultWatchdogOptions, Watchdog } from "./watchdog.ts";

/** How long a vCPU without an in-kernel APIC, which nothing can wake, stays halted before it looks around again. */
const HALT_MS = 1;

function isMemoryError(exit: VcpuExit): boolean {
  return (exit.kind === "error" && exit.errno === "EFAULT") || exit.kind === "memory-fault";
}

export class VcpuCore {
  readonly cpu: number;
  readonly vcpu: Vcpu;
  readonly stats: Stats;
  readonly watchdog: Watchdog;
  readonly post: (news: VcpuNews) => void;
  readonly broadcasts: Broadcasts;
  readonly #input: VcpuThreadInput;
  readonly #control: Int32Array;
  readonly #states: PageStates | null;
  /** Of the page states, when the guest was last entered. */
  #generation = 0;
  /** Times in a row that the policy was asked about the same instruction. */
  #repeats = 0;
  #lastPlace = "";

  constructor(input: VcpuThreadInput, post: (message: VcpuMessage) => void) {
    this.#input = input;
    this.cpu = input.cpu;
    this.post = (news) => post({ cpu: input.cpu, ...news });
    this.watchdog = new Watchdog({
      ...defaultWatchdogOptions,
      ioPatienceMs: input.ioPatienceMs,
      isIoAnswered: input.isIoAnswered,
    });
    this.#control = new Int32Array(input.control);
    this.broadcasts = new Broadcasts(this.#control, input.cpu);
    this.vcpu = new Vcpu(input.vcpuFd, input.runBytes);
    this.vcpu.syncRegisters(syncedRegisters(input.vmFd));
    this.#states = input.pageStates === null ? null : new PageStates(input.window.hva, input.pageStates);
    this.stats = new Stats(input.vcpuFd);
  }

  /** The guest got on: what the policy did before was not in vain. */
  progressed(): void {
    this.#repeats = 0;
  }

  get #policy(): FaultPolicy {
    return policies[vmmParts[Atomics.load(this.#control, controlWord.policy)] ?? "stop"];
  }

  /** Is the machine to run on, as its owner has it? */
  isWanted(): boolean {
    return Atomics.load(this.#control, controlWord.command) === command.run;
  }

  run(side: GuestSide): void {
    blockSignal(KICK_SIGNAL);
    blockSignal(SIGBUS);
    // The thread may have run another machine's vCPU before.
    tellOfMemoryErrors(this.#input.isToldEarly);
    this.vcpu.setSignalMask(kernelSignalSetExcept([KICK_SIGNAL, SIGBUS]));
    Atomics.store(this.#control, controlWord.threadIds + this.cpu, threadId());
    const clock = this.#readClock();
    const timer = startThreadTimer(KICK_SIGNAL, this.#input.tickMs);
    const why = this.#untilTheEnd(side);
    timer.stop();
    Atomics.store(this.#control, controlWord.threadIds + this.cpu, 0);
    const final: FinalState = {
      counters: this.stats.readAll(),
      asyncPageFaultMsr: this.vcpu.asyncPageFaultMsr(),
      clock,
    };
    // An open descriptor of a vCPU keeps its VM.
    this.stats.close();
    this.vcpu.unmapRun();
    this.post({ type: "ended", why, final });
  }

  #readClock(): GuestClock | null {
    const tscKhz = this.vcpu.tscKhz();
    const tsc = this.vcpu.timeStampCounter();
    return tscKhz === null || tsc === null ? null : { tsc, tscKhz, atMs: monotonicMs() };
  }

  /** Bounded by the machine's owner, whose time limit ends in `stop`, and by the process's own hard limit. */
  #untilTheEnd(side: GuestSide): EndReason {
    for (;;) {
      if (this.#awaitPermission() === command.stop) return { kind: "stopped-from-outside" };
      this.broadcasts.take(this.vcpu);
      this.#generation = this.#states?.generation ?? 0;
      const exit = this.vcpu.run();
      if (exit.kind === "interrupted") {
        consumeSignal(KICK_SIGNAL);
        const busError = takeBusError();
        const end = busError === null ? null : this.#busError(side, busError);
        if (end !== null) return end;
        side.tick();
        continue;
      }
      if (exit.kind === "hlt" && !this.#input.lapicInKernel) {
        Atomics.wait(this.#control, controlWord.command, command.run, HALT_MS);
        continue;
      }
      const taken = side.take(exit);
      if (taken.kind === "ended") return taken.why;
      if (taken.kind === "not-mine") this.#stopped(side, exit);
    }
  }

  /** Waits while the VM is paused. Returns `run` or `stop`. */
  #awaitPermission(): number {
    for (;;) {
      const now = Atomics.load(this.#control, controlWord.command);
      if (now !== command.pause) return now;
      Atomics.wait(this.#control, controlWord.command, command.pause);
      this.watchdog.reset();
    }
  }

  /** What is not the guest's own: the policy's turn, then the owner's `resume` or `stop`. */
  #stopped(side: GuestSide, exit: VcpuExit): void {
    if (this.#isBackAfterRecall(side, exit)) {
      this.watchdog.reset();
      return;
    }
    const atMs = monotonicMs();
    const place = side.place(exit);
    const action = this.#consultPolicy(side, exit, place, null);
    if (action.kind === "resume") {
      this.watchdog.reset();
      this.post({ type: "handled", atMs, policy: this.#policy.name, detail: action.detail, exit, place });
      return;
    }
    // A VM stops once: where another vCPU was first, this one's access is tried again if the VM ever goes on.
    const before = Atomics.compareExchange(this.#control, controlWord.command, command.run, command.pause);
    if (before !== command.run) return;
    kickAll(this.#control);
    this.post({ type: "stopped", exit, place, reason: action.reason });
  }

  /** The page was taken away by a recall, not by a truncation: waits until it is restored or lost. True: it is back. */
  #isBackAfterRecall(side: GuestSide, exit: VcpuExit): boolean {
    if (this.#states === null || !isMemoryError(exit)) return false;
    const access = side.faultContext(exit)?.access ?? null;
    if (access === null) return false;
    const hva = this.#input.window.hva + (access.gpa - WINDOW_BASE);
    const state = this.#states.of(hva);
    // Recalled and given back since the guest was entered: what it met is no more.
    if (state === pageState.open && this.#states.generation !== this.#generation) return true;
    if (state === pageState.open) this.#states.recordUnannounced();
    if (state !== pageState.recalled) return false;
    return this.#states.await(hva, () => !this.isWanted()) === pageState.open;
  }

  /** @param poisoned the address of a BUS_MCEERR_AR, or null at an exit */
  #consultPolicy(
    side: GuestSide,
    exit: VcpuExit,
    place: Place | null,
    poisoned: bigint | null,
  ): PolicyAction {
    if (poisoned === null && !isMemoryError(exit)) return stop(`no policy deals with ${exit.kind}`);
    // A guest that comes back to the same instruction again and again has not understood.
    const where = place === null ? "" : `${place.task}/${place.step}/${place.rip}/${place.gva}`;
    this.#repeats = where === this.#lastPlace ? this.#repeats + 1 : 1;
    this.#lastPlace = where;
    const { maxRepeats } = this.#input;
    if (this.#repeats > maxRepeats) return stop(`no progress after ${maxRepeats} times ${this.#policy.name}`);
    const context = side.faultContext(exit);
    if (context === null) return resume("the page is back, or no longer the guest's: tried again");
    try {
      if (poisoned === null) return this.#policy.onFault(context);
      return (
        this.#policy.onSigbus?.(context, poisoned) ?? stop(`${this.#policy.name} has no handler of SIGBUS`)
      );
    } catch (error) {
      return stop(error instanceof Error ? error.message : String(error));
    }
  }

  /** KVM_RUN was interrupted by SIGBUS for this thread: a poisoned page was touched, or is one that may be. */
  #busError(side: GuestSide, { code, address }: BusError): EndReason | null {
    const exit: VcpuExit = { kind: "interrupted" };
    const place = side.place(exit);
    const atMs = monotonicMs();
    const policy = this.#policy;
    const handled = (detail: string): null => {
      this.post({ type: "handled", atMs, policy: policy.name, detail, exit, place });
      return null;
    };
    if (code === BUS_MCEERR_AO && policy.onMemoryError !== undefined) {
      return handled(policy.onMemoryError(this.vcpu, WINDOW_BASE + (address - this.#input.window.hva)));
    }
    // No handler of a VMM that has none: the signal's default action.
    if (policy.onSigbus === undefined) {
      this.post({ type: "sigbus", address, place });
      return { kind: "vmm-killed", signal: "SIGBUS" };
    }
    const action = this.#consultPolicy(side, exit, place, address);
    if (action.kind === "stop")
      return { kind: "defect", message: `SIGBUS at 0x${address.toString(16)}: ${action.reason}` };
    return handled(action.detail);
  }
}
