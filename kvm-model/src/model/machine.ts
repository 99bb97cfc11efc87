/**
 * A state of the full model as a machine: vCPUs, pages, tasks, entries of the async-pf list, and what there is once.
 *
 * Views over the bytes, not a copy: a machine is made once for a case and bound to the state that is looked at or
 * changed (`bind`); until the next `bind` all its views read and write that state. What an access does to more than one
 * field is not here but in the file of the kernel function that does it.
 */
import { enablesApf } from "../../../language/src/index.ts";
import type { EventSink } from "../explore/model.ts";
import { Words } from "../state/words.ts";
import type { Check, ModelCase } from "./case.ts";
import { type Context, MARK, type Mark, type Token } from "./fields.ts";
import { Page } from "./page.ts";
import { Task } from "./task.ts";
import { type FaultTracepoint, tracepointEvents } from "./tracepoints.ts";
import { type Ready, type Stop, stopWords, Vcpu } from "./vcpu.ts";
import { Work } from "./work.ts";

/** A constant of its own: see `Words`. */
const STOP = stopWords;

/** A truncation that a guard holds up. */
const guardStates = ["idle", "waiting", "granted"] as const;
export type Guard = (typeof guardStates)[number];
const GUARD = new Words(guardStates);

const kernelStates = ["alive", "oops", "panic"] as const;
export type Kernel = (typeof kernelStates)[number];
const KERNEL = new Words(kernelStates);

/** The result of a host step. */
const hostResults = ["not-reached", "done", "delayed", "denied"] as const;
export type HostResult = (typeof hostResults)[number];
const HOST = new Words(hostResults);

