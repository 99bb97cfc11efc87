/** Nothing outside the source can be reached, whatever a client asks for. */
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { type FileSystemError, failure } from "../../src/fs/errors.ts";
import { type NodeId, ROOT_NODE } from "../../src/fs/filesystem.ts";
import { checkedName, componentName, linkTarget } from "../../src/fs/names.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";
import { onHost } from "../support/host.ts";

const ROOT = process.geteuid?.() === 0;
const caller = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
const plain = { mode: 0o644, umask: 0, caller };

let outside: string;
let source: string;
let fs: PassthroughFileSystem;

beforeEach(() => {
  const base = temporaryDirectory();
  outside = join(base, "outside");
  source = join(base, "source");
  mkdirSync(outside);
  mkdirSync(source);
  writeFileSync(join(outside, "secret"), "secret");
  fs = new PassthroughFileSystem(source);
});

afterEach(() => fs.close());

const look = (name: string, parent: NodeId = ROOT_NODE): NodeId =>
  fs.lookup(parent, componentName(name)).node;

describe("names", () => {
  it.each(["..", ".", "../outside", "a/b", "/etc", "/"])("refuses %j as a component", (name) => {
    expect(() => componentName(name)).toThrow(failure("EINVAL"));
  });

  it("refuses an inner NUL, an unterminated, an empty and a 256-byte name", () => {
    expect(() => checkedName(Buffer.from("a\0b\0"))).toThrow(failure("EINVAL"));
    expect(() => checkedName(Buffer.from("ab"))).toThrow(failure("EINVAL"));
    expect(() => checkedName(Buffer.from("\0"))).toThrow(failure("ENOENT"));
    expect(() => componentName("n".repeat(256))).toThrow(failure("ENAMETOOLONG"));
    expect(componentName("n".repeat(255))).toHaveLength(256);
  });
});

describe("symbolic links", () => {
  it("are shown, never followed", () => {
    symlinkSync(join(outside, "secret"), join(source, "link"));
    symlinkSync(outside, join(source, "folder-link"));
    const link = look("link");
    expect(Buffer.from(fs.readlink(link)).toString()).toBe(join(outside, "secret"));
    expect(() => fs.open(link, 0)).toThrow(failure("ELOOP"));
    expect(() => fs.openForMapping(link, { writable: false })).toThrow(failure("ELOOP"));
    expect(() => fs.opendir(look("folder-link"))).toThrow(failure("ENOTDIR"));
    expect(() => look("secret", look("folder-link"))).toThrow(failure("ENOTDIR"));
    const change = { mode: null, uid: null, gid: null, sizeBytes: 0n } as const;
    const keep = { accessTime: { kind: "keep" }, modificationTime: { kind: "keep" } } as const;
    expect(() => fs.setattr(link, { ...change, ...keep }, null)).toThrow(failure("EINVAL"));
    expect(readFileSync(join(outside, "secret"), "utf8")).toBe("secret");
  });

  it("do not let create write through them", () => {
    symlinkSync(join(outside, "secret"), join(source, "link"));
    const place = { parent: ROOT_NODE, name: componentName("link") };
    expect(() => fs.create(place, 0o1002, plain)).toThrow(failure("ELOOP"));
    expect(readFileSync(join(outside, "secret"), "utf8")).toBe("secret");
    expect(fs.usage()).toEqual({ nodes: 0, handles: 0 });
  });

  it("swapped in for a known directory change nothing for its node", () => {
    mkdirSync(join(source, "folder"));
    writeFileSync(join(source, "folder", "inner"), "inner");
    const folder = look("folder");
    renameSync(join(source, "folder"), join(source, "moved"));
    symlinkSync(outside, join(source, "folder"));
    expect(fs.lookup(folder, componentName("inner")).attributes.sizeBytes).toBe(5n);
    expect(() => look("secret", folder)).toThrow(failure("ENOENT"));
  });

  it("made by the client into /proc lead nowhere", () => {
    const place = { parent: ROOT_NODE, name: componentName("proc") };
    const { node } = fs.symlink(place, linkTarget("/proc/self/root"), caller);
    expect(() => look("etc", node)).toThrow(failure("ENOTDIR"));
  });
});

