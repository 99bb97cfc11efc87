/**
 * Parsers of files of /proc (proc(5)). Pure and total: a line that is none of the format is left out, for a kernel newer
 * than this may write more. Texts are the kernel's: fs/proc/task_mmu.c (maps), fs/proc_namespace.c (mountinfo),
 * fs/proc/array.c (stat), fs/proc/base.c (syscall, stack), kernel/sched/debug.c (sched).
 */

/** A file-backed line of maps. */
export type MapLine = {
  readonly start: bigint;
  readonly end: bigint;
  /** `rw-s`. */
  readonly access: string;
  readonly offset: bigint;
  readonly major: number;
  readonly minor: number;
  readonly inode: bigint;
  /** As the kernel writes it: a line end in it is `\012`. */
  readonly path: string;
};

const MAP_LINE =
  /^([0-9a-f]+)-([0-9a-f]+) ([-r][-w][-x][-ps]) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) ([0-9]+) *(.*)$/;

/** Lines with an inode: anonymous memory, stacks and the like have none. */
export function parseMaps(text: string): readonly MapLine[] {
  return text.split("\n").flatMap((line) => {
    const [, start, end, access, offset, major, minor, inode, path] = MAP_LINE.exec(line) ?? [];
    if (start === undefined || path === undefined || inode === "0") return [];
    return [
      {
        start: BigInt(`0x${start}`),
        end: BigInt(`0x${end}`),
        access: access ?? "",
        offset: BigInt(`0x${offset}`),
        major: Number.parseInt(major ?? "", 16),
        minor: Number.parseInt(minor ?? "", 16),
        inode: BigInt(inode ?? 0),
        path,
      },
    ];
  });
}

export type Mount = {
  readonly major: number;
  readonly minor: number;
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
};

/** A blank, tab, line end or backslash is `\040` and so on. */
function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

export function parseMountinfo(text: string): readonly Mount[] {
  return text.split("\n").flatMap((line) => {
    const [left, right] = line.split(" - ", 2);
    const [, , device, , mountPoint] = left?.split(" ") ?? [];
    const [type, source] = right?.split(" ") ?? [];
    const [, major, minor] = /^([0-9]+):([0-9]+)$/.exec(device ?? "") ?? [];
    if (mountPoint === undefined || type === undefined || minor === undefined) return [];
    return [
      {
        major: Number(major),
        minor: Number(minor),
        mountPoint: unescapeOctal(mountPoint),
        type,
        source: unescapeOctal(source ?? ""),
      },
    ];
  });
}

/** Of a thread or a process. */
export type Stat = {
  readonly name: string;
  /** `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I` .. */
  readonly state: string;
  /** Clock ticks. */
  readonly userTicks: number;
  readonly systemTicks: number;
  /** The part of `userTicks` in which a guest ran. */
  readonly guestTicks: number;
  /** Page faults that took I/O and have got their page: one that fails, or still waits, is not counted (mm_account_fault(), mm/memory.c). */
  readonly majorFaults: number;
  /** Ticks after boot. */
  readonly startTicks: number;
  /** The kernel made it for itself inside the process, as KVM its `kvm-nx-lpage-recovery`: its registers are its maker's. */
  readonly isKernels: boolean;
};

/** PF_IO_WORKER, PF_USER_WORKER, PF_KTHREAD (include/linux/sched.h) */
const KERNELS = 0x10 | 0x4000 | 0x200000;

