/** This process: its parent, which it must not outlive, its limits, its end. */
import { check, declare } from "./libc.ts";

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

// prctl is variadic in C; on x86-64 integer arguments travel the same way in both kinds of call.
const cPrctl = declare<(option: number, argument: bigint) => number>(
  "int prctl(int option, uint64 argument)",
);

const cExit = declare<(code: number) => void>("void _exit(int code)");

/** The kernel sends `signal` to this process when the thread that started it ends. */
export function signalOnParentDeath(signal: number): void {
  check("prctl(PR_SET_PDEATHSIG)", cPrctl(PR_SET_PDEATHSIG, BigInt(signal)));
}

/**
 * Asks the kernel to kill this process as soon as its parent's spawning thread ends (PR_SET_PDEATHSIG, prctl(2)).
 * @param parentPid The parent's id, as passed by the parent. It may be gone before the request reaches the kernel,
 *   which then never sends the signal: this process ends itself in that case.
 */
export function dieWithParent(parentPid: number): void {
  signalOnParentDeath(SIGKILL);
  if (process.ppid !== parentPid) process.kill(process.pid, "SIGKILL");
}

const RLIMIT_CORE = 4;
const RLIMIT_NOFILE = 7;
const cSetrlimit = declare<(resource: number, limit: BigUint64Array) => number>(
  "int setrlimit(int resource, void *limit)",
);

/** No core file when this process dies: for processes whose death by a signal is an expected result. */
export function disableCoreDumps(): void {
  check("setrlimit(RLIMIT_CORE)", cSetrlimit(RLIMIT_CORE, new BigUint64Array([0n, 0n])));
}

/** _exit(2): ends every thread at once, also those that wait in a system call. Nothing is flushed. */
export function exitNow(code: number): never {
  cExit(code);
  throw new Error("_exit returned");
}

/** Lets this process open `count` descriptors (RLIMIT_NOFILE, both limits). Returns whether it was allowed to. */
export function raiseDescriptorLimit(count: number): boolean {
  return cSetrlimit(RLIMIT_NOFILE, new BigUint64Array([BigInt(count), BigInt(count)])) === 0;
}
