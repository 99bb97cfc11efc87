/**
 * The machine itself, as root or not. What may wait for ever waits on a thread of libuv's pool, with a limit: fs/proc takes
 * mmap_lock killably (proc_pid_cmdline_read(), m_start(), proc_map_files_get_link()), so the end of this process ends the
 * wait, too.
 */
import { closeSync, openSync, readdirSync, readlinkSync, readSync } from "node:fs";
import { open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { declareLater, errnoName, files } from "../../../sys/src/looking.ts";
import { openTrace } from "../tracing/tracefs.ts";
import type { Answer, FileStatus, Host } from "./host.ts";
import { hasSlept, type Sleepers, sleepers } from "./own-threads.ts";

const PIECE_BYTES = 64 * 1024;
/** Of two looks in a row at a thread that waits, the second one gives it up. */
const LOOK_MS = 150;
const LOOKS_MAX = 200;
/** Of libuv's four threads one stays free. */
const STUCK_MAX = 3;

const failed = (code: string): { kind: "failed"; code: string } => ({ kind: "failed", code });
const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : "EIO";

function answerOf<Value>(body: () => Value): Answer<Value> {
  try {
    return { kind: "ok", value: body() };
  } catch (error) {
    return failed(codeOf(error));
  }
}

class TooLongError extends Error {
  readonly code = "EFBIG";
}

function readBounded(path: string, limitBytes: number): string {
  const fd = openSync(path, "r");
  try {
    const pieces: Buffer[] = [];
    for (let total = 0; ; ) {
      const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, limitBytes + 1));
      const count = readSync(fd, piece);
      if (count === 0) return Buffer.concat(pieces).toString("utf8");
      total += count;
      if (total > limitBytes) throw new TooLongError(path);
      pieces.push(piece.subarray(0, count));
    }
  } finally {
    closeSync(fd);
  }
}

async function readLater(path: string, limitBytes: number): Promise<string> {
  const file = await open(path, "r");
  try {
    const pieces: Buffer[] = [];
    for (let total = 0; ; ) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(PIECE_BYTES));
      if (bytesRead === 0) return Buffer.concat(pieces).toString("utf8");
      total += bytesRead;
      if (total > limitBytes) throw new TooLongError(path);
      pieces.push(buffer.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
}

const cStatx = declareLater<[number, Uint8Array, number, number, Uint8Array], number>(
  "int statx(int dir, const void *path, int flags, uint32 mask, void *out)",
);

async function statusOf(path: string): Promise<Answer<FileStatus>> {
  const out = Buffer.alloc(files.STATX_BYTES);
  const { AT_FDCWD, AT_STATX_DONT_SYNC, STATX_BASIC_STATS } = files;
  const { result, errno } = await cStatx(
    AT_FDCWD,
    files.pathBytes(path),
    AT_STATX_DONT_SYNC,
    STATX_BASIC_STATS,
    out,
  );
  if (result !== 0) return failed(errnoName(errno));
  return {
    kind: "ok",
    value: {
      sizeBytes: out.readBigUInt64LE(files.STATX_AT.size),
      inode: out.readBigUInt64LE(files.STATX_AT.inode),
      isRegular: (out.readUInt16LE(files.STATX_AT.mode) & files.S_IFMT) === files.S_IFREG,
      isLinked: out.readUInt32LE(files.STATX_AT.nlink) > 0,
    },
  };
}

/** Ends when a thread waits in vain, or aborted. A machine that is busy gives nobody up: the thread is ready, and not asleep. */
async function patience(signal: AbortSignal): Promise<void> {
  let before: Sleepers = new Map();
  for (let count = 0; count < LOOKS_MAX; count += 1) {
    try {
      await sleep(LOOK_MS, undefined, { signal });
    } catch {
      return;
    }
    const now = sleepers();
    if (hasSlept(before, now)) return;
    before = now;
  }
}

export class ThisHost implements Host {
  #stuck = 0;

  /** Reads that no answer has come to: this process cannot end in the ordinary way while there are any. */
  get stuck(): number {
    return this.#stuck;
  }

  nowMs(): number {
    return performance.now();
  }

  /** Of this process: what it has worked, not what it has waited for a processor. */
  workedMs(): number {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  }

  async sleep(ms: number): Promise<void> {
    await sleep(ms);
  }

  read(path: string, limitBytes: number): Answer<string> {
    return answerOf(() => readBounded(path, limitBytes));
  }

  list(path: string): Answer<readonly string[]> {
    return answerOf(() => readdirSync(path));
  }

  link(path: string): Answer<string> {
    return answerOf(() => readlinkSync(path));
  }

  readOfMemory(path: string, limitBytes: number): Promise<Answer<string>> {
    const reading = async (): Promise<Answer<string>> => {
      try {
        return { kind: "ok", value: await readLater(path, limitBytes) };
      } catch (error) {
        return failed(codeOf(error));
      }
    };
    return this.#within(reading);
  }

  status(path: string): Promise<Answer<FileStatus>> {
    return this.#within(() => statusOf(path));
  }

  trace(selection: Parameters<Host["trace"]>[0]): ReturnType<Host["trace"]> {
    return openTrace(null, selection);
  }

  async #within<Value>(body: () => Promise<Answer<Value>>): Promise<Answer<Value>> {
    if (this.#stuck >= STUCK_MAX) return failed("ETIMEDOUT");
    const ending = new AbortController();
    let isLate = false;
    const answer = body().then((value) => {
      if (isLate) this.#stuck -= 1;
      return value;
    });
    const late = patience(ending.signal).then((): Answer<Value> => {
      if (ending.signal.aborted) return failed("ETIMEDOUT");
      isLate = true;
      this.#stuck += 1;
      return failed("ETIMEDOUT");
    });
    const first = await Promise.race([answer, late]);
    ending.abort();
    return first;
  }
}
