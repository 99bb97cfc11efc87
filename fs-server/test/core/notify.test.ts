/** Notifications: their bytes, decoded by the table that is compared with the kernel's header. */
import { describe, expect, it } from "vitest";
import { decode, sizeOf } from "../../src/abi/layout.ts";
import { ALL_PAGES, encodeNotification } from "../../src/core/notify.ts";
import type { NodeId } from "../../src/fs/filesystem.ts";
import { componentName } from "../../src/fs/names.ts";

const OUT_BYTES = sizeOf("fuse_out_header");
const node = (2n ** 53n + 1n) as NodeId;
const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

describe("a notification", () => {
  it.each([
    ["all pages", ALL_PAGES, { off: 0n, len: 0n }],
    ["some pages", { offset: 2n ** 53n + 1n, lengthBytes: 4096n }, { off: 2n ** 53n + 1n, len: 4096n }],
    ["attributes only", null, { off: -1n, len: 0n }],
  ])("names a node and %s", (_, pages, range) => {
    const view = viewOf(encodeNotification({ kind: "inode", node, pages }));
    expect(decode("fuse_out_header", view)).toEqual({ len: 40, error: 2, unique: 0n });
    expect(decode("fuse_notify_inval_inode_out", view, OUT_BYTES)).toEqual({ ino: node, ...range });
  });

  it("names an entry with its NUL, which its length does not count", () => {
    const name = componentName("some");
    const bytes = encodeNotification({ kind: "entry", parent: node, name });
    expect(decode("fuse_out_header", viewOf(bytes))).toEqual({ len: 37, error: 3, unique: 0n });
    expect(decode("fuse_notify_inval_entry_out", viewOf(bytes), OUT_BYTES)).toEqual({
      parent: node,
      namelen: 4,
      flags: 0,
    });
    expect(Buffer.from(bytes.subarray(-5)).toString()).toBe("some\0");
  });
});