/** The name is in brackets and may have blanks and brackets in it: fields are counted from behind the last one. */
export function parseStat(text: string): Stat | null {
  const [open, close] = [text.indexOf("("), text.lastIndexOf(")")];
  if (open < 0 || close < open) return null;
  const fields = text
    .slice(close + 2)
    .trim()
    .split(" ");
  const number = (index: number): number => {
    const value = Number(fields[index]);
    return Number.isFinite(value) ? value : 0;
  };
  const state = fields[0];
  if (state === undefined || !/^[A-Za-z]$/.test(state)) return null;
  // proc_pid_stat(5) counts from 1: state is 3, flags 9, majflt 12, utime 14, stime 15, starttime 22, guest_time 43.
  return {
    name: text.slice(open + 1, close),
    state,
    majorFaults: number(9),
    userTicks: number(11),
    systemTicks: number(12),
    startTicks: number(19),
    isKernels: (number(6) & KERNELS) !== 0,
    guestTicks: number(40),
  };
}

const IOCTL = process.arch === "arm64" ? 29 : 16;
/** _IO(KVMIO, 0x80) */
const KVM_RUN = 0xae80n;

/** What a thread does, as /proc/TID/syscall says. */
export type ThreadCall =
  | { readonly kind: "kvm-run"; readonly fd: number }
  | { readonly kind: "call"; readonly number: number }
  /** It is on a processor just now, be it in the guest, in KVM or in the VMM. */
  | { readonly kind: "running" }
  /** Blocked, but in no system call: in a page fault of the VMM's own. */
  | { readonly kind: "no-call" };

export function parseSyscall(text: string): ThreadCall | null {
  const words = text.trim().split(" ");
  if (words[0] === "running") return { kind: "running" };
  if (!/^-?[0-9]+$/.test(words[0] ?? "")) return null;
  const number = Number(words[0]);
  if (number < 0) return { kind: "no-call" };
  const [fd, request] = [words[1], words[2]].map((word) => (/^0x[0-9a-f]+$/.test(word ?? "") ? word : null));
  if (number === IOCTL && fd != null && request != null && BigInt(request) === KVM_RUN)
    return { kind: "kvm-run", fd: Number(BigInt.asIntN(32, BigInt(fd))) };
  return { kind: "call", number };
}

/** Functions, innermost first: `[<0>] kvm_vcpu_block+0x4f/0xa0 [kvm]`. */
export function parseStack(text: string): readonly string[] {
  return text.split("\n").flatMap((line) => {
    const name = /^\[<[0-9a-f]+>\] ([^+\s]+)/.exec(line)?.[1];
    return name === undefined ? [] : [name];
  });
}

/** `se.exec_start` in milliseconds: when the thread last ran, by the scheduler's clock. Only kernels with SCHED_DEBUG say it. */
export function parseExecStart(text: string): number | null {
  const digits = /^se\.exec_start\s*:\s*([0-9]+\.[0-9]+)$/m.exec(text)?.[1];
  return digits === undefined ? null : Number(digits);
}

/** Arguments are ended by NULs. */
export function parseCommandLine(text: string): readonly string[] {
  const words = text.split("\0");
  if (words.at(-1) === "") words.pop();
  return words;
}

/** A member of /proc/PID/status, of a file of fdinfo, or the like: `Tgid:\t12`. */
export function parseMember(text: string, name: string): string | null {
  const line = text.split("\n").find((one) => one.startsWith(`${name}:`));
  return line === undefined ? null : line.slice(name.length + 1).trim();
}

/**
 * The name that a VM was given: QEMU's `-name guest=NAME,..` or `-name NAME`, Firecracker's `--id`, crosvm's and
 * kvmtool's `--name`. A comma in QEMU's is written twice.
 */
export function guestNameOf(words: readonly string[]): string | null {
  for (const [index, word] of words.entries()) {
    const [option, inline] = /^(--?(?:name|id))(?:=(.*))?$/s.exec(word)?.slice(1) ?? [];
    if (option === undefined) continue;
    const text = inline ?? words[index + 1];
    if (text === undefined || text === "") continue;
    if (option !== "-name") return text;
    const parts = text.replaceAll(",,", "\0").split(",");
    const guest = parts.find((part) => part.startsWith("guest="))?.slice(6) ?? parts[0] ?? "";
    return guest.replaceAll("\0", ",");
  }
  return null;
}
