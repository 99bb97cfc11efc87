/**
 * Guards the page cache of a mount: the mount's own kernel is the holder of the files that its clients have open. When a
 * file changes behind the server's back, FUSE_NOTIFY_INVAL_INODE drops its attributes and pages from that kernel.
 *
 * `notify`: after every change. `pre-content`: before a truncation proceeds, and again when it is over, since a dropped page
 * may be read again until then. Changes through the mount need neither: its kernel invalidates by itself. They must not be
 * answered by notifications either: a truncating SETATTR blocks writeback (fuse_set_nowrite()) until it is answered, and
 * dropping a dirty page waits for that very writeback. So the serving thread never waits for anything here; a thread of
 * Node's pool sends the notification.
 *
 * Afterwards the next access through a mapping reads the page again; the server's short reply makes the kernel lower its
 * size of the file (fuse_short_read()), and the access is SIGBUS. Runs in the main thread.
 */
import { closeSync } from "node:fs";
import { SyscallError } from "../../../sys/src/index.ts";
import { ALL_PAGES, type Notifier, type PageRange } from "../core/notify.ts";
import type { FileHandle, NodeId } from "../fs/filesystem.ts";
import { FileWatch } from "../guard/file-watch.ts";
import { PreContentGuard } from "../guard/pre-content.ts";
import {
  type ArmedFile,
  type GuardName,
  GuardRefused,
  type MappingHolder,
} from "../guard/truncation-guard.ts";
import type { OpenFileMessage } from "./open-file-reporter.ts";

export type MountGuardName = Extract<GuardName, "notify" | "pre-content">;
export const mountGuardNames: readonly MountGuardName[] = ["notify", "pre-content"];

export type MountGuardOptions = {
  /** Longest time that a truncation is blocked. */
  readonly boundMs: number;
  readonly log: (message: string) => void;
};

/** Guards one open file for a holder. Rejects or throws a GuardRefused or SyscallError. */
type Arm = (fd: number, holder: MappingHolder) => ArmedFile | Promise<ArmedFile>;

/** fanotify where it is permitted: it names the process, so that changes by this one are ignored. */
function watchFiles(): FileWatch {
  try {
    return new FileWatch("fanotify", { ignoreOwn: true });
  } catch (error) {
    if (error instanceof SyscallError) return new FileWatch("inotify");
    throw error;
  }
}

async function armerOf(name: MountGuardName, boundMs: number): Promise<Arm> {
  if (name === "pre-content") {
    const guard = await PreContentGuard.open({ boundMs });
    return (fd, holder) => guard.arm({ fd }, holder);
  }
  const watch = watchFiles();
  return (fd, holder) => ({ fd, disarm: watch.watch(fd, recallerOf(holder)) });
}

/** Recalls the whole file at each call; calls during a recall are one more recall after it. */
function recallerOf(holder: MappingHolder): () => void {
  let isUnderWay = false;
  let isAsked = false;
  return async () => {
    isAsked = true;
    if (isUnderWay) return;
    isUnderWay = true;
    while (isAsked) {
      isAsked = false;
      await holder.recall({ fromBytes: 0n, by: "a change that has happened" });
    }
    isUnderWay = false;
  };
}

type Guarded = {
  readonly fd: number;
  /** null with `arming`: not yet; without: it was refused. */
  armed: ArmedFile | null;
  isArming: boolean;
  isClosed: boolean;
};

export class MountGuard {
  readonly #options: MountGuardOptions;
  readonly #arm: Arm;
  readonly #guarded = new Map<NodeId, Guarded>();
  readonly #nodeOf = new Map<FileHandle, NodeId>();
  readonly #opens = new Map<NodeId, number>();
  /** Handles whose end was reported before their beginning, by another thread. */
  readonly #closedFirst = new Set<FileHandle>();
  #notifier: Notifier | null = null;
  #hasEnded = false;

