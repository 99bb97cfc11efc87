/** What a client of the lease socket can send, keep and leave behind, whatever it is. */
import { spawnSync } from "node:child_process";
import { lstatSync, readFileSync, writeFileSync } from "node:fs";
import { connect, Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { FuseLeaseGuard } from "../../src/lease/fuse-lease.ts";
import { LeaseBook } from "../../src/lease/lease-book.ts";
import { LEASE_LIMITS, type LeaseLimits, serveLeases } from "../../src/lease/lease-server.ts";
import { FREE } from "../../src/lease/truncation-gate.ts";
import { RecordingHolder } from "../support/holder.ts";
import { until } from "../support/until.ts";

const file = { device: 1n, ino: 7n };
const wire = { device: "1", ino: "7" };
const BOUND_MS = 2000;
let close: (() => void)[] = [];
afterEach(() => {
  for (const one of close) one();
  close = [];
});

async function serve(limits: Partial<LeaseLimits> = {}, beforeGrant = async () => {}) {
  const path = join(temporaryDirectory(), "leases");
  const book = new LeaseBook({ boundMs: BOUND_MS });
  const server = await serveLeases(book, path, { beforeGrant, limits: { ...LEASE_LIMITS, ...limits } });
  close.push(() => server.close());
  return { path, book };
}

/** A client of the bare socket, and the messages that it has got. */
class Raw {
  readonly messages: Readonly<Record<string, unknown>>[] = [];
  readonly closed: Promise<void>;
  readonly #socket: Socket;

  constructor(
    path: string,
    onMessage: (message: Readonly<Record<string, unknown>>, raw: Raw) => void = () => {},
  ) {
    this.#socket = connect(path);
    close.push(() => this.#socket.destroy());
    this.closed = new Promise((resolve) => this.#socket.once("close", () => resolve()));
    this.#socket.on("error", () => {});
    let rest = "";
    this.#socket.on("data", (bytes) => {
      const lines = (rest + bytes.toString()).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const message = JSON.parse(line);
        this.messages.push(message);
        onMessage(message, this);
      }
    });
  }

  send(...messages: readonly unknown[]): void {
    this.#socket.write(messages.map((message) => `${JSON.stringify(message)}\n`).join(""));
  }

  end(): void {
    this.#socket.destroy();
  }

  stopReading(): void {
    this.#socket.pause();
  }
}

