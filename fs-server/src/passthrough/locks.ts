/**
 * Locks of the clients' processes on the source's files.
 *
 * A lock of flock(2) belongs to an open file description, and so to a handle's descriptor. A POSIX lock belongs to a process
 * for the kernel, and would be the server's: closing any descriptor of the file would drop those of all clients, and they
 * would not keep each other out. So each owner has an open file description of its own for each file, with OFD locks
 * (F_OFD_SETLK), which conflict with one another and with the host's POSIX locks as POSIX locks do. What differs: nothing
 * detects deadlocks, and the host sees -1 for the pid.
 *
 * The descriptions are in shared memory (slots.ts), for all threads that serve the source. What is done with one of them
 * goes one after the other (BUSY), so that no lock is taken of a description that is being given up or exchanged.
 * The kernel knows which ranges are locked (/proc/self/fdinfo): no list of them is kept here.
 */
import { readFileSync } from "node:fs";
import {
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  files,
  flock,
  LOCK_EOF,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  lockCommands,
  type RangeLock,
  rangeLockInTheWay,
  setRangeLock,
} from "../../../sys/src/index.ts";
import { failure, succeeded } from "../fs/errors.ts";
import type { FileHandle, FileLock, LockOwner, NodeId } from "../fs/filesystem.ts";
import { FD, lockWord, NO_FD, SLOT_WORDS, type SlotLayout, SlotTable, unlockWord } from "./slots.ts";

const NODE = SLOT_WORDS;
const OWNER = SLOT_WORDS + 2;
/** By which it was made: an OFD lock of the client's own belongs to it and goes with it. */
const HANDLE = SLOT_WORDS + 4;
/** The process that has set a lock last. */
const PID = SLOT_WORDS + 6;
const BUSY = SLOT_WORDS + 7;
const LOCK_SLOT_WORDS = SLOT_WORDS + 8;

const EINVAL = -failure("EINVAL").errno;
const ENOLCK = -failure("ENOLCK").errno;
const EACCES = -failure("EACCES").errno;

const ALL_UNLOCKED: RangeLock = { type: F_UNLCK, start: 0n, end: LOCK_EOF, pid: 0 };

/** An open file, by the client's handle and by the server's descriptor. */
export type LockedFile = { readonly node: NodeId; readonly handle: FileHandle; readonly fd: number };

const layoutOf = (limit: number): SlotLayout => ({ slots: limit, slotWords: LOCK_SLOT_WORDS });
const low = (value: bigint): number => Number(value & 0xffff_ffffn) | 0;
const high = (value: bigint): number => Number(value >> 32n) | 0;

/** flock(2) that does not wait: 0, or the negative errno. */
export function setFlock(fd: number, type: number): number {
  switch (type) {
    case F_RDLCK:
      return flock(fd, LOCK_SH | LOCK_NB);
    case F_WRLCK:
      return flock(fd, LOCK_EX | LOCK_NB);
    case F_UNLCK:
      return flock(fd, LOCK_UN);
    default:
      return EINVAL;
  }
}

export class LockTable {
  readonly #words: Int32Array;
  readonly #slots: SlotTable;
  readonly #limit: number;

  static wordsFor(limit: number): number {
    return SlotTable.wordsFor(layoutOf(limit));
  }

  /** @param at the first of `wordsFor` words, zeros for a new table */
  constructor(words: Int32Array, at: number, limit: number) {
    this.#words = words;
    this.#slots = new SlotTable(words, at, layoutOf(limit));
    this.#limit = limit;
  }

  /** Owners of each file, each with a descriptor. */
  get count(): number {
    return this.#slots.count;
  }

  /** Sets or clears a POSIX lock: 0, or the negative errno. */
  set(file: LockedFile, lock: FileLock): number {
    if (lock.start > lock.end || lock.end > LOCK_EOF) return EINVAL;
    // Without a description there is nothing to clear.
    if (lock.type === F_UNLCK && this.#acquire(file.node, lock.owner, "look") === 0) return 0;
    for (;;) {
      const slot = this.#ownedSlot(file, lock.owner);
      if (slot < 0) return slot;
      const result = this.#exclusively(slot, (at) => this.#setOf(at, file, lock));
      if (result !== null) return result;
    }
  }

  #setOf(at: number, file: LockedFile, lock: FileLock): number {
    const words = this.#words;
    const isReadOnly = (fd: number): boolean => (files.statusFlags(fd) & files.O_ACCMODE) === files.O_RDONLY;
    if (lock.type === F_WRLCK && isReadOnly(words[at + FD] ?? NO_FD) && !isReadOnly(file.fd)) {
      const exchanged = this.#exchange(at, file);
      if (exchanged < 0) return exchanged;
    }
    const result = setRangeLock(words[at + FD] ?? NO_FD, lockCommands.setOfd, lock);
    if (result === 0 && lock.type !== F_UNLCK) Atomics.store(words, at + PID, lock.pid);
    return result;
  }

