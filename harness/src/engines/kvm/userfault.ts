/**
 * The handler of a userfaultfd behind the window, as a VMM's or a process of its own that has got the descriptor: copies
 * missing pages from the file, or does what the scenario's rules say.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type UserfaultHandler, userfaultActionAt } from "../../../../language/src/index.ts";
import {
  type Address,
  awaitReadable,
  fillMissing,
  nextMissing,
  openUserfault,
  PAGE_SIZE,
  poisonMissing,
  registerMissing,
  UFFD_FEATURE_POISON,
} from "../../../../sys/src/index.ts";

/** How long a wait for the next fault goes on before the handler looks whether the case is over. */
const LOOK_MS = 20;

const features = (handler: UserfaultHandler): bigint =>
  handler.rules.some(({ action }) => action.kind === "poison") ? UFFD_FEATURE_POISON : 0n;

/** What opening the descriptor of such a handler takes. */
export function userfaultOptions(handler: UserfaultHandler): {
  readonly features: bigint;
  readonly userModeOnly: boolean;
} {
  return { features: features(handler), userModeOnly: handler.faults === "user" };
}

export class Userfaults {
  readonly #handler: UserfaultHandler;
  readonly #hva: Address;
  readonly #file: number;
  /** null: closed. */
  #fd: number | null;
  #isOver = false;
  readonly #ended: Promise<void>;

  /** Registers the range, copies in what is there before the guest, and serves. Throws a SyscallError. */
  constructor(handler: UserfaultHandler, hva: Address, lengthBytes: number, filePath: string) {
    this.#handler = handler;
    this.#hva = hva;
    this.#fd = openUserfault(userfaultOptions(handler));
    this.#file = openSync(filePath, "r");
    registerMissing(this.#fd, hva, lengthBytes);
    for (let offset = 0; offset < Number(handler.prefault); offset += PAGE_SIZE)
      this.#copy(this.#fd, BigInt(offset));
    this.#ended = this.#serve();
  }

  async #serve(): Promise<void> {
    while (!this.#isOver && this.#fd !== null) {
      await awaitReadable(this.#fd, LOOK_MS);
      const address = this.#isOver ? null : nextMissing(this.#fd);
      if (address === null) continue;
      if (!(await this.#answer(this.#fd, BigInt(address) - this.#hva))) return;
    }
  }

  /** Returns whether the handler goes on. */
  async #answer(fd: number, offset: bigint): Promise<boolean> {
    const page = offset & ~BigInt(PAGE_SIZE - 1);
    const action = userfaultActionAt(this.#handler, page);
    switch (action?.kind) {
      case undefined:
        this.#copy(fd, page);
        return true;
      case "delay":
        await sleep(action.ms);
        if (!this.#isOver) this.#copy(fd, page);
        return true;
      case "hang":
        return true;
      case "die":
        return false;
      case "close":
        this.#fd = null;
        closeSync(fd);
        return false;
      case "poison":
        unlessThere(() => poisonMissing(fd, this.#hva + page, PAGE_SIZE));
        return true;
    }
  }

  #copy(fd: number, page: bigint): void {
    const bytes = Buffer.alloc(PAGE_SIZE);
    readSync(this.#file, bytes, 0, PAGE_SIZE, Number(page));
    unlessThere(() => fillMissing(fd, this.#hva + page, bytes));
  }

  /** Ends the handler. What still waits for it goes on, as in ordinary memory. */
  async close(): Promise<void> {
    this.release();
    await this.#ended;
    closeSync(this.#file);
  }

  /** Wakes what waits for a page, at once. */
  release(): void {
    this.#isOver = true;
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }
}

/** Two faults of one page are two messages; the first answer is both's. */
function unlessThere(fill: () => void): void {
  try {
    fill();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}
