/**
 * Keeps the files that VMs have mapped from getting shorter: looks again and again at what is mapped, tells the listener, which
 * refuses, and watches every file for what got through.
 *
 * A file that a VM maps between two looks is not marked yet (LOOK_MS); one in a watched folder is, for the folder is. What the
 * listener is not sure of it asks for: then the look is taken at once.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { FileWatch, preContentRefusals } from "../../../fs-server/src/index.ts";
import {
  addSeals,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  files,
  SyscallError,
  sealsOf,
} from "../../../sys/src/index.ts";
import { behindEndBytes, type GuestFile, mappedBytes } from "../diagnose/facts.ts";
import { findVms } from "../diagnose/find.ts";
import type { Host } from "../diagnose/host.ts";
import { FOLDERS_MAX, foldersBelow } from "./folders.ts";
import { hold, inodeOf } from "./inode.ts";
import { Listener } from "./listener.ts";
import { Mapped, type MappedFile } from "./mapped.ts";
import type { FromListener } from "./messages.ts";
import type { Means, ProtectNews } from "./news.ts";
import { cutOf, type Range, rangesOf } from "./ranges.ts";

export const LOOK_MS = 200;
/** Finding VMs may mean looking at every process. */
const FIND_MS = 1000;
const FOLDERS_MS = 2000;

export type ProtectOptions = {
  /** Processes whose files are protected: VMMs, or any that have mapped files. None: every VM of the machine. */
  readonly pids: readonly number[];
  /** A folder, as the kernel names it; null: wherever the files are. */
  readonly folder: string | null;
  /** What these processes do passes. */
  readonly allow: readonly number[];
  /** Memory files of VMs are sealed, for good. */
  readonly seal: boolean;
};

type Guarded = {
  readonly id: number;
  readonly key: string;
  mapped: MappedFile;
  ranges: readonly Range[];
  /** Holds the inode without being open; -1: it cannot be had. */
  readonly fd: number;
  /** Events are asked for this very file. */
  readonly isMarked: boolean;
  means: Means | null;
  sizeBytes: bigint;
  unwatch: () => void;
};

const REMOTE = "what is changed on the side of its server is not seen here";

/** How the end of the process's work is told. */
export type ProtectEnd =
  | { readonly kind: "asked" | "no-process-left" }
  | { readonly kind: "failed"; readonly why: string };

export class Protector {
  readonly #options: ProtectOptions;
  readonly #host: Host;
  readonly #say: (news: ProtectNews) => void;
  readonly #mapped: Mapped;
  readonly #watch: FileWatch;
  readonly #listener: Listener;
  readonly #guarded = new Map<string, Guarded>();
  readonly #folders = new Set<string>();
  /** Events whose askers wait for the next look. */
  #asked: number[] = [];
  #wake = (): void => {};
  #ids = 0;
  #foundMs = Number.NEGATIVE_INFINITY;
  #foldersMs = Number.NEGATIVE_INFINITY;
  #gapMs: number | null = null;
  /** Of a kernel or user without permission events: nothing can be refused. */
  #noEvents: string | null = null;
  #isReady = false;
  #hasSaidReady = false;
  #hasProtected = false;
  #foldersTold = { count: 0, refused: 0 };
  readonly #unseen = new Map<number, string>();

