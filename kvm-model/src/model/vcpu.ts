/** A vCPU: its place in KVM's fault path, its async page faults, what is being delivered to it. A view; see `machine.ts`. */
import type { AccessStep } from "./case.ts";
import {
  EPT,
  type Ept,
  EVENT,
  type GuestEvent,
  IDLE,
  type Offsets,
  PFN_ERROR,
  type PfnError,
  PLACE,
  type Place,
  READY,
  REASON,
  type Ready,
  type Reason,
  STOP,
  type Stop,
  type Token,
} from "./fields.ts";
import type { Machine } from "./machine.ts";
import type { Page } from "./page.ts";
import type { Task } from "./task.ts";

export class Vcpu {
  readonly index: number;
  readonly #m: Machine;
  readonly #at: Offsets;

  constructor(m: Machine, index: number) {
    this.index = index;
    this.#m = m;
    this.#at = m.context.offsets;
  }

  get place(): Place {
    return PLACE.word(this.#m.bytes[this.#at.vcpuPlace + this.index] as number);
  }

  goTo(place: Place): void {
    this.#m.bytes[this.#at.vcpuPlace + this.index] = PLACE.byte(place);
  }

  /** The task that is current on it. */
  get task(): Task | null {
    const byte = this.#m.bytes[this.#at.vcpuTask + this.index] as number;
    return byte === IDLE ? null : (this.#m.tasks[byte] as Task);
  }

  set task(task: Task | null) {
    this.#m.bytes[this.#at.vcpuTask + this.index] = task === null ? IDLE : task.index;
  }

  get currentAccess(): AccessStep | null {
    return this.task?.currentAccess ?? null;
  }

  /** RFLAGS.IF of what it runs. The idle loop has interrupts on. */
  get interruptsOn(): boolean {
    return this.currentAccess?.interrupts !== "off";
  }

  /** Has the current task run since it was scheduled? */
  get hasRun(): boolean {
    return this.#m.bytes[this.#at.vcpuRan + this.index] !== 0;
  }

  set hasRun(hasRun: boolean) {
    this.#m.bytes[this.#at.vcpuRan + this.index] = hasRun ? 1 : 0;
  }

  /** The page of the fault (or of the event about it). */
  get faultingPage(): Page {
    return this.#m.pages[this.#m.bytes[this.#at.vcpuPage + this.index] as number] as Page;
  }

  set faultingPage(page: Page) {
    this.#m.bytes[this.#at.vcpuPage + this.index] = page.index;
  }

  forgetFaultingPage(): void {
    this.#m.bytes[this.#at.vcpuPage + this.index] = 0;
  }

  /** fault->mmu_seq: mmu_invalidate_seq as it was before the lookup. */
  get mmuSeq(): number {
    return this.#m.bytes[this.#at.vcpuSeq + this.index] as number;
  }

  set mmuSeq(seq: number) {
    this.#m.bytes[this.#at.vcpuSeq + this.index] = seq;
  }

  /** fault->pfn. */
  get pfn(): Ept {
    return EPT.word(this.#m.bytes[this.#at.vcpuPfn + this.index] as number);
  }

  set pfn(pfn: Ept) {
    this.#m.bytes[this.#at.vcpuPfn + this.index] = EPT.byte(pfn);
  }

  get pfnError(): PfnError {
    return PFN_ERROR.word(this.#m.bytes[this.#at.vcpuError + this.index] as number);
  }

  set pfnError(error: PfnError) {
    this.#m.bytes[this.#at.vcpuError + this.index] = PFN_ERROR.byte(error);
  }

  /** Why KVM_RUN returned. */
  get stop(): Stop {
    return STOP.word(this.#m.bytes[this.#at.vcpuStop + this.index] as number);
  }

  set stop(stop: Stop) {
    this.#m.bytes[this.#at.vcpuStop + this.index] = STOP.byte(stop);
  }

  /** The task whose access the error is about. */
  get faulter(): Task | null {
    const byte = this.#m.bytes[this.#at.vcpuFaulter + this.index] as number;
    return byte === IDLE ? null : (this.#m.tasks[byte] as Task);
  }

  set faulter(task: Task | null) {
    this.#m.bytes[this.#at.vcpuFaulter + this.index] = task === null ? IDLE : task.index;
  }

  forgetFaulter(): void {
    this.#m.bytes[this.#at.vcpuFaulter + this.index] = 0;
  }

  get event(): GuestEvent {
    return EVENT.word(this.#m.bytes[this.#at.vcpuEvent + this.index] as number);
  }

  set event(event: GuestEvent) {
    this.#m.bytes[this.#at.vcpuEvent + this.index] = EVENT.byte(event);
  }

  /** apf.flags: the shared area's first word. */
  get apfFlags(): Reason {
    return REASON.word(this.#m.bytes[this.#at.vcpuFlags + this.index] as number);
  }

  set apfFlags(flags: Reason) {
    this.#m.bytes[this.#at.vcpuFlags + this.index] = REASON.byte(flags);
  }

  get cr2(): Token {
    return this.#m.bytes[this.#at.vcpuCr2 + this.index] as Token;
  }

  set cr2(token: Token) {
    this.#m.bytes[this.#at.vcpuCr2 + this.index] = token;
  }

  /** apf.token: the shared area's second word, the token of a page-ready. */
  get readyToken(): Token {
    return this.#m.bytes[this.#at.vcpuToken + this.index] as Token;
  }

  set readyToken(token: Token) {
    this.#m.bytes[this.#at.vcpuToken + this.index] = token;
  }

  /** The error flag beside the token (a proposal). */
  get readyFlags(): Ready {
    return READY.word(this.#m.bytes[this.#at.vcpuReadyFlags + this.index] as number);
  }

  set readyFlags(flags: Ready) {
    this.#m.bytes[this.#at.vcpuReadyFlags + this.index] = READY.byte(flags);
  }

  /** The page-ready interrupt is pending. */
  get hasReadyIrq(): boolean {
    return this.#m.bytes[this.#at.vcpuIrq + this.index] !== 0;
  }

  set hasReadyIrq(isPending: boolean) {
    this.#m.bytes[this.#at.vcpuIrq + this.index] = isPending ? 1 : 0;
  }

  /** KVM_REQ_APF_READY. */
  get hasReadyRequest(): boolean {
    return this.#m.bytes[this.#at.vcpuReadyRequest + this.index] !== 0;
  }

  set hasReadyRequest(isPending: boolean) {
    this.#m.bytes[this.#at.vcpuReadyRequest + this.index] = isPending ? 1 : 0;
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
    return this.#at.vcpuGfns + this.index * this.#m.context.pages + page.index;
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
    const { errorSlots } = this.#m.context;
    return this.#at.vcpuErrorGfn + this.index * errorSlots + (page.index % errorSlots);
  }

  /** apf.error_pending (a proposal): no async page faults until an error has been reported. */
  get hasErrorPending(): boolean {
    return this.#m.bytes[this.#at.vcpuErrorPending + this.index] !== 0;
  }

  set hasErrorPending(isPending: boolean) {
    this.#m.bytes[this.#at.vcpuErrorPending + this.index] = isPending ? 1 : 0;
  }

  /** The busy word of the #VE information page. */
  get isVeBusy(): boolean {
    return this.#m.bytes[this.#at.vcpuVeBusy + this.index] !== 0;
  }

  set isVeBusy(isBusy: boolean) {
    this.#m.bytes[this.#at.vcpuVeBusy + this.index] = isBusy ? 1 : 0;
  }
}
