/**
 * The mount's own kernel as the holder of guarded files: what it has cached or mapped of a file that somebody changes
 * behind the server's back is dropped by notifications (FUSE_NOTIFY_INVAL_INODE).
 *
 * `notify`: after the fact, of every change. `pre-content`: before a truncation goes on, and again when it is over, since
 * a page that is dropped may be read anew until then. Changes that come through the mount need neither: its kernel does
 * for itself what they ask for. And they must not be answered by notifications: a SETATTR that truncates holds writing
 * back (fuse_set_nowrite()) until it is answered, and dropping a dirty page waits for that very write. So nothing here is
 * ever waited for by the thread that serves; a notification is sent from a thread of Node's pool, and takes its time.
 *
 * After it: a mapping's next access reads the page anew; the server's short answer tells the kernel where the file ends
 * now (fuse_short_read()), and the access is SIGBUS. Runs in the main thread.
 */
import { closeSync } from "node:fs";
import { SyscallError } from "../../../sys/src/index.ts";
import { ALL_PAGES, type Notifier, type PageRange } from "../core/notify.ts";
import type { NodeId } from "../fs/filesystem.ts";
import { FileWatch } from "./file-watch.ts";
import { type ArmedFile, type GuardName, GuardRefused, type MappingHolder } from "./guard.ts";
import type { OpenFileMessage } from "./open-files.ts";
import { PreContentGuard } from "./pre-content.ts";

export type MountGuardName = Extract<GuardName, "notify" | "pre-content">;
export const mountGuardNames: readonly MountGuardName[] = ["notify", "pre-content"];

export type MountGuardOptions = {
  /** How long a truncater is held up at most. */
  readonly boundMs: number;
  readonly log: (message: string) => void;
};

/** Guards one open file for a holder. Rejects or throws a GuardRefused or SyscallError. */
type Arm = (fd: number, holder: MappingHolder) => ArmedFile | Promise<ArmedFile>;

/** fanotify where it may be had, since it says who made a change: our own ones drop nothing. */
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

/** Recalls everything at each call; calls while that is under way are one more recall after it. */
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

  /** From now on the mount can be told. */
  mounted(notifier: Notifier): void {
    this.#notifier = notifier;
  }

  take(message: OpenFileMessage): void {
    if (message.type === "file-closed") {
      const guarded = this.#guarded.get(message.node);
      this.#guarded.delete(message.node);
      if (guarded !== undefined) this.#release(guarded);
    } else if (message.fd === null) {
      this.#options.log(`node ${message.node} is not guarded: the server has no descriptor to watch it by`);
    } else void this.#guard(message.node, message.fd);
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
    // What was cached before nobody has watched over.
    else if (guarded.armed !== null) await this.#drop(node, ALL_PAGES);
  }

  #release(guarded: Guarded): void {
    guarded.isClosed = true;
    // While it is being armed the descriptor is in use; afterwards this is called again.
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

  /** Attributes and pages. Resolves when they are gone. */
  async #drop(node: NodeId, pages: PageRange): Promise<void> {
    try {
      await this.#notifier?.notify({ kind: "inode", node, pages });
    } catch (error) {
      if (!this.#hasEnded) this.#options.log(`node ${node}: ${(error as Error).message}`);
    }
  }

  /** The mount is about to go: what fails from here on is no news. */
  end(): void {
    this.#hasEnded = true;
  }
}
