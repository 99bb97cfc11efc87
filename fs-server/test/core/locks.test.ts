/** GETLK, SETLK, SETLKW, and what FLUSH and RELEASE do to locks, by messages. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { errnoNumber, F_RDLCK, F_UNLCK, F_WRLCK, LOCK_EOF } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { ContiguousSink, type ReplySink } from "../../src/core/reply.ts";
import { Session, type SessionOptions } from "../../src/core/session.ts";
import type { LockWait } from "../../src/fs/lock-waits.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";
import { type Call, encodeRequest, type MemoryClient } from "../../src/transport/memory/client.ts";
import { CLIENTS, type Connect } from "../support/clients.ts";

const EAGAIN = errnoNumber("EAGAIN");
const RELEASE_FLOCK_UNLOCK = 2;
const LK_FLOCK = 1;

let clock: number;
let session: Session;
let client: MemoryClient;
let node: bigint;
let fh: bigint;

function setUp(
  connect: Connect,
  options: Partial<SessionOptions> = { posixLocks: true, flocks: true },
): void {
  clock = 0;
  const source = temporaryDirectory();
  writeFileSync(join(source, "file"), "content");
  const fs = new PassthroughFileSystem(source, { lockLimit: 4 });
  session = new Session({ fs, now: () => clock, ...options });
  client = connect(session);
  client.init();
  node = client.call("LOOKUP", { names: ["file"] }).body.getBigUint64(0, true);
  fh = client.call("OPEN", { node, args: { flags: 2 } }).body.getBigUint64(0, true);
}

function lock(owner: bigint, type: number, start = 0n, end = LOCK_EOF, how: Call["args"] = {}): Call {
  const fields = { "lk.type": type, "lk.start": start, "lk.end": end, "lk.pid": Number(owner) };
  return { node, args: { fh, owner, ...fields, ...how } };
}

describe.each(CLIENTS)("locks of a client %s", (_name, connect) => {
  it.each<readonly [string, Partial<SessionOptions>, readonly string[]]>([
    ["neither", {}, []],
    ["POSIX", { posixLocks: true }, ["POSIX_LOCKS"]],
    ["flock", { flocks: true }, ["FLOCK_LOCKS"]],
    ["both", { posixLocks: true, flocks: true }, ["FLOCK_LOCKS", "POSIX_LOCKS"]],
  ])("are offered as asked for: %s", (_what, options, expected) => {
    setUp(connect, options);
    const names = session.agreement?.flagNames.filter((name) => name.endsWith("_LOCKS"));
    expect(names?.toSorted()).toEqual(expected);
    const isOffered = expected.includes("POSIX_LOCKS");
    expect(client.call("SETLK", lock(1n, F_RDLCK)).errno).toBe(isOffered ? 0 : errnoNumber("ENOSYS"));
    const flocked = client.call("SETLK", lock(9n, F_RDLCK, 0n, LOCK_EOF, { lk_flags: LK_FLOCK }));
    expect(flocked.errno).toBe(expected.includes("FLOCK_LOCKS") ? 0 : errnoNumber("ENOSYS"));
  });

  it("are set, found and dropped", () => {
    setUp(connect);
    expect(client.call("SETLK", lock(1n, F_WRLCK, 5n, 9n)).errno).toBe(0);
    expect(client.call("SETLK", lock(2n, F_RDLCK, 9n, 20n)).errno).toBe(EAGAIN);
    const { body } = client.call("GETLK", lock(2n, F_RDLCK));
    const found = [body.getBigUint64(0, true), body.getBigUint64(8, true)];
    expect([...found, body.getUint32(16, true), body.getUint32(20, true)]).toEqual([5n, 9n, F_WRLCK, 1]);
    expect(client.call("GETLK", lock(1n, F_WRLCK)).body.getUint32(16, true)).toBe(F_UNLCK);
    expect(client.call("FLUSH", { node, args: { fh, lock_owner: 2n } }).errno).toBe(0);
    expect(client.call("SETLK", lock(2n, F_RDLCK, 9n, 20n)).errno).toBe(EAGAIN);
    expect(client.call("FLUSH", { node, args: { fh, lock_owner: 1n } }).errno).toBe(0);
    expect(client.call("SETLK", lock(2n, F_RDLCK, 9n, 20n)).errno).toBe(0);
    expect(client.call("SETLK", lock(2n, 3)).errno).toBe(errnoNumber("EINVAL"));
    expect(client.call("SETLK", { ...lock(2n, F_RDLCK), args: { fh: 99n } }).errno).toBe(
      errnoNumber("EBADF"),
    );
  });

  it("of flock(2) go with RELEASE", () => {
    setUp(connect);
    const other = client.call("OPEN", { node, args: { flags: 0 } }).body.getBigUint64(0, true);
    const flock = (handle: bigint, type: number): number =>
      client.call("SETLK", lock(1n, type, 0n, LOCK_EOF, { fh: handle, lk_flags: LK_FLOCK })).errno;
    expect([flock(fh, F_WRLCK), flock(other, F_RDLCK)]).toEqual([0, EAGAIN]);
    client.call("RELEASE", { node, args: { fh, release_flags: RELEASE_FLOCK_UNLOCK } });
    expect(flock(other, F_WRLCK)).toBe(0);
  });

  it("are waited for by trying again every 10 ms, until interrupted", () => {
    setUp(connect);
    client.call("SETLK", lock(1n, F_WRLCK));
    const waiting = (unique: bigint, owner: bigint): string =>
      client.send(encodeRequest("SETLKW", unique, lock(owner, F_WRLCK))).result.kind;
    expect([waiting(1000n, 2n), waiting(1002n, 3n)]).toEqual(["postponed", "postponed"]);
    expect(session.msUntilDue()).toBe(10);
    clock += 10;
    session.handleDue();
    expect([client.answers.get(1000n), session.msUntilDue()]).toEqual([undefined, 10]);
    expect(session.interrupt(1000n)).toBe(true);
    client.call("SETLK", lock(1n, F_UNLCK));
    clock += 10;
    session.handleDue();
    expect(client.call("GETLK", lock(2n, F_WRLCK)).body.getUint32(20, true)).toBe(3);
    expect([client.answers.get(1000n), client.answers.get(1002n)]).toEqual([1, 1]);
  });
});

describe("where another thread waits for locks", () => {
  const entered: LockWait[] = [];
  let released: number;
  let room: boolean;

  beforeEach(() => {
    [entered.length, released, room] = [0, 0, true];
    const lockWaits = {
      enter: (wait: LockWait) => room && entered.push(wait) > 0,
      released: () => {
        released += 1;
      },
    };
    setUp(CLIENTS[0]?.[1] as Connect, { posixLocks: true, flocks: true, lockWaits });
    client.call("SETLK", lock(1n, F_WRLCK));
  });

  function asked(unique: bigint): { readonly kind: string; readonly errno: number | null } {
    let errno: number | null = null;
    const sink: ReplySink = new ContiguousSink(new Uint8Array(4096), (message) => {
      errno = -new DataView(message.buffer).getInt32(4, true);
      return true;
    });
    const device = Object.assign(sink, { device: 42 });
    const { kind } = session.handle([encodeRequest("SETLKW", unique, lock(2n, F_RDLCK, 5n, 6n))], device);
    return { kind, errno };
  }

  it("a request goes there, with where its answer belongs, and is not answered here", () => {
    expect(asked(1000n)).toEqual({ kind: "postponed", errno: null });
    const expected = { kind: "posix", type: F_RDLCK, start: 5n, end: 6n, owner: 2n, pid: 2 };
    expect(entered).toEqual([{ unique: 1000n, device: 42, handle: fh, lock: expected }]);
    expect(session.msUntilDue()).toBe(null);
  });

  it("a lock that is free is had at once", () => {
    client.call("SETLK", lock(1n, F_UNLCK));
    expect(asked(1000n)).toEqual({ kind: "answered", errno: -0 });
    expect(entered).toEqual([]);
  });

  it("one too many is ENOLCK", () => {
    room = false;
    expect(asked(1000n)).toEqual({ kind: "answered", errno: errnoNumber("ENOLCK") });
  });

  it.each<readonly [string, () => unknown, number]>([
    ["a lock for writing", () => client.call("SETLK", lock(1n, F_WRLCK, 0n, 5n)), 0],
    [
      "a lock for reading, which may have been one for writing",
      () => client.call("SETLK", lock(1n, F_RDLCK)),
      1,
    ],
    ["an unlock", () => client.call("SETLK", lock(1n, F_UNLCK, 1n, 2n)), 1],
    ["a close by an owner of locks", () => client.call("FLUSH", { node, args: { fh, lock_owner: 1n } }), 1],
    ["a close by another", () => client.call("FLUSH", { node, args: { fh, lock_owner: 2n } }), 0],
    ["a last close", () => client.call("RELEASE", { node, args: { fh } }), 1],
  ])("is told of %s", (_what, work, expected) => {
    released = 0;
    work();
    expect(released).toBe(expected);
  });
});
