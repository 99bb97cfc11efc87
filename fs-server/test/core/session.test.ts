import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { errnoNumber } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { OPCODES } from "../../src/abi/opcodes.ts";
import { direntBytes, ENTRY_BYTES } from "../../src/core/encode.ts";
import { HANDLERS } from "../../src/core/handlers.ts";
import { ContiguousSink } from "../../src/core/reply.ts";
import { Session } from "../../src/core/session.ts";
import { RecordingWindow } from "../../src/dax/recording.ts";
import { DecoratedFileSystem } from "../../src/fs/decorator.ts";
import { FaultyFileSystem } from "../../src/fs/faults.ts";
import type { FileSystem, NodeId } from "../../src/fs/filesystem.ts";
import { NULL_FILE_SYSTEM } from "../../src/fs/null.ts";
import { fuzz } from "../../src/fuzz/run.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";
import { encodeRequest, MemoryClient } from "../../src/transport/memory/client.ts";
import { CLIENTS } from "../support/clients.ts";

let source: string;
let fs: PassthroughFileSystem;
beforeEach(() => {
  source = temporaryDirectory();
  fs = new PassthroughFileSystem(source);
  return () => fs.close();
});

describe("READDIRPLUS", () => {
  /** The names that an answer looked up, of a folder with `known`, which the client has looked up before, and `new`. */
  function lookedUp(validityMs: number): readonly string[] {
    for (const name of ["known", "new"]) writeFileSync(join(source, name), "");
    const validity = { entryMs: validityMs, attributesMs: validityMs };
    const isKnown = (node: NodeId, ino: bigint): boolean => fs.isKnown(node, ino);
    const client = new MemoryClient(new Session({ fs, validity, isKnown }));
    client.init();
    client.call("LOOKUP", { names: ["known"] });
    const fh = client.call("OPENDIR", {}).body.getBigUint64(0, true);
    const { body } = client.call("READDIRPLUS", { args: { fh, size: 4096 } });
    const found: string[] = [];
    for (let at = 0; at < body.byteLength; ) {
      const nameBytes = body.getUint32(at + ENTRY_BYTES + 16, true);
      const name = Buffer.from(body.buffer, body.byteOffset + at + ENTRY_BYTES + 24, nameBytes).toString();
      if (body.getBigUint64(at, true) !== 0n) found.push(name);
      at += ENTRY_BYTES + direntBytes(nameBytes);
    }
    client.call("RELEASEDIR", { args: { fh } });
    return found.toSorted();
  }

  it("looks up what the client does not know, or may have to ask for soon", () => {
    expect(lookedUp(86_400_000)).toEqual(["new"]);
    expect(lookedUp(1000)).toEqual(["known", "new"]);
  });
});

describe("INIT", () => {
  const flagsOf = (session: Session): string => {
    new MemoryClient(session).init();
    return session.agreement?.flagNames.join(" ") ?? "";
  };

  it("offers DAX exactly if there is a window, with its alignment", () => {
    expect(flagsOf(new Session({ fs }))).not.toContain("MAP_ALIGNMENT");
    const session = new Session({ fs, window: new RecordingWindow(2n ** 21n, 4096n) });
    const { body } = new MemoryClient(session).init();
    expect(body.getUint16(30, true)).toBe(12);
  });

  it("offers pass-through exactly if there are backing files", () => {
    expect(flagsOf(new Session({ fs }))).not.toContain("PASSTHROUGH");
    const backingFiles = { open: () => 1, close: () => undefined };
    expect(flagsOf(new Session({ fs, backingFiles }))).toContain("PASSTHROUGH");
    expect(flagsOf(new Session({ fs, backingFiles, writebackCache: true }))).not.toContain("PASSTHROUGH");
  });

  it("agrees on the older minor and refuses what is too old", () => {
    const session = new Session({ fs });
    const client = new MemoryClient(session);
    expect(client.init(30).errno).toBe(errnoNumber("EPROTO"));
    expect(client.init(38).errno).toBe(0);
    expect(session.agreement).toMatchObject({ minor: 38, clientMinor: 38 });
  });
});