  /** Throws a SyscallError: no descriptor or watch is left. */
  constructor(host: Host, options: ProtectOptions, say: (news: ProtectNews) => void) {
    this.#host = host;
    this.#options = options;
    this.#say = say;
    this.#mapped = new Mapped(host);
    this.#watch = new FileWatch("inotify");
    this.#listener = new Listener({
      onReady: () => this.#sayAll(),
      onMessage: (message) => this.#receive(message),
      onGap: (why) => {
        this.#gapMs = performance.now();
        this.#isReady = false;
        this.#asked = [];
        this.#say({ type: "gap", why });
      },
    });
  }

  /** Of its listener: for tests of its end. */
  get listenerPid(): number | undefined {
    return this.#listener.pid;
  }

  /** It was ready, and there never was a file or folder of which it could have refused anything. */
  get wasIdle(): boolean {
    return this.#hasSaidReady && !this.#hasProtected;
  }

  /** The processes of `options.pids` that there are not. */
  missing(): readonly number[] {
    return this.#options.pids.filter((pid) => !this.#mapped.watch(pid));
  }

  /** Until the signal comes, or there is nothing left to do. */
  async run(signal: AbortSignal): Promise<ProtectEnd> {
    const stop = (): void => this.#wake();
    signal.addEventListener("abort", stop);
    const over: { why: string | null } = { why: null };
    void this.#listener.over.then((why) => {
      over.why = why;
      this.#wake();
    });
    try {
      while (!signal.aborted) {
        if (over.why !== null) return { kind: "failed", why: over.why };
        await this.#look();
        if (this.#options.pids.length > 0 && this.#mapped.pids.length === 0)
          return { kind: "no-process-left" };
        await this.#pause(signal);
      }
      return { kind: "asked" };
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  async close(): Promise<void> {
    await this.#listener.close();
    for (const one of [...this.#guarded.values()]) this.#drop(one);
    await this.#watch.close();
  }

  async #pause(signal: AbortSignal): Promise<void> {
    if (this.#asked.length > 0 || signal.aborted) return;
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    await sleep(LOOK_MS, undefined, { signal: woken.signal }).catch(() => {});
    this.#wake = () => {};
  }

  async #look(): Promise<void> {
    const events = this.#asked;
    this.#asked = [];
    await this.#findVms(events.length > 0);
    const { files: mapped, ended, unseen } = await this.#mapped.look();
    for (const pid of ended) this.#say({ type: "process-ended", pid });
    this.#sayUnseen(unseen);
    const keys = new Set(mapped.map(({ key }) => key));
    for (const one of [...this.#guarded.values()]) if (!keys.has(one.key)) this.#drop(one);
    for (const one of mapped) this.#reconcile(one);
    this.#markFolders();
    for (const event of events) this.#listener.send({ type: "decide", event });
    this.#sayReady();
  }

  async #findVms(isUrgent: boolean): Promise<void> {
    if (this.#options.pids.length > 0) return;
    if (!isUrgent && performance.now() - this.#foundMs < FIND_MS) return;
    const { processes } = await findVms(this.#host, { kind: "all" });
    for (const { pid } of processes) this.#mapped.watch(pid);
    this.#foundMs = performance.now();
  }

  #sayUnseen(unseen: readonly { readonly pid: number; readonly why: string }[]): void {
    for (const { pid, why } of unseen) {
      if (this.#unseen.get(pid) !== why) this.#say({ type: "unseen", pid, why });
    }
    this.#unseen.clear();
    for (const { pid, why } of unseen) this.#unseen.set(pid, why);
  }

  #isBelow(path: string): boolean {
    const { folder } = this.#options;
    return folder === null || path.startsWith(folder === "/" ? "/" : `${folder}/`);
  }

  #reconcile(mapped: MappedFile): void {
    const known = this.#guarded.get(mapped.key);
    const ranges = rangesOf(mapped.file.pieces);
    if (known === undefined) {
      this.#begin(mapped, ranges);
      return;
    }
    const isSame =
      known.ranges.length === ranges.length &&
      known.ranges.every(({ from, to }, index) => from === ranges[index]?.from && to === ranges[index]?.to);
    known.mapped = mapped;
    known.ranges = ranges;
    if (!isSame) this.#tell(known);
  }

  #begin(mapped: MappedFile, ranges: readonly Range[]): void {
    this.#ids += 1;
    const { key, file } = mapped;
    let fd = -1;
    try {
      fd = hold(file.link);
    } catch (error) {
      // Its mapping went away meanwhile: the next look says what is there.
      if (!(error instanceof SyscallError) || error.code === "ENOENT") return;
    }
    const one: Guarded = {
      id: this.#ids,
      key,
      mapped,
      ranges,
      fd,
      isMarked: this.#isBelow(file.path),
      means: null,
      sizeBytes: file.sizeBytes ?? 0n,
      unwatch: () => {},
    };
    this.#guarded.set(key, one);
    const watched = this.#watchSize(one);
    const isSealed = this.#seal(one);
    if (isSealed !== null) this.#settle(one, isSealed.means, isSealed.reason ?? watched);
    else if (this.#noEvents !== null) this.#settleWithout(one, this.#noEvents, watched);
    else this.#tell(one);
  }

  /** Null: the file knows no seals. */
  #seal({ mapped: { file } }: Guarded): { readonly means: Means; readonly reason: string | null } | null {
    if (!file.path.startsWith("/memfd:")) return null;
    const fd = files.openat(files.AT_FDCWD, files.pathBytes(file.link), files.O_RDWR);
    if (fd < 0) return null;
    try {
      const seals = sealsOf(fd);
      if ((seals & F_SEAL_SHRINK) !== 0) return { means: "sealed", reason: "since before" };
      if ((seals & F_SEAL_SEAL) !== 0)
        return {
          means: "noticed",
          reason: "it cannot be sealed: made without MFD_ALLOW_SEALING, or F_SEAL_SEAL is set",
        };
      if (!this.#options.seal)
        return {
          means: "noticed",
          reason: "memory of the VM's own; --seal would keep it from getting shorter",
        };
      addSeals(fd, F_SEAL_SHRINK);
      return { means: "sealed", reason: "now, for as long as it is there" };
    } catch (error) {
      if (error instanceof SyscallError) return null;
      throw error;
    } finally {
      files.close(fd);
    }
  }

  /** After the fact: what nobody refused. Returns why it is not even noticed; null: it is. */
  #watchSize(one: Guarded): string | null {
    if (one.fd < 0) return "the file cannot be had";
    try {
      one.unwatch = this.#watch.watch(one.fd, () => this.#resized(one));
      one.sizeBytes = inodeOf(one.fd).sizeBytes;
      return null;
    } catch (error) {
      if (error instanceof SyscallError) return error.message;
      throw error;
    }
  }

  #resized(one: Guarded): void {
    if (one.fd < 0 || !this.#guarded.has(one.key)) return;
    const before = one.sizeBytes;
    one.sizeBytes = inodeOf(one.fd).sizeBytes;
    if (one.sizeBytes >= before || cutOf(one.ranges, one.sizeBytes, before) === null) return;
    const { path } = one.mapped.file;
    this.#say({ type: "shorter", path, fromBytes: Number(before), toBytes: Number(one.sizeBytes) });
  }

  /** Events are not to be had for it. */
  #settleWithout(one: Guarded, why: string, unwatched: string | null): void {
    const type = one.mapped.file.fileSystem?.server == null ? null : REMOTE;
    const means: Means = unwatched === null ? "noticed" : "nothing";
    this.#settle(one, means, [why, unwatched, type].filter((text) => text !== null).join("; "));
  }

  #settle(one: Guarded, means: Means, reason: string | null): void {
    if (one.means === means) return;
    one.means = means;
    // Another folder's file, or another file system's behind a path of this one.
    if (!one.isMarked) return;
    this.#hasProtected ||= means === "refused" || means === "sealed";
    const { file, pids } = one.mapped;
    this.#say({ type: "file", ...wordsOf(file), pids, means, reason });
    this.#sayReady();
  }

  #sayReady(): void {
    if (this.#hasSaidReady || (!this.#isReady && this.#noEvents === null)) return;
    const isMarking = this.#options.folder !== null && this.#foldersTold.count !== this.#folders.size;
    if (isMarking && this.#noEvents === null) return;
    const all = [...this.#guarded.values()].filter(({ isMarked }) => isMarked);
    if (all.some(({ means }) => means === null)) return;
    this.#hasSaidReady = true;
    const safe = all.filter(({ means }) => means === "refused" || means === "sealed");
    this.#say({ type: "ready", files: all.length, refused: safe.length });
  }

  #tell({ id, mapped, ranges, isMarked, means }: Guarded): void {
    if (means === "sealed" || means === "noticed" || means === "nothing") return;
    this.#listener.send({
      type: "guard",
      id,
      path: mapped.file.link,
      ranges: ranges.map(({ from, to }) => [String(from), String(to)] as const),
      mark: isMarked,
    });
  }

  #markFolders(): void {
    const { folder } = this.#options;
    if (folder === null || !this.#isReady || performance.now() - this.#foldersMs < FOLDERS_MS) return;
    this.#foldersMs = performance.now();
    const { paths, isCut } = foldersBelow(folder);
    if (isCut && this.#folders.size === 0) this.#say({ type: "folders-cut", path: folder, max: FOLDERS_MAX });
    for (const path of paths) {
      if (this.#folders.has(path)) continue;
      this.#folders.add(path);
      this.#listener.send({ type: "folder", path });
    }
  }

  /** To a listener that knows nothing. */
  #sayAll(): void {
    this.#isReady = true;
    this.#foldersTold = { count: 0, refused: 0 };
    this.#folders.clear();
    this.#foldersMs = Number.NEGATIVE_INFINITY;
    if (this.#options.allow.length > 0) this.#listener.send({ type: "allow", pids: this.#options.allow });
    for (const one of this.#guarded.values()) this.#tell(one);
    this.#markFolders();
    if (this.#gapMs !== null) this.#say({ type: "gap-over", ms: performance.now() - this.#gapMs });
    this.#gapMs = null;
  }

  #byId(id: number): Guarded | undefined {
    return [...this.#guarded.values()].find((one) => one.id === id);
  }

  #receive(message: FromListener): void {
    switch (message.type) {
      case "ready":
        return;
      case "failed":
        this.#noEvents = preContentRefusals[message.code] ?? message.message;
        for (const one of this.#guarded.values()) this.#settleWithout(one, this.#noEvents, null);
        this.#sayReady();
        return;
      case "guarded": {
        const one = this.#byId(message.id);
        if (one !== undefined) this.#settle(one, "refused", null);
        return;
      }
      case "unguarded": {
        const one = this.#byId(message.id);
        const why = preContentRefusals[message.code] ?? message.message;
        if (one !== undefined) this.#settleWithout(one, why, null);
        return;
      }
      case "folder":
        this.#folderTold(message.refusal !== null);
        return;
      case "ask":
        this.#asked.push(message.event);
        this.#wake();
        return;
      case "refused":
      case "passed": {
        const path = this.#byId(message.id)?.mapped.file.path ?? "a file that is not mapped any more";
        this.#say({ type: message.type, path, attempt: message.attempt });
        return;
      }
      case "overdue":
      case "left-out":
        this.#say(message);
        return;
      default:
        message satisfies never;
    }
  }

  #folderTold(isRefused: boolean): void {
    const told = this.#foldersTold;
    told.count += 1;
    if (isRefused) told.refused += 1;
    else this.#hasProtected = true;
    if (told.count !== this.#folders.size || this.#hasSaidReady) return;
    const { count, refused } = told;
    this.#say({ type: "folder", path: this.#options.folder ?? "", folders: count - refused, refused });
    this.#sayReady();
  }

  #drop(one: Guarded): void {
    this.#guarded.delete(one.key);
    this.#listener.send({ type: "drop", id: one.id });
    one.unwatch();
    if (one.fd >= 0) files.close(one.fd);
  }
}

function wordsOf(file: GuestFile): {
  path: string;
  sizeBytes: number | null;
  mappedBytes: number;
  behindEndBytes: number | null;
} {
  const behind = behindEndBytes(file);
  return {
    path: file.path,
    sizeBytes: file.sizeBytes === null ? null : Number(file.sizeBytes),
    mappedBytes: Number(mappedBytes(file)),
    behindEndBytes: behind === null ? null : Number(behind),
  };
}
