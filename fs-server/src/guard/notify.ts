/**
 * Notification after the fact: inotify or fanotify. The racy one: the file is shorter before anybody is told, and a guest
 * that touches the lost page in between meets it. How long that is, `daxfault guards --races` measures.
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
      // Nobody waits for the answer: the truncation has happened.
      if (known < before) {
        const threat = { fromBytes: known, by: "a truncation that has happened" };
        void recalls.recall(threat).then(() => recalls.settle(sizeNow()));
      }
    };
    try {
      const disarm = this.#watch.watch(fd, look);
      // Size after watch: what changes it from here on is told.
      known = sizeNow();
      return { fd, disarm };
    } catch (error) {
      throw refused(error);
    }
  }

  close(): Promise<void> {
    return this.#watch.close();
  }
}
