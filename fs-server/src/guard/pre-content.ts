/**
 * The guard `pre-content`: permission events before content is accessed (FAN_CLASS_PRE_CONTENT, FAN_PRE_ACCESS; Linux
 * 6.14). The kernel sends one before every truncation, by any process and any descriptor, with the new size.
 *
 * open(O_TRUNC) sends none (do_open() -> handle_truncate()), so the guard also listens to FAN_OPEN_PERM. Neither event names
 * the operation; the listener reads it from the blocked thread's registers.
 * No event marks the end of the truncation. It is over when the file is that short, or when the same thread sends another
 * event (it may have grown the file meanwhile). If neither happens in time, the guard settles with the smaller size, because
 * a mapping restored before the truncation would be unguarded.
 * Needs CAP_SYS_ADMIN and a file system that allows it (ext4, xfs, btrfs). The listener is a process of its own.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { fstatSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compiledEntry, LostChildError, processState } from "../../../sys/src/index.ts";
import { FileWatch } from "./file-watch.ts";
import { LineReader } from "./lines.ts";
import type { FromListener, ToListener } from "./pre-content-messages.ts";
import { preContentRefusals } from "./pre-content-refusals.ts";
import { Recalls } from "./recalls.ts";
import {
  type ArmedFile,
  type GuardedFile,
  type GuardOptions,
  GuardRefused,
  type MappingHolder,
  type TruncationGuard,
} from "./truncation-guard.ts";

/** The listener allows an unanswered event this much later than the guard gives up. */
const LISTENER_SLACK_MS = 500;

function refused(code: string, message: string): GuardRefused {
  return new GuardRefused("pre-content", preContentRefusals[code] ?? message, code === "" ? null : code);
}

/** One armed file, and its truncations that were allowed and are not known to be over, by event. */
class Guarded {
  readonly id: number;
  readonly #fd: number;
  readonly recalls: Recalls;
  readonly onArmed: (refusal: Error | null) => void;
  unwatch: () => void = () => {};
  readonly #boundMs: number;
  readonly #underWay = new Map<number, bigint>();
  #timer: NodeJS.Timeout | null = null;

  constructor(
    id: number,
    fd: number,
    recalls: Recalls,
    options: { readonly boundMs: number; readonly onArmed: (refusal: Error | null) => void },
  ) {
    this.id = id;
    this.#fd = fd;
    this.recalls = recalls;
    this.#boundMs = options.boundMs;
    this.onArmed = options.onArmed;
  }

  begun(event: number, fromBytes: bigint): void {
    this.#underWay.set(event, fromBytes);
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      if (this.#underWay.size > 0) this.recalls.settle(this.#certainBytes());
    }, this.#boundMs).unref();
  }

