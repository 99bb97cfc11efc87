/** A client that asks for too much: an error or a bounded answer, soon, and no memory that stays. */
import { execFileSync } from "node:child_process";
import { readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errnoNumber } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import type { OpcodeName } from "../../src/abi/opcodes.ts";
import { Session } from "../../src/core/session.ts";
import { RecordingWindow } from "../../src/dax/recording.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";
import { type Call, encodeRequest, type MemoryClient } from "../../src/transport/memory/client.ts";
import { CLIENTS, type Connect } from "../support/clients.ts";

const ALL_ONES = 0xffff_ffff;
const MOST = 2n ** 64n - 1n;
/** What one request may take at the very most: the longest copy that the server makes at once is 128 MiB. */
const SOON_MS = 5000;

let fs: PassthroughFileSystem;
let session: Session;
let client: MemoryClient;
let source: string;
let node: bigint;
let fh: bigint;
let directory: bigint;

function setUp(connect: Connect): void {
  source = temporaryDirectory();
  writeFileSync(join(source, "file"), "x".repeat(5000));
  truncateSync(join(source, "file"), 2 ** 30);
  for (let i = 0; i < 300; i += 1) writeFileSync(join(source, `${"n".repeat(200)}-${i}`), "");
  execFileSync("mkfifo", [join(source, "fifo")]);
  fs = new PassthroughFileSystem(source, { nodeLimit: 64, handleLimit: 8 });
  session = new Session({ fs, window: new RecordingWindow(2n ** 24n) });
  client = connect(session);
  client.init();
  node = client.call("LOOKUP", { names: ["file"] }).body.getBigUint64(0, true);
  fh = client.call("OPEN", { node, args: { flags: 2 } }).body.getBigUint64(0, true);
  directory = client.call("OPENDIR").body.getBigUint64(0, true);
}

afterEach(() => fs.close());

/** The answer's errno name and length. */
function asked(name: OpcodeName, call: Call): { readonly errno: number; readonly bytes: number } {
  const started = performance.now();
  const { errno, body } = client.call(name, call);
  expect(performance.now() - started).toBeLessThan(SOON_MS);
  return { errno, bytes: body.byteLength };
}

