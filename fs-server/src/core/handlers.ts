/** What each opcode does: arguments by the table's offsets, a call of the port, the answer by the table's offsets. */
import * as C from "../abi/constants.ts";
import { offsetsOf, sizeOf } from "../abi/layout.ts";
import { failure } from "../fs/errors.ts";
import type {
  AttributeChange,
  Caller,
  Entry,
  FileHandle,
  NodeId,
  Place,
  TimeChange,
} from "../fs/filesystem.ts";
import { checkedName, checkedTerminated, NAME_MAX_BYTES, PATH_MAX_BYTES } from "../fs/names.ts";
import type { Context, Handler, Reply } from "./context.ts";
import * as encode from "./encode.ts";
import { ProtocolError } from "./errors.ts";
import { MIN_MOVED_BYTES } from "./reply.ts";
import { joined, type PipedPayload, type Request } from "./request.ts";

const SETATTR = offsetsOf("fuse_setattr_in");
const MKNOD = offsetsOf("fuse_mknod_in");
const CREATE = offsetsOf("fuse_create_in");
const READ = offsetsOf("fuse_read_in");
const WRITE = offsetsOf("fuse_write_in");
const COPY = offsetsOf("fuse_copy_file_range_in");
const FALLOCATE = offsetsOf("fuse_fallocate_in");
const LSEEK = offsetsOf("fuse_lseek_in");
const SETUP = offsetsOf("fuse_setupmapping_in");
const OPEN_OUT = offsetsOf("fuse_open_out");
const OPEN_OUT_BYTES = sizeOf("fuse_open_out");
const FORGET_ONE_BYTES = sizeOf("fuse_forget_one");
const REMOVE_ONE_BYTES = sizeOf("fuse_removemapping_one");
const MAX_XATTR_BYTES = 65_536;
/** `.` and `..` as bytes. */
const DOT = 0x2e;

function placeOf(request: Request, index = 0, parent: NodeId = request.node): Place {
  return { parent, name: checkedName(nameOf(request, index)) };
}

function nameOf(request: Request, index: number): Uint8Array {
  const name = request.names[index];
  if (name === undefined) throw new ProtocolError(`${request.row.name} without name ${index + 1}`);
  return name;
}

function attributeOf(request: Request): ReturnType<typeof checkedTerminated> {
  return checkedTerminated(nameOf(request, 0), NAME_MAX_BYTES + 1);
}

function u64(request: Request, offset: number): bigint {
  return request.args.getBigUint64(offset, true);
}

function u32(request: Request, offset: number): number {
  return request.args.getUint32(offset, true);
}

/** Every structure with a file handle begins with it. */
function handleOf(request: Request, offset = 0): FileHandle {
  return u64(request, offset) as FileHandle;
}

function entryReply(context: Context, reply: Reply, entry: Parameters<typeof encode.encodeEntry>[2]): number {
  reply.entry = entry.node;
  return encode.encodeEntry(reply.view, reply.at, entry, context.validity);
}

/** `work`, without CAP_FSETID where the client's kernel says that the caller lacks it (FUSE_HANDLE_KILLPRIV_V2). */
function asCaller<T>(context: Context, unprivileged: boolean, work: () => T): T {
  return unprivileged ? context.fs.withoutFsetid(work) : work();
}

function newNode(
  caller: Caller,
  mode: number,
  umask: number,
): { mode: number; umask: number; caller: Caller } {
  return { mode, umask: umask & 0o777, caller };
}

function openReply(
  context: Context,
  reply: Reply,
  at: number,
  opened: { readonly node: NodeId; readonly handle: FileHandle; readonly directory: boolean },
): number {
  const { node, handle, directory } = opened;
  reply.handle = handle;
  let flags = context.keepCache ? C.FOPEN_KEEP_CACHE | (directory ? C.FOPEN_CACHE_DIR : 0) : 0;
  let backingId = 0;
  if (!directory && context.backing !== null) {
    const fd = context.fs.descriptorOf(handle);
    const id = fd === null ? null : context.backing.opened(node, handle, fd);
    if (id !== null) {
      backingId = id;
      flags = C.FOPEN_PASSTHROUGH;
    }
  }
  reply.view.setBigUint64(at + OPEN_OUT.fh, handle, true);
  reply.view.setUint32(at + OPEN_OUT.open_flags, flags, true);
  reply.view.setInt32(at + OPEN_OUT.backing_id, backingId, true);
  return OPEN_OUT_BYTES;
}