describe.each(CLIENTS)("content of dirty pages, client %s", (_name, connect) => {
  const WRITE_CACHE = 1;
  const written = (options: { readonly writebackCache: boolean }, offset: number): string => {
    writeFileSync(join(source, "file"), "12345");
    const client = connect(new Session({ fs, ...options }), { split: 16 });
    client.init();
    const node = client.call("LOOKUP", { names: ["file"] }).body.getBigUint64(0, true);
    const fh = client.call("OPEN", { node, args: { flags: 2 } }).body.getBigUint64(0, true);
    const payload = Buffer.alloc(40, "x");
    const args = { fh, offset, size: payload.length, write_flags: WRITE_CACHE };
    // Whatever becomes of it, the client's pages are clean afterwards.
    expect(client.call("WRITE", { node, args, payload }).body.getUint32(0, true)).toBe(payload.length);
    return readFileSync(join(source, "file"), "latin1");
  };

  it("does not make a file longer that somebody else has truncated", () => {
    expect(written({ writebackCache: false }, 2)).toBe("12xxx");
    expect(written({ writebackCache: false }, 5)).toBe("12345");
    expect(written({ writebackCache: false }, 4096)).toBe("12345");
  });

  it("does where the client's kernel owns the sizes", () => {
    expect(written({ writebackCache: true }, 5)).toBe(`12345${"x".repeat(40)}`);
  });
});

describe("content in pieces", () => {
  /** One that counts what is read and written piece by piece. */
  class Counting extends DecoratedFileSystem {
    pieces = 0;
    override read(...args: Parameters<FileSystem["read"]>): number {
      this.pieces += 1;
      return super.read(...args);
    }
    override write(...args: Parameters<FileSystem["write"]>): number {
      this.pieces += 1;
      return super.write(...args);
    }
  }

  /** Content that was written and what was read of it, by a client whose memory is in pieces of that many bytes. */
  function through(counting: Counting, split: number, lengthBytes: number) {
    const client = new MemoryClient(new Session({ fs: counting }), { split });
    client.init();
    const made = client.call("CREATE", { names: ["file"], args: { flags: 2, mode: 0o644 } }).body;
    const [node, fh] = [made.getBigUint64(0, true), made.getBigUint64(128, true)];
    const payload = Buffer.from(Array.from({ length: lengthBytes }, (_, i) => i % 251));
    client.call("WRITE", { node, args: { fh, offset: 3n, size: lengthBytes }, payload });
    const call = (offset: bigint) => client.call("READ", { node, args: { fh, offset, size: lengthBytes } });
    const { body } = call(3n);
    return {
      payload,
      written: readFileSync(join(source, "file")).subarray(3),
      read: Buffer.from(body.buffer, body.byteOffset, body.byteLength),
      atTheEnd: call(BigInt(lengthBytes)).body.byteLength,
      behind: call(2n ** 64n - 1n).errno,
    };
  }

  it.each<[string, number, number, boolean]>([
    ["by one call", 64, 1000, false],
    ["in one piece as ever", 4096, 1000, true],
    ["piece by piece where they are more than a call takes", 1, 1100, true],
  ])("is read and written %s", (_how, split, lengthBytes, isCounted) => {
    const counting = new Counting(fs);
    const { payload, written, read, atTheEnd, behind } = through(counting, split, lengthBytes);
    // The offset that no file has is refused piece by piece.
    expect(counting.pieces > 1).toBe(isCounted);
    expect([written, read]).toEqual([payload, payload]);
    expect([atTheEnd, behind]).toEqual([3, errnoNumber("EINVAL")]);
  });

  it("is read and written piece by piece where each must be seen", () => {
    const counting = new (class extends Counting {
      override descriptorOf(): null {
        return null;
      }
    })(fs);
    const { payload, read } = through(counting, 64, 1000);
    expect(counting.pieces).toBeGreaterThan(20);
    expect(read).toEqual(payload);
  });
});

