/** An entry of vcpu->async_pf (struct kvm_async_pf). A view; see `machine.ts`. */
import { Words } from "../state/words.ts";
import { IDLE, type Token } from "./fields.ts";
import type { Machine } from "./machine.ts";
import type { Page } from "./page.ts";
import type { Task } from "./task.ts";
import type { Vcpu } from "./vcpu.ts";

/** An entry of vcpu->async_pf: unused, queued to the worker, or on the list of those that are done. */
const workStates = ["free", "queued", "done"] as const;
export type WorkState = (typeof workStates)[number];
const WORK = new Words(workStates);

export type AsyncFault = {
  readonly vcpu: Vcpu;
  readonly page: Page;
  /** The task that faulted. */
  readonly task: Task | null;
  readonly token: Token;
  /** notpresent_injected: the guest got "page not present". */
  readonly isInjected: boolean;
  /** Did L2 fault? */
  readonly isOfL2: boolean;
};

export class Work {
  readonly index: number;
  readonly #m: Machine;
  readonly #stateAt: number;
  readonly #doneAt: number;
  readonly #vcpuAt: number;
  readonly #pageAt: number;
  readonly #taskAt: number;
  readonly #tokenAt: number;
  readonly #injectedAt: number;
  readonly #nestedAt: number;

  constructor(m: Machine, index: number) {
    this.index = index;
    this.#m = m;
    const at = m.context.offsets;
    this.#stateAt = at.workState + index;
    this.#doneAt = at.workDone + index;
    this.#vcpuAt = at.workVcpu + index;
    this.#pageAt = at.workPage + index;
    this.#taskAt = at.workTask + index;
    this.#tokenAt = at.workToken + index;
    this.#injectedAt = at.workInjected + index;
    this.#nestedAt = at.workNested + index;
  }

  get state(): WorkState {
    return WORK.word(this.#m.bytes[this.#stateAt] as number);
  }

  /** list_first_entry() of vcpu->async_pf.done. */
  get isFirstDone(): boolean {
    return this.#m.bytes[this.#doneAt] === 1;
  }

  get vcpu(): Vcpu {
    return this.#m.vcpus[this.#m.bytes[this.#vcpuAt] as number] as Vcpu;
  }

  isOf(vcpu: Vcpu): boolean {
    return this.#m.bytes[this.#vcpuAt] === vcpu.index;
  }

  get page(): Page {
    return this.#m.pages[this.#m.bytes[this.#pageAt] as number] as Page;
  }

  get task(): Task | null {
    const byte = this.#m.bytes[this.#taskAt] as number;
    return byte === IDLE ? null : (this.#m.tasks[byte] as Task);
  }

  get token(): Token {
    return this.#m.bytes[this.#tokenAt] as Token;
  }

  set token(token: Token) {
    this.#m.bytes[this.#tokenAt] = token;
  }

  get isInjected(): boolean {
    return this.#m.bytes[this.#injectedAt] !== 0;
  }

  get isOfL2(): boolean {
    return this.#m.bytes[this.#nestedAt] !== 0;
  }

  /** kvm_setup_async_pf(): queues the fault to the worker. */
  queue(fault: AsyncFault): void {
    const { bytes } = this.#m;
    bytes[this.#stateAt] = WORK.byte("queued");
    bytes[this.#vcpuAt] = fault.vcpu.index;
    bytes[this.#pageAt] = fault.page.index;
    bytes[this.#taskAt] = fault.task?.index ?? IDLE;
    bytes[this.#tokenAt] = fault.token;
    bytes[this.#injectedAt] = fault.isInjected ? 1 : 0;
    bytes[this.#nestedAt] = fault.isOfL2 ? 1 : 0;
  }

  /** async_pf_execute(): list_add_tail() to vcpu->async_pf.done. */
  finish(): void {
    const { bytes } = this.#m;
    let place = 1;
    for (const work of this.#m.works) if (work.state === "done" && work.isOf(this.vcpu)) place++;
    bytes[this.#stateAt] = WORK.byte("done");
    bytes[this.#doneAt] = place;
  }

  /** list_del(), kmem_cache_free(): the entry, the first of those done, can be used again. */
  free(): void {
    const { bytes } = this.#m;
    for (const work of this.#m.works) if (work.state === "done" && work.isOf(this.vcpu)) work.#moveUp();
    bytes[this.#stateAt] = 0;
    bytes[this.#doneAt] = 0;
    bytes[this.#vcpuAt] = 0;
    bytes[this.#pageAt] = 0;
    bytes[this.#taskAt] = 0;
    bytes[this.#tokenAt] = 0;
    bytes[this.#injectedAt] = 0;
    bytes[this.#nestedAt] = 0;
  }

  #moveUp(): void {
    const { bytes } = this.#m;
    bytes[this.#doneAt] = (bytes[this.#doneAt] as number) - 1;
  }
}
