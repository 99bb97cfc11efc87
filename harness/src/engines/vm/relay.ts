/** The signals of a case as the VM process passes them: between guest tasks, VMM actors and the harness. */
import type { Channel } from "../../../../vmm/src/index.ts";
import { Signals } from "../child-side.ts";

export class SignalRelay {
  readonly #names: readonly string[];
  readonly #channel: Channel;
  readonly #send: (name: string, from: string) => void;
  readonly #signals = new Signals();

  /**
   * @param names by number
   * @param send to the harness, which passes them to the host's actors
   */
  constructor(names: readonly string[], channel: Channel, send: (name: string, from: string) => void) {
    this.#names = names;
    this.#channel = channel;
    this.#send = send;
  }

  /** Raised outside this process. */
  raise(name: string): void {
    const number = this.#names.indexOf(name);
    if (number >= 0) this.#channel.raise(number);
    this.#signals.raise(name);
  }

  /** Raised in this process. */
  raiseAndSend(name: string, from: string): void {
    this.raise(name);
    this.#send(name, from);
  }

  nameOf(number: number): string | undefined {
    return this.#names[number];
  }

  isRaised(name: string): boolean {
    return this.#signals.isRaised(name);
  }

  wait(name: string): Promise<void> {
    return this.#signals.wait(name);
  }
}
