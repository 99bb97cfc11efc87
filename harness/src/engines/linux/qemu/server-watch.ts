/**
 * Looks at the guest's file server from outside: does one of the threads that serve sleep for ever in a call of its source? Then
 * the guest waits for an answer that does not come, as it waits for the range of a DAX window (fuse_setup_one_mapping(),
 * fs/fuse/dax.c), and no vCPU shows it: the guest's kernel halts.
 *
 * Under QEMU that is where a hung page of a FUSE mount is met first. QEMU asks for huge pages (MADV_HUGEPAGE), so the first
 * fault in the file reads 4 MiB around it (do_sync_mmap_readahead(), mm/filemap.c), the hung page among them; and the server,
 * which opens the file for the next range, waits for that page in fuse_open() (invalidate_inode_pages2()).
 *
 * A thread that serves sleeps in epoll_wait(2) for requests, in futex(2) for the other threads and for the window, or in a call
 * of the source.
 */
import { readdirSync, readFileSync } from "node:fs";
import { readThread, waitChannel } from "../../../../../sys/src/index.ts";
import { monotonicMs } from "../../../../../vmm/src/index.ts";

const LOOK_MS = 100;
/** Of the server's threads (fs-server/src/transport/vhost-user/worker.ts). */
const SERVING = /^daxfault-serve\d+$/;
/** System calls of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl): futex, epoll_wait, epoll_pwait, epoll_pwait2. */
const AT_REST: ReadonlySet<number> = new Set([202, 232, 281, 441]);

/** A thread as it was found. */
export type CallLook = {
  readonly tid: number;
  readonly atMs: number;
  /** `R`, `S`, `D` .. */
  readonly state: string;
  /** CPU time so far, in clock ticks. */
  readonly cpuTicks: number;
  /** /proc/TID/syscall: number, arguments, stack and instruction pointer; `running` of one that is not blocked. */
  readonly call: string;
};

/** The number of the call in which a thread sleeps that should serve; null: it does not. */
function callOf({ state, call }: CallLook): number | null {
  const number = /^\d+(?= )/.exec(call)?.[0];
  if (number === undefined || (state !== "S" && state !== "D")) return null;
  return AT_REST.has(Number(number)) ? null : Number(number);
}

export type Asleep = { readonly tid: number; readonly overMs: number };

/** Pure. */
export class CallWatch {
  readonly #patienceMs: number;
  /** By thread: the first look at the sleep that goes on. */
  #first: ReadonlyMap<number, CallLook> = new Map();

  /** @param patienceMs no call of the source takes longer */
  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** Takes a look at all threads; returns the one that has slept longest in one call, once that is proof. */
  sample(looks: readonly CallLook[]): Asleep | null {
    const first = new Map<number, CallLook>();
    let longest: Asleep | null = null;
    for (const look of looks) {
      if (callOf(look) === null) continue;
      const known = this.#first.get(look.tid);
      const isSame = known?.call === look.call && known.cpuTicks === look.cpuTicks;
      const since = isSame ? known : look;
      first.set(look.tid, since);
      const overMs = look.atMs - since.atMs;
      if (overMs > this.#patienceMs && overMs > (longest?.overMs ?? 0)) longest = { tid: look.tid, overMs };
    }
    this.#first = first;
    return longest;
  }
}

function lookAt(pid: number, tid: number): CallLook | null {
  const folder = `/proc/${pid}/task/${tid}`;
  try {
    if (!SERVING.test(readFileSync(`${folder}/comm`, "utf8").trim())) return null;
    const call = readFileSync(`${folder}/syscall`, "utf8").trim();
    const thread = readThread(tid, monotonicMs());
    return thread === null ? null : { tid, call, ...thread };
  } catch {
    // It has ended, or this process may not look.
    return null;
  }
}

/** Of a process's threads, those that serve. */
export function lookAtServer(pid: number): readonly CallLook[] {
  let tids: readonly string[];
  try {
    tids = readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
  return tids.flatMap((tid) => lookAt(pid, Number(tid)) ?? []);
}

export type ServerSleep = { readonly overMs: number; readonly detail: string };

/** Calls `onSleep` with a thread that sleeps for ever, and with null when none does any more. Returns what ends that. */
export function watchServer(
  pid: number,
  patienceMs: number,
  onSleep: (sleep: ServerSleep | null) => void,
): () => void {
  const watch = new CallWatch(patienceMs);
  let isAsleep = false;
  const timer = setInterval(() => {
    const asleep = watch.sample(lookAtServer(pid));
    if ((asleep !== null) === isAsleep) return;
    isAsleep = asleep !== null;
    if (asleep === null) onSleep(null);
    else {
      const { tid, overMs } = asleep;
      onSleep({ overMs, detail: `its file server sleeps in a call of the source, in ${waitChannel(tid)}` });
    }
  }, LOOK_MS);
  return () => clearInterval(timer);
}
