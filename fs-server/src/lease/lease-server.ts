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

/**
 * Grants that wait for the truncations in progress: one wait at a time, for all leases that were in the book when it began.
 * Those that come meanwhile are the next one's, and those that are given back leave.
 */
class Grants {
  readonly #beforeGrant: () => Promise<void>;
  #coming = new Set<() => void>();
  #present = new Set<() => void>();
  #isWaiting = false;

  constructor(beforeGrant: () => Promise<void>) {
    this.#beforeGrant = beforeGrant;
  }

  add(grant: () => void): void {
    this.#coming.add(grant);
    if (!this.#isWaiting) void this.#wait();
  }

  remove(grant: () => void): void {
    this.#coming.delete(grant);
    this.#present.delete(grant);
  }

  async #wait(): Promise<void> {
    this.#isWaiting = true;
    while (this.#coming.size > 0) {
      [this.#present, this.#coming] = [this.#coming, new Set()];
      await this.#beforeGrant();
      for (const grant of this.#present) grant();
    }
    this.#present.clear();
    this.#isWaiting = false;
  }
}

/** What all connections of a server share. */
type Shared = {
  readonly book: LeaseBook;
  readonly grants: Grants;
  readonly limits: LeaseLimits;
  /** Leases of all clients. Mutable: the connections count. */
  holds: number;
};

/** A lease of one client. */
type Held = {
  readonly release: () => void;
  readonly grant: () => void;
  /** Recalls that the client has not acknowledged: how to end the wait for each. */
  readonly recalls: Map<number, () => void>;
};

/** One client's connection, on the server's side: a holder for each of its leases. */
class Connection {
  readonly #shared: Shared;
  readonly #socket: Socket;
  readonly #lines = new LineReader<unknown>();
  readonly #held = new Map<number, Held>();
  /** Which lease a recall is of. */
  readonly #recalled = new Map<number, Held>();
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
    else if ("ack" in message) this.#acknowledge(message.ack);
    else this.#release(message.release);
  }

  #acknowledge(recall: number): void {
    const recalls = this.#recalled.get(recall)?.recalls;
    this.#recalled.delete(recall);
    const acknowledged = recalls?.get(recall);
    recalls?.delete(recall);
    acknowledged?.();
  }

  /** A lease that is given back has no mapping any more: no truncation waits for it. */
  #release(hold: number): void {
    const held = this.#held.get(hold);
    if (held === undefined) return;
    this.#held.delete(hold);
    this.#shared.holds -= 1;
    this.#shared.grants.remove(held.grant);
    held.release();
    for (const recall of [...held.recalls.keys()]) this.#acknowledge(recall);
  }

  #hold({ hold, device, ino }: Extract<ToServer, { hold: number }>): void {
    if (this.#held.has(hold)) throw new LeaseProtocolError(`hold ${hold} is held already`);
    const { book, limits, grants } = this.#shared;
    const reason = this.#overLimit(limits);
    if (reason !== null) {
      this.#send({ refused: hold, reason });
      return;
    }
    const held: Held = {
      release: book.hold({ device: BigInt(device), ino: BigInt(ino) }, this.#holder(hold)),
      grant: () => this.#send({ granted: hold }),
      recalls: new Map(),
    };
    this.#shared.holds += 1;
    this.#held.set(hold, held);
    grants.add(held.grant);
  }

  /** Why one more lease is refused, or null. */
  #overLimit({ holdsPerClient, holds }: LeaseLimits): string | null {
    if (this.#held.size >= holdsPerClient) {
      return `this client has ${this.#held.size} leases, the limit of one client is ${holdsPerClient}`;
    }
    if (this.#shared.holds < holds) return null;
    return `the server has granted ${this.#shared.holds} leases, its limit is ${holds}`;
  }

  #holder(hold: number): MappingHolder {
    return {
      recall: ({ fromBytes, by }) =>
        new Promise<void>((resolve) => {
          const held = this.#held.get(hold);
          // Given back between this truncation's question and its recalls.
          if (held === undefined) return resolve();
          this.#recalls += 1;
          held.recalls.set(this.#recalls, resolve);
          this.#recalled.set(this.#recalls, held);
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
    for (const hold of [...this.#held.keys()]) this.#release(hold);
  }
}

/** Lets clients hold leases over the socket `path`. Rejects if it cannot listen, and says why. */
export async function serveLeases(
  book: LeaseBook,
  path: string,
  { beforeGrant = async () => {}, limits = LEASE_LIMITS }: LeaseServerOptions = {},
): Promise<{ close(): void }> {
  const shared: Shared = { book, grants: new Grants(beforeGrant), limits, holds: 0 };
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
  // accept(2) may fail for want of descriptors, which nodes of the mount take, too: that client is not served.
  server.on("error", () => {});
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
