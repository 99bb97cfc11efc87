/**
 * What a diagnosis asks of the machine that it looks at: reading, and an instance of tracefs of its own. Nothing here
 * changes a process, a file or a mount. `this-host.ts` answers from the machine itself, a test from a recording.
 */
import type { TraceSelection, TraceSession } from "../tracing/tracefs.ts";

/** `code`: errno's name; `ETIMEDOUT` where no answer came in time, `EFBIG` for more than the limit. */
export type Answer<Value> =
  | { readonly kind: "ok"; readonly value: Value }
  | { readonly kind: "failed"; readonly code: string };

export type FileStatus = {
  readonly sizeBytes: bigint;
  readonly inode: bigint;
  readonly isRegular: boolean;
  readonly isLinked: boolean;
};

export interface Host {
  nowMs(): number;
  /** The processor's time that this process has had. */
  workedMs(): number;
  sleep(ms: number): Promise<void>;
  /** A file of /proc or /sys that takes no lock of a process's memory: never waits. */
  read(path: string, limitBytes: number): Answer<string>;
  /**
   * One that takes the mmap_lock of the process (maps, cmdline): a process that hangs may hold it for ever. The answer is
   * then ETIMEDOUT.
   */
  readOfMemory(path: string, limitBytes: number): Promise<Answer<string>>;
  list(path: string): Answer<readonly string[]>;
  /** readlink(2). */
  link(path: string): Answer<string>;
  /**
   * statx(2) with AT_STATX_DONT_SYNC, of a magic link of /proc (map_files, fd): no path is walked, and no file server is
   * asked, which may never answer.
   */
  status(path: string): Promise<Answer<FileStatus>>;
  trace(selection: TraceSelection): TraceSession;
}

export const valueIn = <Value>(answer: Answer<Value>): Value | null =>
  answer.kind === "ok" ? answer.value : null;

/** A machine without a free processor makes the same work take longer: so many times, and no more. */
const STARVED_TIMES = 5;

/** Whether there is time left for looking: `ms` of work, and a multiple of it by the clock. */
export function boundOf(host: Host, ms: number): () => boolean {
  const [worked, until] = [host.workedMs() + ms, host.nowMs() + STARVED_TIMES * ms];
  return () => host.workedMs() < worked && host.nowMs() < until;
}
