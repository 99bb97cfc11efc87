/** The listener's process as its parent has it: started, and started again where it ends without being asked to. */
import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { LineReader } from "../../../fs-server/src/index.ts";
import { builtPath } from "../paths.ts";
import type { FromListener, ToListener } from "./messages.ts";

/** A listener whose loop stands still for so long is killed by its own timer: the bound of every wait. */
export const DEADLINE_MS = 5000;
/** How long the listener waits for the newest ranges before it lets a truncation through that cuts none of the known ones. */
const ASK_MS = 1000;
/** Ends one after the other: then something is wrong that another start does not mend. */
const RESTARTS_MAX = 10;
/** After so long without an end, they are counted anew. */
const CALM_MS = 60_000;
const PAUSE_MS = 20;

export type ListenerEvents = {
  /** It is ready, for the first time or again: everything has to be said to it. */
  readonly onReady: () => void;
  readonly onMessage: (message: FromListener) => void;
  /** It has ended, and is started again; nothing is refused meanwhile. */
  readonly onGap: (why: string) => void;
};

export class Listener {
  readonly #events: ListenerEvents;
  #child: ChildProcess | null = null;
  #isClosing = false;
  #isReady = false;
  #restarts = 0;
  #readyMs = 0;
  #ended: Promise<void> = Promise.resolve();
  /** Settles when it has ended for good, with the reason; null: as it was asked to. */
  readonly over: Promise<string | null>;
  #onOver: (why: string | null) => void = () => {};

  constructor(events: ListenerEvents) {
    this.#events = events;
    this.over = new Promise((resolve) => {
      this.#onOver = resolve;
    });
    this.#start();
  }

  /** For tests of its end. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  #start(): void {
    const entry = builtPath("harness/src/protect/listener-main.ts");
    // A session of its own: what a terminal sends to its foreground, Ctrl-Z above all, does not reach it.
    const child = spawn(process.execPath, [entry, String(DEADLINE_MS), String(ASK_MS)], {
      stdio: ["pipe", "pipe", "inherit"],
      cwd: "/",
      detached: true,
    });
    this.#child = child;
    const lines = new LineReader<FromListener>();
    child.stdin?.on("error", () => {});
    child.stdout?.on("data", (bytes: Buffer) => {
      for (const message of lines.feed(bytes)) this.#receive(message);
    });
    this.#ended = new Promise((resolve) => {
      child.on("error", (error) => {
        this.#onOver(error.message);
        resolve();
      });
      child.on("close", (code, signal) => {
        resolve();
        void this.#hasEnded(`ended by ${signal ?? `exit ${code}`}`);
      });
    });
  }

  #receive(message: FromListener): void {
    if (message.type === "ready") {
      this.#isReady = true;
      this.#readyMs = performance.now();
      this.#events.onReady();
    } else if (message.type === "failed") {
      this.#isClosing = true;
      this.#events.onMessage(message);
    } else this.#events.onMessage(message);
  }

  async #hasEnded(why: string): Promise<void> {
    this.#isReady = false;
    if (this.#isClosing) {
      this.#onOver(null);
      return;
    }
    if (performance.now() - this.#readyMs > CALM_MS) this.#restarts = 0;
    this.#restarts += 1;
    if (this.#restarts > RESTARTS_MAX) {
      this.#onOver(`the listener has ended ${this.#restarts} times within a minute: ${why}`);
      return;
    }
    this.#events.onGap(why);
    await sleep(this.#restarts === 1 ? 0 : PAUSE_MS * this.#restarts);
    if (this.#isClosing) this.#onOver(null);
    else this.#start();
  }

  /** Goes nowhere while there is none: `onReady` says when everything has to be said again. */
  send(message: ToListener): void {
    if (this.#isReady) this.#child?.stdin?.write(`${JSON.stringify(message)}\n`);
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    this.#child?.stdin?.end();
    await this.#ended;
  }
}
