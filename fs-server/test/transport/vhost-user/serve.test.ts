/** `serve --socket-path` as a VMM meets it: a server process, and a front-end of our own that speaks as QEMU does. */
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { errnoNumber, files, memfdCreate } from "../../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../../sys/test/support/directories.ts";
import { PassthroughFileSystem } from "../../../src/passthrough/passthrough.ts";
import { encodeRequest, MemoryClient } from "../../../src/transport/memory/client.ts";
import { type Descriptor, FrontEnd, type ShmemRequest } from "../../support/front-end.ts";
import { type Server, serveExpectingEnd, startServer } from "../../support/server.ts";
import { until } from "../../support/until.ts";

const RANGE = 2n * 2n ** 20n;
const NO_HANDLE = 2n ** 64n - 1n;
const ENTRY_NODE = 0;
const BOUND_MS = 60_000;
/** Until the server has said something. */
const SAID_MS = 10_000;

const running: Server[] = [];

afterEach(async () => {
  for (const server of running.splice(0)) await server.stop("SIGKILL");
});

type Setting = { readonly server: Server; readonly source: string; readonly path: string };

async function serving(...args: readonly string[]): Promise<Setting> {
  const folder = temporaryDirectory();
  const source = join(folder, "source");
  mkdirSync(source);
  writeFileSync(join(source, "text"), "hello\n");
  writeFileSync(join(source, "empty"), "");
  writeFileSync(join(source, "range"), Buffer.alloc(Number(RANGE), "r"));
  const path = join(folder, "socket");
  const server = await startServer(["--shared-dir", source, "--socket-path", path, "--tag", "myfs", ...args]);
  running.push(server);
  return { server, source, path };
}

/** A front-end whose guest has mounted the file system. */
function mounted(path: string): { readonly frontEnd: FrontEnd; readonly client: MemoryClient } {
  const frontEnd = new FrontEnd(path);
  frontEnd.begin();
  const client = new MemoryClient(frontEnd.handler, { split: null });
  expect(client.init().errno).toBe(0);
  return { frontEnd, client };
}

function lookup(client: MemoryClient, name: string): bigint {
  const { errno, body } = client.call("LOOKUP", { names: [name] });
  expect(errno).toBe(0);
  return body.getBigUint64(ENTRY_NODE, true);
}

function contentOf(client: MemoryClient, node: bigint, size: number): string {
  const handle = client.call("OPEN", { node, args: { flags: 0 } }).body.getBigUint64(0, true);
  const { errno, body } = client.call("READ", { node, args: { fh: handle, offset: 0n, size } });
  expect(errno).toBe(0);
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString();
}