function timeChange(
  request: Request,
  valid: number,
  bits: { set: number; now: number },
  at: {
    seconds: number;
    nanoseconds: number;
  },
): TimeChange {
  if ((valid & bits.set) === 0) return { kind: "keep" };
  if ((valid & bits.now) !== 0) return { kind: "now" };
  const nanoseconds = u32(request, at.nanoseconds);
  if (nanoseconds > 999_999_999) throw failure("EINVAL");
  return { kind: "set", time: { seconds: request.args.getBigInt64(at.seconds, true), nanoseconds } };
}

const setattr: Handler = (context, request, reply) => {
  const valid = u32(request, SETATTR.valid);
  const chosen = (bit: number, offset: number): number | null =>
    (valid & bit) === 0 ? null : u32(request, offset);
  const change: AttributeChange = {
    mode: chosen(C.FATTR_MODE, SETATTR.mode),
    uid: chosen(C.FATTR_UID, SETATTR.uid),
    gid: chosen(C.FATTR_GID, SETATTR.gid),
    sizeBytes: (valid & C.FATTR_SIZE) === 0 ? null : u64(request, SETATTR.size),
    accessTime: timeChange(
      request,
      valid,
      { set: C.FATTR_ATIME, now: C.FATTR_ATIME_NOW },
      { seconds: SETATTR.atime, nanoseconds: SETATTR.atimensec },
    ),
    modificationTime: timeChange(
      request,
      valid,
      { set: C.FATTR_MTIME, now: C.FATTR_MTIME_NOW },
      { seconds: SETATTR.mtime, nanoseconds: SETATTR.mtimensec },
    ),
  };
  const handle = (valid & C.FATTR_FH) === 0 ? null : handleOf(request, SETATTR.fh);
  const attributes = asCaller(context, (valid & C.FATTR_KILL_SUIDGID) !== 0, () =>
    context.fs.setattr(request.node, change, handle),
  );
  return encode.encodeAttrOut(reply.view, reply.at, attributes, context.validity);
};

const create: Handler = (context, request, reply) => {
  const what = newNode(request.caller, u32(request, CREATE.mode), u32(request, CREATE.umask));
  const flags = u32(request, CREATE.flags);
  const unprivileged = (u32(request, CREATE.open_flags) & C.FUSE_OPEN_KILL_SUIDGID) !== 0;
  const made =
    request.row.name === "TMPFILE"
      ? context.fs.tmpfile(request.node, flags, what)
      : asCaller(context, unprivileged, () => context.fs.create(placeOf(request), flags, what));
  const length = entryReply(context, reply, made.entry);
  const opened = { node: made.entry.node, handle: made.handle, directory: false };
  return length + openReply(context, reply, reply.at + length, opened);
};

const read: Handler = (context, request, reply) => {
  const size = u32(request, READ.size);
  const room = reply.sink.capacityBytes - reply.at;
  if (size > room) throw new ProtocolError(`READ of ${size} bytes into a reply of ${room}`);
  const handle = handleOf(request, READ.fh);
  let offset = u64(request, READ.offset);
  const taken = takenFromFile(context, reply, handle, { offset, size });
  if (taken !== null) {
    reply.payloadBytes = taken;
    return 0;
  }
  for (const span of reply.sink.payload(size)) {
    const got = context.fs.read(handle, offset, span);
    reply.payloadBytes += got;
    offset += BigInt(got);
    if (got < span.length) break;
  }
  return 0;
};

/** READ by reference, where sink and file system can; for small ones a copy is faster. */
function takenFromFile(
  context: Context,
  reply: Reply,
  handle: FileHandle,
  { offset, size }: { readonly offset: bigint; readonly size: number },
): number | null {
  if (size < MIN_MOVED_BYTES || reply.sink.take === undefined) return null;
  const fd = context.fs.descriptorOf(handle);
  return fd === null ? null : reply.sink.take(fd, offset, size);
}

