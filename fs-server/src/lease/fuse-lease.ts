/**
 * The guard `fuse-lease`: a client that has a window holds leases of the server whose files it maps (lease-server.ts).
 * Only truncations that arrive through that server are seen.
 */
import { fstatSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { LineReader } from "../guard/lines.ts";
import { Recalls } from "../guard/recalls.ts";
import {
  type ArmedFile,
  type GuardedFile,
  type GuardOptions,
  GuardRefused,
  type MappingHolder,
  type TruncationGuard,
} from "../guard/truncation-guard.ts";
import { line, type ToClient } from "./lease-messages.ts";

type Arming = { readonly granted: () => void; readonly refused: (reason: string) => void };

export class FuseLeaseGuard implements TruncationGuard {
  readonly name = "fuse-lease" as const;
  readonly #socket: Socket;
  readonly #options: GuardOptions;
  readonly #lines = new LineReader<ToClient>();
  readonly #held = new Map<number, Recalls>();
  /** Those of which the server has not answered yet: they can be recalled, too. */
  readonly #arming = new Map<number, Arming>();
  #ids = 0;
  #closing = false;
  #closedBecause = "the server has closed the connection";

  private constructor(socket: Socket, options: GuardOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on("data", (bytes) => {
      for (const message of this.#lines.feed(bytes)) this.#handle(message);
    });
    socket.on("error", () => {});
    socket.on("close", () => this.#lost());
    socket.unref();
  }

  /** Connects to a server's lease socket. Rejects with a GuardRefused. */
  static async open(socketPath: string, options: GuardOptions): Promise<FuseLeaseGuard> {
    const socket = connect(socketPath);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", (error: NodeJS.ErrnoException) =>
        reject(
          new GuardRefused(
            "fuse-lease",
            `no server grants leases at ${socketPath} (${error.code}); start one with --guard fuse-lease`,
            error.code ?? null,
            error,
          ),
        ),
      );
    });
    return new FuseLeaseGuard(socket, options);
  }

  async arm({ fd }: GuardedFile, holder: MappingHolder): Promise<ArmedFile> {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    this.#ids += 1;
    const id = this.#ids;
    await new Promise<void>((granted, refuse) => {
      if (this.#socket.destroyed) {
        refuse(new GuardRefused(this.name, this.#closedBecause, null));
        return;
      }
      const refused = (reason: string): void => refuse(new GuardRefused(this.name, reason, null));
      this.#held.set(id, new Recalls(holder, this.#options));
      this.#arming.set(id, { granted, refused });
      this.#socket.write(line({ hold: id, device: String(dev), ino: String(ino) }));
    });
    return { fd, disarm: () => this.#disarm(id) };
  }

  #handle(message: ToClient): void {
    if ("granted" in message) this.#answered(message.granted)?.granted();
    else if ("refused" in message) {
      this.#held.delete(message.refused);
      this.#answered(message.refused)?.refused(message.reason);
    } else if ("closed" in message) this.#closedBecause += `: ${message.closed}`;
    else if ("recall" in message) void this.#recall(message);
    else this.#held.get(message.settle)?.settle(BigInt(message.size));
  }

  async #recall({ recall, hold, from, by }: Extract<ToClient, { recall: number }>): Promise<void> {
    const end = await this.#held.get(hold)?.recall({ fromBytes: BigInt(from), by });
    // What the holder could not give up is its own risk from now on: no truncation waits for it, and the other files stay.
    if (end === "cut-off") this.#disarm(hold);
    else this.#socket.write(line({ ack: recall }));
  }

  #disarm(id: number): void {
    if (this.#held.delete(id) && !this.#socket.destroyed) this.#socket.write(line({ release: id }));
  }

  #answered(id: number): Arming | null {
    const arming = this.#arming.get(id) ?? null;
    this.#arming.delete(id);
    return arming;
  }

  #lost(): void {
    for (const [id, { refused }] of this.#arming) {
      this.#held.delete(id);
      refused(this.#closedBecause);
    }
    this.#arming.clear();
    const held = [...this.#held.values()];
    this.#held.clear();
    if (this.#closing) return;
    for (const recalls of held) recalls.cutOff(this.#closedBecause);
  }

  caughtUp(): Promise<void> {
    return Promise.resolve();
  }

  /** The server is not this guard's: who started it learns of its end. */
  lost(): Promise<null> {
    return Promise.resolve(null);
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#held.clear();
    const closed = new Promise<void>((resolve) => {
      if (this.#socket.closed) resolve();
      else this.#socket.once("close", () => resolve());
    });
    this.#socket.destroy();
    await closed;
  }
}
