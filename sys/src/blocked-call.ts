/**
 * The system call that another thread is blocked in: /proc/TID/syscall (proc_pid_syscall(5)). The caller keeps that thread
 * blocked, as the reader of a permission event does: its registers do not change meanwhile.
 */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";

const isArm64 = process.arch === "arm64";
/** Numbers of the calls that are distinguished here; -1: not on this architecture. */
const call = {
  open: isArm64 ? -1 : 2,
  creat: isArm64 ? -1 : 85,
  openat: isArm64 ? 56 : 257,
  openat2: 437,
  fallocate: isArm64 ? 47 : 285,
  truncate: isArm64 ? 45 : 76,
  ftruncate: isArm64 ? 46 : 77,
} as const;

export type BlockedCall =
  | { readonly kind: "open"; readonly flags: number }
  | { readonly kind: "fallocate"; readonly mode: number }
  /** `sizeBytes`: the new one. */
  | { readonly kind: "truncate"; readonly sizeBytes: bigint }
  | { readonly kind: "other"; readonly number: number }
  /**
   * A worker of io_uring: its registers are those of the thread that it was made by, and mean nothing. What it does is seen
   * by the kernel's functions on its stack, its arguments are not. `null`: none of those that are known here.
   */
  | { readonly kind: "worker"; readonly does: "truncate" | "fallocate" | "open" | "transfer" | null }
  /** It cannot be read. */
  | { readonly kind: "unknown" };

/** open(2)'s flags are an int: the upper half of the register means nothing. */
const asInt = (register: bigint | undefined): number => Number(BigInt.asIntN(32, register ?? 0n));

/** struct open_how, in the caller's memory: its first word are the flags. */
function flagsOfOpenHow(tid: number, address: bigint): BlockedCall {
  const fd = openSync(`/proc/${tid}/mem`, "r");
  try {
    const flags = Buffer.alloc(8);
    readSync(fd, flags, 0, 8, address);
    return { kind: "open", flags: Number(flags.readBigUInt64LE()) };
  } finally {
    closeSync(fd);
  }
}

/** PF_IO_WORKER, PF_USER_WORKER (include/linux/sched.h) */
const WORKERS = 0x10 | 0x4000;

function isWorker(tid: number): boolean {
  const stat = readFileSync(`/proc/${tid}/stat`, "latin1");
  // The name is in brackets and may have blanks and brackets in it. The flags are the seventh field behind it.
  const flags = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ", 7)[6]);
  return (flags & WORKERS) !== 0;
}

/** Functions that send permission events: fs/open.c, fs/namei.c, fs/read_write.c. Innermost first, as the stack has them. */
const DOES: readonly (readonly [string, "truncate" | "fallocate" | "open" | "transfer"])[] = [
  ["do_ftruncate", "truncate"],
  ["vfs_truncate", "truncate"],
  ["vfs_fallocate", "fallocate"],
  ["do_dentry_open", "open"],
  ["rw_verify_area", "transfer"],
];

function workerCall(tid: number): BlockedCall {
  const stack = readFileSync(`/proc/${tid}/stack`, "latin1");
  const does = DOES.find(([name]) => stack.includes(` ${name}+`))?.[1] ?? null;
  return { kind: "worker", does };
}

/** Never throws: a thread that has gone, or may not be looked at, is `unknown`. */
export function blockedCall(tid: number): BlockedCall {
  try {
    if (isWorker(tid)) return workerCall(tid);
    const words = readFileSync(`/proc/${tid}/syscall`, "utf8").trim().split(" ");
    const number = Number(words[0]);
    if (!Number.isInteger(number) || number < 0) return { kind: "unknown" };
    const registers = words.slice(1, 7).map(BigInt);
    switch (number) {
      case call.open:
        return { kind: "open", flags: asInt(registers[1]) };
      case call.creat:
        return { kind: "open", flags: 0o1101 };
      case call.openat:
        return { kind: "open", flags: asInt(registers[2]) };
      case call.openat2:
        return flagsOfOpenHow(tid, registers[2] ?? 0n);
      case call.fallocate:
        return { kind: "fallocate", mode: asInt(registers[1]) };
      case call.truncate:
      case call.ftruncate:
        return { kind: "truncate", sizeBytes: registers[1] ?? 0n };
      default:
        return { kind: "other", number };
    }
  } catch {
    return { kind: "unknown" };
  }
}

/** The process that a thread belongs to, or null if it has gone. */
export function processOf(tid: number): number | null {
  try {
    const line = /^Tgid:\s*(\d+)$/m.exec(readFileSync(`/proc/${tid}/status`, "utf8"));
    return line === null ? null : Number(line[1]);
  } catch {
    return null;
  }
}