/** Substeps of a truncation: truncate_setsize(), truncate_pagecache(). */
const substeps = [
  "start",
  "guarded",
  "size",
  "unmap-start",
  "unmap-host",
  "unmap-end",
  "drop-cache",
  "again-start",
  "again-end",
] as const;
export type Substep = (typeof substeps)[number];
const SUBSTEP = new Words(substeps);

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
  /** Can the memory of a page go bad? */
  readonly hasMemoryErrors: boolean;
  readonly tasks: readonly Task[];
  readonly works: readonly Work[];
  /** Only the views use it. */
  bytes: Uint8Array;
  /** The text of a step: `m.log?.(..)`. Null without a listener, so that no text is made then. */
  log: Log | null = null;
  #events: EventSink | null = null;
  /** Null in all cases but mutations. */
  readonly #without: ReadonlySet<Check> | null;
  readonly #marksAt: number;
  readonly #kernelAt: number;
  readonly #vmAt: number;
  readonly #fileSizeAt: number;
  readonly #guestFileSizeAt: number;
  readonly #invalidateInProgressAt: number;
  readonly #invalidateSeqAt: number;
  readonly #largeEptAt: number;
  readonly #hostStepAt: number;
  readonly #hostSubstepAt: number;
  readonly #hostSawAt: number;
  readonly #guardAt: number;
  readonly #notifyAt: number;
  readonly #revokeAt: number;
  readonly #signalsAt: number;
  readonly #nmiLeftAt: number;
  readonly #killPendingAt: number;
  readonly #dummyNodeAt: number;
  readonly #dummyLeftAt: number;

  constructor(context: Context) {
    this.context = context;
    this.case = context.case;
    this.hasMemoryErrors = context.case.host.some((step) => step.op === "memory-error");
    this.#without = context.case.without.length === 0 ? null : new Set(context.case.without);
    const at = context.offsets;
    this.#marksAt = at.marks;
    this.#kernelAt = at.kernel;
    this.#vmAt = at.vm;
    this.#fileSizeAt = at.fileSize;
    this.#guestFileSizeAt = at.guestFileSize;
    this.#invalidateInProgressAt = at.invalidateInProgress;
    this.#invalidateSeqAt = at.invalidateSeq;
    this.#largeEptAt = at.largeEpt;
    this.#hostStepAt = at.hostStep;
    this.#hostSubstepAt = at.hostSubstep;
    this.#hostSawAt = at.hostSaw;
    this.#guardAt = at.guard;
    this.#notifyAt = at.notify;
    this.#revokeAt = at.revoke;
    this.#signalsAt = at.signals;
    this.#nmiLeftAt = at.nmiLeft;
    this.#killPendingAt = at.killPending;
    this.#dummyNodeAt = at.dummyNode;
    this.#dummyLeftAt = at.dummyLeft;
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
    return this.#without === null || !this.#without.has(check);
  }

  /** Has the guest enabled async page faults? */
  get enablesApf(): boolean {
    return enablesApf(this.case);
  }

  mark(mark: Mark): void {
    this.bytes[this.#marksAt] = (this.bytes[this.#marksAt] as number) | MARK[mark];
  }

  hasMark(mark: Mark): boolean {
    return ((this.bytes[this.#marksAt] as number) & MARK[mark]) !== 0;
  }

  /** Can the guest run at all? */
  get alive(): boolean {
    return this.vmStop === "none" && this.kernel !== "panic";
  }

  get kernel(): Kernel {
    return KERNEL.word(this.bytes[this.#kernelAt] as number);
  }

  set kernel(kernel: Kernel) {
    this.bytes[this.#kernelAt] = KERNEL.byte(kernel);
  }

  /** Why the VMM has stopped the VM. */
  get vmStop(): Stop {
    return STOP.word(this.bytes[this.#vmAt] as number);
  }

  set vmStop(stop: Stop) {
    this.bytes[this.#vmAt] = STOP.byte(stop);
  }

  /** i_size of the file, in pages. */
  get fileSize(): number {
    return this.bytes[this.#fileSizeAt] as number;
  }

  set fileSize(pages: number) {
    this.bytes[this.#fileSizeAt] = pages;
  }

  /** i_size as the guest's inode has it, in pages. */
  get guestFileSize(): number {
    return this.bytes[this.#guestFileSizeAt] as number;
  }

  set guestFileSize(pages: number) {
    this.bytes[this.#guestFileSizeAt] = pages;
  }

  get mmuInvalidateInProgress(): number {
    return this.bytes[this.#invalidateInProgressAt] as number;
  }

  set mmuInvalidateInProgress(count: number) {
    this.bytes[this.#invalidateInProgressAt] = count;
  }

  get mmuInvalidateSeq(): number {
    return this.bytes[this.#invalidateSeqAt] as number;
  }

  set mmuInvalidateSeq(seq: number) {
    this.bytes[this.#invalidateSeqAt] = seq;
  }

  /** Does the second level map all pages by one large entry? */
  get hasLargeEpt(): boolean {
    return this.case.largePage && this.bytes[this.#largeEptAt] === 1;
  }

  set hasLargeEpt(isLarge: boolean) {
    if (!this.case.largePage) throw new Error(`${this.case.name}: a large entry in a case without one`);
    this.bytes[this.#largeEptAt] = isLarge ? 1 : 0;
  }

  get hostStep(): number {
    return this.bytes[this.#hostStepAt] as number;
  }

  set hostStep(step: number) {
    this.bytes[this.#hostStepAt] = step;
  }

  get hostSubstep(): Substep {
    return SUBSTEP.word(this.bytes[this.#hostSubstepAt] as number);
  }

  set hostSubstep(substep: Substep) {
    this.bytes[this.#hostSubstepAt] = SUBSTEP.byte(substep);
  }

  hostResult(step: number): HostResult {
    return HOST.word(this.bytes[this.#hostSawAt + step] as number);
  }

  setHostResult(step: number, result: HostResult): void {
    this.bytes[this.#hostSawAt + step] = HOST.byte(result);
  }

  get guard(): Guard {
    return GUARD.word(this.bytes[this.#guardAt] as number);
  }

  set guard(guard: Guard) {
    this.bytes[this.#guardAt] = GUARD.byte(guard);
  }

  /** A notification of a truncation is under way. */
  get isNotifying(): boolean {
    return this.bytes[this.#notifyAt] !== 0;
  }

  set isNotifying(isNotifying: boolean) {
    this.bytes[this.#notifyAt] = isNotifying ? 1 : 0;
  }

  /** The server has asked the guest to give the range back. */
  get isRevoking(): boolean {
    return this.bytes[this.#revokeAt] !== 0;
  }

  set isRevoking(isRevoking: boolean) {
    this.bytes[this.#revokeAt] = isRevoking ? 1 : 0;
  }

  hasSignal(name: string): boolean {
    const bit = this.context.signalBit.get(name) ?? 0;
    return ((this.bytes[this.#signalsAt] as number) & bit) !== 0;
  }

  signal(name: string): void {
    const bit = this.context.signalBit.get(name) ?? 0;
    this.bytes[this.#signalsAt] = (this.bytes[this.#signalsAt] as number) | bit;
  }

  /** An NMI may still come. */
  get hasNmiLeft(): boolean {
    return this.bytes[this.#nmiLeftAt] !== 0;
  }

  set hasNmiLeft(isLeft: boolean) {
    this.bytes[this.#nmiLeftAt] = isLeft ? 1 : 0;
  }

  /** The task with SIGKILL pending. */
  get pendingKill(): Task | null {
    const byte = this.bytes[this.#killPendingAt] as number;
    return byte === 0 ? null : (this.tasks[byte - 1] as Task);
  }

  set pendingKill(task: Task | null) {
    this.bytes[this.#killPendingAt] = task === null ? 0 : task.index + 1;
  }

  /** Can this token have a dummy node: is it one that a task may sleep on, and not a broadcast or garbage? */
  isTaskToken(token: Token): boolean {
    return token <= this.context.tokens;
  }

  /** kvm_async_pf_task_wake() found no sleeper and left a dummy node in the guest's hash. */
  /** The flags of the page-ready that it stands for. */
  dummyNode(token: Token): "absent" | Ready {
    const byte = this.bytes[this.#dummyNodeAt + token];
    return byte === 0 ? "absent" : byte === 1 ? "ok" : "error";
  }

  hasDummyNode(token: Token): boolean {
    return this.bytes[this.#dummyNodeAt + token] !== 0;
  }

  setDummyNode(token: Token, dummy: "absent" | Ready): void {
    this.bytes[this.#dummyNodeAt + token] = dummy === "absent" ? 0 : dummy === "ok" ? 1 : 2;
  }

  /** A dummy node stays in the guest's hash for ever: no task will wait for its token. */
  get hasDummyLeft(): boolean {
    return this.bytes[this.#dummyLeftAt] !== 0;
  }

  leaveDummy(): void {
    this.bytes[this.#dummyLeftAt] = 1;
  }
}
