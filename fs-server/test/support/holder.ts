/** A mapping's holder that records what it is asked for and answers when the test says so. */
import type { MappingHolder, Threat } from "../../src/guard/truncation-guard.ts";

export class RecordingHolder implements MappingHolder {
  readonly recorded: string[] = [];
  readonly threats: Threat[] = [];
  readonly #answer: () => void | Promise<void>;
  readonly #waiting: { readonly what: RegExp; readonly resolve: () => void }[] = [];

  constructor(answer: () => void | Promise<void> = () => undefined) {
    this.#answer = answer;
  }

  recall(threat: Threat): void | Promise<void> {
    this.threats.push(threat);
    this.#record(`recall ${threat.fromBytes}`);
    return this.#answer();
  }
  settle(sizeBytes: bigint): void {
    this.#record(`settle ${sizeBytes}`);
  }
  cutOff(reason: string): void {
    this.#record(`cut off: ${reason}`);
  }

  #record(what: string): void {
    this.recorded.push(what);
    for (const one of this.#waiting) if (one.what.test(what)) one.resolve();
  }

  /** Resolves at the next thing recorded that matches. */
  next(what: RegExp): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ what, resolve }));
  }
}