describe("a VMM at --socket-path", { timeout: BOUND_MS }, () => {
  it("is told that the server is ready, and gets the file system's tag and content", async () => {
    const { server, path } = await serving();
    expect(server.ready).toMatchObject({
      type: "ready",
      transport: "vhost-user",
      socketPath: path,
      tag: "myfs",
    });
    const { frontEnd, client } = mounted(path);
    // As QEMU asks for it: all of it, again and again.
    const config = frontEnd.get("GET_CONFIG", Buffer.concat([u32(0), u32(40), u32(0), Buffer.alloc(40)]));
    expect(config.subarray(12).toString("latin1")).toBe(`myfs${"\0".repeat(32)}\u0001\0\0\0`);
    expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
    frontEnd.leave();
    const { code, stderr } = await server.ended;
    expect(stderr).toContain("the front-end has left: ended");
    expect(code).toBe(0);
    expect(existsSync(path)).toBe(false);
  });

  it("is followed by the next one with --reconnect: nothing of the first is left", async () => {
    const { server, path } = await serving("--reconnect");
    // Threads of the server that are there to stay are up when the first front-end has left.
    let before: readonly string[] | null = null;
    for (let i = 1; i <= 4; i += 1) {
      const { frontEnd, client } = mounted(path);
      expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
      // An open file, and a node that is known: left behind.
      client.call("OPEN", { node: lookup(client, "range"), args: { flags: 0 } });
      frontEnd.leave();
      await until(() => server.said().split("the front-end has left").length > i, SAID_MS);
      before ??= descriptors(server);
      expect(descriptors(server)).toEqual(before);
    }
    const { code } = await server.stop();
    expect(code).toBe(0);
  });

  it("is told that close(2) has no work, once, where the source's file system has none", async () => {
    const { path, source } = await serving();
    const { client, frontEnd } = mounted(path);
    const node = lookup(client, "text");
    const fh = client.call("OPEN", { node, args: { flags: 0 } }).body.getBigUint64(0, true);
    const local = new PassthroughFileSystem(source);
    const { flushIsNothing } = local;
    local.close();
    expect(client.call("FLUSH", { node, args: { fh } }).errno).toBe(
      flushIsNothing ? errnoNumber("ENOSYS") : 0,
    );
    expect(client.call("RELEASE", { node, args: { fh } }).errno).toBe(0);
    frontEnd.leave();
  });

  it("whose guest is reset mounts again, by INIT in the middle of a session", async () => {
    const { frontEnd, client } = mounted((await serving()).path);
    const node = lookup(client, "text");
    expect(client.init().errno).toBe(0);
    // Known to the guest before the reset only.
    expect(client.call("GETATTR", { node, args: {} }).errno).not.toBe(0);
    expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
    frontEnd.leave();
  });

  it("pauses and goes on: a ring that is stopped says how far it was, and is taken up there", async () => {
    const { frontEnd, client } = mounted((await serving()).path);
    const node = lookup(client, "text");
    const base = frontEnd.get("GET_VRING_BASE", Buffer.concat([u32(1), u32(0)]));
    expect(base.readUInt32LE(4)).toBe(2);
    frontEnd.restartQueue(1, base.readUInt32LE(4));
    expect(contentOf(client, node, 100)).toBe("hello\n");
    frontEnd.leave();
  });

  it("that asks for migration is refused, and goes on", async () => {
    const { server, path } = await serving("--reconnect");
    const { frontEnd, client } = mounted(path);
    const log = memfdCreate("log");
    expect(frontEnd.acknowledged("SET_LOG_BASE", Buffer.alloc(16), [log])).toBe(1n);
    expect(frontEnd.acknowledged("SET_DEVICE_STATE_FD", Buffer.alloc(8), [log])).toBe(1n);
    files.close(log);
    expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
    frontEnd.leave();
    const { stderr } = await server.stop();
    for (const name of ["SET_LOG_BASE", "SET_DEVICE_STATE_FD"])
      expect(stderr).toContain(`${name}: migration is not offered`);
  });

  it("outlives a server that is killed, and finds the next one at the same path", async () => {
    const first = await serving();
    const { frontEnd, client } = mounted(first.path);
    expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
    await first.server.stop("SIGKILL");
    expect(frontEnd.isClosed()).toBe(true);
    frontEnd.leave();
    // Its socket is still there: a name without a listener.
    const args = ["--shared-dir", first.source, "--socket-path", first.path, "--tag", "myfs", "--reconnect"];
    const second = await startServer(args);
    running.push(second);
    const again = mounted(first.path);
    expect(contentOf(again.client, lookup(again.client, "text"), 100)).toBe("hello\n");
    again.frontEnd.leave();
    expect((await second.stop()).code).toBe(0);
  });

  it("has no channel that is none: another descriptor is refused, and the session goes on", async () => {
    const { server, path } = await serving("--dax-window", "64M");
    const { frontEnd, client } = mounted(path);
    const other = memfdCreate("no socket");
    expect(frontEnd.acknowledged("SET_BACKEND_REQ_FD", new Uint8Array(0), [other])).toBe(1n);
    files.close(other);
    expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
    frontEnd.leave();
    expect((await server.ended).stderr).toContain("its descriptor is no stream socket of unix(7)");
  });

  it("that gives a file for an interrupt is refused: nothing is written into it", async () => {
    const { server, path } = await serving();
    const { frontEnd, client } = mounted(path);
    const file = memfdCreate("no counter");
    for (const name of ["SET_VRING_CALL", "SET_VRING_ERR"] as const) {
      expect(frontEnd.acknowledged(name, u64(1n), [file]), name).toBe(1n);
    }
    expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
    frontEnd.leave();
    expect((await server.ended).stderr).toContain("nobody can wait for its descriptor");
    expect(fstatSync(file).size).toBe(0);
    files.close(file);
  });

  it("that breaks the protocol is cut off, and the server says why", async () => {
    const { server, path } = await serving();
    const { frontEnd } = mounted(path);
    frontEnd.sendRaw(Buffer.concat([u32(1), u32(2), u32(0)]));
    expect(frontEnd.isClosed()).toBe(true);
    const { code, stderr } = await server.ended;
    expect(stderr).toContain("a message of protocol version 2, expected 1");
    expect(code).toBe(1);
    frontEnd.leave();
  });

  it("whose guest breaks a ring is served no more, until the ring is started anew", async () => {
    const { server, path } = await serving();
    const { frontEnd, client } = mounted(path);
    frontEnd.offer(1, [{ gpa: 2n ** 40n, length: 64, flags: 2 }]);
    // A ring that is stopped before its offer was looked at is not broken.
    await until(() => server.said().includes("the guest broke queue 1: a buffer of 64 bytes"), SAID_MS);
    frontEnd.get("GET_VRING_BASE", Buffer.concat([u32(1), u32(0)]));
    frontEnd.startQueue(1);
    expect(client.init().errno).toBe(0);
    frontEnd.leave();
    expect((await server.ended).code).toBe(0);
  });

  it("finds memory refused that its descriptor does not have, or that overlaps", async () => {
    const { frontEnd, client } = mounted((await serving()).path);
    const fd = memfdCreate("small");
    files.ftruncate(fd, 4096n);
    const place = { userAddress: 2n ** 40n, lengthBytes: 8192n };
    expect(frontEnd.addRegion(2n ** 32n, fd, place)).toBe(1n);
    expect(frontEnd.addRegion(4096n, fd, { ...place, lengthBytes: 4096n })).toBe(1n);
    expect(frontEnd.addRegion(2n ** 64n - 4096n, fd, place)).toBe(1n);
    expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
    files.close(fd);
    frontEnd.leave();
  });
});

