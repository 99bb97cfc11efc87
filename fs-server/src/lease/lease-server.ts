/** The server's side of its own leases: grants them to clients that connect to a Unix socket. */
import { unlinkSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { LineReader } from "../guard/lines.ts";
import type { MappingHolder } from "../guard/truncation-guard.ts";
import type { LeaseBook } from "./lease-book.ts";
import { line, type ToServer } from "./lease-messages.ts";

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
    socket.on("data", (bytes) => this.#receive(bytes));
    socket.on("error", () => {});
    socket.on("close", () => this.#end());
  }

  #receive(bytes: Buffer): void {
    try {
      for (const message of this.#lines.feed(bytes)) this.#handle(message);
    } catch {
      // Not our protocol: the rest of the stream cannot be read either.
      this.#socket.destroy();
    }
  }

  #handle(message: ToServer): void {
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

  /** A disconnected client has no mapping: its process ended, or it was cut off. */
  #end(): void {
    for (const release of this.#releases.values()) release();
    for (const acknowledge of this.#unanswered.values()) acknowledge();
    this.#releases.clear();
    this.#unanswered.clear();
  }
}

/**
 * Lets clients hold leases over the socket `path`, which must not exist. Rejects if it cannot listen.
 * @param beforeGrant resolves when no truncation is in progress that began before the lease was in the book
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
        // Closing the server may have removed it already.
      }
    },
  };
}
