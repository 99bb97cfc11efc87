/**
 * Machine checks that a vCPU has broadcast, on their way to the others: a count for each in the control buffer, since a vCPU's
 * ioctls wait for its KVM_RUN, so only its own thread can raise them.
 *
 * A count, no flag: a kernel's rendezvous needs every vCPU as often as there were errors. Two vCPUs with an error at the same
 * time are two rendezvous of all.
 */
import { type SignalledVcpu, signalBroadcast } from "../arch/index.ts";
import { MAX_VCPUS } from "../guest-input.ts";
import { controlWord, kickAll } from "./messages.ts";

export class Broadcasts {
  readonly #control: Int32Array;
  readonly #cpu: number;
  #isLate = false;

  constructor(control: Int32Array, cpu: number) {
    this.#control = control;
    this.#cpu = cpu;
  }

  /** To every other vCPU whose thread is there. */
  send(): void {
    for (let cpu = 0; cpu < MAX_VCPUS; cpu++) {
      const isThere = Atomics.load(this.#control, controlWord.threadIds + cpu) !== 0;
      if (cpu !== this.#cpu && isThere) Atomics.add(this.#control, controlWord.machineChecks + cpu, 1);
    }
    kickAll(this.#control);
  }

  /** Before each KVM_RUN: raises one that has come. One that has to wait is tried again at the next exit, or tick. */
  take(vcpu: SignalledVcpu): void {
    const word = controlWord.machineChecks + this.#cpu;
    if (Atomics.load(this.#control, word) === 0) return;
    const isDone = signalBroadcast(vcpu, this.#isLate);
    // Another one behind it has to wait for this one's handler.
    this.#isLate = !isDone || Atomics.load(this.#control, word) > 1;
    if (isDone) Atomics.sub(this.#control, word, 1);
  }
}
