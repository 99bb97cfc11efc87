/** Does one step for a VM. What changed since the plan is found out first: each answer says what was done, or why nothing was. */
import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { files, growTo } from "../../../sys/src/looking.ts";
import { bytesText } from "../diagnose/facts.ts";
import type { Host } from "../diagnose/host.ts";
import { valueIn } from "../diagnose/host.ts";
import { parseStat } from "../diagnose/proc.ts";
import type { Growth, RescueStep } from "./plan.ts";
import { qmpQuit } from "./qmp.ts";

export type Done = {
  /** `nothing`: there was nothing left to do. */
  readonly kind: "done" | "nothing" | "failed";
  readonly text: string;
};

/** A file server that does not answer is not waited for. */
const ANSWER_MS = 5000;
/** A VMM that ends in order writes its disks back. */
const END_MS = 10_000;
const LOOK_MS = 20;
const TEXT_BYTES = 16 * 1024;

/** States of /proc/PID/stat: by a signal, by a debugger. */
const STOPPED: readonly string[] = ["T", "t"];

const failed = (text: string): Done => ({ kind: "failed", text });

/** By errno of opening or growing: what it means here. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "the VM's process has ended, or has not mapped it any more",
  ESRCH: "the VM's process has ended",
  EROFS: "its file system is read-only",
  EACCES: "not permitted: run it as root of the outermost namespaces",
  EPERM:
    "not permitted: the file is immutable or sealed (chattr -i), or this is not root of the outermost namespaces",
  ENOSPC: "its file system is full",
  EDQUOT: "the quota of its file system is used up",
  EFBIG: "its file system, or the limit ulimit -f, has no files of that size",
  ETXTBSY: "somebody refuses it: a listener of permission events, or it is a running program",
  ENXIO: "its file server has gone",
  ENOTCONN: "its file server is dead",
  ETIMEDOUT: "no answer came: its file server is silent, or the file is held by somebody's lease",
};

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);
const reasonOf = (code: string): string => (REASONS[code] === undefined ? code : `${code}: ${REASONS[code]}`);

/** No block is to be had for the last byte, or its file system has no fallocate(2): a hole will do. */
const WITHOUT_BLOCKS: readonly string[] = ["ENOSPC", "EDQUOT", "EOPNOTSUPP", "ENOSYS"];

class LateError extends Error {
  readonly code = "ETIMEDOUT";
}

let stuck = 0;

/** Calls that no answer has come to: this process cannot end in the ordinary way while there are any. */
export const stuckCalls = (): number => stuck;

