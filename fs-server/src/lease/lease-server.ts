/**
 * The server's side of its own leases: grants them to clients that connect to a Unix socket.
 *
 * The socket is its owner's (0600): whoever holds a lease delays truncations. What a client sends is checked, what it can
 * make the server keep is limited (`LeaseLimits`), and all that it holds is released, once, when its connection ends.
 */
import { createServer, type Server, type Socket } from "node:net";
import { LineReader } from "../guard/lines.ts";
import type { MappingHolder } from "../guard/truncation-guard.ts";
import type { LeaseBook } from "./lease-book.ts";
import { checkedToServer, LeaseProtocolError, line, type ToClient, type ToServer } from "./lease-messages.ts";
import { withSocketPath } from "./socket-path.ts";

export type LeaseLimits = {
  /** Connections at once. */
  readonly clients: number;
  /** Leases of one client. */
  readonly holdsPerClient: number;
  /** Leases of all clients: one truncation recalls all that are of its file, within its bound. */
  readonly holds: number;
  /** Bytes sent to a client that it has not read. */
  readonly unreadBytes: number;
};

/** 8,192 leases of one file are recalled in 0.4 to 0.9 s of the guard's 2 s, on a busy machine (lease-server.test.ts). */
export const LEASE_LIMITS: LeaseLimits = {
  clients: 64,
  holdsPerClient: 4096,
  holds: 8192,
  unreadBytes: 4 * 1024 * 1024,
};

export type LeaseServerOptions = {
  /** Resolves when no truncation is in progress that began before the lease was in the book. */
  readonly beforeGrant?: () => Promise<void>;
  readonly limits?: LeaseLimits;
};

/** What all connections of a server share. */
type Shared = {
  readonly book: LeaseBook;
  readonly beforeGrant: () => Promise<void>;
  readonly limits: LeaseLimits;
  /** Leases of all clients. Mutable: the connections count. */
  holds: number;
};

/** One client's connection, on the server's side: a holder for each of its leases. */
class Connection {
  readonly #shared: Shared;
  readonly #socket: Socket;
  readonly #lines = new LineReader<unknown>();
  readonly #releases = new Map<number, () => void>();
  readonly #unanswered = new Map<number, () => void>();
  #recalls = 0;
  #ended = false;

  constructor(shared: Shared, socket: Socket) {
    this.#shared = shared;
    this.#socket = socket;
    socket.on("data", (bytes) => this.#receive(bytes));
    socket.on("error", () => {});
    socket.on("close", () => this.#end());
  }

  #receive(bytes: Buffer): void {
    try {
      for (const message of this.#lines.feed(bytes)) {
        if (this.#ended) return;
        this.#handle(checkedToServer(message));
      }
    } catch (error) {
      // Not our protocol: the rest of the stream cannot be read either.
      this.#close(error instanceof LeaseProtocolError ? error.message : "not JSON, one object a line");
    }
  }

  #handle(message: ToServer): void {
    if ("hold" in message) this.#hold(message);
    else if ("ack" in message) {
      this.#unanswered.get(message.ack)?.();
      this.#unanswered.delete(message.ack);
    } else {
      this.#releases.get(message.release)?.();
      this.#releases.delete(message.release);
    }
  }

  #hold({ hold, device, ino }: Extract<ToServer, { hold: number }>): void {
    if (this.#releases.has(hold)) throw new LeaseProtocolError(`hold ${hold} is held already`);
    const { book, limits, beforeGrant } = this.#shared;
    const reason = this.#overLimit(limits);
    if (reason !== null) {
      this.#send({ refused: hold, reason });
      return;
    }
    const release = book.hold({ device: BigInt(device), ino: BigInt(ino) }, this.#holder(hold));
    this.#shared.holds += 1;
    this.#releases.set(hold, () => {
      this.#shared.holds -= 1;
      release();
    });
    void beforeGrant().then(() => this.#send({ granted: hold }));
  }

  /** Why one more lease is refused, or null. */
  #overLimit({ holdsPerClient, holds }: LeaseLimits): string | null {
    if (this.#releases.size >= holdsPerClient) {
      return `this client has ${this.#releases.size} leases, the limit of one client is ${holdsPerClient}`;
    }
    if (this.#shared.holds < holds) return null;
    return `the server has granted ${this.#shared.holds} leases, its limit is ${holds}`;
  }

  #holder(hold: number): MappingHolder {
    return {
      recall: ({ fromBytes, by }) =>
        new Promise<void>((resolve) => {
          this.#recalls += 1;
          this.#unanswered.set(this.#recalls, resolve);
          this.#send({ recall: this.#recalls, hold, from: String(fromBytes), by });
        }),
      settle: (sizeBytes) => this.#send({ settle: hold, size: String(sizeBytes) }),
      cutOff: (reason) => this.#close(reason),
    };
  }

  #send(message: ToClient): void {
    if (this.#ended) return;
    if (this.#socket.writableCorked === 0) {
      // The recalls of one truncation go out in one system call.
      this.#socket.cork();
      process.nextTick(() => this.#socket.uncork());
    }
    this.#socket.write(line(message));
    const { unreadBytes } = this.#shared.limits;
    if (this.#socket.writableLength > unreadBytes) {
      this.#close(
        `the client has not read ${this.#socket.writableLength} bytes, the limit is ${unreadBytes}`,
      );
    }
  }

  /** Sends the reason if the client reads, and ends the connection at once. */
  #close(reason: string): void {
    if (this.#ended) return;
    this.#socket.write(line({ closed: reason }));
    this.#socket.uncork();
    this.#socket.destroy();
    this.#end();
  }

  /** A disconnected client has no mapping: its process ended, or it was cut off. */
  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const release of this.#releases.values()) release();
    for (const acknowledge of this.#unanswered.values()) acknowledge();
    this.#releases.clear();
    this.#unanswered.clear();
  }
}

/** Lets clients hold leases over the socket `path`. Rejects if it cannot listen, and says why. */
export async function serveLeases(
  book: LeaseBook,
  path: string,
  { beforeGrant = async () => {}, limits = LEASE_LIMITS }: LeaseServerOptions = {},
): Promise<{ close(): void }> {
  const shared: Shared = { book, beforeGrant, limits, holds: 0 };
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    if (sockets.size >= limits.clients) {
      const closed = `the server has ${sockets.size} clients, its limit is ${limits.clients}`;
      socket.on("error", () => {});
      socket.end(line({ closed }), () => socket.destroy());
      return;
    }
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    new Connection(shared, socket);
  });
  await withSocketPath(path, () => listen(server, path));
  return {
    close() {
      // Removes the socket's name, too (uv__pipe_close()).
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** bind(2) gives the socket its mode from the umask: there is no moment at which others can connect. */
async function listen(server: Server, path: string): Promise<void> {
  const listening = new Promise<void>((resolve, reject) => {
    server.once("listening", resolve);
    server.once("error", (cause: NodeJS.ErrnoException) =>
      reject(new Error(`cannot grant leases at ${path}: ${cause.code}`, { cause })),
    );
  });
  const umask = process.umask(0o177);
  // Binds before it returns; an error is an event all the same.
  server.listen(path);
  process.umask(umask);
  await listening;
}
