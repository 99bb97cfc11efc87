/**
 * Does a task end whose kernel has oopsed? An oops kills the task that it hits (make_task_dead(), kernel/exit.c), unless what the
 * task held keeps its own exit waiting: a task that oopses in fuse_dax_read_iter() has the inode's lock, which fuse_flush()
 * wants when its files are closed. It then neither faults nor ends, and nobody but the console says so. Pure.
 *
 * An access that was under way at the oops, and still is after `patienceMs` in which each vCPU was attended to
 * (../attendance.ts), hangs for ever.
 */
export class OopsWatch {
  readonly #patienceMs: number;
  /** Accesses under way at the last word of an oops, a name each; null: there was none. */
  #since: { readonly pending: readonly string[]; readonly attendedMs: number } | null = null;

  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** An oops is about something. */
  get isActive(): boolean {
    return this.#since !== null;
  }

  /** Again, as long as there is more of it to be said. */
  oopsed(pending: readonly string[], attendedMs: number): void {
    if (pending.length > 0) this.#since = { pending, attendedMs };
  }

  /** For how long an access has hung, once that is proven; null: it is not. Said once. */
  sample(pending: readonly string[], attendedMs: number): number | null {
    if (this.#since === null) return null;
    const overMs = attendedMs - this.#since.attendedMs;
    const isPending = this.#since.pending.some((name) => pending.includes(name));
    if (isPending && overMs < this.#patienceMs) return null;
    this.#since = null;
    return isPending ? overMs : null;
  }
}
