/**
 * The server's own leases, seen from a client that has a window: over a Unix socket, JSON, one object a line.
 *
 *   client: {"hold":1,"device":"..","ino":".."}          server: {"granted":1}
 *   server: {"recall":7,"hold":1,"from":"0","by":".."}   client: {"ack":7}
 *   server: {"settle":1,"size":"0"}                      client: {"release":1}
 *
 * A client that does not acknowledge is cut off: its connection is closed, and it knows by that.
 */
import { fstatSync, unlinkSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import {
  type ArmedFile,
  type GuardedFile,
  type GuardOptions,
  GuardRefused,
  type MappingHolder,
  type TruncationGuard,
} from "./guard.ts";
import type { LeaseBook } from "./lease-book.ts";
import { LineReader } from "./lines.ts";

type ToServer =
  | { readonly hold: number; readonly device: string; readonly ino: string }
  | { readonly ack: number }
  | { readonly release: number };

type ToClient =
  | { readonly granted: number }
  | { readonly recall: number; readonly hold: number; readonly from: string; readonly by: string }
  | { readonly settle: number; readonly size: string };

const line = (message: ToServer | ToClient): string => `${JSON.stringify(message)}\n`;

/** One client's connection, on the server's side: a holder for each of its leases. */
class Connection {
  readonly #book: LeaseBook;
  readonly #socket: Socket;
  readonly #beforeGrant: () => Promise<void>;
  readonly #lines = new LineReader<ToServer>();
  readonly #releases = new Map<number, () => void>();
  readonly #unanswered = new Map<number, () => void>();
  #recalls = 0;

  constructor(book: LeaseBook, socket: Socket, beforeGrant: () => Promise<void>) {
    this.#book = book;
    this.#socket = socket;
    this.#beforeGrant = beforeGrant;
    socket.on("data", (bytes) => this.#take(bytes));
    socket.on("error", () => {});
    socket.on("close", () => this.#end());
  }

  #take(bytes: Buffer): void {
    try {
      for (const message of this.#lines.take(bytes)) this.#obey(message);
    } catch {
      // Not our protocol: nothing of it is understood from here on.
      this.#socket.destroy();
    }
  }

  #obey(message: ToServer): void {
    if ("hold" in message) {
      const file = { device: BigInt(message.device), ino: BigInt(message.ino) };
      this.#releases.set(message.hold, this.#book.hold(file, this.#holder(message.hold)));
      void this.#beforeGrant().then(() => this.#socket.write(line({ granted: message.hold })));
    } else if ("ack" in message) {
      this.#unanswered.get(message.ack)?.();
      this.#unanswered.delete(message.ack);
    } else if ("release" in message) {
      this.#releases.get(message.release)?.();
      this.#releases.delete(message.release);
    }
  }

  #holder(hold: number): MappingHolder {
    return {
      recall: ({ fromBytes, by }) =>
        new Promise<void>((resolve) => {
          this.#recalls += 1;
          this.#unanswered.set(this.#recalls, resolve);
          this.#socket.write(line({ recall: this.#recalls, hold, from: String(fromBytes), by }));
        }),
      settle: (sizeBytes) => void this.#socket.write(line({ settle: hold, size: String(sizeBytes) })),
      cutOff: () => void this.#socket.destroy(),
    };
  }

  /** A client that has gone maps nothing any more: its process's mappings went with it, or it was cut off. */
  #end(): void {
    for (const release of this.#releases.values()) release();
    for (const acknowledge of this.#unanswered.values()) acknowledge();
    this.#releases.clear();
    this.#unanswered.clear();
  }
}

/**
 * Lets clients hold leases over the socket `path`, which must not exist. Rejects if it cannot listen.
 * @param beforeGrant resolves when no truncation is under way that began before the lease was in the book
 */
export async function serveLeases(
  book: LeaseBook,
  path: string,
  beforeGrant: () => Promise<void> = async () => {},
): Promise<{ close(): void }> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    new Connection(book, socket, beforeGrant);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  return {
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
      try {
        unlinkSync(path);
      } catch {
        // Closing the server removes it, too.
      }
    },
  };
}

type Held = { readonly holder: MappingHolder; readonly granted: () => void };

export class FuseLeaseGuard implements TruncationGuard {
  readonly name = "fuse-lease" as const;
  readonly #socket: Socket;
  readonly #options: GuardOptions;
  readonly #lines = new LineReader<ToClient>();
  readonly #held = new Map<number, Held>();
  #ids = 0;
  #closing = false;

  private constructor(socket: Socket, options: GuardOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on("data", (bytes) => {
      for (const message of this.#lines.take(bytes)) void this.#obey(message);
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
        refuse(new GuardRefused(this.name, "the server has closed the connection", null));
        return;
      }
      this.#held.set(id, { holder, granted });
      this.#socket.write(line({ hold: id, device: String(dev), ino: String(ino) }));
    });
    return { fd, disarm: () => this.#disarm(id) };
  }

  async #obey(message: ToClient): Promise<void> {
    const atMs = (): number => Number(process.hrtime.bigint()) / 1e6;
    if ("granted" in message) this.#held.get(message.granted)?.granted();
    else if ("recall" in message) {
      const threat = { fromBytes: BigInt(message.from), by: message.by };
      this.#options.onEvent?.({ kind: "recall", threat, atMs: atMs() });
      await this.#held.get(message.hold)?.holder.recall(threat);
      this.#options.onEvent?.({ kind: "recalled", end: "acknowledged", atMs: atMs() });
      this.#socket.write(line({ ack: message.recall }));
    } else {
      const sizeBytes = BigInt(message.size);
      this.#options.onEvent?.({ kind: "settle", sizeBytes, atMs: atMs() });
      this.#held.get(message.settle)?.holder.settle(sizeBytes);
    }
  }

  #disarm(id: number): void {
    if (this.#held.delete(id) && !this.#socket.destroyed) this.#socket.write(line({ release: id }));
  }

  #lost(): void {
    const held = [...this.#held.values()];
    this.#held.clear();
    for (const { holder, granted } of held) {
      granted();
      if (!this.#closing) holder.cutOff("the server has closed the connection");
    }
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