/** Where the front-end has the file of another device: an NVDIMM, or a file in another DAX window. */
const OTHER = 2n ** 32n;
const IN_RAM = 3 * 2 ** 20;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
/** Of an answer that is an errno alone. */
const ERROR_BYTES = 16;

describe("memory that is a file of the host's, which is made shorter", { timeout: BOUND_MS }, () => {
  it("is the guest's memory while it is there; then it costs a request, or a queue, and not the server", async () => {
    const { server, path, source } = await serving();
    const { frontEnd, client } = mounted(path);
    const message = Buffer.from(encodeRequest("GETATTR", 99n, { args: {} }));
    const request = { gpa: BigInt(IN_RAM), length: message.length, flags: NEXT };
    const room = { gpa: BigInt(IN_RAM + 4096), length: 4096, flags: WRITE };
    frontEnd.place(IN_RAM, message);
    const other = join(source, "range");
    const fd = openSync(other, "r+");
    files.pwrite(fd, message, 0n);
    files.pwrite(fd, tableOf([request, room]), 4096n);
    expect(frontEnd.addRegion(OTHER, fd, { userAddress: OTHER, lengthBytes: RANGE })).toBe(0n);
    closeSync(fd);
    const headerBytes = 40;
    const behind = { gpa: OTHER + 40n, length: message.length - headerBytes, flags: NEXT };
    /** With the bytes of its answer after the cut. */
    const chains: readonly [readonly Descriptor[], number][] = [
      // The number of the request is in its header.
      [[{ ...request, gpa: OTHER }, room], 0],
      [[{ ...request, length: headerBytes }, behind, room], ERROR_BYTES],
      [[request, { ...room, gpa: OTHER + 8192n }], 0],
    ];
    const table = [{ gpa: OTHER + 4096n, length: 32, flags: INDIRECT }];
    const whole = frontEnd.served(1, [request, room]);
    expect(whole).toBeGreaterThan(ERROR_BYTES);
    for (const [chain] of chains) expect(frontEnd.served(1, chain)).toBe(whole);
    expect(frontEnd.served(1, table)).toBe(whole);
    const answer = Buffer.concat([u32(whole), u32(0), u64(99n)]);
    expect(readFileSync(other).subarray(8192, 8192 + answer.length)).toEqual(answer);
    truncateSync(other, 0);
    for (const [chain, usedBytes] of chains) expect(frontEnd.served(1, chain)).toBe(usedBytes);
    expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
    // What is no RAM has no rings.
    const places = [0n, 4096n, 1024n, 0n].map((place) => u64(OTHER + place));
    expect(frontEnd.acknowledged("SET_VRING_ADDR", Buffer.concat([u32(0), u32(0), ...places]))).toBe(1n);
    frontEnd.offer(1, table);
    await until(
      () => server.said().includes("the guest broke queue 1: an indirect table at 0x100001000"),
      SAID_MS,
    );
    frontEnd.get("GET_VRING_BASE", Buffer.concat([u32(1), u32(0)]));
    frontEnd.startQueue(1);
    expect(client.init().errno).toBe(0);
    frontEnd.leave();
    expect((await server.ended).code).toBe(0);
    expect(server.said()).toContain("a ring of queue 0 is not in the guest's RAM");
  });

  it("is the guest's RAM, where the guest has no other", async () => {
    const { path } = await serving();
    const file = join(temporaryDirectory(), "ram");
    const frontEnd = new FrontEnd(path, openSync(file, "w+"));
    frontEnd.begin();
    const client = new MemoryClient(frontEnd.handler, { split: null });
    expect(client.init().errno).toBe(0);
    expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
    frontEnd.leave();
  });
});