const write: Handler = (context, request, reply) => {
  const size = u32(request, WRITE.size);
  if (size !== request.payloadBytes) {
    throw new ProtocolError(`WRITE says ${size} bytes and carries ${request.payloadBytes}`);
  }
  const handle = handleOf(request, WRITE.fh);
  const offset = u64(request, WRITE.offset);
  const flags = u32(request, WRITE.write_flags);
  const unprivileged = (flags & C.FUSE_WRITE_KILL_SUIDGID) !== 0;
  const isCached = (flags & C.FUSE_WRITE_CACHE) !== 0 && !context.clientOwnsSizes;
  const put = isCached ? writeCached : writeContent;
  const written = asCaller(context, unprivileged, () => put(context, request, handle, offset));
  reply.view.setUint32(reply.at, written, true);
  reply.view.setUint32(reply.at + 4, 0, true);
  return 8;
};

function writeContent(context: Context, request: Request, handle: FileHandle, offset: bigint): number {
  if (request.piped !== null) return writePiped(context, handle, offset, request.piped);
  let written = 0;
  for (const span of request.payload) {
    const put = writeSpan(context, handle, offset + BigInt(written), span, written);
    written += put;
    if (put < span.length) break;
  }
  return written;
}

/**
 * Content of dirty pages (of a shared mapping), which never makes a file longer: where the server has it shorter than the
 * client's kernel knows, somebody else has truncated it since, and what was stored behind its end is lost as it is on any
 * file system. Written, it would bring the old content back.
 */
function writeCached(context: Context, request: Request, handle: FileHandle, offset: bigint): number {
  const left = context.fs.getattr(request.node).sizeBytes - offset;
  if (left >= BigInt(request.payloadBytes)) return writeContent(context, request, handle, offset);
  if (left > 0n) {
    const all = request.piped?.bytes() ?? bytesOf(joined(request));
    context.fs.write(handle, offset, all.subarray(0, Number(left)));
  }
  return request.payloadBytes;
}