describe("a client of the lease socket", () => {
  it("that names one hold three times is refused, and leaves no lease behind", async () => {
    const { path, book } = await serve();
    const hold = { hold: 1, ...wire };
    const client = new Raw(path);
    client.send(hold, hold, hold);
    await client.closed;
    expect(client.messages).toEqual([{ closed: "hold 1 is held already" }]);
    expect(book.isHeld(file)).toBe(false);
    expect(book.ask(file, 0n)).toBe(FREE);
  });

  it("that gives a hold back twice takes nobody else's", async () => {
    const { path, book } = await serve();
    const [one, other] = [new Raw(path), new Raw(path)];
    for (const client of [one, other]) client.send({ hold: 1, ...wire });
    await until(() => one.messages.length === 1 && other.messages.length === 1);
    one.send({ release: 1 }, { release: 1 }, { hold: 2, ...wire });
    await until(() => one.messages.length === 2);
    one.end();
    await expect.poll(() => book.ask(file, 0n)).not.toBe(FREE);
    await until(() => other.messages.length === 2);
    expect(book.isHeld(file)).toBe(true);
    other.end();
    await until(() => !book.isHeld(file));
  });

  it.each([
    ["null", null],
    ["a hold that is not a number", { hold: {}, ...wire }],
    ["a hold 0", { hold: 0, ...wire }],
    ["a negative inode", { hold: 1, device: "1", ino: "-5" }],
    ["an inode of more than 64 bits", { hold: 1, device: "1", ino: "18446744073709551616" }],
    ["an inode that is a number", { hold: 1, device: "1", ino: 7 }],
    ["a fraction", { ack: 1.5 }],
    ["an unknown message", { please: 1 }],
  ])("is refused what is not of the protocol: %s", async (_, message) => {
    const { path, book } = await serve();
    const client = new Raw(path);
    client.send({ hold: 9, ...wire }, message);
    await client.closed;
    expect(client.messages.at(-1)?.closed).toMatch(/^not a message of this protocol: /);
    expect(book.isHeld(file)).toBe(false);
  });

  it("has a limit of leases, which the refusal names with what it has", async () => {
    const { path } = await serve({ holdsPerClient: 2, holds: 3 });
    const [one, other] = [new Raw(path), new Raw(path)];
    one.send(...[1, 2, 3].map((hold) => ({ hold, ...wire })));
    await until(() => one.messages.length === 3);
    const reason = "this client has 2 leases, the limit of one client is 2";
    expect(one.messages).toContainEqual({ refused: 3, reason });
    other.send(...[1, 2].map((hold) => ({ hold, ...wire })));
    await until(() => other.messages.length === 2);
    expect(other.messages).toContainEqual({
      refused: 2,
      reason: "the server has granted 3 leases, its limit is 3",
    });
    one.send({ release: 1 }, { hold: 4, ...wire });
    await until(() => one.messages.length === 4);
    expect(one.messages.at(-1)).toEqual({ granted: 4 });
  });

  it("is told by its guard what was refused", async () => {
    const { path } = await serve({ holdsPerClient: 1, clients: 1 });
    const guard = await FuseLeaseGuard.open(path, { boundMs: BOUND_MS });
    const holder = new RecordingHolder();
    await guard.arm({ fd: 0 }, holder);
    await expect(guard.arm({ fd: 0 }, holder)).rejects.toThrow(
      "fuse-lease: this client has 1 leases, the limit of one client is 1",
    );
    const second = await FuseLeaseGuard.open(path, { boundMs: BOUND_MS });
    await expect(second.arm({ fd: 0 }, holder)).rejects.toThrow(
      "the server has closed the connection: the server has 1 clients, its limit is 1",
    );
    expect(holder.recorded).toEqual([]);
    await Promise.all([guard.close(), second.close()]);
  });

  it("that does not read is ended at a limit", async () => {
    const { path, book } = await serve({ unreadBytes: 100_000 });
    const client = new Raw(path);
    client.send({ hold: 1, ...wire });
    await until(() => client.messages.length === 1);
    client.stopReading();
    for (let i = 0; i < 100_000 && book.isHeld(file); i += 1) book.grown(file, BigInt(i));
    expect(book.isHeld(file)).toBe(false);
  });

  it("makes the server wait once, however many leases it takes and gives back before one is granted", async () => {
    let waits = 0;
    let passed = (): void => {};
    const truncation = new Promise<void>((resolve) => {
      passed = resolve;
    });
    const { path, book } = await serve({}, () => {
      waits += 1;
      return truncation;
    });
    const client = new Raw(path);
    for (let i = 1; i <= 2000; i += 1) client.send({ hold: i, ...wire }, { release: i });
    client.send({ hold: 2001, ...wire });
    await until(() => book.isHeld(file));
    await until(() => waits > 0);
    expect(waits).toBeLessThan(3);
    passed();
    await until(() => client.messages.length > 0);
    expect(client.messages).toEqual([{ granted: 2001 }]);
  });

  it("is not waited for once it has given its lease back, whether or not it acknowledges", async () => {
    const { path, book } = await serve();
    const client = new Raw(path);
    client.send({ hold: 1, ...wire }, { hold: 2, ...wire });
    await until(() => client.messages.length === 2);
    let isOpen = false;
    const start = performance.now();
    const open = new Promise<void>((resolve) => book.ask(file, 0n, resolve)).then(() => {
      isOpen = true;
    });
    await until(() => client.messages.length === 4);
    client.send({ release: 1 });
    await until(() => book.isHeld(file));
    expect(isOpen).toBe(false);
    client.send({ release: 2 });
    await open;
    expect(performance.now() - start).toBeLessThan(BOUND_MS);
    // It acknowledges late, which does nothing, and is still a client.
    client.send({ ack: 1 }, { ack: 2 }, { hold: 3, ...wire });
    await until(() => client.messages.length === 5);
    expect(client.messages.at(-1)).toEqual({ granted: 3 });
  });

  it("delays a truncation by less than the bound, with all the leases that there can be on one file", async () => {
    const { path, book } = await serve();
    const acknowledge = (message: Readonly<Record<string, unknown>>, raw: Raw): void => {
      if (typeof message.recall === "number") raw.send({ ack: message.recall });
    };
    const clients = Array.from({ length: LEASE_LIMITS.holds / LEASE_LIMITS.holdsPerClient }, () => {
      const client = new Raw(path, acknowledge);
      client.send(
        ...Array.from({ length: LEASE_LIMITS.holdsPerClient }, (_, i) => ({ hold: i + 1, ...wire })),
      );
      return client;
    });
    await until(() => clients.every(({ messages }) => messages.length === LEASE_LIMITS.holdsPerClient));
    const start = performance.now();
    await new Promise<void>((open) => book.ask(file, 0n, open));
    const ms = performance.now() - start;
    console.info(`${LEASE_LIMITS.holds} leases recalled in ${Math.round(ms)} ms`);
    expect(ms).toBeLessThan(BOUND_MS);
    expect(clients.every(({ messages }) => messages.every((message) => !("closed" in message)))).toBe(true);
  });
});

