/** virtio-fs end to end, without a guest: the driver's requests, a real file system, a real window on a real file. */
import { ftruncateSync, openSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  errnoNumber,
  files,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  PAGE_SIZE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "../../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../../sys/test/support/directories.ts";
import { offsetsOf, sizeOf } from "../../../src/abi/layout.ts";
import { opcodeNamed } from "../../../src/abi/opcodes.ts";
import { Session } from "../../../src/core/session.ts";
import type { DaxWindow, WindowRange } from "../../../src/dax/window.ts";
import { FaultyFileSystem } from "../../../src/fs/faults.ts";
import type { FileHandle, FileSystem } from "../../../src/fs/filesystem.ts";
import { NULL_FILE_SYSTEM } from "../../../src/fs/null.ts";
import { PassthroughFileSystem } from "../../../src/passthrough/passthrough.ts";
import { type Call, encodeRequest } from "../../../src/transport/memory/client.ts";
import { VirtioMmio } from "../../../src/transport/virtio/mmio.ts";
import { REGISTER } from "../../../src/transport/virtio/registers.ts";
import { VirtioFs } from "../../../src/transport/virtio/virtio-fs.ts";
import { Driver, type RawDescriptor, TestMemory } from "./driver.ts";

const MIB = 2 ** 20;
const WINDOW_BYTES = 4 * MIB;
const WINDOW_GPA = 2n ** 34n;
const HEADER = sizeOf("fuse_out_header");
const WRITE_HEAD = sizeOf("fuse_in_header") + sizeOf("fuse_write_in");
const EFAULT = errnoNumber("EFAULT");
const NO_HANDLE = 2n ** 64n - 1n;
const INIT_OUT = offsetsOf("fuse_init_out");

/** A window as a VMM has it: reserved address space, files mapped over it (vmm/src/window.ts is the real one). */
class TestWindow implements DaxWindow {
  readonly sizeBytes = BigInt(WINDOW_BYTES);
  readonly alignmentBytes = BigInt(PAGE_SIZE);
  readonly canMapPastEnd = true;
  readonly upgrades = "remap";
  readonly address: bigint;

  constructor() {
    this.address = mmap({ lengthBytes: WINDOW_BYTES, prot: PROT_NONE, flags: NOTHING });
  }
  map(range: WindowRange, fd: number, fileOffset: bigint, { writable }: { writable: boolean }): void {
    const prot = PROT_READ | (writable ? PROT_WRITE : 0);
    mmap({ ...this.#place(range), prot, flags: MAP_SHARED | MAP_FIXED, fd, fileOffset });
  }
  unmap(range: WindowRange): void {
    mmap({ ...this.#place(range), prot: PROT_NONE, flags: NOTHING | MAP_FIXED });
  }
  #place({ offsetBytes, lengthBytes }: WindowRange): { address: bigint; lengthBytes: number } {
    return { address: this.address + offsetBytes, lengthBytes: Number(lengthBytes) };
  }
  close(): void {
    munmap(this.address, WINDOW_BYTES);
  }
}
const NOTHING = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

let source: string;
let fs: PassthroughFileSystem;
let window: TestWindow;
let session: Session;
let ram: TestMemory;
let mmio: VirtioMmio;
let driver: Driver;
let unique = 0n;

/** The device as it is for a file system, probed by its driver. */
function serve(served: FileSystem): void {
  session = new Session({ fs: served, window });
  const lengthBytes = BigInt(WINDOW_BYTES);
  ram = new TestMemory([{ kind: "window", gpa: WINDOW_GPA, address: window.address, lengthBytes }]);
  const device = new VirtioFs({
    session,
    tag: "daxfault",
    requestQueues: 2,
    window: { gpa: WINDOW_GPA, lengthBytes },
  });
  mmio = new VirtioMmio(device, ram.memory);
  driver = new Driver(mmio, ram);
  driver.probe();
}

beforeEach(() => {
  source = temporaryDirectory();
  writeFileSync(join(source, "file"), Buffer.alloc(3 * PAGE_SIZE, "f"));
  writeFileSync(join(source, "mapped"), Buffer.alloc(2 * MIB, "m"));
  fs = new PassthroughFileSystem(source);
  window = new TestWindow();
  serve(fs);
});

afterEach(() => {
  session.end();
  window.close();
  fs.close();
});

type Reply = { readonly errno: number; readonly body: DataView };

function bodyOf({ buffer, byteOffset, length }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset + HEADER, length - HEADER);
}

function replyOf(answer: Uint8Array): Reply {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.length);
  expect(view.getUint32(0, true)).toBe(answer.length);
  expect(view.getBigUint64(8, true)).toBe(unique);
  return { errno: Math.abs(view.getInt32(4, true)), body: bodyOf(answer) };
}

function request(name: Parameters<typeof encodeRequest>[0], call: Call): Uint8Array {
  unique += 2n;
  return encodeRequest(name, unique, call);
}

/** One request by queue 1 or 2, with room for `roomBytes`. */
function call(name: Parameters<typeof encodeRequest>[0], args: Call = {}, roomBytes = 4096): Reply {
  const message = request(name, args);
  const answers: Uint8Array[] = [];
  driver.send(1 + (Number(unique / 2n) % (driver.queues.length - 1)), message, roomBytes, (answer) =>
    answers.push(answer),
  );
  expect(answers).toHaveLength(1);
  return replyOf(answers[0] ?? new Uint8Array(HEADER));
}

function init(): DataView {
  // As Linux 6.1 sends it.
  const args = { major: 7, minor: 38, max_readahead: 131_072, flags: 0x7fff_fffb, flags2: 9 };
  const { errno, body } = call("INIT", { node: 0n, args });
  expect(errno).toBe(0);
  return body;
}

const nodeOf = (name: string): bigint => call("LOOKUP", { names: [name] }).body.getBigUint64(0, true);
const open = (node: bigint): bigint => call("OPEN", { node, args: { flags: 2 } }).body.getBigUint64(0, true);

function setUpMapping(node: bigint, flags: number, moffset = 0): number {
  const args = { fh: NO_HANDLE, foffset: 0, len: 2 * MIB, flags, moffset };
  return call("SETUPMAPPING", { node, args }).errno;
}

describe("the device", () => {
  it("has tag, number of request queues, and its window as shared memory region 0", () => {
    const config = Buffer.from(
      Array.from({ length: 40 }, (_, i) => Number(mmio.read(REGISTER.config + i, 1))),
    );
    expect(config.subarray(0, 36).toString()).toBe(`daxfault${"\0".repeat(28)}`);
    expect(config.readUInt32LE(36)).toBe(2);
    expect(driver.queues).toHaveLength(3);
    driver.set32(REGISTER.sharedMemorySelect, 0);
    expect(driver.get32(REGISTER.sharedMemoryLength)).toBe(WINDOW_BYTES);
    expect(driver.get32(REGISTER.sharedMemoryBase + 4)).toBe(Number(WINDOW_GPA >> 32n));
    driver.set32(REGISTER.sharedMemorySelect, 1);
    expect(driver.get32(REGISTER.sharedMemoryLength)).toBe(0xffff_ffff);
  });

  it.each(["", "x".repeat(37), "a\0b"])("refuses the tag %j", (tag) => {
    expect(() => new VirtioFs({ session, tag })).toThrow(RangeError);
  });

  it("refuses to have no request queue", () => {
    expect(() => new VirtioFs({ session, tag: "tag", requestQueues: 0 })).toThrow(RangeError);
  });

  it("serves what Linux sends from mount to the last close of a DAX file", () => {
    const out = init();
    const flags = out.getUint32(INIT_OUT.flags, true);
    expect([flags & (1 << 26), out.getUint16(INIT_OUT.map_alignment, true)]).toEqual([1 << 26, 12]);
    const node = nodeOf("mapped");
    const fh = open(node);
    expect(setUpMapping(node, 2)).toBe(0);
    // The first store, with the same place: no REMOVEMAPPING in between.
    expect(setUpMapping(node, 3)).toBe(0);
    expect(session.dax?.list()).toMatchObject([{ node, writable: true, range: { offsetBytes: 0n } }]);
    expect(call("FLUSH", { node, args: { fh } }).errno).toBe(0);
    expect(call("RELEASE", { node, args: { fh } }).errno).toBe(0);
    const one = Buffer.alloc(16);
    one.writeBigUInt64LE(BigInt(2 * MIB), 8);
    expect(call("REMOVEMAPPING", { node, args: { count: 1 }, payload: one }).errno).toBe(0);
    const used: number[] = [];
    driver.send(0, request("FORGET", { node, args: { nlookup: 1 } }), 0, (answer) =>
      used.push(answer.length),
    );
    expect(used).toEqual([0]);
    expect(fs.usage()).toEqual({ nodes: 0, handles: 0 });
    expect(session.dax?.list()).toEqual([]);
  });

  it("ends the session at a reset, and begins another", () => {
    init();
    const node = nodeOf("mapped");
    setUpMapping(node, 2);
    open(node);
    driver.probe();
    expect(fs.usage()).toEqual({ nodes: 0, handles: 0 });
    expect(session.dax?.list()).toEqual([]);
    init();
  });

  it("reads content straight into the guest's memory", () => {
    init();
    const node = nodeOf("file");
    const { errno, body } = call("READ", { node, args: { fh: open(node), offset: 5, size: 9000 } }, 9016);
    expect([errno, body.byteLength]).toEqual([0, 9000]);
    expect(Buffer.from(body.buffer, body.byteOffset, 9000)).toEqual(Buffer.alloc(9000, "f"));
  });
});

describe("a buffer in a window", () => {
  let node: bigint;
  let fh: bigint;
  let fd: number;

  beforeEach(() => {
    init();
    node = nodeOf("file");
    fh = open(node);
    expect(setUpMapping(nodeOf("mapped"), 3)).toBe(0);
    fd = openSync(join(source, "mapped"), "r+");
  });

  afterEach(() => {
    files.close(fd);
    // Server and device live on.
    expect(mmio.needsReset).toBe(false);
    expect(call("GETATTR", { node }).errno).toBe(0);
    expect(session.counts.defects).toBe(0);
  });

  /** Sends a message of which what is behind `headBytes` lies in the window. */
  function sendFrom(message: Uint8Array, headBytes: number, windowOffset: number): Reply | null {
    const head = ram.store.bind(ram);
    const at = driver.allocate(headBytes);
    head(at, message.subarray(0, headBytes));
    return sendRaw([
      { gpa: at, lengthBytes: headBytes, isWritable: false },
      { gpa: WINDOW_GPA + BigInt(windowOffset), lengthBytes: message.length - headBytes, isWritable: false },
    ]);
  }

  function sendRaw(readable: readonly RawDescriptor[], writable?: readonly RawDescriptor[]): Reply | null {
    const answerAt = driver.allocate(4096);
    const room = writable ?? [{ gpa: answerAt, lengthBytes: 4096, isWritable: true }];
    let reply: Reply | null = null;
    driver.sendRaw(1, [...readable, ...room], (usedBytes) => {
      const first = room[0];
      if (usedBytes === 0 || first === undefined) return;
      reply = replyOf(ram.load(first.gpa, Math.min(usedBytes, first.lengthBytes)));
    });
    return reply;
  }

  const write = (size: number): Uint8Array =>
    request("WRITE", { node, args: { fh, size, offset: 0 }, payload: Buffer.alloc(size) });
  const content = (): Buffer => readFileSync(join(source, "file"));

  it("is written to a file: FUSE_WRITE", () => {
    expect(sendFrom(write(PAGE_SIZE), WRITE_HEAD, 100)).toMatchObject({ errno: 0 });
    expect(content()).toEqual(
      Buffer.concat([Buffer.alloc(PAGE_SIZE, "m"), Buffer.alloc(2 * PAGE_SIZE, "f")]),
    );
  });

  it.each([
    ["that was truncated to nothing", 0, 0],
    ["whose second page was", PAGE_SIZE, 10],
  ])("is EFAULT, and nothing is written: FUSE_WRITE from a file %s", (_, sizeBytes, windowOffset) => {
    ftruncateSync(fd, sizeBytes);
    expect(sendFrom(write(PAGE_SIZE), WRITE_HEAD, windowOffset)).toMatchObject({ errno: EFAULT });
    expect(content()).toEqual(Buffer.alloc(3 * PAGE_SIZE, "f"));
  });

  it("is EFAULT where no file is mapped", () => {
    expect(sendFrom(write(PAGE_SIZE), WRITE_HEAD, 3 * MIB)).toMatchObject({ errno: EFAULT });
  });

  it.each([
    ["its structure and names", sizeOf("fuse_in_header")],
    ["half its header", 20],
    ["all of it but a byte", 1],
  ])("is EFAULT, or no answer where nothing names the request: of a LOOKUP, %s", (_, headBytes) => {
    ftruncateSync(fd, 0);
    const reply = sendFrom(request("LOOKUP", { names: ["file"] }), headBytes, 0);
    if (headBytes < sizeOf("fuse_in_header")) expect(reply).toBe(null);
    else expect(reply).toMatchObject({ errno: EFAULT });
  });

  it("has no answer for a FORGET either", () => {
    ftruncateSync(fd, 0);
    const before = fs.usage();
    expect(sendFrom(request("FORGET", { node, args: { nlookup: 1 } }), 40, 0)).toBe(null);
    expect(fs.usage()).toEqual(before);
  });

  /** A READ whose answer has its header in RAM and its content in the window. */
  function readInto(windowOffset: number, size: number): Reply | null {
    const message = request("READ", { node, args: { fh, offset: 0, size } });
    const [messageAt, headerAt] = [driver.allocate(message.length), driver.allocate(HEADER)];
    ram.store(messageAt, message);
    const readable = [{ gpa: messageAt, lengthBytes: message.length, isWritable: false }];
    let header: Uint8Array = new Uint8Array(0);
    driver.sendRaw(
      1,
      [
        ...readable,
        { gpa: headerAt, lengthBytes: HEADER, isWritable: true },
        { gpa: WINDOW_GPA + BigInt(windowOffset), lengthBytes: size, isWritable: true },
      ],
      (usedBytes) => {
        header = ram.load(headerAt, Math.min(HEADER, usedBytes));
      },
    );
    const view = new DataView(header.buffer);
    return {
      errno: Math.abs(view.getInt32(4, true)),
      body: new DataView(new ArrayBuffer(view.getUint32(0, true))),
    };
  }

  const mapped = (): Buffer => readFileSync(join(source, "mapped"));

  it("is filled from a file: FUSE_READ", () => {
    expect(readInto(PAGE_SIZE - 3, 10)).toMatchObject({ errno: 0, body: { byteLength: HEADER + 10 } });
    expect(
      mapped()
        .subarray(PAGE_SIZE - 4, PAGE_SIZE + 8)
        .toString(),
    ).toBe("mffffffffffm");
  });

  it("gets as much as there is, and no stale byte of the server: FUSE_READ at the end", () => {
    const answer = readInto(0, 4 * PAGE_SIZE);
    expect(answer).toMatchObject({ errno: 0, body: { byteLength: HEADER + 3 * PAGE_SIZE } });
    expect(
      mapped()
        .subarray(3 * PAGE_SIZE - 1, 3 * PAGE_SIZE + 2)
        .toString(),
    ).toBe("fmm");
  });

  it.each([0, PAGE_SIZE])("is EFAULT: FUSE_READ into a file truncated to %s bytes", (sizeBytes) => {
    ftruncateSync(fd, sizeBytes);
    expect(readInto(PAGE_SIZE - 3, 10)).toMatchObject({ errno: EFAULT, body: { byteLength: HEADER } });
  });

  it("is EFAULT where the mapping is read-only: a guest cannot write to a file through the server", () => {
    driver.probe();
    init();
    node = nodeOf("file");
    fh = open(node);
    expect(setUpMapping(nodeOf("mapped"), 2)).toBe(0);
    expect(readInto(0, 10)).toMatchObject({ errno: EFAULT });
    expect(mapped().equals(Buffer.alloc(2 * MIB, "m"))).toBe(true);
  });

  it("that an answer with references does not fit into gives them back", () => {
    ftruncateSync(fd, 0);
    const before = fs.usage();
    writeFileSync(join(source, "other"), "");
    const message = request("LOOKUP", { names: ["other"] });
    const at = driver.allocate(message.length);
    ram.store(at, message);
    const room = [{ gpa: WINDOW_GPA, lengthBytes: 4096, isWritable: true }];
    expect(sendRaw([{ gpa: at, lengthBytes: message.length, isWritable: false }], room)).toBe(null);
    expect(fs.usage()).toEqual(before);
    expect(session.counts.undelivered).toBe(1);
  });
});

describe("an answer without room", () => {
  beforeEach(() => void init());

  it.each([0, 1, 15])("is none at all: %s bytes", (roomBytes) => {
    symlinkSync("its-target", join(source, "link"));
    const node = nodeOf("link");
    const before = fs.usage();
    for (const [name, args] of [
      ["LOOKUP", { names: ["file"] }],
      ["READLINK", { node }],
      ["GETATTR", {}],
      ["READDIR", { args: { size: 4096 } }],
    ] as const) {
      const lengths: number[] = [];
      driver.send(1, request(name, args), roomBytes, (answer) => lengths.push(answer.length));
      expect([name, lengths]).toEqual([name, [0]]);
    }
    expect(fs.usage()).toEqual(before);
    expect(session.counts.defects).toBe(0);
  });

  it("is EINVAL where a header fits", () => {
    expect(call("LOOKUP", { names: ["file"] }, 100).errno).toBe(errnoNumber("EINVAL"));
    expect(fs.usage()).toEqual({ nodes: 0, handles: 0 });
  });

  it("of a message longer than any that is allowed is EINVAL, before its handle is looked at", () => {
    const total = 12 * 100_000;
    const payload = Buffer.alloc(100_000);
    const message = request("WRITE", { args: { fh: 4711n, size: total - WRITE_HEAD }, payload });
    new DataView(message.buffer, message.byteOffset).setUint32(0, total, true);
    const at = driver.allocate(message.length);
    ram.store(at, message);
    const answerAt = driver.allocate(100);
    const errnoOf = (pieces: number): number | undefined => {
      const piece = { gpa: at, lengthBytes: 100_000, isWritable: false };
      const room = { gpa: answerAt, lengthBytes: 100, isWritable: true };
      let errno: number | undefined;
      driver.sendRaw(1, [...Array<RawDescriptor>(pieces).fill(piece), room], (usedBytes) => {
        errno = replyOf(ram.load(answerAt, usedBytes)).errno;
      });
      return errno;
    };
    expect(errnoOf(12)).toBe(errnoNumber("EINVAL"));
    // What is allowed gets as far as its handle.
    const allowed = new DataView(new ArrayBuffer(4));
    allowed.setUint32(0, 1_000_000, true);
    ram.store(at, new Uint8Array(allowed.buffer));
    allowed.setUint32(0, 1_000_000 - WRITE_HEAD, true);
    ram.store(at + BigInt(sizeOf("fuse_in_header") + 16), new Uint8Array(allowed.buffer));
    expect(errnoOf(10)).toBe(errnoNumber("EBADF"));
  });
});

describe("a guest that changes a request while it is served", () => {
  /** Sends with everything in one place, and changes each byte there as soon as the server has begun. */
  function changing(
    fileSystem: Partial<FileSystem>,
    name: "LOOKUP" | "SETXATTR" | "WRITE",
    args: Call,
  ): void {
    serve({ ...NULL_FILE_SYSTEM, ...fileSystem });
    init();
    const message = request(name, args);
    place = driver.allocate(message.length);
    length = message.length;
    ram.store(place, message);
    const room = { gpa: driver.allocate(4096), lengthBytes: 4096, isWritable: true };
    driver.sendRaw(1, [{ gpa: place, lengthBytes: length, isWritable: false }, room], () => undefined);
  }
  let place = 0n;
  let length = 0;
  const change = (): void => ram.store(place, new Uint8Array(length).fill(0x2f));

  it("does not change the name that was checked", () => {
    const seen: string[] = [];
    const lookup: FileSystem["lookup"] = (parent, name) => {
      change();
      seen.push(Buffer.from(name).toString());
      return NULL_FILE_SYSTEM.lookup(parent, name);
    };
    // Longer than what is looked at of every message.
    const name = "name".repeat(50);
    changing({ lookup }, "LOOKUP", { names: [name] });
    expect(seen).toEqual([`${name}\0`]);
  });

  it("does not change the value of an attribute", () => {
    const seen: string[] = [];
    const setxattr: FileSystem["setxattr"] = (_node, name, value) => {
      change();
      seen.push(Buffer.from(name).toString(), Buffer.from(value).toString());
    };
    const value = "value".repeat(50);
    const args = { size: value.length };
    changing({ setxattr }, "SETXATTR", { names: ["user.a"], args, payload: Buffer.from(value) });
    expect(seen).toEqual(["user.a\0", value]);
  });

  it("changes the content of its own WRITE at most: that is not copied", () => {
    const seen: string[] = [];
    const put: FileSystem["write"] = (handle, offset, data) => {
      change();
      seen.push(`${handle} ${offset} ${Buffer.from(data)}`);
      return data.length;
    };
    const args = { fh: 7n as FileHandle, offset: 11, size: 3 };
    changing({ write: put }, "WRITE", { args, payload: Buffer.from("abc") });
    expect(seen).toEqual(["7 11 ///"]);
  });
});

describe("a postponed request", () => {
  let clock = 0;

  beforeEach(() => {
    clock = 0;
    const action = { kind: "delay", ms: 50 } as const;
    const rule = { operation: "read", at: null, after: 0, times: 1, action } as const;
    session = new Session({ fs: new FaultyFileSystem(fs, [rule]), now: () => clock });
    mmio = new VirtioMmio(new VirtioFs({ session, tag: "slow" }), ram.memory);
    driver = new Driver(mmio, ram);
    driver.probe();
    init();
  });

  function postponed(): Uint8Array[] {
    const node = nodeOf("file");
    const fh = open(node);
    const answers: Uint8Array[] = [];
    driver.send(1, request("READ", { node, args: { fh, size: 10 } }), 100, (answer) => answers.push(answer));
    expect(answers).toEqual([]);
    return answers;
  }

  it("is given back when it is due, while others go on", () => {
    const answers = postponed();
    const sent = unique;
    expect(call("GETATTR").errno).toBe(0);
    expect(mmio.work()).toBe(50);
    expect(driver.collect()).toBe(0);
    clock += 50;
    expect(mmio.work()).toBe(null);
    expect(driver.collect()).toBe(1);
    unique = sent;
    expect(replyOf(answers[0] ?? new Uint8Array(16))).toMatchObject({ errno: 0, body: { byteLength: 10 } });
  });

  it("is never given back after a reset, and its memory is left alone", () => {
    postponed();
    driver.set32(REGISTER.status, 0);
    const before = ram.snapshot();
    clock += 50;
    expect(mmio.work()).toBe(null);
    expect(ram.snapshot().equals(before)).toBe(true);
  });

  it("is not written to the memory of a queue that was stopped", () => {
    postponed();
    driver.set32(REGISTER.queueSelect, 1);
    driver.set32(REGISTER.queueReady, 0);
    const before = ram.snapshot();
    clock += 50;
    expect(mmio.work()).toBe(null);
    expect(ram.snapshot().equals(before)).toBe(true);
  });
});

describe("the opcode whose content is not copied", () => {
  it("has nothing but content behind its structure", () => {
    expect(opcodeNamed("WRITE")).toMatchObject({ names: 0, payload: "sized", args: "fuse_write_in" });
  });
});
