/**
 * The boots of one kernel in one run, one after the other: a case that ends its VM, or leaves its kernel unhealthy, costs
 * the later cases only the time of another boot.
 */
import type { BootConsole } from "../../engine.ts";
import { KernelError } from "../../kernel/error.ts";
import { BootError, type Session } from "./session.ts";

/**
 * After the first boot. A kernel that every case kills costs a boot a case, some ten seconds each under emulation: by
 * then it has been seen that it does.
 */
export const MAX_RESTARTS = 3;

type State =
  | { readonly kind: "up"; readonly session: Session }
  /** There is none, and there will be none. */
  | { readonly kind: "down"; readonly why: string };

export class Boots {
  readonly #start: () => Promise<Session>;
  readonly #ended: BootConsole[] = [];
  #state: State = { kind: "down", why: "it was not booted" };
  #restarts = 0;
  /** Under way; all callers that need it wait for the same one. */
  #recovery: Promise<void> | null = null;

  /** @param start Boots once; throws a KernelError. */
  constructor(start: () => Promise<Session>) {
    this.#start = start;
  }

  get state(): State {
    return this.#state;
  }

  /** Of all boots so far, those that failed included. */
  consoles(): readonly BootConsole[] {
    return this.#state.kind === "up" ? [...this.#ended, this.#state.session.console()] : this.#ended;
  }

  /** The first boot. */
  async boot(): Promise<void> {
    try {
      this.#state = { kind: "up", session: await this.#start() };
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      if (error instanceof BootError) this.#ended.push(error.console);
      this.#state = { kind: "down", why: error.message };
    }
  }

  /** Another boot in place of one that is no good any more, when the cases in it have ended. */
  recover(): Promise<void> {
    this.#recovery ??= this.#recover().finally(() => {
      this.#recovery = null;
    });
    return this.#recovery;
  }

  async #recover(): Promise<void> {
    if (this.#state.kind === "down" || this.#state.session.flaw() === null) return;
    const { session } = this.#state;
    // A VM that gives one case no answer may yet give it to another.
    await session.settled();
    const flaw = session.flaw();
    await this.close();
    if (this.#restarts === MAX_RESTARTS) {
      this.#state = { kind: "down", why: `not booted again after ${MAX_RESTARTS} times; the last: ${flaw}` };
      return;
    }
    this.#restarts += 1;
    await this.boot();
  }

  async close(): Promise<void> {
    if (this.#state.kind === "down") return;
    const { session } = this.#state;
    await session.close();
    this.#ended.push(session.console());
    this.#state = { kind: "down", why: "it was shut down" };
  }
}
