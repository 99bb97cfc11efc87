/**
 * A state of the full model as a machine: vCPUs, pages, tasks, entries of the async-pf list, and what there is once.
 *
 * Views over the bytes, not a copy: a machine is made once for a case and bound to the state that is looked at or
 * changed (`bind`); until the next `bind` all its views read and write that state. What an access does to more than one
 * field is not here but in the file of the kernel function that does it.
 */
import type { EventSink } from "../explore/model.ts";
import type { Check, ModelCase } from "./case.ts";
import {
  type Context,
  GUARD,
  type Guard,
  HOST,
  type HostResult,
  KERNEL,
  type Kernel,
  MARK,
  type Mark,
  type Offsets,
  STOP,
  type Stop,
  SUBSTEP,
  type Substep,
  type Token,
} from "./fields.ts";
import { Page } from "./page.ts";
import { Task } from "./task.ts";
import { type FaultTracepoint, tracepointEvents } from "./tracepoints.ts";
import { Vcpu } from "./vcpu.ts";
import { Work } from "./work.ts";

/** The lifelines of the sequence diagrams. */
export type Party = "guest" | "kvm" | "vmm" | "host" | "server" | "worker" | "kill";

export type EventKind =
  | "access"
  | "apf-halt"
  | "apf-not-present"
  | "apf-ready"
  | "exception"
  | "exit"
  | "fault"
  | "fixup"
  | "inject"
  | "lease-break"
  | "lease-release"
  | "map"
  | "remap"
  | "schedule"
  | "sigbus"
  | "signal"
  | "truncate"
  | "unmap";

export type Log = (kind: EventKind, from: Party, to: Party, detail: string) => void;

export class Machine {
  readonly case: ModelCase;
  readonly context: Context;
  readonly vcpus: readonly Vcpu[];
  readonly pages: readonly Page[];
  readonly tasks: readonly Task[];
  readonly works: readonly Work[];
  /** Only the views use it. */
  bytes: Uint8Array;
  /** What a step shows to people: `m.log?.(..)`. Null where no one listens, so that no text is made then. */
  log: Log | null = null;
  #events: EventSink | null = null;
  readonly #at: Offsets;

  constructor(context: Context) {
    this.context = context;
    this.case = context.case;
    this.#at = context.offsets;
    this.bytes = new Uint8Array(context.layout.stateBytes);
    this.pages = context.case.pages.map((start, index) => new Page(this, index, start));
    this.vcpus = Array.from({ length: context.vcpus }, (_, index) => new Vcpu(this, index));
    let firstStep = 0;
    this.tasks = context.case.tasks.map((task, index) => {
      const view = new Task(this, index, task, firstStep);
      firstStep += task.steps.length;
      return view;
    });
    this.works = Array.from({ length: context.works }, (_, index) => new Work(this, index));
  }

  bind(state: Uint8Array, events: EventSink | null = null): this {
    this.bytes = state;
    if (events !== this.#events) {
      this.#events = events;
      this.log = events === null ? null : (kind, from, to, detail) => events({ kind, from, to, detail });
    }
    return this;
  }

  page(index: number): Page {
    return this.pages[index] as Page;
  }

