/**
 * The listener of permission events: a process of its own, so that it answers even while its parent is busy.
 *
 * A thread whose event is unanswered waits in the kernel, interruptible by a fatal signal only. So the listener marks only
 * inodes, never a mount; it answers every event within a bound, with or without its parent; it allows the parent's own
 * events at once, since the parent could not answer while it waits; and when this process ends, for any reason, the kernel
 * allows the rest (fanotify_release()). One synchronous loop over two descriptors.
 *
 * usage: pre-content-main BOUND_MS
 */
import { fstatSync } from "node:fs";
import {
  blockedCall,
  FAN_CLASS_PRE_CONTENT,
  FAN_OPEN_PERM,
  FAN_PRE_ACCESS,
  FAN_REPORT_TID,
  type FanotifyEvent,
  fanotifyInit,
  fanotifyMarkInode,
  fanotifyRespond,
  fanotifyUnmarkInode,
  files,
  parseFanotifyEvents,
  processOf,
  SyscallError,
} from "../../../sys/src/index.ts";
import { LineReader } from "./lines.ts";
import type { FromListener, ToListener } from "./pre-content-messages.ts";
import { fileKey, threatOf } from "./threat.ts";

const STDIN = 0;
const STDOUT = 1;
const BUFFER_BYTES = 64 * 1024;
const MASK = FAN_PRE_ACCESS | FAN_OPEN_PERM;
/** Threads with an allowed event that are remembered until their next one; the oldest are dropped. */
const MAX_ALLOWED = 1024;

/** `fd`: ours, of the inode: the parent's may be closed, and its number another file's, when it says that it has disarmed. */
type Armed = { readonly id: number; readonly fd: number };
type Asked = {
  readonly fd: number;
  readonly id: number;
  readonly tid: number;
  readonly deadlineMs: number;
};

class Listener {
  readonly #group: number;
  readonly #boundMs: number;
  readonly #parent = process.ppid;
  /** By inode, as `fileKey` names it. */
  readonly #armed = new Map<string, Armed>();
  readonly #asked = new Map<number, Asked>();
  readonly #lines = new LineReader<ToListener>();
  /** By thread: its last allowed event. */
  readonly #allowed = new Map<number, { readonly event: number; readonly id: number }>();
  #events = 0;

  constructor(group: number, boundMs: number) {
    this.#group = group;
    this.#boundMs = boundMs;
  }

  /** Until the parent closes its end. */
  run(): void {
    const buffer = new Uint8Array(BUFFER_BYTES);
    for (;;) {
      const ready = files.pollAny([STDIN, this.#group], this.#msUntilOverdue());
      this.#allowOverdue();
      if (typeof ready === "number") continue;
      if (ready.includes(this.#group)) {
        const length = files.read(this.#group, buffer);
        if (length > 0)
          for (const event of parseFanotifyEvents(buffer.subarray(0, length))) this.#receive(event);
      }
      if (!ready.includes(STDIN)) continue;
      const length = files.read(STDIN, buffer);
      if (length <= 0) return;
      for (const message of this.#lines.feed(buffer.subarray(0, length))) this.#handle(message);
    }
  }

  #receive(event: FanotifyEvent): void {
    if (event.fd < 0) return;
    const before = this.#allowed.get(event.pid);
    if (before !== undefined) {
      this.#allowed.delete(event.pid);
      report({ type: "over", ...before });
    }
    const armed = this.#armed.get(fileKey(fstatSync(event.fd, { bigint: true })));
    const from = armed === undefined ? null : this.#threat(event);
    if (armed === undefined || from === null) {
      this.#allow(event.fd);
      return;
    }
    this.#events += 1;
    const deadlineMs = performance.now() + this.#boundMs;
    this.#asked.set(this.#events, { fd: event.fd, id: armed.id, tid: event.pid, deadlineMs });
    report({ type: "ask", event: this.#events, id: armed.id, from: String(from), by: `thread ${event.pid}` });
  }

  #threat(event: FanotifyEvent): bigint | null {
    if (processOf(event.pid) === this.#parent) return null;
    return threatOf(event, blockedCall(event.pid), BigInt(fstatSync(event.fd).size));
  }

  #allow(fd: number): void {
    fanotifyRespond(this.#group, fd, "allow");
    files.close(fd);
  }

  #handle(message: ToListener): void {
    switch (message.type) {
      case "arm":
        this.#arm(message.id, message.path);
        return;
      case "disarm":
        for (const [key, { id, fd }] of this.#armed) {
          if (id === message.id) this.#disarm(key, fd);
        }
        return;
      case "go": {
        const asked = this.#asked.get(message.event);
        if (asked === undefined) return;
        this.#asked.delete(message.event);
        this.#remember(asked.tid, { event: message.event, id: asked.id });
        this.#allow(asked.fd);
        return;
      }
      default:
        message satisfies never;
    }
  }

  #remember(tid: number, event: { readonly event: number; readonly id: number }): void {
    const [oldest] = this.#allowed.keys();
    if (this.#allowed.size >= MAX_ALLOWED && oldest !== undefined) this.#allowed.delete(oldest);
    this.#allowed.set(tid, event);
  }

  #arm(id: number, path: string): void {
    // Of O_PATH: no event of our own.
    const fd = files.openat(files.AT_FDCWD, files.pathBytes(path), files.O_PATH | files.O_CLOEXEC);
    try {
      if (fd < 0) throw new SyscallError("open", -fd);
      fanotifyMarkInode(this.#group, MASK, ownPath(fd));
      const key = fileKey(fstatSync(fd, { bigint: true }));
      const before = this.#armed.get(key);
      if (before !== undefined) files.close(before.fd);
      this.#armed.set(key, { id, fd });
      report({ type: "armed", id });
    } catch (error) {
      if (fd >= 0) files.close(fd);
      report({ type: "refused", id, ...whyOf(error) });
    }
  }

  #disarm(key: string, fd: number): void {
    this.#armed.delete(key);
    try {
      fanotifyUnmarkInode(this.#group, MASK, ownPath(fd));
    } catch {
      // Its file system is gone, and the mark with it.
    }
    files.close(fd);
  }

  #msUntilOverdue(): number {
    if (this.#asked.size === 0) return -1;
    const first = Math.min(...[...this.#asked.values()].map(({ deadlineMs }) => deadlineMs));
    return Math.max(0, Math.ceil(first - performance.now()));
  }

  #allowOverdue(): void {
    for (const [event, { fd, id, deadlineMs }] of this.#asked) {
      if (deadlineMs > performance.now()) continue;
      this.#asked.delete(event);
      this.#allow(fd);
      report({ type: "overdue", event, id });
    }
  }
}

const ownPath = (fd: number): string => `/proc/self/fd/${fd}`;

function whyOf(error: unknown): { code: string; message: string } {
  const message = error instanceof Error ? error.message : String(error);
  return { code: error instanceof SyscallError ? error.code : "", message };
}

function report(message: FromListener): void {
  const bytes = Buffer.from(`${JSON.stringify(message)}\n`);
  for (let at = 0; at < bytes.length; ) {
    const written = files.write(STDOUT, bytes.subarray(at));
    // The parent has gone: standard input ends, too.
    if (written < 0) return;
    at += written;
  }
}

function main(): void {
  let group: number;
  try {
    group = fanotifyInit(FAN_CLASS_PRE_CONTENT | FAN_REPORT_TID);
  } catch (error) {
    report({ type: "failed", ...whyOf(error) });
    return;
  }
  report({ type: "ready" });
  new Listener(group, Number(process.argv[2])).run();
}

main();
