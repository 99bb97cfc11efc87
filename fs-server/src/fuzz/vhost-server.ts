/** The server under a hostile front-end: a process of its own, since what a front-end can break, it breaks for all of it. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { compiledEntry } from "../../../sys/src/index.ts";
import { MEMORY_NAME } from "./vhost-peer.ts";

const READY_BOUND_MS = 20_000;
const END_BOUND_MS = 10_000;
/** Of its last words, in a message. */
const WORDS = 400;

export class FuzzedServer {
  readonly socketPath: string;
  readonly pid: number;
  readonly #folder: string;
  readonly #logPath: string;
  readonly #child: ChildProcess;
  /** Exit code or signal; null: it runs. */
  #end: string | null = null;
  readonly #ended: Promise<void>;

  private constructor(folder: string, child: ChildProcess) {
    this.#folder = folder;
    this.socketPath = join(folder, "s");
    this.#logPath = join(folder, "log");
    this.#child = child;
    this.pid = child.pid ?? 0;
    this.#ended = new Promise((resolve) =>
      child.once("exit", (code, signal) => {
        this.#end = signal ?? `exit code ${code}`;
        resolve();
      }),
    );
  }

  /** Rejects if it does not come up. */
  static async start(source: string): Promise<FuzzedServer> {
    const folder = mkdtempSync(join(tmpdir(), "daxfault-vhost-"));
    const log = openSync(join(folder, "log"), "w");
    const main = compiledEntry(import.meta.url, "../serve-main.ts").pathname;
    const place = ["--shared-dir", source, "--socket-path", join(folder, "s")];
    const options = [
      "--tag",
      "fuzz",
      "--dax-window",
      "64M",
      "--reconnect",
      "--parent-pid",
      String(process.pid),
    ];
    const child = spawn(process.execPath, [main, ...place, ...options], { stdio: ["ignore", "pipe", log] });
    closeSync(log);
    const server = new FuzzedServer(folder, child);
    const { stdout } = child;
    const ready =
      stdout === null ? null : new Promise((resolve) => createInterface(stdout).once("line", resolve));
    await Promise.race([ready, server.#ended, sleep(READY_BOUND_MS, null, { ref: false })]);
    try {
      if (server.#end !== null || readdirSync(folder).length < 2) throw new Error("it does not listen");
      return server;
    } catch (error) {
      const words = server.lastWords();
      await server.stop();
      throw new Error(`the server did not come up: ${words}`, { cause: error });
    }
  }

  /** How it has ended; null: it runs. Its end is seen after a turn of the event loop. */
  get end(): string | null {
    return this.#end;
  }

  lastWords(): string {
    return readFileSync(this.#logPath, "utf8").slice(-WORDS).trim();
  }

  /** Lines that say that something of ours is wrong. */
  defects(): readonly string[] {
    return readFileSync(this.#logPath, "utf8")
      .split("\n")
      .filter((line) => line.includes("defect"));
  }

  /** What its descriptors lead to, without the numbers of sockets and pipes; sorted. */
  descriptors(): readonly string[] {
    return readdirSync(`/proc/${this.pid}/fd`)
      .flatMap((fd) => {
        try {
          return readlinkSync(`/proc/${this.pid}/fd/${fd}`).replace(/\[\d+\]$/, "");
        } catch {
          // Closed meanwhile.
          return [];
        }
      })
      .sort();
  }

  /** Mappings that it has of the front-end's memory. */
  mappings(): number {
    return readFileSync(`/proc/${this.pid}/maps`, "latin1").split(MEMORY_NAME).length - 1;
  }

  residentMiB(): number {
    const pages = Number(readFileSync(`/proc/${this.pid}/statm`, "latin1").split(" ")[1] ?? 0);
    return Math.round((pages * 4096) / 2 ** 20);
  }

  /** Ends it as a user does. Returns how it ended. */
  async stop(): Promise<string> {
    this.#child.kill("SIGTERM");
    await Promise.race([this.#ended, sleep(END_BOUND_MS, null, { ref: false })]);
    if (this.#end === null) this.#child.kill("SIGKILL");
    const end = this.#end ?? `not within ${END_BOUND_MS} ms`;
    await this.#ended;
    rmSync(this.#folder, { recursive: true, force: true });
    return end;
  }
}