  /** A tracepoint of the fault path. */
  trace(tracepoint: FaultTracepoint, vcpu: Vcpu, page: Page): void {
    if (this.#events !== null) this.#events(tracepointEvents.fault(tracepoint, vcpu.index, page.index));
  }

  /** kvm_userspace_exit: KVM_RUN returns. */
  traceExit(vcpu: Vcpu, stop: Stop): void {
    if (this.#events === null) return;
    const event = tracepointEvents.exit(vcpu.index, stop);
    if (event !== null) this.#events(event);
  }

  /** kvm_tdp_mmu_spte_changed, of a zap that the host initiates. */
  traceHostZap(page: Page): void {
    if (this.#events !== null) this.#events(tracepointEvents.hostZap(page.index));
  }

  /** Is this check of kernel, guest, server or VMM in place? (Taken out: a mutation.) */
  checks(check: Check): boolean {
    return !this.context.without.has(check);
  }

  /** Has the guest enabled async page faults? */
  get enablesApf(): boolean {
    return this.case.enablesApf ?? this.case.guest !== "unaware";
  }

  mark(mark: Mark): void {
    this.bytes[this.#at.marks] = (this.bytes[this.#at.marks] as number) | MARK[mark];
  }

  hasMark(mark: Mark): boolean {
    return ((this.bytes[this.#at.marks] as number) & MARK[mark]) !== 0;
  }

  /** Can the guest run at all? */
  get alive(): boolean {
    return this.vmStop === "none" && this.kernel !== "panic";
  }

  get kernel(): Kernel {
    return KERNEL.word(this.bytes[this.#at.kernel] as number);
  }

  set kernel(kernel: Kernel) {
    this.bytes[this.#at.kernel] = KERNEL.byte(kernel);
  }

  /** Why the VMM has stopped the VM. */
  get vmStop(): Stop {
    return STOP.word(this.bytes[this.#at.vm] as number);
  }

  set vmStop(stop: Stop) {
    this.bytes[this.#at.vm] = STOP.byte(stop);
  }

  /** i_size of the file, in pages. */
  get fileSize(): number {
    return this.bytes[this.#at.fileSize] as number;
  }

  set fileSize(pages: number) {
    this.bytes[this.#at.fileSize] = pages;
  }

  /** i_size as the guest's inode has it, in pages. */
  get guestFileSize(): number {
    return this.bytes[this.#at.guestFileSize] as number;
  }

  set guestFileSize(pages: number) {
    this.bytes[this.#at.guestFileSize] = pages;
  }

  get mmuInvalidateInProgress(): number {
    return this.bytes[this.#at.invalidateInProgress] as number;
  }

  set mmuInvalidateInProgress(count: number) {
    this.bytes[this.#at.invalidateInProgress] = count;
  }

  get mmuInvalidateSeq(): number {
    return this.bytes[this.#at.invalidateSeq] as number;
  }

  set mmuInvalidateSeq(seq: number) {
    this.bytes[this.#at.invalidateSeq] = seq;
  }

  /** Does the second level map all pages by one large entry? */
  get hasLargeEpt(): boolean {
    return this.case.largePage && this.bytes[this.#at.largeEpt] === 1;
  }

  set hasLargeEpt(isLarge: boolean) {
    if (!this.case.largePage) throw new Error(`${this.case.name}: a large entry in a case without one`);
    this.bytes[this.#at.largeEpt] = isLarge ? 1 : 0;
  }

  get hostStep(): number {
    return this.bytes[this.#at.hostStep] as number;
  }

  set hostStep(step: number) {
    this.bytes[this.#at.hostStep] = step;
  }

  get hostSubstep(): Substep {
    return SUBSTEP.word(this.bytes[this.#at.hostSubstep] as number);
  }

  set hostSubstep(substep: Substep) {
    this.bytes[this.#at.hostSubstep] = SUBSTEP.byte(substep);
  }

  hostResult(step: number): HostResult {
    return HOST.word(this.bytes[this.#at.hostSaw + step] as number);
  }

  setHostResult(step: number, result: HostResult): void {
    this.bytes[this.#at.hostSaw + step] = HOST.byte(result);
  }

  get guard(): Guard {
    return GUARD.word(this.bytes[this.#at.guard] as number);
  }

  set guard(guard: Guard) {
    this.bytes[this.#at.guard] = GUARD.byte(guard);
  }

  /** A notification of a truncation is under way. */
  get isNotifying(): boolean {
    return this.bytes[this.#at.notify] !== 0;
  }

  set isNotifying(isNotifying: boolean) {
    this.bytes[this.#at.notify] = isNotifying ? 1 : 0;
  }

  /** The server has asked the guest to give the range back. */
  get isRevoking(): boolean {
    return this.bytes[this.#at.revoke] !== 0;
  }

  set isRevoking(isRevoking: boolean) {
    this.bytes[this.#at.revoke] = isRevoking ? 1 : 0;
  }

  hasSignal(name: string): boolean {
    const bit = this.context.signalBit.get(name) ?? 0;
    return ((this.bytes[this.#at.signals] as number) & bit) !== 0;
  }

  signal(name: string): void {
    const bit = this.context.signalBit.get(name) ?? 0;
    this.bytes[this.#at.signals] = (this.bytes[this.#at.signals] as number) | bit;
  }

  /** An NMI may still come. */
  get hasNmiLeft(): boolean {
    return this.bytes[this.#at.nmiLeft] !== 0;
  }

  set hasNmiLeft(isLeft: boolean) {
    this.bytes[this.#at.nmiLeft] = isLeft ? 1 : 0;
  }

  /** The task with SIGKILL pending. */
  get pendingKill(): Task | null {
    const byte = this.bytes[this.#at.killPending] as number;
    return byte === 0 ? null : (this.tasks[byte - 1] as Task);
  }

  set pendingKill(task: Task | null) {
    this.bytes[this.#at.killPending] = task === null ? 0 : task.index + 1;
  }

  /** Can this token have a dummy node: is it one that a task may sleep on, and not a broadcast or garbage? */
  isTaskToken(token: Token): boolean {
    return token <= this.context.tokens;
  }

  /** kvm_async_pf_task_wake() found no sleeper and left a dummy node in the guest's hash. */
  hasDummyNode(token: Token): boolean {
    return this.bytes[this.#at.dummyNode + token] !== 0;
  }

  setDummyNode(token: Token, dummy: "present" | "absent"): void {
    this.bytes[this.#at.dummyNode + token] = dummy === "present" ? 1 : 0;
  }
}
