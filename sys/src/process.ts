/** This process: its parent, which it must not outlive, its limits, its end; and what the kernel says of other ones. */
import { readFileSync } from "node:fs";
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

/** include/linux/sched.h. Set before the process closes its files. */
const PF_EXITING = 4;

/** `ending`: it is on its way out, has ended, or is no process at all. */
export type ProcessState = "running" | "stopped" | "ending";

/** The state of a process from its `/proc/PID/stat`: fields are counted from behind the name, which may hold anything. */
export function parseProcessState(text: string): ProcessState {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state = "X", flags = "0"] = [fields[0], fields[6]];
  if (state === "Z" || state === "X" || (Number(flags) & PF_EXITING) !== 0) return "ending";
  return state === "T" || state === "t" ? "stopped" : "running";
}

/** Whether a thread of this process runs or waits for a CPU only. False where it cannot be looked at. */
export function isThreadRunnable(tid: number): boolean {
  try {
    const text = readFileSync(`/proc/self/task/${tid}/stat`, "latin1");
    return text[text.lastIndexOf(")") + 2] === "R";
  } catch {
    return false;
  }
}

/** How long a thread of this process has run so far (schedstat: the time on a CPU, in ns); null: the kernel does not say. */
export function threadRunMs(tid: number): number | null {
  try {
    return Number.parseInt(readFileSync(`/proc/self/task/${tid}/schedstat`, "latin1"), 10) / 1e6;
  } catch {
    return null;
  }
}

/**
 * The state of a process now. What it held open is gone before its parent learns of its end: who has seen an effect of
 * the end asks here.
 */
export function processState(pid: number): ProcessState {
  try {
    return parseProcessState(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return "ending";
  }
}