  private constructor(arm: Arm, options: MountGuardOptions) {
    this.#arm = arm;
    this.#options = options;
  }

  /** Rejects with a GuardRefused that says what the guard needs. */
  static async open(name: MountGuardName, options: MountGuardOptions): Promise<MountGuard> {
    return new MountGuard(await armerOf(name, options.boundMs), options);
  }

  /** From now on notifications reach the mount. */
  mounted(notifier: Notifier): void {
    this.#notifier = notifier;
  }

  receive(message: OpenFileMessage): void {
    switch (message.type) {
      case "file-opened":
        this.#opened(message.handle, message.node, message.fd);
        return;
      case "file-closed":
        if (!this.#closed(message.handle)) this.#closedFirst.add(message.handle);
        return;
      case "files-closed":
        for (const handle of [...this.#nodeOf.keys()]) this.#closed(handle);
        return;
      default:
        message satisfies never;
    }
  }

  #opened(handle: FileHandle, node: NodeId, fd: number | null): void {
    if (this.#closedFirst.delete(handle)) {
      if (fd !== null) closeSync(fd);
      return;
    }
    this.#nodeOf.set(handle, node);
    const opens = (this.#opens.get(node) ?? 0) + 1;
    this.#opens.set(node, opens);
    if (opens > 1) {
      if (fd !== null) closeSync(fd);
    } else if (fd === null) {
      this.#options.log(`node ${node} is not guarded: the server has no descriptor to watch it by`);
    } else void this.#guard(node, fd);
  }

  /** False: the handle is not known to be open. */
  #closed(handle: FileHandle): boolean {
    const node = this.#nodeOf.get(handle);
    if (node === undefined) return false;
    this.#nodeOf.delete(handle);
    const left = (this.#opens.get(node) ?? 1) - 1;
    if (left > 0) this.#opens.set(node, left);
    else {
      this.#opens.delete(node);
      const guarded = this.#guarded.get(node);
      this.#guarded.delete(node);
      if (guarded !== undefined) this.#release(guarded);
    }
    return true;
  }

  async #guard(node: NodeId, fd: number): Promise<void> {
    const guarded: Guarded = { fd, armed: null, isArming: true, isClosed: false };
    this.#guarded.set(node, guarded);
    try {
      guarded.armed = await this.#arm(fd, this.#holder(node));
    } catch (error) {
      if (!(error instanceof GuardRefused || error instanceof SyscallError)) throw error;
      this.#options.log(`node ${node} is not guarded: ${error.message}`);
    }
    guarded.isArming = false;
    if (guarded.isClosed) this.#release(guarded);
    // Drop what was cached before the file was guarded.
    else if (guarded.armed !== null) await this.#drop(node, ALL_PAGES);
  }

  #release(guarded: Guarded): void {
    guarded.isClosed = true;
    // The descriptor is in use while the file is being armed; this is called again afterwards.
    if (guarded.isArming) return;
    guarded.armed?.disarm();
    closeSync(guarded.fd);
  }

  #holder(node: NodeId): MappingHolder {
    let isRecalled = false;
    return {
      recall: ({ fromBytes }) => {
        isRecalled = true;
        return this.#drop(node, { offset: fromBytes, lengthBytes: null });
      },
      settle: () => {
        if (isRecalled) void this.#drop(node, ALL_PAGES);
        isRecalled = false;
      },
      cutOff: (reason) => this.#options.log(`node ${node} is not guarded any more: ${reason}`),
    };
  }

  /** Drops attributes and pages. Resolves when they are gone. */
  async #drop(node: NodeId, pages: PageRange): Promise<void> {
    try {
      await this.#notifier?.notify({ kind: "inode", node, pages });
    } catch (error) {
      if (!this.#hasEnded) this.#options.log(`node ${node}: ${(error as Error).message}`);
    }
  }

  /** The mount is about to end: later failures are not logged. */
  end(): void {
    this.#hasEnded = true;
  }
}
