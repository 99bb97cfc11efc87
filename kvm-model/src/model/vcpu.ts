/** A vCPU: its place in KVM's fault path, its async page faults, what is being delivered to it. A view; see `machine.ts`. */
import { Words } from "../state/words.ts";
import type { AccessStep } from "./case.ts";
import { IDLE, NO_TOKEN, type Token } from "./fields.ts";
import type { Machine } from "./machine.ts";
import { type Ept, eptWords, type Page } from "./page.ts";
import type { Task } from "./task.ts";

/**
 * Where a vCPU is. The fault path of KVM is cut where another CPU can come in between.
 *
 * - `guest`: in guest mode, or about to enter it: the guest's own code runs.
 * - `exit`: page-fault exit taken; nothing looked up yet.
 * - `lookup`: mmu_invalidate_seq read (kvm_faultin_pfn()).
 * - `async`: hva_to_pfn() with FOLL_NOWAIT returned KVM_PFN_ERR_NEEDS_IO.
 * - `error`: kvm_handle_error_pfn().
 * - `map`: a pfn in hand, mmu_lock not yet taken.
 * - `sync`: the synchronous attempt.
 * - `halted`: apf.halted, the artificial halt.
 * - `stopped`: KVM_RUN has returned.
 */
const places = ["guest", "exit", "lookup", "async", "error", "map", "sync", "halted", "stopped"] as const;
export type Place = (typeof places)[number];
const PLACE = new Words(places);

/**
 * The exception or interrupt that is being delivered to the guest; its handler has not run yet.
 * `async #PF`: flags = page not present and CR2 = token (protocol of 2010: or page ready). `async #PF VM exit`: the same
 * while L2 ran; L1's KVM has read the flags with interrupts off (svm_vcpu_run(), handle_exception_irqoff()) and has yet
 * to wait for the token, with interrupts on. `acknowledging`: the page-ready handler has taken its token and not yet
 * written the ACK MSR. `not present`: by another way than #PF (`Delivery`). `.. in L2`: an exception that goes to L2's own handler.
 */
const guestEvents = [
  "none",
  "async #PF",
  "#MC",
  "#VE",
  "#PF",
  "NMI",
  "error interrupt",
  "acknowledging",
  "async #PF VM exit",
  "#PF in L2",
  "#VE in L2",
  "not present",
] as const;
export type GuestEvent = (typeof guestEvents)[number];
const EVENT = new Words(guestEvents);

/** Why KVM_RUN returned. `poison`: -EINTR with SIGBUS BUS_MCEERR_AR pending for the vCPU thread. */
const stops = ["none", "efault", "memory-fault", "poison", "mmio", "internal-error", "triple-fault"] as const;
export type Stop = (typeof stops)[number];
const STOP = new Words(stops);
export const stopWords: Words<Stop> = STOP;

/** The error pfn that kvm_handle_error_pfn() gets: KVM_PFN_ERR_FAULT or KVM_PFN_ERR_HWPOISON. */
const pfnErrors = ["none", "fault", "hwpoison"] as const;
export type PfnError = (typeof pfnErrors)[number];
const PFN_ERROR = new Words(pfnErrors);

/** The shared area's first word (struct kvm_vcpu_pv_apf_data.flags). */
const reasons = ["none", "not-present", "ready"] as const;
export type Reason = (typeof reasons)[number];
const REASON = new Words(reasons);

/** The error flag of a page-ready event (a proposal). */
const readyFlags = ["ok", "error"] as const;
export type Ready = (typeof readyFlags)[number];
const READY = new Words(readyFlags);
export const readyWords: Words<Ready> = READY;

export class Vcpu {
  readonly index: number;
  readonly #m: Machine;
  readonly #placeAt: number;
  readonly #taskAt: number;
  readonly #ranAt: number;
  readonly #pageAt: number;
  readonly #seqAt: number;
  readonly #pfnAt: number;
  readonly #errorAt: number;
  readonly #stopAt: number;
  readonly #faulterAt: number;
  readonly #eventAt: number;
  readonly #flagsAt: number;
  readonly #cr2At: number;
  readonly #notPresentAt: number;
  readonly #tokenAt: number;
  readonly #readyFlagsAt: number;
  readonly #irqAt: number;
  readonly #readyRequestAt: number;
  readonly #gfnsAt: number;
  readonly #errorSlotsAt: number;
  readonly #errorPendingAt: number;
  readonly #veBusyAt: number;

