/** Attributes go out the same, whether field by field or straight from struct statx. */
import { symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { sizeOf } from "../../src/abi/layout.ts";
import { encodeAttributes } from "../../src/core/encode.ts";
import { type Attributes, NO_CHANGE, ROOT_NODE } from "../../src/fs/filesystem.ts";
import { componentName } from "../../src/fs/names.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";

const ROOT = process.geteuid?.() === 0;

function encoded(attributes: Attributes): string {
  const bytes = new Uint8Array(sizeOf("fuse_attr")).fill(0xff);
  encodeAttributes(new DataView(bytes.buffer), 0, attributes);
  return Buffer.from(bytes).toString("hex");
}

it("of files, links, folders and devices, with every field different", () => {
  const source = temporaryDirectory();
  writeFileSync(join(source, "file"), "content");
  truncateSync(join(source, "file"), 2 ** 40 + 1);
  symlinkSync("target", join(source, "link"));
  const fs = new PassthroughFileSystem(source);
  const node = fs.lookup(ROOT_NODE, componentName("file")).node;
  const time = (seconds: bigint, nanoseconds: number) => ({
    kind: "set" as const,
    time: { seconds, nanoseconds },
  });
  const times = { accessTime: time(-5n, 111_111_111), modificationTime: time(2n ** 33n, 222_222_222) };
  fs.setattr(node, { ...NO_CHANGE, ...times, ...(ROOT ? { uid: 4711, gid: 4712 } : {}) }, null);
  if (ROOT) {
    const what = { mode: 0o20640, umask: 0, caller: { uid: 0, gid: 0 } };
    fs.mknod({ parent: ROOT_NODE, name: componentName("device") }, what, { major: 259, minor: 70_000 });
  }
  const names = ["file", "link", ...(ROOT ? ["device"] : [])];
  const found = [
    () => fs.getattr(ROOT_NODE),
    ...names.map((name) => () => fs.lookup(ROOT_NODE, componentName(name)).attributes),
  ];
  for (const get of found) {
    const { statx, ...plain } = get();
    expect(statx).toBeInstanceOf(DataView);
    expect(encoded(get())).toBe(encoded(plain));
  }
  fs.close();
});
