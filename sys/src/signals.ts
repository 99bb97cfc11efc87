/**
 * Thread-directed signals and timers, all from JavaScript: what a watchdog of a blocking ioctl needs.
 *
 * Every function acts on the calling thread; in a worker_thread that is the worker's. Signals are numbers of the
 * real-time range: Node uses none of them (SIGUSR1 is its inspector's).
 */
import { check, declare } from "./libc.ts";

/** First real-time signal that glibc leaves to programs (32 and 33 are its own). */
export const SIGRTMIN = 34;

const SIG_BLOCK = 0;
const SIGEV_THREAD_ID = 4;
const CLOCK_MONOTONIC = 1;
/** A signal set as glibc has it: 1024 bits; the kernel's is the first 64. */
const SIGSET_BYTES = 128;
const NANOSECONDS_PER_MS = 1_000_000;

const cGettid = declare<() => number>("int gettid()");
const cSigmask = declare<(how: number, set: Uint8Array, old: null) => number>(
  "int pthread_sigmask(int how, void *set, void *old)",
);
const cSigtimedwait = declare<(set: Uint8Array, info: DataView | null, timeout: Uint8Array) => number>(
  "int sigtimedwait(void *set, void *info, void *timeout)",
);
const cTgkill = declare<(pid: number, tid: number, signal: number) => number>(
  "int tgkill(int pid, int tid, int signal)",
);
const cTimerCreate = declare<(clock: number, event: Uint8Array, id: Uint8Array) => number>(
  "int timer_create(int clock, void *event, void *id)",
);
const cTimerSettime = declare<(id: bigint, flags: number, value: Uint8Array, old: null) => number>(
  "int timer_settime(uint64 id, int flags, void *value, void *old)",
);
const cTimerDelete = declare<(id: bigint) => number>("int timer_delete(uint64 id)");

/** The calling thread's id (gettid(2)); the main thread's equals the process id. */
export function threadId(): number {
  return cGettid();
}

const PR_SET_NAME = 15;
const cPrctlName = declare<(option: number, name: string) => number>(
  "int prctl(int option, const char *name)",
);

/** The calling thread's name in /proc/PID/task/TID/comm; the kernel keeps 15 bytes of it. */
export function nameThread(name: string): void {
  check("prctl(PR_SET_NAME)", cPrctlName(PR_SET_NAME, name));
}

/** Sends `signal` to one thread of this process (tgkill(2)). */
export function signalThread(tid: number, signal: number): void {
  check("tgkill", cTgkill(process.pid, tid, signal), `thread ${tid} signal ${signal}`);
}

/** The signal set with just `signals` in it. */
function signalSet(signals: readonly number[]): Uint8Array {
  const set = new Uint8Array(SIGSET_BYTES);
  for (const signal of signals) {
    const bit = signal - 1;
    set[bit >> 3] = (set[bit >> 3] ?? 0) | (1 << (bit & 7));
  }
  return set;
}

/**
 * The kernel's 64-bit set with every signal but these: for KVM_SET_SIGNAL_MASK, where only they may interrupt.
 * SIGKILL and SIGSTOP cannot be blocked and do so anyway.
 */
export function kernelSignalSetExcept(signals: readonly number[]): bigint {
  return signals.reduce((set, signal) => set & ~(1n << BigInt(signal - 1)), 2n ** 64n - 1n);
}

const cSigaction = declare<(signal: number, action: Uint8Array, old: null) => number>(
  "int sigaction(int signal, const void *action, void *old)",
);
const cDlsym = declare<(library: null, name: string) => bigint>(
  "uint64 dlsym(void *library, const char *name)",
);
/** struct sigaction of glibc and musl on 64 bits: handler, mask, flags, restorer. */
const SIGACTION_BYTES = 152;

/**
 * From now on `signal` interrupts system calls of the thread that gets it (no SA_RESTART) and does nothing else: its
 * handler is abs(3), a function of one int that touches no memory.
 */
export function handleByNothing(signal: number): void {
  const action = new DataView(new ArrayBuffer(SIGACTION_BYTES));
  action.setBigUint64(0, BigInt(cDlsym(null, "abs")), true);
  check("sigaction", cSigaction(signal, new Uint8Array(action.buffer), null), `signal ${signal}`);
}

/** Blocks `signal` in the calling thread, so that it only stays pending. */
export function blockSignal(signal: number): void {
  const error = cSigmask(SIG_BLOCK, signalSet([signal]), null);
  if (error !== 0) throw new Error(`pthread_sigmask: error ${error} for signal ${signal}`);
}

/** Takes a pending, blocked `signal` off the calling thread. Returns whether there was one. Does not wait. */
export function consumeSignal(signal: number): boolean {
  return cSigtimedwait(signalSet([signal]), null, new Uint8Array(16)) === signal;
}

const PR_MCE_KILL = 33;
const PR_MCE_KILL_SET = 1;
const PR_MCE_KILL_EARLY = 1;
const PR_MCE_KILL_DEFAULT = 2;
const cPrctlMce = declare<
  (option: number, set: bigint, when: bigint, zero4: bigint, zero5: bigint) => number
