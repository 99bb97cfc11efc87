/** The child's side of `child.ts`: the first calls of every process that a case starts, and its messages to its parent. */
import { dieWithParent } from "../../../sys/src/index.ts";
import { parentPid } from "../run/tag.ts";

/** Where the descriptors that `startChild` lends begin: behind standard input, output and error. */
export const FIRST_LENT_DESCRIPTOR = 3;

/** Ties this process to its parent: it dies with it, whatever it is doing, and ends when the channel closes. */
export function tieToParent(): void {
  dieWithParent(parentPid());
  process.on("disconnect", () => process.exit());
}

/** Resolves when the message has left this process: what comes next may block or kill it. */
export function send(message: object): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

/** Signals by name. One that was raised stays raised, so that it cannot be missed. */
export class Signals {
  readonly #raised = new Set<string>();
  readonly #waiting = new Map<string, () => void>();

  raise(name: string): void {
    this.#raised.add(name);
    this.#waiting.get(name)?.();
  }

  /** Forgets all that was raised and awaited; from now on `raised` are. */
  reset(raised: readonly string[]): void {
    this.#raised.clear();
    this.#waiting.clear();
    for (const name of raised) this.#raised.add(name);
  }

  isRaised(name: string): boolean {
    return this.#raised.has(name);
  }

  async wait(name: string): Promise<void> {
    if (this.#raised.has(name)) return;
    await new Promise<void>((resolve) => this.#waiting.set(name, resolve));
  }
}
