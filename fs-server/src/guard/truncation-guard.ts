/**
 * The port of a truncation guard: it protects the holder of a mapping (a VMM's window, the kernel behind a FUSE mount)
 * against truncation of the mapped file.
 *
 * All guards follow one protocol. `arm` binds a file to its holder. When the guard learns of a truncation it recalls the
 * mapping; the holder unmaps and acknowledges; the truncation then proceeds, if the guard can block it at all. When the
 * truncation is over, the guard settles: it passes the file's size, and the holder maps what is left. A window maps a file
 * only while the file is guarded.
 *
 * Waits are bounded: a holder that does not acknowledge within the guard's bound is cut off, and the truncation proceeds.
 */

import type { ServerPart } from "../../../language/src/words.ts";

/** The values of the `server` axis, each of which is a guard, and none. */
export type GuardName = Exclude<ServerPart, "none">;

/** A truncation that is about to happen, or has. */
export type Threat = {
  /** First byte that may be lost; all behind it may be, too. */
  readonly fromBytes: bigint;
  /** Who or what, for messages: `pid 4711`, `a client`. */
  readonly by: string;
};

/** The owner of the mapping. One for each armed file. */
export interface MappingHolder {
  /**
   * Unmaps the file from `fromBytes` on. Returning, or resolving, is the acknowledgement: from then on no access through the mapping reaches the file (see the holder's own barrier).
   */
  recall(threat: Threat): void | Promise<void>;
  /** The file has this size now and is guarded: what lies before its end may be mapped again, what lies behind is lost. */
  settle(sizeBytes: bigint): void;
  /** The holder did not acknowledge in time, or the guard is gone: the mapping is unprotected from now on. */
  cutOff(reason: string): void;
}

/** A file to be guarded. */
export type GuardedFile = {
  /** Open for reading and writing. Lent: the caller closes it after `disarm`. */
  readonly fd: number;
};

export type ArmedFile = {
  /** Map this one: a kernel lease is bound to the open file description, a sealed copy is another file altogether. */
  readonly fd: number;
  /** Ends the guarding of this file. It blocks no truncation afterwards. */
  disarm(): void;
};

export interface TruncationGuard {
  readonly name: GuardName;
  /** Guards `file` from now on. Throws a GuardRefused with what to do about it. */
  arm(file: GuardedFile, holder: MappingHolder): ArmedFile | Promise<ArmedFile>;
  /**
   * Resolves when the guard has dealt with all that had happened to its files before the call: at once where truncations
   * wait for it. Of a busy machine this may take as long as it likes.
   */
  caughtUp(): Promise<void>;
  /** Why the guard's helper has ended though the guard was not closed; null: it has not, or there is none. */
  lost(): Promise<string | null>;
  /** Disarms everything and ends helpers. */
  close(): Promise<void>;
}

/** Why a file cannot be guarded. The message names the remedy. */
export class GuardRefused extends Error {
  override readonly name = "GuardRefused";
  readonly guard: GuardName;
  /** The errno's name behind it, where there was one. */
  readonly code: string | null;

  constructor(guard: GuardName, message: string, code: string | null, cause?: unknown) {
    super(`${guard}: ${message}`, { cause });
    this.guard = guard;
    this.code = code;
  }
}

/** How a recall ended. */
export type RecallEnd = "acknowledged" | "cut-off";

/** What happened, for logs, traces and measurements. */
export type GuardNews =
  | { readonly kind: "recall"; readonly threat: Threat }
  | { readonly kind: "recalled"; readonly end: RecallEnd }
  | { readonly kind: "settle"; readonly sizeBytes: bigint }
  | { readonly kind: "cut-off"; readonly reason: string };

/** `atMs`: CLOCK_MONOTONIC. */
export type GuardEvent = GuardNews & { readonly atMs: number };

export type GuardOptions = {
  /** How long a holder may take to acknowledge. */
  readonly boundMs: number;
  readonly onEvent?: (event: GuardEvent) => void;
};

/** Far above the cost of an unmap (some 0.1 ms), far below fs.lease-break-time (45 s). */
export const DEFAULT_BOUND_MS = 2000;

export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