  constructor(m: Machine, index: number) {
    this.index = index;
    this.#m = m;
    const at = m.context.offsets;
    this.#placeAt = at.vcpuPlace + index;
    this.#taskAt = at.vcpuTask + index;
    this.#ranAt = at.vcpuRan + index;
    this.#pageAt = at.vcpuPage + index;
    this.#seqAt = at.vcpuSeq + index;
    this.#pfnAt = at.vcpuPfn + index;
    this.#errorAt = at.vcpuError + index;
    this.#stopAt = at.vcpuStop + index;
    this.#faulterAt = at.vcpuFaulter + index;
    this.#eventAt = at.vcpuEvent + index;
    this.#flagsAt = at.vcpuFlags + index;
    this.#cr2At = at.vcpuCr2 + index;
    this.#notPresentAt = at.vcpuNotPresent + index;
    this.#tokenAt = at.vcpuToken + index;
    this.#readyFlagsAt = at.vcpuReadyFlags + index;
    this.#irqAt = at.vcpuIrq + index;
    this.#readyRequestAt = at.vcpuReadyRequest + index;
    this.#gfnsAt = at.vcpuGfns + index * m.context.pages;
    this.#errorSlotsAt = at.vcpuErrorGfn + index * m.context.errorSlots;
    this.#errorPendingAt = at.vcpuErrorPending + index;
    this.#veBusyAt = at.vcpuVeBusy + index;
  }