  over(event: number): void {
    if (this.#underWay.delete(event)) this.changed();
  }

  /** The file has changed, or a truncation is known to be over. */
  changed(): void {
    const size = this.#size();
    for (const [event, from] of this.#underWay) if (size <= from) this.#underWay.delete(event);
    if (this.#underWay.size > 0) return;
    this.stop();
    this.recalls.settle(size);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #size(): bigint {
    return BigInt(fstatSync(this.#fd).size);
  }

  /** What no truncation under way can take. */
  #certainBytes(): bigint {
    return [...this.#underWay.values()].reduce(smaller, this.#size());
  }
}

function smaller(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

export class PreContentGuard implements TruncationGuard {
  readonly name = "pre-content" as const;
  readonly #options: GuardOptions;
  readonly #child: ChildProcess;
  readonly #watch: FileWatch;
  readonly #guarded = new Map<number, Guarded>();
  readonly #lines = new LineReader<FromListener>();
  readonly #ended: Promise<void>;
  #ids = 0;
  #closing = false;
  #lostBecause: string | null = null;
  #onStart: (refusal: Error | null) => void = () => {};

  private constructor(options: GuardOptions) {
    this.#options = options;
    this.#watch = new FileWatch("inotify");
    const entry = fileURLToPath(compiledEntry(import.meta.url, "./pre-content-main.ts"));
    this.#child = spawn(process.execPath, [entry, String(options.boundMs + LISTENER_SLACK_MS)], {
      stdio: ["pipe", "pipe", "inherit"],
      cwd: "/",
    });
    this.#child.stdin?.on("error", () => {});
    this.#child.stdout?.on("data", (bytes: Buffer) => {
      for (const message of this.#lines.feed(bytes)) this.#receive(message);
    });
    this.#ended = new Promise((resolve) => {
      this.#child.on("error", (error) => this.#onStart(refused("", error.message)));
      this.#child.on("close", (code, signal) => {
        this.#ownEnd(`the listener of permission events has ended (${signal ?? `exit ${code}`})`);
        resolve();
      });
    });
  }

  /** Starts the listener. Rejects with a GuardRefused, or a LostChildError where the listener ends. */
  static async open(options: GuardOptions): Promise<PreContentGuard> {
    const guard = new PreContentGuard(options);
    const refusal = await new Promise<Error | null>((resolve) => {
      guard.#onStart = resolve;
    });
    if (refusal === null) return guard;
    await guard.close();
    throw refusal;
  }

  /** The listener's process: for tests of its end. */
  get listenerPid(): number | undefined {
    return this.#child.pid;
  }

  async arm({ fd }: GuardedFile, holder: MappingHolder): Promise<ArmedFile> {
    if (this.#lostBecause !== null) throw new LostChildError(this.#lostBecause);
    this.#ids += 1;
    const id = this.#ids;
    const refusal = await new Promise<Error | null>((resolve) => {
      const recalls = new Recalls(holder, this.#options);
      const { boundMs } = this.#options;
      this.#guarded.set(id, new Guarded(id, fd, recalls, { boundMs, onArmed: resolve }));
      this.#send({ type: "arm", id, path: `/proc/${process.pid}/fd/${fd}` });
    });
    const guarded = this.#guarded.get(id);
    if (refusal !== null || guarded === undefined) {
      this.#guarded.delete(id);
      throw refusal ?? refused("", "the listener has ended");
    }
    guarded.unwatch = this.#watch.watch(fd, () => guarded.changed());
    return { fd, disarm: () => this.#disarm(guarded) };
  }

  #receive(message: FromListener): void {
    switch (message.type) {
      case "ready":
        this.#onStart(null);
        return;
      case "failed":
        this.#onStart(refused(message.code, message.message));
        return;
      case "armed":
        this.#guarded.get(message.id)?.onArmed(null);
        return;
      case "refused":
        this.#guarded.get(message.id)?.onArmed(refused(message.code, message.message));
        return;
      case "ask":
        void this.#recall(message.id, message.event, BigInt(message.from), message.by);
        return;
      case "over":
        this.#guarded.get(message.id)?.over(message.event);
        return;
      case "overdue":
        this.#guarded.get(message.id)?.recalls.cutOff("the listener was not answered in time");
        return;
      default:
        message satisfies never;
    }
  }

  async #recall(id: number, event: number, fromBytes: bigint, by: string): Promise<void> {
    const guarded = this.#guarded.get(id);
    await guarded?.recalls.recall({ fromBytes, by });
    // A file that was disarmed meanwhile is not looked at again: its descriptor may be closed.
    if (this.#guarded.has(id)) guarded?.begun(event, fromBytes);
    this.#send({ type: "go", event });
  }

  #send(message: ToListener): void {
    this.#child.stdin?.write(`${JSON.stringify(message)}\n`);
  }

  #ownEnd(reason: string): void {
    if (!this.#closing) this.#lostBecause = reason;
    // Not the kernel's refusal: another attempt may succeed.
    const error = new LostChildError(reason);
    this.#onStart(error);
    for (const { recalls, onArmed } of this.#guarded.values()) {
      onArmed(error);
      if (!this.#closing) recalls.cutOff(reason);
    }
  }

  #disarm(guarded: Guarded): void {
    guarded.unwatch();
    guarded.stop();
    this.#guarded.delete(guarded.id);
    this.#send({ type: "disarm", id: guarded.id });
  }

  caughtUp(): Promise<void> {
    return Promise.resolve();
  }

  async lost(): Promise<string | null> {
    if (this.#closing || this.#child.pid === undefined) return this.#lostBecause;
    // It allows what waits for it while it ends, before its end is known here.
    if (processState(this.#child.pid) === "ending") await this.#ended;
    return this.#lostBecause;
  }

  async close(): Promise<void> {
    this.#closing = true;
    for (const guarded of [...this.#guarded.values()]) this.#disarm(guarded);
    this.#child.stdin?.end();
    await this.#ended;
    await this.#watch.close();
  }
}
