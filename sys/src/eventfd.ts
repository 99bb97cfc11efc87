/** Counters that wake threads: eventfd(2), and epoll(7) over many of them. */
import { check, declare, errnoNumber, lastErrno } from "./libc.ts";

const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;
const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLLIN = 1;
const EPOLLET = 0x80000000;
/** struct epoll_event is packed on x86-64, and nowhere else. */
const DATA_AT = process.arch === "x64" ? 4 : 8;
const EVENT_BYTES = DATA_AT + 8;

const cEventfd = declare<(initial: number, flags: number) => number>(
  "int eventfd(uint32 initial, int flags)",
);
const cWrite = declare<(fd: number, from: BigUint64Array, length: number) => number>(
  "int64 write(int fd, const void *from, uint64 length)",
);
const cCreate = declare<(flags: number) => number>("int epoll_create1(int flags)");
const cControl = declare<(epoll: number, operation: number, fd: number, event: Uint8Array) => number>(
  "int epoll_ctl(int epoll, int operation, int fd, void *event)",
);
const cWait = declare<(epoll: number, events: Uint8Array, count: number, timeoutMs: number) => number>(
  "int epoll_wait(int epoll, void *events, int count, int timeoutMs)",
);
const ONE = new BigUint64Array([1n]);

/** A counter at 0, of which no call waits. Throws a SyscallError. */
export function eventfd(): number {
  return check("eventfd", cEventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

/** Adds one. False: it did not take it (a counter that is full, or no counter). */
export function signalEventfd(fd: number): boolean {
  return cWrite(fd, ONE, 8) === 8;
}

export function epollCreate(): number {
  return check("epoll_create1", cCreate(EPOLL_CLOEXEC));
}

/**
 * Each write to `fd` wakes one thread that waits, with `tag` (EPOLLET: an eventfd need not be read for the next one).
 * Returns 0 or the negative errno: EPERM for a file that cannot be waited for.
 */
export function epollAdd(epoll: number, fd: number, tag: number): number {
  const event = new DataView(new ArrayBuffer(EVENT_BYTES));
  event.setUint32(0, EPOLLIN | EPOLLET, true);
  event.setUint32(DATA_AT, tag, true);
  return cControl(epoll, EPOLL_CTL_ADD, fd, new Uint8Array(event.buffer)) === -1 ? -lastErrno() : 0;
}

export function epollRemove(epoll: number, fd: number): void {
  cControl(epoll, EPOLL_CTL_DEL, fd, new Uint8Array(EVENT_BYTES));
}

/** Whether `fd`, of which `epoll` knows nothing, can be waited for: no for regular files and folders (fs/eventpoll.c, do_epoll_ctl). */
export function epollAccepts(epoll: number, fd: number): boolean {
  return (
    cControl(epoll, EPOLL_CTL_DEL, fd, new Uint8Array(EVENT_BYTES)) === 0 ||
    lastErrno() !== errnoNumber("EPERM")
  );
}

/** Waits for one event, at most `timeoutMs` (-1: no limit). Returns its tag, null, or the negative errno. */
export function epollWait(epoll: number, timeoutMs: number): number | null {
  const event = new DataView(new ArrayBuffer(EVENT_BYTES));
  const result = cWait(epoll, new Uint8Array(event.buffer), 1, timeoutMs);
  if (result === -1) return -lastErrno();
  return result === 0 ? null : event.getUint32(DATA_AT, true);
}