  get place(): Place {
    return PLACE.word(this.#m.bytes[this.#placeAt] as number);
  }

  goTo(place: Place): void {
    this.#m.bytes[this.#placeAt] = PLACE.byte(place);
  }

  /** The task that is current on it. */
  get task(): Task | null {
    const byte = this.#m.bytes[this.#taskAt] as number;
    return byte === IDLE ? null : (this.#m.tasks[byte] as Task);
  }

  set task(task: Task | null) {
    this.#m.bytes[this.#taskAt] = task === null ? IDLE : task.index;
  }

  /** Is this task current on it? */
  runs(task: Task): boolean {
    return this.#m.bytes[this.#taskAt] === task.index;
  }

  get currentAccess(): AccessStep | null {
    return this.task?.currentAccess ?? null;
  }

  /**
   * May an interrupt be delivered to the guest? RFLAGS.IF of what it runs; the idle loop has interrupts on; an L1 that
   * takes interrupts as VM exits gets them whatever L2's IF is (svm_interrupt_blocked(), vmx_interrupt_blocked()).
   */
  get interruptsOn(): boolean {
    const access = this.currentAccess;
    return access?.interrupts !== "off" || access.mode === "nested";
  }

  /** Is an interrupt delivered before the next instruction? KVM raises page-ready on the vCPU's thread, ahead of the entry. */
  get isInterrupted(): boolean {
    return this.hasReadyIrq && this.interruptsOn;
  }

  /** is_guest_mode(): does it run L2? */
  get runsL2(): boolean {
    return this.currentAccess?.mode === "nested";
  }

  /** Is `arch.mmu` that of L2? Not any more once L2 has had its VM exit. */
  get hasMmuOfL2(): boolean {
    return this.runsL2 && this.event !== "async #PF VM exit";
  }

  /** Has the current task run since it was scheduled? */
  get hasRun(): boolean {
    return this.#m.bytes[this.#ranAt] !== 0;
  }

  set hasRun(hasRun: boolean) {
    this.#m.bytes[this.#ranAt] = hasRun ? 1 : 0;
  }

  /** The page of the fault (or of the event about it). */
  get faultingPage(): Page {
    return this.#m.pages[this.#m.bytes[this.#pageAt] as number] as Page;
  }

  set faultingPage(page: Page) {
    this.#m.bytes[this.#pageAt] = page.index;
  }

  forgetFaultingPage(): void {
    this.#m.bytes[this.#pageAt] = 0;
  }

  /** fault->mmu_seq: mmu_invalidate_seq as it was before the lookup. */
  get mmuSeq(): number {
    return this.#m.bytes[this.#seqAt] as number;
  }

  set mmuSeq(seq: number) {
    this.#m.bytes[this.#seqAt] = seq;
  }

  /** fault->pfn. */
  get pfn(): Ept {
    return eptWords.word(this.#m.bytes[this.#pfnAt] as number);
  }

  set pfn(pfn: Ept) {
    this.#m.bytes[this.#pfnAt] = eptWords.byte(pfn);
  }

  get pfnError(): PfnError {
    return PFN_ERROR.word(this.#m.bytes[this.#errorAt] as number);
  }

  set pfnError(error: PfnError) {
    this.#m.bytes[this.#errorAt] = PFN_ERROR.byte(error);
  }

  /** Why KVM_RUN returned. */
  get stop(): Stop {
    return STOP.word(this.#m.bytes[this.#stopAt] as number);
  }

  set stop(stop: Stop) {
    this.#m.bytes[this.#stopAt] = STOP.byte(stop);
  }

  /** The task whose access the error is about. */
  get faulter(): Task | null {
    const byte = this.#m.bytes[this.#faulterAt] as number;
    return byte === IDLE ? null : (this.#m.tasks[byte] as Task);
  }

  set faulter(task: Task | null) {
    this.#m.bytes[this.#faulterAt] = task === null ? IDLE : task.index;
  }

  forgetFaulter(): void {
    this.#m.bytes[this.#faulterAt] = 0;
  }

  get event(): GuestEvent {
    return EVENT.word(this.#m.bytes[this.#eventAt] as number);
  }

  set event(event: GuestEvent) {
    this.#m.bytes[this.#eventAt] = EVENT.byte(event);
  }

  /** apf.flags: the shared area's first word. */
  get apfFlags(): Reason {
    return REASON.word(this.#m.bytes[this.#flagsAt] as number);
  }

  set apfFlags(flags: Reason) {
    this.#m.bytes[this.#flagsAt] = REASON.byte(flags);
  }

  get cr2(): Token {
    return this.#m.bytes[this.#cr2At] as Token;
  }

  set cr2(token: Token) {
    this.#m.bytes[this.#cr2At] = token;
  }

  /** The token of a "not present" that is no #PF, and so not in CR2: in the area or bank that goes with the event. */
  get notPresentToken(): Token {
    return this.#m.case.delivery === "pf" ? NO_TOKEN : (this.#m.bytes[this.#notPresentAt] as Token);
  }

  set notPresentToken(token: Token) {
    if (this.#m.case.delivery === "pf") throw new Error(`${this.#m.case.name}: its token is in CR2`);
    this.#m.bytes[this.#notPresentAt] = token;
  }

  /** apf.token: the shared area's second word, the token of a page-ready. */
  get readyToken(): Token {
    return this.#m.bytes[this.#tokenAt] as Token;
  }

  set readyToken(token: Token) {
    this.#m.bytes[this.#tokenAt] = token;
  }

  /** The error flag beside the token (a proposal). */
  get readyFlags(): Ready {
    return READY.word(this.#m.bytes[this.#readyFlagsAt] as number);
  }

  set readyFlags(flags: Ready) {
    this.#m.bytes[this.#readyFlagsAt] = READY.byte(flags);
  }

  /** The page-ready interrupt is pending. */
  get hasReadyIrq(): boolean {
    return this.#m.bytes[this.#irqAt] !== 0;
  }

  set hasReadyIrq(isPending: boolean) {
    this.#m.bytes[this.#irqAt] = isPending ? 1 : 0;
  }

  /** KVM_REQ_APF_READY. */
  get hasReadyRequest(): boolean {
    return this.#m.bytes[this.#readyRequestAt] !== 0;
  }

  set hasReadyRequest(isPending: boolean) {
    this.#m.bytes[this.#readyRequestAt] = isPending ? 1 : 0;
  }

  /** kvm_find_async_pf_gfn(): is a fault on this page outstanding? */
  hasAsyncGfn(page: Page): boolean {
    return this.#m.bytes[this.#gfnAt(page)] !== 0;
  }

  /** kvm_add_async_pf_gfn(). */
  addAsyncGfn(page: Page): void {
    this.#m.bytes[this.#gfnAt(page)] = 1;
  }

  /** kvm_del_async_pf_gfn(). */
  delAsyncGfn(page: Page): void {
    this.#m.bytes[this.#gfnAt(page)] = 0;
  }

  #gfnAt(page: Page): number {
    return this.#gfnsAt + page.index;
  }

  /** The page that the slot of this page's gfn remembers as bad (the hash of a proposal). */
  errorGfnInSlotOf(page: Page): Page | null {
    const byte = this.#m.bytes[this.#errorGfnAt(page)] as number;
    return byte === 0 ? null : (this.#m.pages[byte - 1] as Page);
  }

  setErrorGfn(page: Page): void {
    this.#m.bytes[this.#errorGfnAt(page)] = page.index + 1;
  }

  clearErrorGfn(page: Page): void {
    this.#m.bytes[this.#errorGfnAt(page)] = 0;
  }

  #errorGfnAt(page: Page): number {
    return this.#errorSlotsAt + (this.#m.context.errorSlotOf[page.index] as number);
  }

  /** apf.error_pending (a proposal): no async page faults until an error has been reported. */
  get hasErrorPending(): boolean {
    return this.#m.bytes[this.#errorPendingAt] !== 0;
  }

  set hasErrorPending(isPending: boolean) {
    this.#m.bytes[this.#errorPendingAt] = isPending ? 1 : 0;
  }

  /** The busy word of the #VE information page. */
  get isVeBusy(): boolean {
    return this.#m.bytes[this.#veBusyAt] !== 0;
  }

  set isVeBusy(isBusy: boolean) {
    this.#m.bytes[this.#veBusyAt] = isBusy ? 1 : 0;
  }
}