describe.each(CLIENTS)("a client %s", (_name, connect) => {
  it("makes, writes, reads, lists and forgets; nothing is left", () => {
    const session = new Session({ fs });
    const client = connect(session, { split: 16 });
    client.init();
    const made = client.call("CREATE", { names: ["file"], args: { flags: 2, mode: 0o644 } });
    const node = made.body.getBigUint64(0, true);
    const fh = made.body.getBigUint64(128, true);
    const payload = Buffer.from("hello, spans that are cut");
    client.call("WRITE", { node, args: { fh, size: payload.length }, payload });
    expect(readFileSync(join(source, "file"))).toEqual(payload);
    const { body } = client.call("READ", { node, args: { fh, size: 100 } });
    expect(Buffer.from(body.buffer, body.byteOffset, body.byteLength)).toEqual(payload);
    client.call("RELEASE", { node, args: { fh } });
    client.post("FORGET", { node, args: { nlookup: 1 } });
    expect(fs.usage()).toEqual({ nodes: 0, handles: 0 });
  });

  it("is asked no more about closing once FLUSH is ENOSYS, which it is where flushing is nothing", () => {
    writeFileSync(join(source, "file"), "");
    const forwarded = { flushIsNothing: true, posixLocks: true };
    const answers = [{}, { flushIsNothing: false }, { flushIsNothing: true }, forwarded].map((options) => {
      const client = connect(new Session({ fs, ...options }), { split: 16 });
      client.init();
      const node = client.call("LOOKUP", { names: ["file"] }).body.getBigUint64(0, true);
      const fh = client.call("OPEN", { node, args: { flags: 0 } }).body.getBigUint64(0, true);
      const { errno } = client.call("FLUSH", { node, args: { fh } });
      client.call("RELEASE", { node, args: { fh } });
      return errno;
    });
    expect(answers).toEqual([0, 0, errnoNumber("ENOSYS"), 0]);
  });

  it("that cannot take an answer gets its references taken back", () => {
    writeFileSync(join(source, "file"), "");
    const session = new Session({ fs });
    connect(session).init();
    const gone = (): ContiguousSink => new ContiguousSink(new Uint8Array(4096), () => false);
    session.handle([encodeRequest("LOOKUP", 10n, { names: ["file"] })], gone());
    session.handle([encodeRequest("CREATE", 12n, { names: ["new"], args: { flags: 2 } })], gone());
    session.handle([encodeRequest("OPENDIR", 14n, {})], gone());
    expect(fs.usage()).toEqual({ nodes: 0, handles: 0 });
    expect(session.counts.undelivered).toBe(3);
  });

  it("that destroys its session can begin again", () => {
    writeFileSync(join(source, "file"), "x");
    const window = new RecordingWindow(2n ** 22n);
    const session = new Session({ fs, window });
    const client = connect(session);
    for (let round = 0; round < 2; round += 1) {
      client.init();
      const node = client.call("LOOKUP", { names: ["file"] }).body.getBigUint64(0, true);
      client.call("OPEN", { node, args: { flags: 0 } });
      client.call("SETUPMAPPING", { node, args: { len: 2 ** 21, flags: 2 } });
      client.call("DESTROY");
      expect(fs.usage()).toEqual({ nodes: 0, handles: 0 });
    }
    expect(window.calls.map((call) => call.kind)).toEqual(["map", "unmap", "map", "unmap"]);
  });
});