  /** The first lock in the way of a POSIX lock. Throws a FileSystemError. */
  inTheWay(file: LockedFile, lock: FileLock): FileLock | null {
    if (lock.start > lock.end || lock.end > LOCK_EOF) throw failure("EINVAL");
    const ask = (fd: number): RangeLock => {
      const found = rangeLockInTheWay(fd, lockCommands.getOfd, lock);
      if (typeof found === "number") throw failure(-found);
      return found;
    };
    const slot = this.#acquire(file.node, lock.owner);
    const own = slot === 0 ? null : this.#exclusively(slot, (at) => ask(this.#words[at + FD] ?? NO_FD));
    // An owner without a description has no locks, and the handle's own has none.
    const { type, start, end, pid } = own ?? ask(file.fd);
    if (type === F_UNLCK) return null;
    const who = pid > 0 ? pid : this.#pidOf(file.node, { type, start, end });
    return { kind: "posix", type, start, end, owner: lock.owner, pid: who };
  }

  /** The client's process that has a lock of a description; 0: it is not one of ours. */
  #pidOf(node: NodeId, { type, start, end }: Omit<RangeLock, "pid">): number {
    for (let slot = 1; slot <= this.#slots.highest; slot += 1) {
      const id = this.#slots.idOf(slot);
      if (!this.#isOf(slot, NODE, node) || this.#slots.acquire(id) === 0) continue;
      const pid = this.#exclusively(slot, (at) => {
        const fd = this.#words[at + FD] ?? NO_FD;
        const has = locksOf(fd).some(
          (held) => held.type === type && held.start === start && held.end === end,
        );
        return has ? Atomics.load(this.#words, at + PID) : 0;
      });
      if (pid !== null && pid !== 0) return pid;
    }
    return 0;
  }

  /** The owner's locks of the file go. Returns whether it may have had any. */
  drop(node: NodeId, owner: LockOwner): boolean {
    const slot = this.#acquire(node, owner);
    if (slot === 0) return false;
    this.#exclusively(slot, (at) => this.#doom(slot, at));
    return true;
  }

  /** What was locked through a handle only goes with it. */
  dropOf(handle: FileHandle): void {
    this.#dropEach((slot) => this.#isOf(slot, HANDLE, handle));
  }

  close(): void {
    this.#dropEach(() => true);
  }

  #dropEach(isMeant: (slot: number) => boolean): void {
    if (this.count === 0) return;
    for (let slot = 1; slot <= this.#slots.highest; slot += 1) {
      if (!this.#slots.isLive(slot) || !isMeant(slot)) continue;
      if (this.#slots.acquire(this.#slots.idOf(slot)) === 0) continue;
      this.#exclusively(slot, (at) => isMeant(slot) && this.#doom(slot, at));
    }
  }

  /** Others may be about to look at the description, which then stays a moment longer: its locks do not. */
  #doom(slot: number, at: number): void {
    setRangeLock(this.#words[at + FD] ?? NO_FD, lockCommands.setOfd, ALL_UNLOCKED);
    this.#slots.lock();
    this.#slots.doom(slot);
    this.#slots.unlock();
  }

  /** `work` on an acquired slot, which is given back; null: it was given up meanwhile. */
  #exclusively<T>(slot: number, work: (at: number) => T): T | null {
    const at = this.#slots.at(slot);
    lockWord(this.#words, at + BUSY);
    try {
      return this.#slots.isLive(slot) ? work(at) : null;
    } finally {
      unlockWord(this.#words, at + BUSY);
      this.#slots.release(slot);
    }
  }

  /** The slot of an owner, acquired unless `how` is to look only; 0: there is none. */
  #acquire(node: NodeId, owner: LockOwner, how: "look" | "acquire" = "acquire"): number {
    if (this.count === 0) return 0;
    this.#slots.lock();
    const slot = this.#find(node, owner);
    // One that lives under the lock is not given up before it is released.
    if (slot !== 0 && how === "acquire") this.#slots.acquire(this.#slots.idOf(slot));
    this.#slots.unlock();
    return slot;
  }

  /** Under the lock. */
  #find(node: NodeId, owner: LockOwner): number {
    for (let slot = 1; slot <= this.#slots.highest; slot += 1) {
      const isMeant = this.#isOf(slot, OWNER, owner) && this.#isOf(slot, NODE, node);
      if (isMeant && this.#slots.isLive(slot)) return slot;
    }
    return 0;
  }

  #isOf(slot: number, word: number, value: bigint): boolean {
    const at = this.#slots.at(slot) + word;
    return this.#words[at] === low(value) && this.#words[at + 1] === high(value);
  }

  /** The slot of an owner, acquired, made where there is none; or the negative errno. */
  #ownedSlot(file: LockedFile, owner: LockOwner): number {
    const known = this.#acquire(file.node, owner);
    if (known !== 0) return known;
    if (this.count >= this.#limit) return ENOLCK;
    const fd = openedAgain(file.fd);
    if (fd < 0) return fd;
    this.#slots.lock();
    // Another thread of the process may have been faster.
    const made = this.#find(file.node, owner);
    const slot = made === 0 ? this.#slots.take() : made;
    if (slot !== 0 && made === 0) this.#fill(slot, { ...file, fd }, owner);
    if (slot !== 0) this.#slots.acquire(this.#slots.idOf(slot));
    this.#slots.unlock();
    if (slot === 0 || made !== 0) files.close(fd);
    return slot === 0 ? ENOLCK : slot;
  }

  #fill(slot: number, { node, handle, fd }: LockedFile, owner: LockOwner): void {
    const words = this.#words;
    const at = this.#slots.at(slot);
    words[at + FD] = fd;
    for (const [word, value] of [
      [NODE, node],
      [OWNER, owner],
      [HANDLE, handle],
    ] as const) {
      words[at + word] = low(value);
      words[at + word + 1] = high(value);
    }
    words[at + PID] = 0;
    this.#slots.show(slot);
  }

  /**
   * A description that was opened for reading, and now has to lock for writing, is exchanged for one that can: its locks,
   * which are read locks, are first taken by the other one, too, so that no range is free in between.
   */
  #exchange(at: number, file: LockedFile): number {
    const fd = openedAgain(file.fd);
    if (fd < 0) return fd;
    const before = this.#words[at + FD] ?? NO_FD;
    for (const lock of locksOf(before)) {
      const result = setRangeLock(fd, lockCommands.setOfd, lock);
      if (result === 0) continue;
      files.close(fd);
      return result;
    }
    this.#words[at + FD] = fd;
    succeeded(files.close(before));
    return 0;
  }
}