describe("magic links of /proc", () => {
  const self = ["root", "cwd", "exe"] as const;

  it.each(self)("are shown as links and never jumped through: %s", (name) => {
    const proc = new PassthroughFileSystem("/proc/self");
    const node = proc.lookup(ROOT_NODE, componentName(name)).node;
    expect(Buffer.from(proc.readlink(node)).toString()).toMatch(/^\//);
    expect(() => proc.open(node, 0)).toThrow(failure("ELOOP"));
    expect(() => proc.openForMapping(node, { writable: false })).toThrow(failure("ELOOP"));
    expect(() => proc.opendir(node)).toThrow(failure("ENOTDIR"));
    expect(() => proc.lookup(node, componentName("etc"))).toThrow(failure("ENOTDIR"));
    const place = { parent: node, name: componentName("made") };
    expect(() => proc.create(place, 1, plain)).toThrow(failure("ENOTDIR"));
    proc.close();
  });
});

describe("renames by the host", () => {
  it("swap a folder for a link outside, over and over: nobody looking gets through", async () => {
    mkdirSync(join(source, "folder"));
    symlinkSync(outside, join(source, "link"));
    const swap = `const at = (name) => sys.files.pathBytes(path + "/" + name);
      const end = performance.now() + 500;
      while (performance.now() < end) {
        sys.files.renameat2(sys.files.AT_FDCWD, at("folder"), sys.files.AT_FDCWD, at("link"), sys.files.RENAME_EXCHANGE);
      }`;
    const { done } = (await onHost(source, swap))();
    let over = false;
    void done.finally(() => {
      over = true;
    });
    const seen = new Set<string>();
    while (!over) {
      for (let i = 0; i < 50; i += 1) seen.add(lookedFor("secret"));
      await setImmediate();
    }
    expect((await done).errno).toBe(null);
    // Both were met, as a folder without the name and as something that is no folder.
    expect(seen).toEqual(new Set(["ENOENT", "ENOTDIR"]));
    expect(fs.usage().nodes).toBe(0);
  });

  it("of a parent out of the source leave its own names to who holds it, and none beside it", () => {
    mkdirSync(join(source, "folder"));
    writeFileSync(join(source, "folder", "inner"), "inner");
    const folder = look("folder");
    renameSync(join(source, "folder"), join(outside, "folder"));
    expect(() => look("folder")).toThrow(failure("ENOENT"));
    expect(look("inner", folder)).toBeGreaterThan(folder);
    expect(() => look("secret", folder)).toThrow(failure("ENOENT"));
    // The one way up would be a name that no request can carry.
    expect(() => look("..", folder)).toThrow(failure("EINVAL"));
    const up = { parent: folder, name: Buffer.from("../secret\0") };
    expect(() => fs.unlink({ ...up, name: checkedName(up.name) })).toThrow(failure("EINVAL"));
    expect(readFileSync(join(outside, "secret"), "utf8")).toBe("secret");
  });

  /** The errno of a look-up of `name` in "folder", whichever of the two that is now; both nodes are given back. */
  function lookedFor(name: string): string {
    let folder: NodeId | null = null;
    try {
      folder = look("folder");
      fs.forget(look(name, folder), 1n);
      return "found";
    } catch (error) {
      return (error as FileSystemError).code;
    } finally {
      if (folder !== null) fs.forget(folder, 1n);
    }
  }
});

describe("special files", () => {
  it("are never opened: a FIFO would make the server wait for ever", () => {
    execFileSync("mkfifo", [join(source, "fifo")]);
    const node = look("fifo");
    expect(() => fs.open(node, 0)).toThrow(failure("ENXIO"));
    const place = { parent: ROOT_NODE, name: componentName("fifo") };
    expect(() => fs.create(place, 1, plain)).toThrow(failure("ENXIO"));
  });

  it.skipIf(!ROOT)("as devices are made for the client's kernel but not opened by the server", () => {
    const place = { parent: ROOT_NODE, name: componentName("null") };
    const { node, attributes } = fs.mknod(place, { ...plain, mode: 0o20666 }, { major: 1, minor: 3 });
    expect(attributes.device).toEqual({ major: 1, minor: 3 });
    expect(() => fs.open(node, 2)).toThrow(failure("ENXIO"));
  });
});

describe("mount points inside the source", () => {
  it.skipIf(!ROOT)("are not crossed unless asked for", () => {
    mkdirSync(join(source, "bind"));
    execFileSync("mount", ["--bind", outside, join(source, "bind")]);
    try {
      expect(() => look("bind")).toThrow(failure("EXDEV"));
      const crossing = new PassthroughFileSystem(source, { crossMounts: true });
      expect(crossing.lookup(ROOT_NODE, componentName("bind")).attributes.linkCount).toBeGreaterThan(0);
      crossing.close();
    } finally {
      // Lazily: where the expectation fails, the file system that crossed is still open.
      execFileSync("umount", ["--lazy", join(source, "bind")]);
    }
  });
});

describe("limits", () => {
  it("bound nodes and handles", () => {
    const small = new PassthroughFileSystem(source, { nodeLimit: 2, handleLimit: 1 });
    for (const name of ["a", "b", "c"]) writeFileSync(join(source, name), "");
    const a = small.lookup(ROOT_NODE, componentName("a")).node;
    small.lookup(ROOT_NODE, componentName("b"));
    expect(() => small.lookup(ROOT_NODE, componentName("c"))).toThrow(failure("ENFILE"));
    small.open(a, 0);
    expect(() => small.open(a, 0)).toThrow(failure("ENFILE"));
    small.forget(a, 2n ** 64n - 1n);
    small.lookup(ROOT_NODE, componentName("c"));
    expect(small.usage()).toEqual({ nodes: 2, handles: 1 });
    small.close();
  });

  it("count references, not names: a hard link is one node", () => {
    writeFileSync(join(source, "one"), "");
    linkSync(join(source, "one"), join(source, "two"));
    const node = look("one");
    expect(look("two")).toBe(node);
    fs.forget(node, 1n);
    expect(fs.usage().nodes).toBe(1);
    fs.forget(node, 1n);
    fs.forget(node, 5n);
    fs.forget(ROOT_NODE, 5n);
    expect(fs.usage().nodes).toBe(0);
    expect(() => fs.getattr(node)).toThrow(failure("ESTALE"));
    expect(fs.getattr(ROOT_NODE).linkCount).toBeGreaterThan(0);
  });
});
