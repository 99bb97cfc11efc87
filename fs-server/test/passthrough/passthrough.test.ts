import { chmodSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { files } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { failure } from "../../src/fs/errors.ts";
import { type Entry, NO_CHANGE, type NodeId, ROOT_NODE } from "../../src/fs/filesystem.ts";
import { attributeName, componentName, linkTarget } from "../../src/fs/names.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";

const ROOT = process.geteuid?.() === 0;
const caller = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
const plain = { mode: 0o644, umask: 0, caller };
const at = (name: string, parent: NodeId = ROOT_NODE) => ({ parent, name: componentName(name) });
const text = (value: string): Uint8Array => Buffer.from(value);

let source: string;
let fs: PassthroughFileSystem;

beforeEach(() => {
  source = temporaryDirectory();
  fs = new PassthroughFileSystem(source);
});

afterEach(() => fs.close());

describe("content", () => {
  it("is created, written, read and released", () => {
    const { entry, handle } = fs.create(at("file"), files.O_RDWR, plain);
    expect(fs.write(handle, 3n, text("hello"))).toBe(5);
    const into = new Uint8Array(10);
    expect(fs.read(handle, 0n, into)).toBe(8);
    expect(Buffer.from(into).toString("latin1")).toBe("\0\0\0hello\0\0");
    fs.flush(handle);
    fs.fsync(handle, "data");
    expect(fs.getattr(entry.node).sizeBytes).toBe(8n);
    fs.release(handle);
    expect(() => fs.read(handle, 0n, into)).toThrow(failure("EBADF"));
    expect(() => fs.release(handle)).toThrow(failure("EBADF"));
    expect(fs.usage()).toEqual({ nodes: 1, handles: 0 });
  });

  it("is known by its number for as long as the client holds it", () => {
    writeFileSync(join(source, "file"), "");
    const { ino } = statSync(join(source, "file"), { bigint: true });
    expect(fs.isKnown(ROOT_NODE, ino)).toBe(false);
    const { node } = fs.lookup(ROOT_NODE, componentName("file"));
    expect(fs.isKnown(ROOT_NODE, ino)).toBe(true);
    fs.forget(node, 1n);
    expect(fs.isKnown(ROOT_NODE, ino)).toBe(false);
  });

  describe("after many new ones in a row, which are opened before they are looked at", () => {
    const NEW = 8;
    const name = (number: number): string => `file-${number}`;
    const open = (): number => readdirSync("/proc/self/fd").length;
    const nodeOf = (served: PassthroughFileSystem, number: number): NodeId =>
      served.lookup(ROOT_NODE, componentName(name(number))).node;
    const filled = (): void => {
      for (let i = 0; i < NEW; i += 1) writeFileSync(join(source, name(i)), "");
    };

    it("is the node that it was, and takes no descriptor", () => {
      filled();
      const nodes = Array.from({ length: NEW }, (_, i) => nodeOf(fs, i));
      const before = open();
      expect(nodeOf(fs, 0)).toBe(nodes[0]);
      expect(nodes.map((_, i) => nodeOf(fs, i))).toEqual(nodes);
      expect(open()).toBe(before);
      expect(fs.usage().nodes).toBe(NEW);
      // Two or three references of each: none is left after as many.
      nodes.forEach((node, i) => void fs.forget(node, i === 0 ? 3n : 2n));
      expect(fs.usage().nodes).toBe(0);
      expect(() => fs.lookup(ROOT_NODE, componentName("none"))).toThrow(failure("ENOENT"));
    });

    it("is found in a table that is full, and a new one is refused", () => {
      filled();
      const small = new PassthroughFileSystem(source, { nodeLimit: NEW - 1, fileHandles: "never" });
      try {
        const nodes = Array.from({ length: NEW - 1 }, (_, i) => nodeOf(small, i));
        const before = open();
        expect(nodes.map((_, i) => nodeOf(small, i))).toEqual(nodes);
        expect(() => nodeOf(small, NEW - 1)).toThrow(failure("ENFILE"));
        expect(open()).toBe(before);
      } finally {
        small.close();
      }
    });
  });

  it("has nothing to flush on a local file system, unless other ones can be reached", () => {
    const of = (folder: string, crossMounts: boolean): boolean => {
      const served = new PassthroughFileSystem(folder, { crossMounts });
      const { flushIsNothing } = served;
      served.close();
      return flushIsNothing;
    };
    // A tmpfs wherever there is one.
    expect(of("/dev/shm", false)).toBe(true);
    expect(of("/dev/shm", true)).toBe(false);
    expect(of("/proc/self", false)).toBe(false);
  });

  it("lies at offsets above 2^53 as at any other", () => {
    const large = 2n ** 53n + 1n;
    const { entry, handle } = fs.create(at("file"), files.O_RDWR, plain);
    try {
      fs.setattr(entry.node, { ...NO_CHANGE, sizeBytes: large + 8n }, handle);
    } catch (error) {
      // ext4 ends at 16 TiB: then only the refusal can be seen.
      expect(error).toBe(failure("EFBIG"));
      return;
    }
    fs.write(handle, large, text("x"));
    const into = new Uint8Array(2);
    fs.read(handle, large - 1n, into);
    expect([...into]).toEqual([0, 0x78]);
    expect(fs.getattr(entry.node).sizeBytes).toBe(large + 8n);
  });

  it("refuses offsets that loff_t cannot hold", () => {
    const { entry, handle } = fs.create(at("file"), files.O_RDWR, plain);
    for (const offset of [2n ** 63n, 2n ** 64n - 1n]) {
      expect(() => fs.read(handle, offset, new Uint8Array(1))).toThrow(failure("EINVAL"));
      expect(() => fs.write(handle, offset, new Uint8Array(1))).toThrow(failure("EINVAL"));
      const change = { ...NO_CHANGE, sizeBytes: offset };
      expect(() => fs.setattr(entry.node, change, null)).toThrow(failure("EINVAL"));
    }
  });

  it("appends, truncates on open, and has holes", () => {
    writeFileSync(join(source, "file"), "abc");
    const { node } = fs.lookup(ROOT_NODE, componentName("file"));
    const append = fs.open(node, files.O_WRONLY | files.O_APPEND);
    fs.write(append, 0n, text("d"), { append: true, sync: null });
    expect(readFileSync(join(source, "file"), "utf8")).toBe("abcd");
    fs.write(append, 1n, text("B"), { append: false, sync: "data" });
    expect(readFileSync(join(source, "file"), "utf8")).toBe("aBcd");
    const fresh = fs.open(node, files.O_RDWR | files.O_TRUNC);
    expect(fs.getattr(node).sizeBytes).toBe(0n);
    fs.write(fresh, 1024n * 1024n, text("end"));
    expect(fs.lseek(fresh, 0n, files.SEEK_DATA)).toBeGreaterThan(0n);
    expect(fs.lseek(fresh, 0n, files.SEEK_HOLE)).toBe(0n);
    expect(() => fs.lseek(fresh, 0n, files.SEEK_SET)).toThrow(failure("EINVAL"));
  });

  it("is read and written with O_DIRECT where that is allowed, whatever the memory", () => {
    writeFileSync(join(source, "file"), Buffer.alloc(8192, "a"));
    const direct = new PassthroughFileSystem(source, { allowDirectIo: true });
    const { node } = direct.lookup(ROOT_NODE, componentName("file"));
    const handle = direct.open(node, files.O_RDWR | files.O_DIRECT);
    expect(files.statusFlags(direct.descriptorOf(handle) ?? -1) & files.O_DIRECT).toBe(files.O_DIRECT);
    const memory = Buffer.alloc(4096 + 16, "b").subarray(16);
    expect(direct.write(handle, 4096n, memory)).toBe(4096);
    expect(direct.read(handle, 0n, memory)).toBe(4096);
    expect([memory[0], readFileSync(join(source, "file"))[4096]]).toEqual([0x61, 0x62]);
    direct.close();
  });

  it("is copied within the server, and allocated", () => {
    const a = fs.create(at("a"), files.O_RDWR, plain);
    const b = fs.create(at("b"), files.O_RDWR, plain);
    fs.write(a.handle, 0n, text("0123456789"));
    const copied = fs.copyFileRange({ handle: a.handle, offset: 2n }, { handle: b.handle, offset: 1n }, 5n);
    expect(copied).toBe(5);
    expect(readFileSync(join(source, "b"), "latin1")).toBe("\x0023456");
    fs.fallocate(b.handle, 0, 0n, 8192n);
    expect(fs.getattr(b.entry.node).sizeBytes).toBe(8192n);
  });

  it("of an unlinked file stays while a handle is open", () => {
    const { entry, handle } = fs.create(at("file"), files.O_RDWR, plain);
    fs.write(handle, 0n, text("x"));
    fs.unlink(at("file"));
    expect(fs.getattr(entry.node).linkCount).toBe(0);
    fs.forget(entry.node, 1n);
    expect(fs.read(handle, 0n, new Uint8Array(1))).toBe(1);
  });

  it("of an unnamed file is usable", () => {
    const { handle } = fs.tmpfile(ROOT_NODE, files.O_RDWR, plain);
    expect(fs.write(handle, 0n, text("x"))).toBe(1);
    expect(readdirSync(source)).toEqual([]);
  });
});

describe("attributes", () => {
  it("carry nanoseconds both ways, before 1970 too", () => {
    const { node } = fs.mknod(at("file"), { ...plain, mode: 0o100600 }, { major: 0, minor: 0 });
    const accessTime = { seconds: 1_700_000_000n, nanoseconds: 123_456_789 };
    const modificationTime = { seconds: -5n, nanoseconds: 1 };
    const after = fs.setattr(
      node,
      {
        ...NO_CHANGE,
        accessTime: { kind: "set", time: accessTime },
        modificationTime: { kind: "set", time: modificationTime },
      },
      null,
    );
    expect(after).toMatchObject({ accessTime, modificationTime });
  });

  it("change mode and owner in one step without losing set-user-id", () => {
    const { node } = fs.mknod(at("file"), { ...plain, mode: 0o100755 }, { major: 0, minor: 0 });
    const after = fs.setattr(node, { ...NO_CHANGE, ...caller, mode: 0o4755 }, null);
    expect(after.mode & 0o7777).toBe(0o4755);
  });

  it("of a symbolic link are its own", () => {
    symlinkSync("nowhere", join(source, "link"));
    const { node } = fs.lookup(ROOT_NODE, componentName("link"));
    const time = { kind: "set", time: { seconds: 7n, nanoseconds: 8 } } as const;
    const after = fs.setattr(node, { ...NO_CHANGE, modificationTime: time }, null);
    expect(after.modificationTime).toEqual({ seconds: 7n, nanoseconds: 8 });
    expect(() => fs.setattr(node, { ...NO_CHANGE, mode: 0o600 }, null)).toThrow(failure("EOPNOTSUPP"));
  });

  it.skipIf(!ROOT)("of new files follow the caller, its umask and set-group-id directories", () => {
    const stranger = { uid: 4711, gid: 4712 };
    const made = fs.mkdir(at("folder"), { mode: 0o777, umask: 0o027, caller: stranger });
    expect(made.attributes).toMatchObject({ uid: 4711, gid: 4712 });
    expect(made.attributes.mode & 0o7777).toBe(0o750);
    chmodSync(join(source, "folder"), 0o2755);
    const inner = fs.create(at("inner", made.node), files.O_RDWR, { ...plain, caller: { uid: 1, gid: 1 } });
    expect(inner.entry.attributes).toMatchObject({ uid: 1, gid: 4712 });
    writeFileSync(join(source, "mine"), "");
    expect(statSync(join(source, "mine")).uid).toBe(0);
  });

  it("of the whole: statfs", () => {
    expect(fs.statfs(ROOT_NODE)).toMatchObject({ nameMaxBytes: 255 });
    expect(fs.statfs(ROOT_NODE).blocks).toBeGreaterThan(0n);
  });
});

describe("names", () => {
  it("are made, linked, renamed, exchanged and removed", () => {
    const folder = fs.mkdir(at("folder"), { ...plain, mode: 0o755 });
    fs.create(at("a"), files.O_RDWR, plain);
    fs.symlink(at("link"), linkTarget("a"), caller);
    const { node } = fs.lookup(ROOT_NODE, componentName("a"));
    const linked: Entry = fs.link(node, at("b", folder.node));
    expect(linked.node).toBe(node);
    expect(linked.attributes.linkCount).toBe(2);
    fs.rename(at("a"), at("c"), 0);
    expect(() => fs.rename(at("c"), at("folder"), files.RENAME_NOREPLACE)).toThrow(failure("EEXIST"));
    fs.rename(at("c"), at("link"), files.RENAME_EXCHANGE);
    expect(Buffer.from(fs.readlink(fs.lookup(ROOT_NODE, componentName("c")).node)).toString()).toBe("a");
    expect(() => fs.rename(at("c"), at("d"), 64)).toThrow(failure("EINVAL"));
    expect(() => fs.rmdir(at("folder"))).toThrow(failure("ENOTEMPTY"));
    fs.unlink(at("b", folder.node));
    fs.rmdir(at("folder"));
    expect(readdirSync(source).toSorted()).toEqual(["c", "link"]);
  });

  it("are listed completely while others come and go", () => {
    for (let i = 0; i < 2000; i += 1) writeFileSync(join(source, `stay-${i}`), "");
    const seen: string[] = [];
    const handle = fs.opendir(ROOT_NODE);
    let offset = 0n;
    for (let round = 0; ; round += 1) {
      let taken = 0;
      fs.readDirectory(handle, offset, (entry) => {
        if (taken === 100) return false;
        taken += 1;
        offset = entry.nextOffset;
        seen.push(Buffer.from(entry.name.subarray(0, -1)).toString());
        return true;
      });
      if (taken === 0) break;
      writeFileSync(join(source, `come-${round}`), "");
      if (round > 0) fs.unlink(at(`come-${round - 1}`));
    }
    const stayed = seen.filter((name) => name.startsWith("stay-"));
    expect(stayed).toHaveLength(2000);
    expect(new Set(stayed).size).toBe(2000);
    const again: string[] = [];
    fs.readDirectory(handle, 0n, (entry) => again.push(String(entry.ino)) > 0);
    expect(again.length).toBeGreaterThanOrEqual(2002);
    fs.releasedir(handle);
  });

  it("are bytes, not text", () => {
    const name = componentName("x");
    name[0] = 0xff;
    fs.create({ parent: ROOT_NODE, name }, files.O_RDWR, plain);
    expect(fs.lookup(ROOT_NODE, name).attributes.sizeBytes).toBe(0n);
  });
});

describe("extended attributes", () => {
  it("are set, listed, read and removed", () => {
    const { entry } = fs.create(at("file"), files.O_RDWR, plain);
    const name = attributeName("user.origin");
    try {
      fs.setxattr(entry.node, name, text("here"), 0);
    } catch (error) {
      // An old tmpfs has no user attributes.
      expect(error).toBe(failure("EOPNOTSUPP"));
      return;
    }
    expect(fs.getxattr(entry.node, name, new Uint8Array(0))).toBe(4);
    expect(() => fs.getxattr(entry.node, name, new Uint8Array(2))).toThrow(failure("ERANGE"));
    const list = new Uint8Array(100);
    expect(Buffer.from(list.subarray(0, fs.listxattr(entry.node, list))).toString()).toContain("user.origin");
    fs.removexattr(entry.node, name);
    expect(() => fs.getxattr(entry.node, name, list)).toThrow(failure("ENODATA"));
  });
});

describe("read only", () => {
  it("refuses every change with EROFS", () => {
    writeFileSync(join(source, "file"), "");
    const frozen = new PassthroughFileSystem(source, { readOnly: true });
    const { node } = frozen.lookup(ROOT_NODE, componentName("file"));
    const readOnly = failure("EROFS");
    expect(() => frozen.open(node, files.O_RDWR)).toThrow(readOnly);
    expect(() => frozen.create(at("new"), files.O_RDWR, plain)).toThrow(readOnly);
    expect(() => frozen.unlink(at("file"))).toThrow(readOnly);
    expect(() => frozen.setattr(node, { ...NO_CHANGE, sizeBytes: 0n }, null)).toThrow(readOnly);
    expect(() => frozen.openForMapping(node, { writable: true })).toThrow(readOnly);
    frozen.release(frozen.open(node, files.O_RDONLY));
    frozen.close();
  });
});
