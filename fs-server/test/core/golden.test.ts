/**
 * One transcript, byte for byte, through every transport: one buffer, messages cut into spans, a socket standing for
 * /dev/fuse, and virtqueues. Recorded in fixtures/golden/session.json; DAXFAULT_RECORD=1 records it anew.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { files, socketPair } from "../../../sys/src/index.ts";
import type { OpcodeName } from "../../src/abi/opcodes.ts";
import { Session } from "../../src/core/session.ts";
import { RecordingWindow } from "../../src/dax/recording.ts";
import { failure } from "../../src/fs/errors.ts";
import {
  type Attributes,
  DirectoryEntry,
  type Entry,
  type FileHandle,
  type FileSystem,
  type NodeId,
} from "../../src/fs/filesystem.ts";
import { NULL_FILE_SYSTEM } from "../../src/fs/null.ts";
import { serveDevice } from "../../src/transport/devfuse/loop.ts";
import { type Call, encodeRequest, MemoryClient } from "../../src/transport/memory/client.ts";
import { type DriverOptions, throughVirtio } from "../transport/virtio/driver.ts";

const FIXTURE = "fixtures/golden/session.json";
const LARGE = 2n ** 53n + 1n;

const attributes: Attributes = {
  ino: 2n ** 64n - 1n,
  sizeBytes: LARGE,
  blocks: 8n,
  accessTime: { seconds: -1n, nanoseconds: 1 },
  modificationTime: { seconds: 2n, nanoseconds: 999_999_999 },
  changeTime: { seconds: 3n, nanoseconds: 0 },
  mode: 0o100644,
  linkCount: 1,
  uid: 1000,
  gid: 1001,
  device: { major: 259, minor: 70_000 },
  blockSizeBytes: 4096,
};
const entry: Entry = { node: 2n as NodeId, generation: 0n, attributes };
const handle = LARGE as FileHandle;

/** Answers that are the same for ever. */
const fixed: FileSystem = {
  ...NULL_FILE_SYSTEM,
  lookup: (_, name) => {
    if (name[0] !== 0x66) throw failure("ENOENT");
    return entry;
  },
  getattr: () => attributes,
  open: () => handle,
  create: () => ({ entry, handle }),
  read: (_, offset, into) => {
    for (let i = 0; i < into.length; i += 1) into[i] = Number((offset + BigInt(i)) & 0xffn);
    return into.length;
  },
  write: (_handle, _offset, data) => data.length,
  readlink: () => Buffer.from("target"),
  opendir: () => handle,
  readDirectory: (_, offset, emit) => {
    const names = [".", "..", "file", "other-file"].slice(Number(offset));
    for (const [i, name] of names.entries()) {
      const nextOffset = offset + BigInt(i) + 1n;
      if (!emit(DirectoryEntry.of({ ino: 7n, nextOffset, type: 8, name }))) return;
    }
  },
  getxattr: (_, _name, into) => {
    if (into.length > 0 && into.length < 5) throw failure("ERANGE");
    into.set(Buffer.from("value").subarray(0, into.length));
    return 5;
  },
  lseek: (_, offset) => offset + 1n,
  openForMapping: () => ({ fd: -1, close: () => undefined }),
};

const RANGE = 2 * 1024 * 1024;
const removal = Buffer.alloc(32);
removal.writeBigUInt64LE(BigInt(RANGE), 8);
removal.writeBigUInt64LE(BigInt(RANGE), 16);
removal.writeBigUInt64LE(BigInt(RANGE), 24);