/**
 * Another open file description of the file, as far as the client may use it: a lock for reading alone must not keep a
 * program from running (ETXTBSY), break a lease, or look like a write to who watches the file.
 */
function openedAgain(fd: number): number {
  const path = Buffer.from(`/proc/self/fd/${fd}\0`, "latin1");
  const mode = files.statusFlags(fd) & files.O_ACCMODE;
  if (mode === files.O_RDONLY) return files.openat(files.AT_FDCWD, path, mode);
  const both = files.openat(files.AT_FDCWD, path, files.O_RDWR);
  return both === EACCES ? files.openat(files.AT_FDCWD, path, mode) : both;
}

/** `lock:	1: OFDLCK ADVISORY  READ  -1 fe:01:131 0 EOF` (show_fd_locks(), fs/locks.c). */
const LOCK_LINE = /^lock:\s+\d+: OFDLCK\s+\S+\s+(READ|WRITE)\s+\S+\s+\S+\s+(\d+)\s+(\d+|EOF)$/gm;

/** The OFD locks of a descriptor's open file description. */
function locksOf(fd: number): readonly Omit<RangeLock, "pid">[] {
  let text: string;
  try {
    text = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  } catch {
    return [];
  }
  return [...text.matchAll(LOCK_LINE)].map(([, type, start = "0", end = "0"]) => ({
    type: type === "READ" ? F_RDLCK : F_WRLCK,
    start: BigInt(start),
    end: end === "EOF" ? LOCK_EOF : BigInt(end),
  }));
}
