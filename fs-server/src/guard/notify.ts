/**
 * The guard `notify`: inotify or fanotify events after a truncation. It is racy by design: the file is shorter before the
 * holder learns of it, and a guest can access the lost page in between. `daxfault guards --races` measures that window.
 */
import { fstatSync } from "node:fs";
import { SyscallError } from "../../../sys/src/index.ts";
import { FileWatch, type WatchSource } from "./file-watch.ts";
import { Recalls } from "./recalls.ts";
import {
  type ArmedFile,
  type GuardedFile,
  type GuardOptions,
  GuardRefused,
  type MappingHolder,
  type TruncationGuard,
} from "./truncation-guard.ts";

const refusals: Readonly<Record<string, string>> = {
  ENOSPC: "no watch is left: raise fs.inotify.max_user_watches or fs.fanotify.max_user_marks",
  EMFILE: "no descriptor or group is left: raise RLIMIT_NOFILE or fs.inotify.max_user_instances",
  EPERM: "fanotify needs CAP_SYS_ADMIN; inotify does not",
  EOPNOTSUPP: "the file system of this file gives no file handles, which fanotify needs; inotify does not",
};

function refused(error: unknown): GuardRefused {
  const code = error instanceof SyscallError ? error.code : null;
  return new GuardRefused("notify", (code !== null && refusals[code]) || String(error), code, error);
}

export class NotifyGuard implements TruncationGuard {
  readonly name = "notify" as const;
  readonly #options: GuardOptions;
  readonly #watch: FileWatch;
  readonly #recalls = new Set<Promise<void>>();

  /** Throws a GuardRefused. */
  constructor(source: WatchSource, options: GuardOptions) {
    this.#options = options;
    try {
      this.#watch = new FileWatch(source);
    } catch (error) {
      throw refused(error);
    }
  }

  arm({ fd }: GuardedFile, holder: MappingHolder): ArmedFile {
    const recalls = new Recalls(holder, this.#options);
    const sizeNow = (): bigint => BigInt(fstatSync(fd).size);
    let known = 0n;
    const look = (): void => {
      const before = known;
      known = sizeNow();
      if (known > before) recalls.settle(known);
      // The truncation has happened: nothing waits for the acknowledgement.
      if (known < before) {
        const threat = { fromBytes: known, by: "a truncation that has happened" };
        const recall = recalls.recall(threat).then(() => recalls.settle(sizeNow()));
        this.#recalls.add(recall);
        void recall.finally(() => this.#recalls.delete(recall));
      }
    };
    try {
      const disarm = this.#watch.watch(fd, look);
      // Read the size after adding the watch: any later change sends an event.
      known = sizeNow();
      return { fd, disarm };
    } catch (error) {
      throw refused(error);
    }
  }

  async caughtUp(): Promise<void> {
    await this.#watch.caughtUp();
    await Promise.all(this.#recalls);
  }

  lost(): Promise<null> {
    return Promise.resolve(null);
  }

  close(): Promise<void> {
    return this.#watch.close();
  }
}