function bytesOf({ buffer, byteOffset, byteLength }: DataView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function writePiped(context: Context, handle: FileHandle, offset: bigint, piped: PipedPayload): number {
  const fd = context.fs.descriptorOf(handle);
  const moved = fd === null ? null : piped.moveTo(fd, offset);
  // What cannot be moved (O_APPEND, a decorated file system, an error) goes by memory and meets its errno there.
  return moved ?? context.fs.write(handle, offset, piped.bytes());
}

/** An error after the first span is a short write, as write(2) has it. */
function writeSpan(
  context: Context,
  handle: FileHandle,
  offset: bigint,
  span: Uint8Array,
  written: number,
): number {
  if (written === 0) return context.fs.write(handle, offset, span);
  try {
    return context.fs.write(handle, offset, span);
  } catch {
    return 0;
  }
}

function directoryRoom(request: Request, reply: Reply): number {
  const size = u32(request, READ.size);
  return Math.min(size, reply.room);
}

const readdir: Handler = (context, request, reply) => {
  const room = directoryRoom(request, reply);
  let used = 0;
  context.fs.readDirectory(handleOf(request, READ.fh), u64(request, READ.offset), (entry) => {
    const { nameBytes } = entry;
    if (used + encode.direntBytes(nameBytes) > room) return false;
    used += encode.encodeDirent(reply.sink.frame, reply.at + used, entry, nameBytes);
    return true;
  });
  return used;
};

function isDots(name: Uint8Array): boolean {
  return name[0] === DOT && (name.length === 2 || (name.length === 3 && name[1] === DOT));
}

/** null for `.`, `..` and what vanished meanwhile: they go out as names alone, which node id 0 tells the kernel. */
function foundEntry(context: Context, directory: NodeId, name: Uint8Array): Entry | null {
  if (isDots(name)) return null;
  try {
    return context.fs.lookup(directory, checkedName(name));
  } catch {
    // The name alone is a valid answer; a later LOOKUP says what is wrong.
    return null;
  }
}

const readdirplus: Handler = (context, request, reply) => {
  const room = directoryRoom(request, reply);
  const taken: NodeId[] = [];
  reply.entries = taken;
  let used = 0;
  context.fs.readDirectory(handleOf(request, READ.fh), u64(request, READ.offset), (entry) => {
    const { nameBytes } = entry;
    const length = encode.ENTRY_BYTES + encode.direntBytes(nameBytes);
    if (used + length > room) return false;
    const at = reply.at + used;
    const found = foundEntry(context, request.node, entry.name);
    if (found === null) reply.sink.frame.bytes.fill(0, at, at + encode.ENTRY_BYTES);
    else {
      taken.push(found.node);
      encode.encodeEntry(reply.view, at, found, context.validity);
    }
    used +=
      encode.ENTRY_BYTES + encode.encodeDirent(reply.sink.frame, at + encode.ENTRY_BYTES, entry, nameBytes);
    return true;
  });
  return used;
};

/** GETXATTR and LISTXATTR: size 0 asks how much there is. */
function xattrReply(request: Request, reply: Reply, get: (into: Uint8Array) => number): number {
  const size = u32(request, 0);
  if (size === 0) {
    reply.view.setUint32(reply.at, get(new Uint8Array(0)), true);
    reply.view.setUint32(reply.at + 4, 0, true);
    return 8;
  }
  const room = Math.min(size, reply.room, MAX_XATTR_BYTES);
  return get(reply.sink.frame.bytes.subarray(reply.at, reply.at + room));
}

const setxattr: Handler = (context, request) => {
  const size = u32(request, 0);
  if (size !== request.payloadBytes) {
    throw new ProtocolError(`SETXATTR says ${size} bytes and carries ${request.payloadBytes}`);
  }
  if (size > MAX_XATTR_BYTES) throw failure("E2BIG");
  const value = joined(request);
  const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  context.fs.setxattr(request.node, attributeOf(request), bytes, u32(request, 4));
  return 0;
};

/** The entries of BATCH_FORGET and REMOVEMAPPING: as many as the count says, no fewer. */
function entriesOf(request: Request, entryBytes: number): { view: DataView; count: number } {
  const count = u32(request, 0);
  if (count * entryBytes > request.payloadBytes) {
    const fit = Math.floor(request.payloadBytes / entryBytes);
    throw new ProtocolError(`${request.row.name} counts ${count} entries and carries ${fit}`);
  }
  return { view: joined(request), count };
}

const batchForget: Handler = (context, request) => {
  const { view, count } = entriesOf(request, FORGET_ONE_BYTES);
  for (let i = 0; i < count; i += 1) {
    const at = i * FORGET_ONE_BYTES;
    context.fs.forget(view.getBigUint64(at, true) as NodeId, view.getBigUint64(at + 8, true));
  }
  return 0;
};

const copyFileRange: Handler = (context, request, reply) => {
  const from = { handle: handleOf(request, COPY.fh_in), offset: u64(request, COPY.off_in) };
  const to = { handle: handleOf(request, COPY.fh_out), offset: u64(request, COPY.off_out) };
  if (u64(request, COPY.flags) !== 0n) throw failure("EINVAL");
  const copied = context.fs.copyFileRange(from, to, u64(request, COPY.len));
  // fuse_write_out (a 32-bit size and padding) and fuse_copy_file_range_out share these 8 bytes.
  reply.view.setBigUint64(reply.at, BigInt(copied), true);
  return 8;
};

const setupMapping: Handler = (context, request) => {
  if (context.dax === null) throw failure("ENOSYS");
  const flags = u64(request, SETUP.flags);
  context.dax.setup({
    node: request.node,
    fileOffset: u64(request, SETUP.foffset),
    lengthBytes: u64(request, SETUP.len),
    windowOffset: u64(request, SETUP.moffset),
    writable: (flags & C.FUSE_SETUPMAPPING_FLAG_WRITE) !== 0n,
  });
  return 0;
};

const removeMapping: Handler = (context, request) => {
  if (context.dax === null) throw failure("ENOSYS");
  const { view, count } = entriesOf(request, REMOVE_ONE_BYTES);
  const removals = Array.from({ length: count }, (_, i) => ({
    windowOffset: view.getBigUint64(i * REMOVE_ONE_BYTES, true),
    lengthBytes: view.getBigUint64(i * REMOVE_ONE_BYTES + 8, true),
  }));
  context.dax.remove(removals);
  return 0;
};

/** For operations that answer with nothing. */
function silent(work: (context: Context, request: Request) => void): Handler {
  return (context, request) => {
    work(context, request);
    return 0;
  };
}

/** By the name in the opcode table. Rows without an entry here are ENOSYS. */
export const HANDLERS: Readonly<Record<string, Handler>> = {
  LOOKUP: (c, q, r) => entryReply(c, r, c.fs.lookup(q.node, checkedName(nameOf(q, 0)))),
  FORGET: silent((c, q) => c.fs.forget(q.node, u64(q, 0))),
  BATCH_FORGET: batchForget,
  GETATTR: (c, q, r) => encode.encodeAttrOut(r.view, r.at, c.fs.getattr(q.node), c.validity),
  STATX: (c, q, r) => encode.encodeStatx(r.view, r.at, c.fs.getattr(q.node), c.validity),
  SETATTR: setattr,
  READLINK: (c, q, r) => {
    const target = c.fs.readlink(q.node);
    const length = Math.min(target.length, r.room);
    r.sink.frame.bytes.set(target.subarray(0, length), r.at);
    return length;
  },
  SYMLINK: (c, q, r) => {
    const target = checkedTerminated(nameOf(q, 1), PATH_MAX_BYTES);
    return entryReply(c, r, c.fs.symlink(placeOf(q), target, q.caller));
  },
  MKNOD: (c, q, r) => {
    const what = newNode(q.caller, u32(q, MKNOD.mode), u32(q, MKNOD.umask));
    return entryReply(c, r, c.fs.mknod(placeOf(q), what, encode.decodedDevice(u32(q, MKNOD.rdev))));
  },
  MKDIR: (c, q, r) => entryReply(c, r, c.fs.mkdir(placeOf(q), newNode(q.caller, u32(q, 0), u32(q, 4)))),
  UNLINK: silent((c, q) => c.fs.unlink(placeOf(q))),
  RMDIR: silent((c, q) => c.fs.rmdir(placeOf(q))),
  RENAME: silent((c, q) => c.fs.rename(placeOf(q), placeOf(q, 1, u64(q, 0) as NodeId), 0)),
  RENAME2: silent((c, q) => c.fs.rename(placeOf(q), placeOf(q, 1, u64(q, 0) as NodeId), u32(q, 8))),
  LINK: (c, q, r) => entryReply(c, r, c.fs.link(u64(q, 0) as NodeId, placeOf(q))),
  OPEN: (c, q, r) => {
    const unprivileged = (u32(q, 4) & C.FUSE_OPEN_KILL_SUIDGID) !== 0;
    const handle = asCaller(c, unprivileged, () => c.fs.open(q.node, u32(q, 0)));
    return openReply(c, r, r.at, { node: q.node, handle, directory: false });
  },
  CREATE: create,
  TMPFILE: create,
  READ: read,
  WRITE: write,
  STATFS: (c, q, r) => encode.encodeStatfs(r.view, r.at, c.fs.statfs(q.node)),
  RELEASE: silent((c, q) => {
    c.fs.release(handleOf(q));
    c.backing?.released(handleOf(q));
  }),
  FLUSH: silent((c, q) => c.fs.flush(handleOf(q))),
  FSYNC: silent((c, q) => c.fs.fsync(handleOf(q), (u32(q, 8) & C.FUSE_FSYNC_FDATASYNC) !== 0)),
  OPENDIR: (c, q, r) =>
    openReply(c, r, r.at, { node: q.node, handle: c.fs.opendir(q.node), directory: true }),
  READDIR: readdir,
  READDIRPLUS: readdirplus,
  RELEASEDIR: silent((c, q) => c.fs.releasedir(handleOf(q))),
  FSYNCDIR: silent((c, q) => c.fs.fsyncdir(handleOf(q), (u32(q, 8) & C.FUSE_FSYNC_FDATASYNC) !== 0)),
  SETXATTR: setxattr,
  GETXATTR: (c, q, r) => xattrReply(q, r, (into) => c.fs.getxattr(q.node, attributeOf(q), into)),
  LISTXATTR: (c, q, r) => xattrReply(q, r, (into) => c.fs.listxattr(q.node, into)),
  REMOVEXATTR: silent((c, q) => c.fs.removexattr(q.node, attributeOf(q))),
  ACCESS: silent((c, q) => c.fs.access(q.node, u32(q, 0), q.caller)),
  FALLOCATE: silent((c, q) =>
    c.fs.fallocate(handleOf(q), u32(q, FALLOCATE.mode), u64(q, FALLOCATE.offset), u64(q, FALLOCATE.length)),
  ),
  LSEEK: (c, q, r) => {
    const offset = c.fs.lseek(handleOf(q), u64(q, LSEEK.offset), u32(q, LSEEK.whence));
    r.view.setBigUint64(r.at, offset, true);
    return 8;
  },
  COPY_FILE_RANGE: copyFileRange,
  COPY_FILE_RANGE_64: copyFileRange,
  SYNCFS: silent((c, q) => c.fs.syncfs(q.node)),
  SETUPMAPPING: setupMapping,
  REMOVEMAPPING: removeMapping,
};
