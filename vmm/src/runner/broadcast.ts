/**
 * Machine checks that are for every vCPU, in rounds: Linux's handlers wait for each other (mce_start()), so each vCPU comes to each
 * round once, with an error of its own or for another one's. A round of nobody's would be a panic ("Fatal machine
 * check from unknown source", mce_reign()): a vCPU that has an error while a round is open joins that.
 *
 * The counts are in the control buffer: a vCPU's ioctls wait for its KVM_RUN, so only its own thread can raise what is for it.
 * A round ends before the next begins: who begins it has left its handler, and so all have come to that.
 */
import { type SignalledVcpu, signalBroadcast } from "../arch/index.ts";
import { controlWord, kickAll } from "./messages.ts";

export class Broadcasts {
  readonly #control: Int32Array;
  /** Where the last round is that this vCPU has come to. */
  readonly #joined: number;
  #isLate = false;

  constructor(control: Int32Array, cpu: number) {
    this.#control = control;
    this.#joined = controlWord.joinedRounds + cpu;
  }

  /** This vCPU gets a machine check of its own: joins the round that is open, or begins one and calls the others. */
  own(): void {
    for (;;) {
      const round = Atomics.load(this.#control, controlWord.round);
      const isOpen = Atomics.load(this.#control, this.#joined) !== round;
      const next = isOpen ? round : round + 1;
      if (!isOpen && Atomics.compareExchange(this.#control, controlWord.round, round, next) !== round)
        continue;
      Atomics.store(this.#control, this.#joined, next);
      if (!isOpen) kickAll(this.#control);
      return;
    }
  }

  /** Before each KVM_RUN: comes to the round that is open. A vCPU that has to wait with it tries again at its next exit, or tick. */
  take(vcpu: SignalledVcpu): void {
    const round = Atomics.load(this.#control, controlWord.round);
    if (Atomics.load(this.#control, this.#joined) === round) return;
    const isDone = signalBroadcast(vcpu, this.#isLate);
    this.#isLate = !isDone;
    if (isDone) Atomics.store(this.#control, this.#joined, round);
  }
}