>("int prctl(int option, unsigned long set, unsigned long when, unsigned long zero4, unsigned long zero5)");

/**
 * Is the calling thread told of a memory error in a page of this process before anybody has touched it (SIGBUS,
 * BUS_MCEERR_AO)? Else as the system has it (vm.memory_failure_early_kill, off).
 */
export function tellOfMemoryErrors(early: boolean): void {
  const when = BigInt(early ? PR_MCE_KILL_EARLY : PR_MCE_KILL_DEFAULT);
  check("prctl(PR_MCE_KILL)", cPrctlMce(PR_MCE_KILL, BigInt(PR_MCE_KILL_SET), when, 0n, 0n));
}

/** A memory error that nobody has consumed: action optional. */
export const BUS_MCEERR_AO = 5;

/** SIGBUS with its siginfo_t (sigaction(2)). */
export type BusError = {
  /** BUS_MCEERR_AR is 4: a machine check that must be acted on; BUS_ADRERR is 2: no such memory. */
  readonly code: number;
  readonly address: bigint;
};

export const SIGBUS = 7;

/** Takes a pending, blocked SIGBUS off the calling thread, or returns null. Does not wait. */
export function takeBusError(): BusError | null {
  const info = new DataView(new ArrayBuffer(128));
  if (cSigtimedwait(signalSet([SIGBUS]), info, new Uint8Array(16)) !== SIGBUS) return null;
  // siginfo_t: si_signo, si_errno, si_code, padding, si_addr.
  return { code: info.getInt32(8, true), address: info.getBigUint64(16, true) };
}

export const SIGIO = 29;

/** A signal about a descriptor (F_SETSIG, fcntl(2)). */
export type DescriptorSignal = { readonly signal: number; readonly fd: number };

/**
 * Waits until one of `signals`, all blocked in the calling thread, is pending for it. Returns null after `timeoutMs`.
 * A thread of its own does this: Node's own threads never see the signal, which is directed to this one by its id.
 * signalfd(2) would not do: libuv reads files on threads of its pool, and signalfd gives a reader only its own signals.
 */
export function waitForSignal(signals: readonly number[], timeoutMs: number): DescriptorSignal | null {
  const info = new DataView(new ArrayBuffer(128));
  const timeout = new BigInt64Array([
    BigInt(Math.floor(timeoutMs / 1000)),
    BigInt(Math.round((timeoutMs % 1000) * NANOSECONDS_PER_MS)),
  ]);
  const signal = cSigtimedwait(signalSet(signals), info, new Uint8Array(timeout.buffer));
  // siginfo_t of SIGIO and its relatives: si_signo, si_errno, si_code, padding, si_band, si_fd.
  return signal === -1 ? null : { signal, fd: info.getInt32(24, true) };
}

const SIGEV_SIGNAL = 0;
const SIGKILL = 9;
/** struct sigevent: sigval (8), signo (4), notify (4), thread id (4); 64 bytes in all. */
function newTimer(signal: number, notify: number, tid: number): bigint {
  const event = new DataView(new ArrayBuffer(64));
  event.setInt32(8, signal, true);
  event.setInt32(12, notify, true);
  event.setInt32(16, tid, true);
  const id = new BigUint64Array(1);
  check(
    "timer_create",
    cTimerCreate(CLOCK_MONOTONIC, new Uint8Array(event.buffer), new Uint8Array(id.buffer)),
  );
  return id[0] ?? 0n;
}

/** struct itimerspec: interval, then first expiry; each seconds and nanoseconds. */
function setTimer(timer: bigint, intervalMs: number, firstMs: number): void {
  const spec = new BigInt64Array(
    [intervalMs, firstMs].flatMap((ms) => [
      BigInt(Math.floor(ms / 1000)),
      BigInt(Math.round((ms % 1000) * NANOSECONDS_PER_MS)),
    ]),
  );
  check("timer_settime", cTimerSettime(timer, 0, new Uint8Array(spec.buffer), null), `${firstMs} ms`);
}

export type Deadline = {
  /** The process lives on for as long again. */
  push(): void;
};

/**
 * Kills this process (SIGKILL) unless it pushes the deadline in time: also when it is stopped (SIGSTOP, SIGTSTP) or frozen
 * by a cgroup (v2), for SIGKILL alone reaches it there. For whoever holds what others wait for.
 */
export function startDeadline(ms: number): Deadline {
  const timer = newTimer(SIGKILL, SIGEV_SIGNAL, 0);
  const push = (): void => setTimer(timer, 0, ms);
  push();
  return { push };
}

export type ThreadTimer = { stop(): void };

/** A timer that sends `signal` to the calling thread every `intervalMs`, from now on. Stop it on the same thread. */
export function startThreadTimer(signal: number, intervalMs: number): ThreadTimer {
  const timer = newTimer(signal, SIGEV_THREAD_ID, threadId());
  setTimer(timer, intervalMs, intervalMs);
  return { stop: () => void check("timer_delete", cTimerDelete(timer)) };
}