describe("the DAX window of a VMM", { timeout: BOUND_MS }, () => {
  const setup = (node: bigint, offset: bigint, flags: bigint) => ({
    node,
    args: { fh: NO_HANDLE, foffset: 0n, len: RANGE, flags, moffset: offset },
  });

  it("has files of any size: what QEMU would refuse or make longer is never passed", async () => {
    const { path, source } = await serving("--dax-window", "64M");
    const { frontEnd, client } = mounted(path);
    expect(frontEnd.get("GET_SHMEM_CONFIG").readBigUInt64LE(8)).toBe(64n * 2n ** 20n);
    const seen: ShmemRequest[] = [];
    frontEnd.onShmem = (request) => {
      seen.push(request);
      if (request.kind === "unmap") return 0n;
      const size = files.lseek(request.fd, 0n, 2);
      // qemu_ram_alloc_from_fd()
      return size > 0n && size >= request.fdOffset + request.lengthBytes ? 0n : 1n;
    };
    for (const [i, name] of ["range", "text", "empty"].entries()) {
      const offset = BigInt(i) * RANGE;
      const { errno } = client.call("SETUPMAPPING", setup(lookup(client, name), offset, 3n));
      // Without root or Linux 6.9 only the first can be mapped.
      if (errno !== 0) expect(name).not.toBe("range");
      expect(seen.every(({ fd, kind }) => kind === "unmap" || fd >= 0)).toBe(true);
    }
    expect(readFileSync(join(source, "empty"))).toHaveLength(0);
    // The upgrade from reading to reading and writing has nothing to do.
    const count = seen.length;
    expect(client.call("SETUPMAPPING", setup(lookup(client, "range"), 0n, 3n)).errno).toBe(0);
    expect(seen).toHaveLength(count);
    expect(client.call("REMOVEMAPPING", removal(0n)).errno).toBe(0);
    expect(seen.at(-1)).toMatchObject({ kind: "unmap", windowOffset: 0n, lengthBytes: RANGE });
    for (const { fd } of seen) if (fd >= 0) files.close(fd);
    frontEnd.leave();
  });
});

describe("options of a server for a VMM", { timeout: BOUND_MS }, () => {
  it.each([
    [["--sandbox", "namespace"], "--sandbox namespace is not offered"],
    [["--dax-window", "3M"], "--dax-window 3M: expected a multiple of 2M"],
    [["--dax-window", "64M", "--read-only"], "--dax-window and --read-only exclude each other"],
    [["--guard", "notify"], "--guard goes with --dax-window"],
    [["--tag", "x".repeat(37)], "expected 1 to 36 bytes"],
    [["--socket-path", `/${"x".repeat(107)}`], "expected 1 to 107 bytes"],
    [
      ["--dax-window", "64M", "--guard", "fuse-lease", "--lease-socket", `/${"x".repeat(107)}`],
      "expected 1 to 107 bytes",
    ],
    [["--flock"], "--flock is not offered to a VMM"],
    [["--posix-lock"], "--posix-lock is not offered to a VMM"],
    [["--thread-pool-size", "11"], "--thread-pool-size 11 is not a whole number from 0 to 10"],
  ])("refuses %j by name", async (args, message) => {
    const folder = temporaryDirectory();
    const { code, stderr } = await serveExpectingEnd([
      ...["--shared-dir", folder, "--socket-path", join(folder, "socket"), "--tag", "t"],
      ...args,
    ]);
    expect(stderr).toContain(message);
    expect(code).toBe(64);
  });

  it("does not take the socket of a server that runs, and leaves that alone", async () => {
    const { path } = await serving();
    const { code, stderr } = await serveExpectingEnd([
      "--shared-dir",
      temporaryDirectory(),
      "--socket-path",
      path,
    ]);
    expect(stderr).toContain("another process listens there");
    expect(code).toBe(1);
    const { frontEnd, client } = mounted(path);
    expect(contentOf(client, lookup(client, "text"), 100)).toBe("hello\n");
    frontEnd.leave();
  });
});

function removal(offset: bigint) {
  const payload = Buffer.alloc(16);
  payload.writeBigUInt64LE(offset);
  payload.writeBigUInt64LE(RANGE, 8);
  return { args: { count: 1 }, payload };
}

function tableOf(descriptors: readonly Descriptor[]): Buffer {
  const table = Buffer.alloc(16 * descriptors.length);
  for (const [i, { gpa, length, flags }] of descriptors.entries()) {
    table.writeBigUInt64LE(gpa, 16 * i);
    table.writeUInt32LE(length, 16 * i + 8);
    table.writeUInt16LE(flags, 16 * i + 12);
    table.writeUInt16LE(i + 1, 16 * i + 14);
  }
  return table;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** What each descriptor of the server refers to, without the numbers of sockets and pipes. */
function descriptors({ pid }: Server): readonly string[] {
  return readdirSync(`/proc/${pid}/fd`).map(descriptorName(pid)).sort();
}

function descriptorName(pid: number): (fd: string) => string {
  return (fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\[\d+\]$/, "");
    } catch {
      // Closed meanwhile.
      return "";
    }
  };
}