describe("the lease socket", () => {
  it("is its owner's alone, whatever the umask", async () => {
    const umask = process.umask(0);
    const { path } = await serve();
    expect(process.umask(umask)).toBe(0);
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
  });

  it("stays open when there is no descriptor for a client", async () => {
    const listen = vi.spyOn(Server.prototype, "listen");
    const { path } = await serve();
    const server = listen.mock.contexts[0] as Server;
    listen.mockRestore();
    for (let i = 0; i < 3; i += 1)
      server.emit("error", Object.assign(new Error("accept"), { code: "EMFILE" }));
    const client = new Raw(path);
    client.send({ hold: 1, ...wire });
    await until(() => client.messages.length === 1);
  });

  it("replaces what a killed server has left", async () => {
    const path = join(temporaryDirectory(), "leases");
    const script =
      'require("node:net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))';
    spawnSync(process.execPath, ["-e", script, path]);
    expect(lstatSync(path).isSocket()).toBe(true);
    const server = await serveLeases(new LeaseBook({ boundMs: BOUND_MS }), path);
    close.push(() => server.close());
    const client = new Raw(path);
    client.send({ hold: 1, ...wire });
    await until(() => client.messages.length === 1);
    expect(client.messages).toEqual([{ granted: 1 }]);
  });

  it("refuses the place of a live server, and leaves that alone", async () => {
    const { path } = await serve();
    await expect(serveLeases(new LeaseBook({ boundMs: 1 }), path)).rejects.toThrow(
      `cannot grant leases at ${path}: another process listens there; end it, or name another path`,
    );
    const client = new Raw(path);
    client.send({ hold: 1, ...wire });
    await until(() => client.messages.length === 1);
  });

  it("refuses a place where there is a file, and leaves that alone", async () => {
    const path = join(temporaryDirectory(), "leases");
    writeFileSync(path, "mine");
    await expect(serveLeases(new LeaseBook({ boundMs: 1 }), path)).rejects.toThrow(
      "it exists and is not a socket; name another path",
    );
    expect(readFileSync(path, "utf8")).toBe("mine");
    await expect(serveLeases(new LeaseBook({ boundMs: 1 }), `${path}/in/it`)).rejects.toThrow("ENOTDIR");
  });
});
