/**
 * The listener of `daxfault protect`: answers permission events by what it knows, and asks its parent only where a VM may
 * have mapped more since. A process of its own, one loop over two descriptors.
 *
 * A thread whose event is unanswered waits in the kernel, interruptible by a fatal signal only. So:
 *  - what cuts nothing is allowed at once, and what cuts a known range refused at once;
 *  - the parent's answer has a bound; nothing is written to the parent that would have to wait for it;
 *  - a deadline kills this process when its loop stands still, be it stopped, frozen or starved (SIGKILL by a timer of the
 *    kernel's); the kernel then allows all that waits (fanotify_release()), and the parent starts another one;
 *  - it ends with its parent, and is in a session of its own: Ctrl-Z at the terminal does not stop it.
 *
 * usage: listener-main DEADLINE_MS ASK_MS
 */
import { readFileSync } from "node:fs";
import { LineReader, threatOf } from "../../../fs-server/src/index.ts";
import {
  type BlockedCall,
  blockedCall,
  type Deadline,
  FAN_CLASS_PRE_CONTENT,
  FAN_EVENT_ON_CHILD,
  FAN_OPEN_PERM,
  FAN_PRE_ACCESS,
  FAN_REPORT_TID,
  type FanotifyAnswer,
  type FanotifyEvent,
  fanotifyInit,
  fanotifyMarkInode,
  fanotifyRespond,
  fanotifyUnmarkInode,
  files,
  parseFanotifyEvents,
  processOf,
  SyscallError,
  startDeadline,
} from "../../../sys/src/index.ts";
import { hold, inodeOf } from "./inode.ts";
import type { Attempt, FromListener, ToListener, Who } from "./messages.ts";
import { Outbox } from "./outbox.ts";
import { cutOf, type Range } from "./ranges.ts";

const STDIN = 0;
const STDOUT = 1;
const BUFFER_BYTES = 64 * 1024;
const MASK = FAN_PRE_ACCESS | FAN_OPEN_PERM;

type Guarded = {
  readonly id: number;
  /** Held, without being open. */
  readonly fd: number;
  readonly isMarked: boolean;
  readonly ranges: readonly Range[];
};

type Asked = {
  readonly fd: number;
  readonly key: string;
  readonly from: bigint;
  readonly tid: number;
  readonly call: BlockedCall;
  readonly deadlineMs: number;
};

function nameOf(tid: number): string {
  try {
    return readFileSync(`/proc/${tid}/comm`, "utf8").trimEnd();
  } catch {
    return "?";
  }
}

function uidOf(tid: number): number | null {
  try {
    const line = /^Uid:\s*([0-9]+)/m.exec(readFileSync(`/proc/${tid}/status`, "utf8"));
    return line === null ? null : Number(line[1]);
  } catch {
    return null;
  }
}

const whoIs = (tid: number): Who => ({ tid, pid: processOf(tid), name: nameOf(tid), uid: uidOf(tid) });

function whatIs(call: BlockedCall, from: bigint): string {
  switch (call.kind) {
    case "truncate":
      return `truncate to ${call.sizeBytes} bytes`;
    case "open":
      return "open with O_TRUNC";
    case "fallocate":
      return `fallocate, mode 0x${call.mode.toString(16)}, from byte ${from} on`;
    case "worker":
      return call.does === "open"
        ? "open by io_uring, perhaps with O_TRUNC"
        : `${call.does ?? "something"} by io_uring from byte ${from} on`;
    case "other":
      return `system call ${call.number} from byte ${from} on`;
    case "unknown":
      return `a call that cannot be read, from byte ${from} on`;
  }
}

class Listener {
  readonly #group: number;
  readonly #askMs: number;
  readonly #deadline: Deadline;
  readonly #outbox: Outbox;
  /** By inode, as `inodeOf` names it. */
  readonly #guarded = new Map<string, Guarded>();
  readonly #asked = new Map<number, Asked>();
  readonly #lines = new LineReader<ToListener>();
  readonly #idleMs: number;
  #allowed = new Set<number>();
  #events = 0;

  constructor(
    group: number,
    outbox: Outbox,
    options: { readonly deadlineMs: number; readonly askMs: number },
  ) {
    this.#group = group;
    this.#outbox = outbox;
    this.#askMs = options.askMs;
    this.#idleMs = options.deadlineMs / 5;
    this.#deadline = startDeadline(options.deadlineMs);
  }