async function within<Value>(work: Promise<Value>): Promise<Value> {
  const ending = new AbortController();
  const late = sleep(ANSWER_MS, undefined, { signal: ending.signal }).then(() => {
    stuck += 1;
    const isOver = (): void => {
      stuck -= 1;
    };
    work.then(isOver, isOver);
    throw new LateError("late");
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    late.catch(() => {});
    ending.abort();
  }
}

/** So much can still be stored: behind the file's old end there are no blocks yet. */
function freeBytes(fd: number): bigint | null {
  const out = Buffer.alloc(files.STATFS_BYTES);
  // struct statfs of 64 bits: type, bsize, blocks, bfree, bavail.
  return files.fstatfs(fd, out) < 0 ? null : out.readBigUInt64LE(8) * out.readBigUInt64LE(32);
}

async function growOpen(handle: FileHandle, { file, toBytes }: Growth): Promise<Done> {
  const { size, ino } = await within(handle.stat({ bigint: true }));
  if (ino !== file.inode) return failed(`${file.path}: another file is mapped there by now (inode ${ino})`);
  if (size >= toBytes)
    return {
      kind: "nothing",
      text: `${file.path} has ${size} bytes by now: somebody has grown it meanwhile`,
    };
  const refusal = await within(growTo(handle.fd, toBytes));
  if (refusal !== null) {
    if (!WITHOUT_BLOCKS.includes(refusal)) throw Object.assign(new Error(refusal), { code: refusal });
    // Longer by now: ftruncate(2) would make it shorter.
    if ((await within(handle.stat({ bigint: true }))).size < toBytes)
      await within(handle.truncate(Number(toBytes)));
  }
  const free = freeBytes(handle.fd);
  const lack =
    free !== null && free < toBytes - size
      ? `; its file system has room for ${bytesText(free)} alone: a store of the guest's to what is beyond hangs it again`
      : "";
  return { kind: "done", text: `${file.path} has ${toBytes} bytes again, zeros from ${size} on${lack}` };
}

async function grow(growth: Growth): Promise<Done> {
  const { file } = growth;
  try {
    const handle = await within(open(file.link, "r+"));
    try {
      return await growOpen(handle, growth);
    } finally {
      // Not waited for: closing asks a file server, too.
      void handle.close().catch(() => {});
    }
  } catch (error) {
    return failed(`${file.path} was not grown: ${reasonOf(codeOf(error))}`);
  }
}

const statOf = (host: Host, pid: number): ReturnType<typeof parseStat> =>
  parseStat(valueIn(host.read(`/proc/${pid}/stat`, TEXT_BYTES)) ?? "");

function signal(pid: number, name: "SIGTERM" | "SIGCONT"): Done {
  try {
    process.kill(pid, name);
    return { kind: "done", text: `${name} was sent to process ${pid}` };
  } catch (error) {
    const code = codeOf(error);
    return code === "ESRCH"
      ? { kind: "nothing", text: `process ${pid} has ended by now` }
      : failed(`${name} could not be sent to process ${pid}: ${reasonOf(code)}`);
  }
}

/** Unless another process has the number by now. */
function terminate(host: Host, pid: number, startTicks: number | null): Done {
  const stat = statOf(host, pid);
  return stat === null || (startTicks !== null && stat.startTicks !== startTicks)
    ? { kind: "nothing", text: `process ${pid} has ended by now` }
    : signal(pid, "SIGTERM");
}

/** Only what is stopped still: another process may have the number by now. */
function letGoOn(host: Host, pid: number): Done {
  const stat = statOf(host, pid);
  if (stat === null) return { kind: "nothing", text: `process ${pid} has ended by now` };
  return STOPPED.includes(stat.state)
    ? signal(pid, "SIGCONT")
    : { kind: "nothing", text: `process ${pid} is not stopped any more` };
}

async function hasEnded(host: Host, pid: number, startTicks: number | null): Promise<boolean> {
  const untilMs = host.nowMs() + END_MS;
  for (;;) {
    const stat = statOf(host, pid);
    const isThere =
      stat !== null &&
      !["Z", "X"].includes(stat.state) &&
      (startTicks === null || stat.startTicks === startTicks);
    if (!isThere) return true;
    if (host.nowMs() > untilMs) return false;
    await host.sleep(LOOK_MS);
  }
}

async function stop(
  host: Host,
  { pid, sockets }: Extract<RescueStep, { kind: "stop" }>,
  startTicks: number | null,
): Promise<readonly Done[]> {
  const done: Done[] = [];
  for (const socket of sockets) {
    const end = await qmpQuit(socket);
    if (end.kind === "failed") {
      done.push(failed(end.why));
      continue;
    }
    done.push({ kind: "done", text: `QEMU was asked to quit, at ${socket}` });
    if (await hasEnded(host, pid, startTicks))
      return [...done, { kind: "done", text: `process ${pid} has ended` }];
    done.push(failed(`process ${pid} has not ended within ${END_MS / 1000} s`));
  }
  const sent = terminate(host, pid, startTicks);
  done.push(sent);
  if (sent.kind !== "done") return done;
  if (await hasEnded(host, pid, startTicks))
    return [...done, { kind: "done", text: `process ${pid} has ended` }];
  return [
    ...done,
    failed(
      `process ${pid} has not ended within ${END_MS / 1000} s: kill -KILL ${pid} ends it, and its disks are as after a crash`,
    ),
  ];
}

/** @param startTicks of the VM's process when it was looked at */
export async function act(host: Host, step: RescueStep, startTicks: number | null): Promise<readonly Done[]> {
  switch (step.kind) {
    case "grow": {
      const done: Done[] = [];
      for (const growth of step.growths) done.push(await grow(growth));
      return done;
    }
    case "continue":
      return step.processes.map(({ pid }) => letGoOn(host, pid));
    case "stop":
      return await stop(host, step, startTicks);
  }
}