describe("the table and the handlers", () => {
  it("name the same opcodes: every served row has a handler, no handler lacks a row", () => {
    const served = OPCODES.filter((row) => row.port === "file-system" || row.port === "window");
    expect(served.map((row) => row.name).toSorted()).toEqual(Object.keys(HANDLERS).toSorted());
  });

  it("do not compile otherwise", () => {
    const { SYNCFS, ...others } = HANDLERS;
    // @ts-expect-error a served row without its handler
    const missing: typeof HANDLERS = others;
    // @ts-expect-error a handler without its row
    const more: typeof HANDLERS = { ...HANDLERS, SYNCFSS: SYNCFS };
    const { RENAME2 } = HANDLERS;
    // @ts-expect-error a handler that reads other arguments than its row has
    const other: typeof HANDLERS = { ...HANDLERS, RENAME: RENAME2 };
    expect([missing, more, other].map((each) => typeof each)).toEqual(["object", "object", "object"]);
  });
});

describe("postponed requests", () => {
  let clock = 0;
  const delayed = (): { session: Session; client: MemoryClient; fh: bigint; node: bigint } => {
    writeFileSync(join(source, "file"), "x");
    const rule = {
      operation: "read",
      at: null,
      after: 0,
      times: null,
      action: { kind: "delay", ms: 50 },
    } as const;
    const session = new Session({ fs: new FaultyFileSystem(fs, [rule]), now: () => clock });
    const client = new MemoryClient(session);
    client.init();
    const node = client.call("LOOKUP", { names: ["file"] }).body.getBigUint64(0, true);
    const fh = client.call("OPEN", { node }).body.getBigUint64(0, true);
    return { session, client, fh, node };
  };

  it("are answered when due, once, while others go on", () => {
    const { session, client, fh, node } = delayed();
    const read = encodeRequest("READ", 1000n, { node, args: { fh, size: 10 } });
    expect(client.send(read).result.kind).toBe("postponed");
    expect(client.call("GETATTR", { node }).errno).toBe(0);
    expect(session.msUntilDue()).toBe(50);
    session.handleDue();
    expect(client.answers.get(1000n)).toBe(undefined);
    clock += 50;
    session.handleDue();
    session.handleDue();
    expect(client.answers.get(1000n)).toBe(1);
    expect(session.msUntilDue()).toBe(null);
  });

  it("end with EINTR when interrupted, and with EIO when there are too many", () => {
    const { session, client, fh, node } = delayed();
    const read = (unique: bigint): Uint8Array =>
      encodeRequest("READ", unique, { node, args: { fh, size: 1 } });
    const sent: number[] = [];
    const sink = new ContiguousSink(new Uint8Array(4096), (message) => {
      sent.push(new DataView(message.buffer).getInt32(4, true));
      return true;
    });
    expect(session.handle([read(1000n)], sink).kind).toBe("postponed");
    expect(client.post("INTERRUPT", { args: { unique: 1000n } }).kind).toBe("no-reply");
    expect(sent).toEqual([-errnoNumber("EINTR")]);
    expect(session.msUntilDue()).toBe(null);
    for (let i = 0n; i < 64n; i += 1n) client.send(read(2000n + i));
    expect(client.send(read(3000n)).answer?.errno).toBe(errnoNumber("EIO"));
  });
});

describe("hostile messages", () => {
  it.each([1, 2, 3])("never throw, leak, or get two answers (seed %s)", (seed) => {
    writeFileSync(join(source, "a"), "a");
    const limits = { nodeLimit: 16, handleLimit: 8, lockLimit: 4, readOnly: seed === 3 };
    const figures = fuzz({
      fs: () => (seed === 1 ? NULL_FILE_SYSTEM : new PassthroughFileSystem(source, limits)),
      seed,
      messages: 3000,
      session: { window: new RecordingWindow(2n ** 24n), posixLocks: true, flocks: true },
    });
    expect(figures).toMatchObject({ failures: [], defects: 0 });
    expect(figures.answered).toBeGreaterThan(2000);
  });

  it("of arbitrary bytes are answered at most once", () => {
    const session = new Session({ fs: NULL_FILE_SYSTEM });
    const client = new MemoryClient(session, { split: 16 });
    client.init();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        client.answers.clear();
        client.send(bytes);
        expect([...client.answers.values()].every((count) => count === 1)).toBe(true);
      }),
    );
    expect(session.counts.defects).toBe(0);
  });
});