  /** Until the parent closes its end. */
  run(): void {
    const buffer = new Uint8Array(BUFFER_BYTES);
    for (;;) {
      this.#deadline.push();
      this.#outbox.flush();
      const ready = files.pollAny([STDIN, this.#group], this.#patienceMs());
      this.#letOverdueGo();
      if (typeof ready === "number") continue;
      // What the parent knows comes first: it may be about these very events.
      if (ready.includes(STDIN)) {
        const length = files.read(STDIN, buffer);
        if (length <= 0) return;
        for (const message of this.#lines.feed(buffer.subarray(0, length))) this.#handle(message);
      }
      if (ready.includes(this.#group)) {
        const length = files.read(this.#group, buffer);
        if (length <= 0) continue;
        for (const event of parseFanotifyEvents(buffer.subarray(0, length))) this.#receive(event);
      }
    }
  }

  #receive(event: FanotifyEvent): void {
    if (event.fd < 0) return;
    const { key, sizeBytes } = inodeOf(event.fd);
    const call = blockedCall(event.pid);
    const from = threatOf(event, call, sizeBytes);
    // An empty file, as every new one is, has nothing to lose.
    if (from === null || from >= sizeBytes) {
      this.#answer(event.fd, "allow");
      return;
    }
    this.#events += 1;
    const number = this.#events;
    const deadlineMs = performance.now() + this.#askMs;
    const asked = { fd: event.fd, key, from, tid: event.pid, call, deadlineMs };
    if (this.#decide(asked)) return;
    this.#asked.set(number, asked);
    this.#outbox.say({ type: "ask", event: number });
  }

  /** False: nothing that is known is cut, and nothing was answered. */
  #decide(asked: Asked): boolean {
    const guarded = this.#guarded.get(asked.key);
    if (guarded === undefined) return false;
    if (cutOf(guarded.ranges, asked.from, inodeOf(asked.fd).sizeBytes) === null) return false;
    const pid = processOf(asked.tid);
    const passes = pid !== null && this.#allowed.has(pid);
    const attempt = this.#attempt(asked);
    this.#answer(asked.fd, passes ? "allow" : { denyWith: "ETXTBSY" });
    this.#outbox.say({ type: passes ? "passed" : "refused", id: guarded.id, attempt });
    return true;
  }

  /** Before the answer: the thread may go away with it. */
  #attempt({ tid, call, from, fd }: Asked): Attempt {
    const sizeBytes = String(inodeOf(fd).sizeBytes);
    return { who: whoIs(tid), what: whatIs(call, from), fromBytes: String(from), sizeBytes };
  }

  #answer(fd: number, answer: FanotifyAnswer): void {
    fanotifyRespond(this.#group, fd, answer);
    files.close(fd);
  }

  #handle(message: ToListener): void {
    switch (message.type) {
      case "guard":
        this.#guard(message);
        return;
      case "drop":
        for (const [key, one] of this.#guarded) if (one.id === message.id) this.#drop(key, one);
        return;
      case "folder":
        this.#outbox.say({ type: "folder", path: message.path, refusal: this.#markFolder(message.path) });
        return;
      case "allow":
        this.#allowed = new Set(message.pids);
        return;
      case "decide": {
        const asked = this.#asked.get(message.event);
        if (asked === undefined) return;
        this.#asked.delete(message.event);
        if (!this.#decide(asked)) this.#answer(asked.fd, "allow");
        return;
      }
      default:
        message satisfies never;
    }
  }

  #guard({ id, path, ranges, mark }: Extract<ToListener, { type: "guard" }>): void {
    const kept = ranges.map(([from, to]) => ({ from: BigInt(from), to: BigInt(to) }));
    for (const [key, one] of this.#guarded) {
      if (one.id !== id) continue;
      this.#guarded.set(key, { ...one, ranges: kept });
      return;
    }
    let fd = -1;
    try {
      fd = hold(path);
      if (mark) fanotifyMarkInode(this.#group, MASK, `/proc/self/fd/${fd}`);
      this.#guarded.set(inodeOf(fd).key, { id, fd, isMarked: mark, ranges: kept });
      this.#outbox.say({ type: "guarded", id });
    } catch (error) {
      if (fd >= 0) files.close(fd);
      this.#outbox.say({ type: "unguarded", id, ...whyOf(error) });
    }
  }

  #drop(key: string, { fd, isMarked }: Guarded): void {
    this.#guarded.delete(key);
    if (isMarked) fanotifyUnmarkInode(this.#group, MASK, `/proc/self/fd/${fd}`);
    files.close(fd);
  }

  #markFolder(path: string): { readonly code: string; readonly message: string } | null {
    try {
      fanotifyMarkInode(this.#group, MASK | FAN_EVENT_ON_CHILD, path);
      return null;
    } catch (error) {
      return whyOf(error);
    }
  }

  #patienceMs(): number {
    const first = Math.min(...[...this.#asked.values()].map(({ deadlineMs }) => deadlineMs));
    const left = Number.isFinite(first) ? Math.max(0, Math.ceil(first - performance.now())) : this.#idleMs;
    // A pipe that is full is looked at again soon.
    return Math.min(left, this.#outbox.isEmpty ? this.#idleMs : this.#idleMs / 10);
  }

  #letOverdueGo(): void {
    for (const [event, asked] of this.#asked) {
      if (asked.deadlineMs > performance.now()) continue;
      this.#asked.delete(event);
      const attempt = this.#attempt(asked);
      this.#answer(asked.fd, "allow");
      this.#outbox.say({ type: "overdue", attempt });
    }
  }
}

function whyOf(error: unknown): { code: string; message: string } {
  const message = error instanceof Error ? error.message : String(error);
  return { code: error instanceof SyscallError ? error.code : "", message: message.slice(0, 1000) };
}

function main(): void {
  const outbox = new Outbox(STDOUT);
  const say = (message: FromListener): void => outbox.say(message);
  let group: number;
  try {
    group = fanotifyInit(FAN_CLASS_PRE_CONTENT | FAN_REPORT_TID);
  } catch (error) {
    say({ type: "failed", ...whyOf(error) });
    return;
  }
  say({ type: "ready" });
  const [deadlineMs, askMs] = process.argv.slice(2).map(Number);
  new Listener(group, outbox, { deadlineMs: deadlineMs ?? 0, askMs: askMs ?? 0 }).run();
}

main();
