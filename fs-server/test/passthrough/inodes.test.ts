/** Nodes need no descriptors where the source has file handles: one client's folders are no limit for another. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, renameSync, rmdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { failure } from "../../src/fs/errors.ts";
import { type NodeId, ROOT_NODE } from "../../src/fs/filesystem.ts";
import { componentName } from "../../src/fs/names.ts";
import { FileHandles } from "../../src/passthrough/file-handles.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";

const PINS = 8;
const probe = FileHandles.open(Buffer.from(`${temporaryDirectory()}\0`));
probe?.close();
const hasHandles = probe !== null;

let source: string;
let fs: PassthroughFileSystem;

const look = (name: string, parent: NodeId = ROOT_NODE): NodeId =>
  fs.lookup(parent, componentName(name)).node;
const descriptors = (): number => readdirSync("/proc/self/fd").length;

function serve(
  options: { readonly fileHandles?: "never" | "prefer"; readonly nodeLimit?: number } = {},
): void {
  fs = new PassthroughFileSystem(source, { pinLimit: PINS, ...options });
}

beforeEach(() => {
  source = temporaryDirectory();
});

afterEach(() => fs.close());

describe.skipIf(!hasHandles)("more nodes than pins", () => {
  it("are all usable, and hold no more descriptors than pins", () => {
    serve();
    const before = descriptors();
    const nodes: NodeId[] = [];
    for (let index = 0; index < 100; index += 1) {
      writeFileSync(join(source, `f${index}`), `${index}`);
      nodes.push(look(`f${index}`));
    }
    for (const [index, node] of nodes.entries()) {
      const handle = fs.open(node, 0);
      const bytes = Buffer.alloc(8);
      expect(bytes.subarray(0, fs.read(handle, 0n, bytes)).toString()).toBe(`${index}`);
      fs.release(handle);
      expect(look(`f${index}`)).toBe(node);
    }
    expect(fs.usage().nodes).toBe(100);
    expect(fs.pins).toBeLessThanOrEqual(PINS);
    expect(descriptors() - before).toBeLessThanOrEqual(PINS);
    for (const node of nodes) fs.forget(node, 2n);
    expect(fs.usage().nodes).toBe(0);
    expect(fs.pins).toBe(0);
    expect(descriptors()).toBe(before);
  });

  it("may be folders in folders, 1,000 deep, renamed and linked between", () => {
    serve();
    const caller = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    const what = { mode: 0o755, umask: 0, caller };
    const path: NodeId[] = [ROOT_NODE];
    for (let depth = 0; depth < 1000; depth += 1) {
      const parent = path.at(-1) ?? ROOT_NODE;
      path.push(fs.mkdir({ parent, name: componentName("d") }, what).node);
    }
    const [top = ROOT_NODE, deep = ROOT_NODE] = [path[1], path[1000]];
    const place = (parent: NodeId, name: string) => ({ parent, name: componentName(name) });
    const { entry, handle } = fs.create(place(deep, "file"), 2, what);
    fs.release(handle);
    for (const node of path.slice(2, 30)) fs.getattr(node);
    expect(fs.link(entry.node, place(top, "hard")).node).toBe(entry.node);
    for (const node of path.slice(2, 30)) fs.getattr(node);
    fs.rename(place(deep, "file"), place(top, "moved"), 0);
    expect(look("moved", top)).toBe(entry.node);
    expect(fs.pins).toBeLessThanOrEqual(PINS);
  });

  it("may be links, which are opened again as links", () => {
    serve();
    symlinkSync("target", join(source, "link"));
    const link = look("link");
    for (let index = 0; index < 20; index += 1) {
      mkdirSync(join(source, `d${index}`));
      look(`d${index}`);
    }
    expect(Buffer.from(fs.readlink(link)).toString()).toBe("target");
    expect(() => fs.open(link, 0)).toThrow(failure("ELOOP"));
  });

  it("follow the inode, not the name", () => {
    serve();
    writeFileSync(join(source, "old"), "old");
    const node = look("old");
    for (let index = 0; index < 20; index += 1) {
      writeFileSync(join(source, `x${index}`), "");
      look(`x${index}`);
    }
    renameSync(join(source, "old"), join(source, "new"));
    writeFileSync(join(source, "old"), "another");
    expect(fs.getattr(node).sizeBytes).toBe(3n);
    expect(look("new")).toBe(node);
    expect(look("old")).not.toBe(node);
  });

  it("are ESTALE when their inode is gone, also if its number comes back", () => {
    serve();
    const gone = new Map<bigint, NodeId>();
    for (let index = 0; index < 40; index += 1) {
      mkdirSync(join(source, `d${index}`));
      const { node, attributes } = fs.lookup(ROOT_NODE, componentName(`d${index}`));
      gone.set(attributes.ino, node);
    }
    for (let index = 0; index < 40; index += 1) rmdirSync(join(source, `d${index}`));
    let reused = 0;
    for (let index = 0; index < 40; index += 1) {
      mkdirSync(join(source, `e${index}`));
      const { node, attributes } = fs.lookup(ROOT_NODE, componentName(`e${index}`));
      const before = gone.get(attributes.ino);
      if (before === undefined) continue;
      reused += 1;
      expect(node).not.toBe(before);
      expect(() => fs.getattr(before)).toThrow(failure("ESTALE"));
      fs.forget(before, 1n);
      expect(look(`e${index}`)).toBe(node);
    }
    // Btrfs and tmpfs never give a number twice.
    const type = execFileSync("stat", ["-f", "-c", "%T", source]).toString();
    if (type.includes("ext2/ext3")) expect(reused).toBeGreaterThan(0);
  });
});

describe("a bound on nodes", () => {
  it.skipIf(!hasHandles)("does not keep a known node from being pinned again", () => {
    serve({ nodeLimit: 20 });
    for (let index = 0; index < 21; index += 1) writeFileSync(join(source, `f${index}`), "");
    const nodes = Array.from({ length: 20 }, (_, index) => look(`f${index}`));
    expect(() => look("f20")).toThrow(failure("ENFILE"));
    for (const [index, node] of nodes.entries()) expect(look(`f${index}`)).toBe(node);
  });

  it("is that of descriptors where the source has no file handles", () => {
    serve({ fileHandles: "never" });
    for (let index = 0; index <= PINS; index += 1) writeFileSync(join(source, `f${index}`), "");
    const nodes = Array.from({ length: PINS }, (_, index) => look(`f${index}`));
    expect(() => look(`f${PINS}`)).toThrow(failure("ENFILE"));
    fs.forget(nodes[0] ?? ROOT_NODE, 1n);
    look(`f${PINS}`);
  });
});
