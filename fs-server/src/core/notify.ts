/**
 * Notifications from the server: they invalidate what the client's kernel has cached
 * (FUSE_NOTIFY_INVAL_INODE, FUSE_NOTIFY_INVAL_ENTRY; fs/fuse/inode.c, fuse_reverse_inval_inode()).
 *
 * The client's kernel drops pages under their locks and names under their directory's lock. A request in service may hold
 * either, so the serving thread must never wait for a notification: `notify` returns a promise, and transports send from
 * another thread than the one that answers.
 */
import { FUSE_NOTIFY_INVAL_ENTRY, FUSE_NOTIFY_INVAL_INODE } from "../abi/constants.ts";
import { offsetsOf, sizeOf } from "../abi/layout.ts";
import type { NodeId } from "../fs/filesystem.ts";
import type { ComponentName } from "../fs/names.ts";

const OUT = offsetsOf("fuse_out_header");
const OUT_BYTES = sizeOf("fuse_out_header");
const INODE = offsetsOf("fuse_notify_inval_inode_out");
const INODE_BYTES = sizeOf("fuse_notify_inval_inode_out");
const ENTRY = offsetsOf("fuse_notify_inval_entry_out");
const ENTRY_BYTES = sizeOf("fuse_notify_inval_entry_out");

export type Invalidation =
  /** Cached attributes of a node, always; and its cached pages. */
  | { readonly kind: "inode"; readonly node: NodeId; readonly pages: PageRange | null }
  /** A cached name, whether it meant something or nothing. */
  | { readonly kind: "entry"; readonly parent: NodeId; readonly name: ComponentName };

/** Rounded outwards to pages by the kernel. `lengthBytes` null: up to the end, wherever that is. */
export type PageRange = { readonly offset: bigint; readonly lengthBytes: bigint | null };

export const ALL_PAGES: PageRange = { offset: 0n, lengthBytes: null };

/**
 * `dropped`: what was cached is gone, except for pinned pages.
 * `unknown`: the client's kernel has no such inode or name (any more, or none at all: unmounted), so nothing is cached.
 */
export type Notified = "dropped" | "unknown";

/** Port of a transport whose client has a cache. Rejects with a TransportError if it cannot be sent. */
export interface Notifier {
  notify(invalidation: Invalidation): Promise<Notified>;
}

/** The bytes of a notification: a reply's header with unique 0, which carries the code where replies have the error. */
export function encodeNotification(invalidation: Invalidation): Uint8Array {
  switch (invalidation.kind) {
    case "inode": {
      const { node, pages } = invalidation;
      const view = started(FUSE_NOTIFY_INVAL_INODE, INODE_BYTES);
      view.setBigUint64(OUT_BYTES + INODE.ino, node, true);
      // A negative offset leaves the pages alone; a length of 0 or less has no end.
      view.setBigInt64(OUT_BYTES + INODE.off, pages?.offset ?? -1n, true);
      view.setBigInt64(OUT_BYTES + INODE.len, pages?.lengthBytes ?? 0n, true);
      return bytesOf(view);
    }
    case "entry": {
      const { parent, name } = invalidation;
      const view = started(FUSE_NOTIFY_INVAL_ENTRY, ENTRY_BYTES + name.length);
      view.setBigUint64(OUT_BYTES + ENTRY.parent, parent, true);
      view.setUint32(OUT_BYTES + ENTRY.namelen, name.length - 1, true);
      const bytes = bytesOf(view);
      bytes.set(name, OUT_BYTES + ENTRY_BYTES);
      return bytes;
    }
    default:
      return invalidation satisfies never;
  }
}

function started(code: number, bodyBytes: number): DataView {
  const view = new DataView(new ArrayBuffer(OUT_BYTES + bodyBytes));
  view.setUint32(OUT.len, view.byteLength, true);
  view.setInt32(OUT.error, code, true);
  return view;
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer);
}
