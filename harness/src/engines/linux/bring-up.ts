/**
 * What a Linux guest is waited for, and what is said of one that does not come up or refuses its case: the same for our own
 * VMM (guest.ts) and for QEMU (qemu/guest.ts). Nothing here knows how a VMM is driven.
 */
import type { EndReason } from "../../../../vmm/src/index.ts";
import { complaintIn } from "../../kernel/console.ts";
import { lackIn } from "../../kernel/needs.ts";

/** Where the guest has the file system. */
export const MOUNT_POINT = "/mnt";

/** The one line of every oops that numbers it (__die_header(), arch/x86/kernel/dumpstack.c). */
export const oops: RegExp = /: [0-9a-f]{4} \[#[0-9]+\]/;

/** Lines of the console that are kept, of a case as of a boot. */
const CONSOLE_LINES = 200;

/** Keeps a line of the console: the beginning shows what was booted, the end how it ended. */
export function keepLine(lines: string[], text: string): void {
  lines.push(text);
  if (lines.length > CONSOLE_LINES) lines.splice(CONSOLE_LINES / 2, 1);
}

/** What a guest is waited for. */
export class Moment {
  readonly #waiting: (() => void)[] = [];
  isOver = false;

  get reached(): Promise<void> {
    return this.isOver ? Promise.resolve() : new Promise((resolve) => this.#waiting.push(resolve));
  }

  reach(): void {
    this.isOver = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** Asked for in a guest that has not come up, or has gone. */
export class GuestError extends Error {
  override readonly name = "GuestError";
}

export function endText(end: EndReason): string {
  switch (end.kind) {
    case "finished":
      return "it has finished";
    case "stopped-from-outside":
      return "it was stopped";
    case "guest-panic":
      return `its kernel panicked: ${end.reason}`;
    case "guest-off":
      return `its machine ended by ${end.how}`;
    case "vmm-killed":
      return `its VMM was killed by ${end.signal}`;
    case "defect":
      return end.message;
  }
}

/** What the guest's own programs say of their end, else whatever came last. */
function lastLine(lines: readonly string[]): string {
  const said = complaintIn(lines);
  if (said !== null) return said;
  const last = lines.findLast((line) => line.trim() !== "");
  return last === undefined ? "its console is empty" : `last on its console: ${last}`;
}

/** How far a boot has come. */
export type BootState = {
  readonly lines: readonly string[];
  /** null: the guest runs. */
  readonly end: EndReason | null;
  /** Its program waits for a case. */
  readonly isIdle: boolean;
  /** What else is known of a guest that is not up; empty: nothing. */
  readonly besides?: string;
};

/** How far the guest's program has come with a case. */
export type MappingState = {
  readonly lines: readonly string[];
  /** Why the case has ended before it began; null: it has not. */
  readonly refusal: EndReason | null;
  readonly isMapped: boolean;
};

export class BringUp {
  readonly #kernel: string;
  readonly #place: string;
  readonly #boundMs: number;

  /**
   * @param kernel the SPEC of the guest's kernel
   * @param vmm a VMM that is not ours; null: it is
   */
  constructor(kernel: string, vmm: string | null, boundMs: number) {
    this.#kernel = kernel;
    this.#place = vmm === null ? "" : ` in ${vmm}`;
    this.#boundMs = boundMs;
  }

  /** A refusal that names an option of the kernel's configuration is the kernel's, whatever the case. */
  refusalText(refusal: string): string {
    return refusal.includes("CONFIG_")
      ? this.#noGuest(refusal)
      : `the guest's program refuses the case: ${refusal}`;
  }

  #noGuest(why: string): string {
    return `--guest-kernel ${this.#kernel}: it cannot be a guest: ${why}`;
  }

  /** Of a guest that is not up: what its kernel seems to lack, and its last words. */
  downText(how: string, lines: readonly string[]): string {
    const lack = lackIn(lines);
    const lacks = lack === null ? "" : `; it may lack ${lack}`;
    return `--guest-kernel ${this.#kernel}${this.#place}: ${how}${lacks}; ${lastLine(lines)}`;
  }

  /** Once the guest's program is idle, or the bound is over. Throws a GuestError for a guest that is not up. */
  checkUp({ lines, end, isIdle, besides = "" }: BootState): void {
    const complaint = complaintIn(lines);
    if (complaint !== null) throw new GuestError(this.#noGuest(complaint));
    if (end !== null) throw new GuestError(this.downText(`it did not come up: ${endText(end)}`, lines));
    if (isIdle) return;
    throw new GuestError(this.downText(`its program was not up after ${this.#boundMs} ms${besides}`, lines));
  }

  /** Once the file is mapped, or the bound is over. Throws a GuestError for a guest that has not mapped it. */
  checkMapped({ lines, refusal, isMapped }: MappingState): void {
    if (refusal !== null) throw new GuestError(`${endText(refusal)}; ${lastLine(lines)}`);
    if (isMapped) return;
    throw new GuestError(`the guest has not mapped the file after ${this.#boundMs} ms; ${lastLine(lines)}`);
  }
}
