/** Where a lock that another one is in the way of is waited for, so that no thread that serves waits. */
import type { FileHandle, FileLock } from "./filesystem.ts";

/** A request that waits for a lock. */
export type LockWait = {
  readonly unique: bigint;
  /** The descriptor that the request came by: its answer goes there. */
  readonly device: number;
  readonly handle: FileHandle;
  readonly lock: FileLock;
};

export interface LockWaits {
  /** From now on answered by the waiting side. False: too many wait. */
  enter(wait: LockWait): boolean;
  /** A lock was given back or has become weaker: what waits may have it. */
  released(): void;
}

/** Thrown by a handler whose request is answered by the waiting side of `LockWaits`. */
export class AnsweredLater extends Error {
  override readonly name = "AnsweredLater";
}
