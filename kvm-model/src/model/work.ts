/** An entry of vcpu->async_pf (struct kvm_async_pf). A view; see `machine.ts`. */
import { IDLE, type Offsets, type Token, WORK, type WorkState } from "./fields.ts";
import type { Machine } from "./machine.ts";
import type { Page } from "./page.ts";
import type { Task } from "./task.ts";
import type { Vcpu } from "./vcpu.ts";

export type AsyncFault = {
  readonly vcpu: Vcpu;
  readonly page: Page;
  /** The task that faulted. */
  readonly task: Task | null;
  readonly token: Token;
  /** notpresent_injected: the guest got "page not present". */
  readonly isInjected: boolean;
};

export class Work {
  readonly index: number;
  readonly #m: Machine;
  readonly #at: Offsets;

  constructor(m: Machine, index: number) {
    this.index = index;
    this.#m = m;
    this.#at = m.context.offsets;
  }

  get state(): WorkState {
    return WORK.word(this.#m.bytes[this.#at.workState + this.index] as number);
  }

  set state(state: WorkState) {
    this.#m.bytes[this.#at.workState + this.index] = WORK.byte(state);
  }

  get vcpu(): Vcpu {
    return this.#m.vcpus[this.#m.bytes[this.#at.workVcpu + this.index] as number] as Vcpu;
  }

  get page(): Page {
    return this.#m.pages[this.#m.bytes[this.#at.workPage + this.index] as number] as Page;
  }

  get task(): Task | null {
    const byte = this.#m.bytes[this.#at.workTask + this.index] as number;
    return byte === IDLE ? null : (this.#m.tasks[byte] as Task);
  }

  get token(): Token {
    return this.#m.bytes[this.#at.workToken + this.index] as Token;
  }

  set token(token: Token) {
    this.#m.bytes[this.#at.workToken + this.index] = token;
  }

  get isInjected(): boolean {
    return this.#m.bytes[this.#at.workInjected + this.index] !== 0;
  }

  /** kvm_setup_async_pf(): queues the fault to the worker. */
  queue(fault: AsyncFault): void {
    const { bytes } = this.#m;
    this.state = "queued";
    bytes[this.#at.workVcpu + this.index] = fault.vcpu.index;
    bytes[this.#at.workPage + this.index] = fault.page.index;
    bytes[this.#at.workTask + this.index] = fault.task?.index ?? IDLE;
    bytes[this.#at.workToken + this.index] = fault.token;
    bytes[this.#at.workInjected + this.index] = fault.isInjected ? 1 : 0;
  }

  /** kmem_cache_free(): the entry can be used again. */
  free(): void {
    const { bytes } = this.#m;
    bytes[this.#at.workState + this.index] = 0;
    bytes[this.#at.workVcpu + this.index] = 0;
    bytes[this.#at.workPage + this.index] = 0;
    bytes[this.#at.workTask + this.index] = 0;
    bytes[this.#at.workToken + this.index] = 0;
    bytes[this.#at.workInjected + this.index] = 0;
  }
}