describe.each(CLIENTS)("%s", (_name, connect) => {
  beforeEach(() => setUp(connect));

  describe("a request with the largest numbers there are", () => {
    const EINVAL = errnoNumber("EINVAL");

    it.each([
      ["READ of 4 GiB", "READ", () => ({ node, args: { fh, size: ALL_ONES } }), EINVAL],
      ["READ beyond loff_t", "READ", () => ({ node, args: { fh, size: 10, offset: MOST } }), EINVAL],
      ["WRITE that carries less", "WRITE", () => ({ node, args: { fh, size: ALL_ONES } }), EINVAL],
      ["FALLOCATE beyond loff_t", "FALLOCATE", () => ({ node, args: { fh, length: MOST } }), EINVAL],
      ["LSEEK beyond loff_t", "LSEEK", () => ({ node, args: { fh, offset: MOST, whence: 3 } }), EINVAL],
      ["SETATTR to 2^64 - 1", "SETATTR", () => ({ node, args: { valid: 8, size: MOST } }), EINVAL],
      [
        "SETXATTR that carries less",
        "SETXATTR",
        () => ({ node, names: ["user.a"], args: { size: ALL_ONES } }),
        EINVAL,
      ],
      [
        "SETUPMAPPING of everything",
        "SETUPMAPPING",
        () => ({ node, args: { fh: MOST, len: MOST, flags: 1n } }),
        EINVAL,
      ],
      ["REMOVEMAPPING of 2^32 - 1", "REMOVEMAPPING", () => ({ args: { count: ALL_ONES } }), EINVAL],
    ] as const)("is refused: %s", (_title, name, call, errno) => {
      expect(asked(name, call()).errno).toBe(errno);
      expect(session.counts.defects).toBe(0);
    });

    it("gets as much as an answer holds: READDIR, READDIRPLUS, GETXATTR, LISTXATTR, READLINK", () => {
      const args = { fh: directory, size: ALL_ONES };
      expect(asked("READDIR", { args })).toEqual({ errno: 0, bytes: expect.any(Number) });
      const plus = asked("READDIRPLUS", { args });
      // More names than nodes are allowed: those beyond go out as names alone.
      expect(plus.errno).toBe(0);
      expect(plus.bytes).toBeGreaterThan(300 * 200);
      expect(fs.usage().nodes).toBeLessThanOrEqual(64);
      const xattr = asked("GETXATTR", { node, names: ["user.none"], args: { size: ALL_ONES } });
      expect(["ENODATA", "EOPNOTSUPP"].map(errnoNumber)).toContain(xattr.errno);
      expect(asked("LISTXATTR", { node, args: { size: ALL_ONES } }).bytes).toBeLessThan(65_537);
    });

    it("copies a bounded piece: COPY_FILE_RANGE of 2^64 - 1 bytes", () => {
      const args = { fh_in: fh, nodeid_out: node, fh_out: fh, off_out: 2n ** 29n, len: MOST };
      const { errno, body } = client.call("COPY_FILE_RANGE", { node, args });
      if (errno === 0) expect(body.getBigUint64(0, true)).toBeLessThanOrEqual(128n * 2n ** 20n);
      else expect(errno).toBe(EINVAL);
    });

    it("cannot forget more than there is, by count or by list", () => {
      client.post("FORGET", { node, args: { nlookup: MOST } });
      expect(client.post("BATCH_FORGET", { args: { count: ALL_ONES } }).kind).toBe("no-reply");
      expect(fs.usage()).toEqual({ nodes: 0, handles: 2 });
      expect(asked("READ", { node, args: { fh, size: 10 } })).toEqual({ errno: 0, bytes: 10 });
    });
  });

  describe("a client that names what is elsewhere", () => {
    const NEW = { mode: 0o100_644 };
    const naming: readonly (readonly [name: OpcodeName, call: (text: string) => Call])[] = [
      ["LOOKUP", (text) => ({ names: [text] })],
      ["CREATE", (text) => ({ names: [text], args: { flags: 1, ...NEW } })],
      ["MKDIR", (text) => ({ names: [text], args: NEW })],
      ["MKNOD", (text) => ({ names: [text], args: NEW })],
      ["SYMLINK", (text) => ({ names: [text, "target"] })],
      ["LINK", (text) => ({ names: [text], args: { oldnodeid: node } })],
      ["UNLINK", (text) => ({ names: [text] })],
      ["RMDIR", (text) => ({ names: [text] })],
      ["RENAME", (text) => ({ names: [text, "new"], args: { newdir: 1n } })],
      ["RENAME2", (text) => ({ names: ["file", text], args: { newdir: 1n } })],
    ];

    it.each(naming)("is refused, whatever the request: %s", (name, call) => {
      const before = readdirSync(source);
      // Nothing that would harm the machine if it got through.
      for (const text of [".", "..", "../outside", `${source}/elsewhere`, "folder/../..", "file/"]) {
        expect({ text, errno: asked(name, call(text)).errno }).toEqual({
          text,
          errno: errnoNumber("EINVAL"),
        });
      }
      expect(readdirSync(source)).toEqual(before);
      expect(session.counts.defects).toBe(0);
    });
  });

  describe("a client that would make the server wait", () => {
    it.each(["GETLK", "SETLK", "SETLKW", "IOCTL", "POLL", "BMAP"] as const)(
      "gets ENOSYS at once: %s",
      (name) => {
        expect(asked(name, { node }).errno).toBe(errnoNumber("ENOSYS"));
      },
    );

    it("cannot: a FIFO is not opened, by no way", () => {
      const fifo = client.call("LOOKUP", { names: ["fifo"] }).body.getBigUint64(0, true);
      const ENXIO = errnoNumber("ENXIO");
      expect(asked("OPEN", { node: fifo, args: { flags: 0 } }).errno).toBe(ENXIO);
      expect(asked("CREATE", { names: ["fifo"], args: { flags: 1, mode: 0o600 } }).errno).toBe(ENXIO);
      expect(asked("SETATTR", { node: fifo, args: { valid: 8, size: 0n } }).errno).toBe(
        errnoNumber("EINVAL"),
      );
      const mapping = { fh: MOST, len: 4096n, flags: 1n };
      expect(asked("SETUPMAPPING", { node: fifo, args: mapping }).errno).not.toBe(0);
    });

    it("cannot with handles and nodes that it never gives back", () => {
      const opens = Array.from({ length: 20 }, () => client.call("OPEN", { node, args: { flags: 0 } }).errno);
      expect(new Set(opens)).toEqual(new Set([0, errnoNumber("ENFILE")]));
      expect(fs.usage().handles).toBe(8);
    });
  });

  describe("ten thousand refused requests", () => {
    it("leave nothing behind", () => {
      const before = fs.usage();
      const requests = [
        encodeRequest("READ", 2n, { node, args: { fh, size: ALL_ONES } }),
        encodeRequest("SETXATTR", 4n, { node, names: ["user.a"], args: { size: ALL_ONES } }),
        encodeRequest("BATCH_FORGET", 6n, { args: { count: ALL_ONES } }),
        encodeRequest("OPEN", 8n, { node: MOST, args: { flags: 0 } }),
      ];
      const small = connect(session, { split: null, capacityBytes: 256 });
      const memory = process.memoryUsage().rss;
      for (let i = 0; i < 10_000; i += 1) small.send(requests[i % requests.length] ?? new Uint8Array(0));
      expect(fs.usage()).toEqual(before);
      expect(process.memoryUsage().rss - memory).toBeLessThan(200 * 2 ** 20);
    });
  });
});
