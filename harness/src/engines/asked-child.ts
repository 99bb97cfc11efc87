/** A child process that answers: one message, one answer, one at a time. Its end without being closed is a LostChildError. */
import { type Child, startChild } from "./child.ts";
import { watchEnd } from "./helper.ts";

export type AskedChildOptions = {
  /** As `ChildOptions.entry`. */
  readonly entry: string;
  readonly directory: string;
  /** In the error of its end. */
  readonly name: string;
};

export class AskedChild<To extends object, From> {
  readonly #child: Child<To, From>;
  readonly #expectEnd: () => void;
  #onAnswer: (answer: From) => void = () => {};
  #onLost: (error: Error) => void = () => {};
  #lost: Error | null = null;

  constructor({ entry, directory, name }: AskedChildOptions) {
    this.#child = startChild({ entry, directory, onMessage: (message: From) => this.#onAnswer(message) });
    this.#expectEnd = watchEnd(this.#child.exited, name, (error) => {
      this.#lost = error;
      this.#onLost(error);
    });
  }

  /** What has no answer. */
  send(message: To): void {
    this.#child.send(message);
  }

  /** Rejects with a LostChildError where the child has ended, or ends before it answers. */
  ask(message: To): Promise<From> {
    return new Promise((resolve, reject) => {
      if (this.#lost !== null) reject(this.#lost);
      this.#onAnswer = resolve;
      this.#onLost = reject;
      this.#child.send(message);
    });
  }

  close(): Promise<void> {
    this.#expectEnd();
    return this.#child.kill();
  }
}