const offered = { major: 7, minor: 46, max_readahead: 131_072, flags: 0xffff_ffff, flags2: 0xffff_ffff };
const STEPS: readonly (readonly [OpcodeName, Call])[] = [
  ["GETATTR", {}],
  ["INIT", { node: 0n, args: offered }],
  ["INIT", { node: 0n, args: offered }],
  ["LOOKUP", { names: ["file"] }],
  ["LOOKUP", { names: ["none"] }],
  ["LOOKUP", { names: [".."] }],
  ["GETATTR", { node: 2n }],
  ["STATX", { node: 2n }],
  ["OPEN", { node: 2n, args: { flags: 2 } }],
  ["READ", { node: 2n, args: { fh: handle, offset: LARGE, size: 300 } }],
  ["READ", { node: 2n, args: { fh: handle, offset: 0, size: 0xffff_ffff } }],
  ["WRITE", { node: 2n, args: { fh: handle, offset: LARGE, size: 300 }, payload: Buffer.alloc(300, 7) }],
  ["WRITE", { node: 2n, args: { fh: handle, size: 301 }, payload: Buffer.alloc(300, 7) }],
  ["CREATE", { names: ["file"], args: { flags: 2, mode: 0o644, umask: 0o22 } }],
  ["OPENDIR", {}],
  ["READDIR", { args: { fh: handle, size: 4096 } }],
  ["READDIR", { args: { fh: handle, size: 60 } }],
  ["READDIRPLUS", { args: { fh: handle, size: 4096 } }],
  ["READLINK", { node: 2n }],
  ["GETXATTR", { node: 2n, args: { size: 0 }, names: ["user.a"] }],
  ["GETXATTR", { node: 2n, args: { size: 3 }, names: ["user.a"] }],
  ["GETXATTR", { node: 2n, args: { size: 64 }, names: ["user.a"] }],
  ["STATFS", {}],
  ["LSEEK", { node: 2n, args: { fh: handle, offset: LARGE, whence: 4 } }],
  ["SETUPMAPPING", { node: 2n, args: { fh: 2n ** 64n - 1n, len: RANGE, flags: 2, moffset: 0 } }],
  ["SETUPMAPPING", { node: 2n, args: { fh: 2n ** 64n - 1n, len: RANGE, flags: 3, moffset: 0 } }],
  ["SETUPMAPPING", { node: 2n, args: { len: RANGE, flags: 2, moffset: 2n ** 64n - 4096n } }],
  ["REMOVEMAPPING", { node: 2n, args: { count: 2 }, payload: removal }],
  ["REMOVEMAPPING", { node: 2n, args: { count: 3 }, payload: removal }],
  ["FORGET", { node: 2n, args: { nlookup: 1 } }],
  ["BATCH_FORGET", { args: { count: 2 }, payload: removal }],
  ["INTERRUPT", { args: { unique: 4711n } }],
  ["GETLK", { node: 2n }],
  ["DESTROY", {}],
  ["GETATTR", {}],
];

const requests = STEPS.map(([name, call], index) => encodeRequest(name, BigInt(index + 1) * 2n, call));

function freshSession(): Session {
  return new Session({ fs: fixed, window: new RecordingWindow(8n * 1024n * 1024n) });
}

function throughMemory(split: number | null): string[] {
  const replies: string[] = [];
  const record = (direction: "rx" | "tx", message: Uint8Array): void => {
    if (direction === "tx") replies.push(Buffer.from(message).toString("hex"));
  };
  const client = new MemoryClient(freshSession(), { split, record });
  for (const request of requests) client.send(request);
  return replies;
}

function throughQueues(options: DriverOptions): string[] {
  const replies: string[] = [];
  const record = (direction: "rx" | "tx", message: Uint8Array): void => {
    if (direction === "tx") replies.push(Buffer.from(message).toString("hex"));
  };
  const client = new MemoryClient(throughVirtio(freshSession(), options), { split: null, record });
  for (const request of requests) client.send(request);
  return replies;
}

function throughSocket(): string[] {
  const [client, server] = socketPair("seqpacket");
  const session = freshSession();
  const replies: string[] = [];
  const buffer = new Uint8Array(2 ** 20);
  // One request at a time, since both ends live on this thread: served until the socket would have to wait.
  for (const request of requests) files.write(client, request);
  // A message of no bytes is how the end looks to the loop.
  files.write(client, new Uint8Array(0));
  expect(serveDevice({ fd: server, nowait: null, pipe: null }, session)).toBe("closed");
  files.close(server);
  for (;;) {
    const length = files.read(client, buffer);
    if (length <= 0) break;
    replies.push(Buffer.from(buffer.subarray(0, length)).toString("hex"));
  }
  files.close(client);
  return replies;
}

describe("the golden transcript", () => {
  if (process.env.DAXFAULT_RECORD) {
    mkdirSync("fixtures/golden", { recursive: true });
    const rows = requests.map((request) => Buffer.from(request).toString("hex"));
    writeFileSync(FIXTURE, `${JSON.stringify({ requests: rows, replies: throughMemory(null) }, null, 2)}\n`);
  }
  const golden = JSON.parse(readFileSync(FIXTURE, "utf8")) as { requests: string[]; replies: string[] };

  it("encodes the same requests", () => {
    expect(requests.map((request) => Buffer.from(request).toString("hex"))).toEqual(golden.requests);
  });

  it.each([null, 1, 7, 64, 4096])("is the same through memory, cut into spans of %s bytes", (split) => {
    expect(throughMemory(split)).toEqual(golden.replies);
  });

  it.each(["direct", "indirect", "mixed"] as const)("is the same through virtqueues, chains %s", (layout) => {
    for (const pieceBytes of [1, 7, 64, 4096]) {
      expect(throughQueues({ layout, pieceBytes })).toEqual(golden.replies);
    }
  });

  it("is the same through virtqueues, whatever the pieces of its chains", () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        expect(throughQueues({ seed })).toEqual(golden.replies);
      }),
      { numRuns: 50 },
    );
  });

  it("is the same through the device loop", () => {
    expect(throughSocket()).toEqual(golden.replies);
  });
});
