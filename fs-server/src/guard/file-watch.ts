/** Reports that files have changed, after the fact: by inotify, or by fanotify with file handles. */
import { closeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import {
  compiledEntry,
  FAN_CLASS_NOTIF,
  FAN_MODIFY,
  FAN_REPORT_FID,
  fanotifyInit,
  fanotifyMarkInode,
  fanotifyUnmarkInode,
  fileHandle,
  IN_MODIFY,
  inotifyInit,
  inotifyUnwatch,
  inotifyWatch,
} from "../../../sys/src/index.ts";
import { type NotifyThreadInput, type NotifyThreadMessage, watchWord } from "./notify-thread.ts";

export type WatchSource = "inotify" | "fanotify";

export class FileWatch {
  readonly source: WatchSource;
  readonly #group: number;
  readonly #worker: Worker;
  readonly #words: Int32Array = new Int32Array(
    new SharedArrayBuffer(watchWord.count * Int32Array.BYTES_PER_ELEMENT),
  );
  /** By the number of the question. */
  readonly #asking = new Map<number, () => void>();
  /** By watch (inotify) or file handle (fanotify): the same file may be watched more than once. */
  readonly #watched = new Map<number | string, Set<() => void>>();

  /**
   * Throws a SyscallError.
   * @param options `ignoreOwn`: no reports of changes by this process (fanotify only: inotify names no process)
   */
  constructor(source: WatchSource, options: { readonly ignoreOwn: boolean } = { ignoreOwn: false }) {
    this.source = source;
    this.#group = source === "inotify" ? inotifyInit() : fanotifyInit(FAN_CLASS_NOTIF | FAN_REPORT_FID);
    const workerData: NotifyThreadInput = {
      source,
      group: this.#group,
      ignoreOwn: options.ignoreOwn,
      words: this.#words.buffer as SharedArrayBuffer,
    };
    this.#worker = new Worker(compiledEntry(import.meta.url, "./notify-thread.ts"), {
      workerData,
      // Flags for this process (--input-type, a debugger) are not for the thread.
      execArgv: [],
    });
    this.#worker.on("message", (message: NotifyThreadMessage) => this.#receive(message));
    this.#worker.unref();
  }

  #receive(message: NotifyThreadMessage): void {
    if (message.kind === "empty") {
      for (const [number, answer] of this.#asking) {
        if (number > message.asked) continue;
        this.#asking.delete(number);
        answer();
      }
      return;
    }
    for (const key of message.lost ? [...this.#watched.keys()] : message.changed) {
      for (const onChange of this.#watched.get(key) ?? []) onChange();
    }
  }

  /** Resolves when `onChange` has been called for every change before this call. */
  caughtUp(): Promise<void> {
    return new Promise((resolve) => {
      this.#asking.set(Atomics.add(this.#words, watchWord.asked, 1) + 1, resolve);
    });
  }

  /** Calls `onChange` after each change of what `fd` has open. Returns how to stop. Throws a SyscallError. */
  watch(fd: number, onChange: () => void): () => void {
    const path = `/proc/self/fd/${fd}`;
    const key = this.source === "inotify" ? inotifyWatch(this.#group, path, IN_MODIFY) : fileHandle(path);
    if (this.source === "fanotify") fanotifyMarkInode(this.#group, FAN_MODIFY, path);
    const sharing = this.#watched.get(key) ?? new Set();
    this.#watched.set(key, sharing.add(onChange));
    return () => {
      if (!sharing.delete(onChange) || sharing.size > 0) return;
      this.#watched.delete(key);
      if (typeof key === "number") inotifyUnwatch(this.#group, key);
      else fanotifyUnmarkInode(this.#group, FAN_MODIFY, path);
    };
  }

  async close(): Promise<void> {
    this.#watched.clear();
    const ended = new Promise((resolve) => this.#worker.once("exit", resolve));
    // The worker is unreferenced: without this the process could exit before its end.
    this.#worker.ref();
    Atomics.store(this.#words, watchWord.stop, 1);
    await ended;
    // Nothing is told any more.
    for (const answer of this.#asking.values()) answer();
    closeSync(this.#group);
  }
}
