/** What each opcode does: arguments by their names, a call of the port, the answer by the table's offsets. */
import { F_RDLCK, F_UNLCK, F_WRLCK, files } from "../../../sys/src/index.ts";
import * as C from "../abi/constants.ts";
import { offsetsOf, sizeOf } from "../abi/layout.ts";
import type { OpcodeName, ServedOpcode } from "../abi/opcodes.ts";
import { structReader } from "../abi/struct-view.ts";
import { failure } from "../fs/errors.ts";
import type {
  AttributeChange,
  Attributes,
  Caller,
  DirectoryEntry,
  Entry,
  FileHandle,
  FileLock,
  FileSystem,
  LockOwner,
  NodeId,
  Place,
  SyncScope,
  TimeChange,
  WriteHow,
} from "../fs/filesystem.ts";
import { PLAIN_WRITE } from "../fs/filesystem.ts";
import { AnsweredLater } from "../fs/lock-waits.ts";
import {
  attributeName,
  checkedName,
  checkedTerminated,
  NAME_MAX_BYTES,
  PATH_MAX_BYTES,
  withoutTrusted,
} from "../fs/names.ts";
import { Postponed } from "../fs/postponed.ts";
import type { Handler, HandlerContext, Reply } from "./context.ts";
import * as encode from "./encode.ts";
import { ProtocolError } from "./errors.ts";
import { MIN_MOVED_BYTES } from "./reply.ts";
import { type AnyRequest, joined, type PipedPayload, type Request } from "./request.ts";

const FileLockIn = structReader("fuse_file_lock");
const ForgetOne = structReader("fuse_forget_one");
const RemoveOne = structReader("fuse_removemapping_one");
const WRITE_OUT = offsetsOf("fuse_write_out");
const WRITE_OUT_BYTES = sizeOf("fuse_write_out");
const XATTR_OUT = offsetsOf("fuse_getxattr_out");
const XATTR_OUT_BYTES = sizeOf("fuse_getxattr_out");
const COPY_OUT = offsetsOf("fuse_copy_file_range_out");
const COPY_OUT_BYTES = sizeOf("fuse_copy_file_range_out");
const LSEEK_OUT = offsetsOf("fuse_lseek_out");
const LSEEK_OUT_BYTES = sizeOf("fuse_lseek_out");
const LK_OUT = offsetsOf("fuse_lk_out");
const LK_OUT_BYTES = sizeOf("fuse_lk_out");
const LOCK = offsetsOf("fuse_file_lock");
const LK_IN = offsetsOf("fuse_lk_in");
/** Before a lock is tried for again, where there are no LockWaits. */
const LOCK_RETRY_MS = 10;
const OPEN_OUT = offsetsOf("fuse_open_out");
const OPEN_OUT_BYTES = sizeOf("fuse_open_out");
const FORGET_ONE_BYTES = sizeOf("fuse_forget_one");
const REMOVE_ONE_BYTES = sizeOf("fuse_removemapping_one");
const MAX_XATTR_BYTES = 65_536;
/** `.` and `..` as bytes. */
const DOT = 0x2e;
const S_ISUID = 0o4000;
const S_ISGID = 0o2000;

function placeOf(request: Request, index = 0, parent: NodeId = request.node): Place {
  return { parent, name: checkedName(nameOf(request, index)) };
}

function nameOf(request: Request, index: number): Uint8Array {
  const name = request.names[index];
  if (name === undefined) throw new ProtocolError(`${request.opcode} without name ${index + 1}`);
  return name;
}

function attributeOf(request: Request): ReturnType<typeof checkedTerminated> {
  return checkedTerminated(nameOf(request, 0), NAME_MAX_BYTES + 1);
}

function handleOf({ args }: { readonly args: { readonly fh: bigint } }): FileHandle {
  return args.fh as FileHandle;
}

function entryReply(
  context: HandlerContext,
  reply: Reply,
  entry: Parameters<typeof encode.encodeEntry>[2],
): number {
  reply.entry = entry.node;
  context.sizes?.shownEntry(entry);
  return encode.encodeEntry(reply.view, reply.at, entry, context.validity);
}

function attributesReply(
  context: HandlerContext,
  reply: Reply,
  node: NodeId,
  attributes: Attributes,
): number {
  context.sizes?.shown(node, attributes);
  return encode.encodeAttrOut(reply.view, reply.at, attributes, context.validity);
}

/**
 * `work`, without CAP_FSETID where the client's kernel says that the caller lacks it (FUSE_HANDLE_KILLPRIV_V2).
 * @param killSuidgid the request's KILL_SUIDGID bit; 0: not set
 */
function asCaller<T>(context: HandlerContext, request: Request, killSuidgid: number, work: () => T): T {
  return killSuidgid === 0 ? work() : context.fs.withoutFsetid(request.caller, work);
}

/**
 * `work` of a request that says nothing of its caller's capabilities: with FUSE_HANDLE_KILLPRIV_V2 the client's kernel
 * leaves set-id bits to the server (fuse_setattr()), and has no flag for it in FALLOCATE and COPY_FILE_RANGE.
 * Root has CAP_FSETID, others have not: where that is wrong, bits go that might stay.
 */
function asUser<T>(context: HandlerContext, request: Request, work: () => T): T {
  return request.caller.uid === 0 ? work() : context.fs.withoutFsetid(request.caller, work);
}

function newNode(
  caller: Caller,
  mode: number,
  umask: number,
): { mode: number; umask: number; caller: Caller } {
  return { mode, umask: umask & 0o777, caller };
}

const CAPABILITY = attributeName("security.capability");

/**
 * Whether a file that the kernel could write by itself (FUSE_PASSTHROUGH) has to be written by requests. The kernel writes
 * with the server's privileges and the flags of the open (backing_file_write_iter()): set-id bits and capabilities would
 * stay, and O_APPEND that is taken away later would go on.
 */
function needsRequests(fs: FileSystem, node: NodeId, flags: number): boolean {
  if ((flags & files.O_ACCMODE) === files.O_RDONLY) return false;
  if ((flags & files.O_APPEND) !== 0 || (fs.getattr(node).mode & (S_ISUID | S_ISGID)) !== 0) return true;
  try {
    return fs.getxattr(node, CAPABILITY, new Uint8Array(0)) > 0;
  } catch {
    // ENODATA, or a source without attributes.
    return false;
  }
}

/** @param opened.flags of the open; null: a directory */
function openReply(
  context: HandlerContext,
  reply: Reply,
  at: number,
  opened: { readonly node: NodeId; readonly handle: FileHandle; readonly flags: number | null },
): number {
  const { node, handle } = opened;
  const directory = opened.flags === null;
  reply.handle = handle;
  let flags = context.keepCache ? C.FOPEN_KEEP_CACHE | (directory ? C.FOPEN_CACHE_DIR : 0) : 0;
  if (context.directIo && !directory) flags = C.FOPEN_DIRECT_IO;
  let backingId = 0;
  if (opened.flags !== null && context.backing !== null) {
    const fd = context.fs.descriptorOf(handle);
    const id = fd === null ? null : context.backing.opened(node, handle, fd);
    if (id !== null) {
      backingId = id;
      // With both, mappings are of the backing file, reads and writes come as requests (fs/fuse/iomode.c, file.c).
      flags = C.FOPEN_PASSTHROUGH | (needsRequests(context.fs, node, opened.flags) ? C.FOPEN_DIRECT_IO : 0);
    }
  }
  reply.view.setBigUint64(at + OPEN_OUT.fh, handle, true);
  reply.view.setUint32(at + OPEN_OUT.open_flags, flags, true);
  reply.view.setInt32(at + OPEN_OUT.backing_id, backingId, true);
  return OPEN_OUT_BYTES;
}

/** `bits`: FATTR_* for a time that is given and for the server's own. */
function timeChange(
  valid: number,
  bits: { readonly set: number; readonly now: number },
  seconds: bigint,
  nanoseconds: number,
): TimeChange {
  if ((valid & bits.set) === 0) return { kind: "keep" };
  if ((valid & bits.now) !== 0) return { kind: "now" };
  if (nanoseconds > 999_999_999) throw failure("EINVAL");
  return { kind: "set", time: { seconds: BigInt.asIntN(64, seconds), nanoseconds } };
}

const setattr: Handler<"SETATTR"> = (context, request, reply) => {
  const { node, args } = request;
  const { valid } = args;
  const chosen = (bit: number, value: number): number | null => ((valid & bit) === 0 ? null : value);
  const [accessed, modified] = [
    { set: C.FATTR_ATIME, now: C.FATTR_ATIME_NOW },
    { set: C.FATTR_MTIME, now: C.FATTR_MTIME_NOW },
  ];
  const change: AttributeChange = {
    mode: chosen(C.FATTR_MODE, args.mode),
    uid: chosen(C.FATTR_UID, args.uid),
    gid: chosen(C.FATTR_GID, args.gid),
    sizeBytes: (valid & C.FATTR_SIZE) === 0 ? null : args.size,
    accessTime: timeChange(valid, accessed, args.atime, args.atimensec),
    modificationTime: timeChange(valid, modified, args.mtime, args.mtimensec),
  };
  const handle = (valid & C.FATTR_FH) === 0 ? null : handleOf(request);
  // The flag comes with every chown of a file, root's too (fuse_do_setattr()): there it says nothing of the caller.
  const isChown = (valid & (C.FATTR_UID | C.FATTR_GID)) !== 0;
  const kill = isChown && request.caller.uid === 0 ? 0 : valid & C.FATTR_KILL_SUIDGID;
  const attributes = asCaller(context, request, kill, () => context.fs.setattr(node, change, handle));
  if (change.sizeBytes !== null) context.sizes?.truncated(node, change.sizeBytes);
  return attributesReply(context, reply, node, attributes);
};

const create: Handler<"CREATE" | "TMPFILE"> = (context, request, reply) => {
  const { flags, mode, umask, open_flags } = request.args;
  const what = newNode(request.caller, mode, umask);
  const made =
    request.opcode === "TMPFILE"
      ? context.fs.tmpfile(request.node, flags, what)
      : asCaller(context, request, open_flags & C.FUSE_OPEN_KILL_SUIDGID, () =>
          context.fs.create(placeOf(request), flags, what),
        );
  const length = entryReply(context, reply, made.entry);
  const opened = { node: made.entry.node, handle: made.handle, flags };
  return length + openReply(context, reply, reply.at + length, opened);
};

const read: Handler<"READ"> = (context, request, reply) => {
  const { size } = request.args;
  const room = reply.sink.capacityBytes - reply.at;
  if (size > room) throw new ProtocolError(`READ of ${size} bytes into a reply of ${room}`);
  const handle = handleOf(request);
  let { offset } = request.args;
  const taken = movedFromFile(context, reply, handle, { offset, size });
  if (taken !== null) {
    reply.payloadBytes = taken;
    return 0;
  }
  const spans = reply.sink.payload(size);
  const together = readTogether(context, handle, offset, spans);
  if (together !== null) {
    reply.payloadBytes = together;
    return 0;
  }
  for (const span of spans) {
    const got = context.fs.read(handle, offset, span);
    reply.payloadBytes += got;
    offset += BigInt(got);
    if (got < span.length) break;
  }
  return 0;
};

/** Pages of a guest, which lie apart, by one system call. null: it has to be done one by one, which meets any error there. */
function readTogether(
  context: HandlerContext,
  handle: FileHandle,
  offset: bigint,
  spans: readonly Uint8Array[],
): number | null {
  const fd = togetherOn(context, handle, spans);
  const got = fd === null ? -1 : files.preadv(fd, spans, offset);
  return got < 0 ? null : got;
}

/** The descriptor of a file that is read or written in several pieces by one call; null: piece by piece. */
function togetherOn(
  context: HandlerContext,
  handle: FileHandle,
  spans: readonly Uint8Array[],
): number | null {
  return spans.length < 2 || spans.length > files.MAX_BUFFERS ? null : context.fs.descriptorOf(handle);
}

/** READ by reference, where sink and file system can; for small ones a copy is faster. */
function movedFromFile(
  context: HandlerContext,
  reply: Reply,
  handle: FileHandle,
  { offset, size }: { readonly offset: bigint; readonly size: number },
): number | null {
  if (size < MIN_MOVED_BYTES || reply.sink.moveFrom === undefined) return null;
  const fd = context.fs.descriptorOf(handle);
  return fd === null ? null : reply.sink.moveFrom(fd, offset, size);
}

const write: Handler<"WRITE"> = (context, request, reply) => {
  const { size, offset, write_flags: flags } = request.args;
  if (size !== request.payloadBytes) {
    throw new ProtocolError(`WRITE says ${size} bytes and carries ${request.payloadBytes}`);
  }
  const handle = handleOf(request);
  const isCached = (flags & C.FUSE_WRITE_CACHE) !== 0 && !context.clientOwnsSizes;
  const target: WriteTarget = { handle, offset, how: isCached ? PLAIN_WRITE : howOf(context, request) };
  const put = isCached ? writeCached : writeContent;
  const written = asCaller(context, request, flags & C.FUSE_WRITE_KILL_SUIDGID, () =>
    put(context, request, target),
  );
  context.sizes?.written(request.node, offset + BigInt(written), target.how.append);
  reply.view.setUint32(reply.at + WRITE_OUT.size, written, true);
  reply.view.setUint32(reply.at + WRITE_OUT.padding, 0, true);
  return WRITE_OUT_BYTES;
};

type WriteTarget = { readonly handle: FileHandle; readonly offset: bigint; readonly how: WriteHow };

/** By the flags that the file has now, not those of its open. */
function howOf({ sizes }: HandlerContext, { node, args }: Request<"WRITE">): WriteHow {
  const { flags, offset } = args;
  const append = (flags & files.O_APPEND) !== 0 && (sizes?.isAtEnd(node, offset) ?? false);
  const isSynced = (flags & files.O_SYNC) === files.O_SYNC;
  if (!append && (flags & files.O_SYNC) === 0) return PLAIN_WRITE;
  const sync = isSynced ? "all" : (flags & files.O_DSYNC) !== 0 ? "data" : null;
  return { append, sync };
}

function writeContent(context: HandlerContext, request: Request, target: WriteTarget): number {
  if (request.piped !== null) return writePiped(context, target, request.piped);
  const { handle, offset, how } = target;
  const fd = how === PLAIN_WRITE ? togetherOn(context, handle, request.payload) : null;
  const together = fd === null ? -1 : files.pwritev(fd, request.payload, offset);
  if (together >= 0) return together;
  let written = 0;
  for (const span of request.payload) {
    const put = writeSpan(context, target, span, written);
    written += put;
    if (put < span.length) break;
  }
  return written;
}

/**
 * Writes content of dirty pages (of a shared mapping), and never extends the file. If the file is shorter than the client's
 * kernel knows, it was truncated meanwhile, and stores behind its end are lost as on any file system. Writing them would
 * bring the old content back.
 */
function writeCached(context: HandlerContext, request: Request, target: WriteTarget): number {
  const { handle, offset } = target;
  const left = context.fs.getattr(request.node).sizeBytes - offset;
  if (left >= BigInt(request.payloadBytes)) return writeContent(context, request, target);
  if (left > 0n) {
    const all = request.piped?.bytes() ?? bytesOf(joined(request));
    context.fs.write(handle, offset, all.subarray(0, Number(left)));
  }
  return request.payloadBytes;
}

function bytesOf({ buffer, byteOffset, byteLength }: DataView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function writePiped(
  context: HandlerContext,
  { handle, offset, how }: WriteTarget,
  piped: PipedPayload,
): number {
  const fd = how === PLAIN_WRITE ? context.fs.descriptorOf(handle) : null;
  const moved = fd === null ? null : piped.moveTo(fd, offset);
  // What cannot be moved (an append, a decorated file system, an error) goes by memory and meets its errno there.
  return moved ?? context.fs.write(handle, offset, piped.bytes(), how);
}

/** An error after the first span is a short write, as write(2) has it. */
function writeSpan(
  context: HandlerContext,
  { handle, offset, how }: WriteTarget,
  span: Uint8Array,
  written: number,
): number {
  const at = offset + BigInt(written);
  if (written === 0) return context.fs.write(handle, at, span, how);
  try {
    return context.fs.write(handle, at, span, how);
  } catch {
    return 0;
  }
}

const readdir: Handler<"READDIR"> = (context, request, reply) => {
  const { size, offset } = request.args;
  const room = Math.min(size, reply.room);
  let used = 0;
  context.fs.readDirectory(handleOf(request), offset, (entry) => {
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

/** null for `.`, `..`, removed and known entries: they are sent as names alone, marked by node id 0. */
function foundEntry(context: HandlerContext, directory: NodeId, { name, ino }: DirectoryEntry): Entry | null {
  if (isDots(name) || context.isKnown?.(directory, ino) === true) return null;
  try {
    return context.fs.lookup(directory, checkedName(name));
  } catch {
    // The name alone is a valid answer; a later LOOKUP returns the error.
    return null;
  }
}

const readdirplus: Handler<"READDIRPLUS"> = (context, request, reply) => {
  const { size, offset } = request.args;
  const room = Math.min(size, reply.room);
  const taken: NodeId[] = [];
  reply.entries = taken;
  let used = 0;
  context.fs.readDirectory(handleOf(request), offset, (entry) => {
    const { nameBytes } = entry;
    const length = encode.ENTRY_BYTES + encode.direntBytes(nameBytes);
    if (used + length > room) return false;
    const at = reply.at + used;
    const found = foundEntry(context, request.node, entry);
    if (found === null) reply.sink.frame.bytes.fill(0, at, at + encode.ENTRY_BYTES);
    else {
      taken.push(found.node);
      context.sizes?.shownEntry(found);
      encode.encodeEntry(reply.view, at, found, context.validity);
    }
    used +=
      encode.ENTRY_BYTES + encode.encodeDirent(reply.sink.frame, at + encode.ENTRY_BYTES, entry, nameBytes);
    return true;
  });
  return used;
};

/** GETXATTR and LISTXATTR: size 0 asks how much there is. */
function xattrReply(
  { args: { size } }: Request<"GETXATTR" | "LISTXATTR">,
  reply: Reply,
  get: (into: Uint8Array) => number,
): number {
  if (size === 0) {
    reply.view.setUint32(reply.at + XATTR_OUT.size, get(new Uint8Array(0)), true);
    reply.view.setUint32(reply.at + XATTR_OUT.padding, 0, true);
    return XATTR_OUT_BYTES;
  }
  const room = Math.min(size, reply.room, MAX_XATTR_BYTES);
  return get(reply.sink.frame.bytes.subarray(reply.at, reply.at + room));
}

/** Reused: a list is copied into its reply before the next request. */
const listed = new Uint8Array(MAX_XATTR_BYTES);

/**
 * The names for this caller. A client's kernel shows what the server lists (fuse_listxattr()), while a local file system
 * lists `trusted.*` for CAP_SYS_ADMIN only (the `list` of its xattr handler, such as ext4_xattr_trusted_list()).
 */
const listxattr: Handler<"LISTXATTR"> = (context, request, reply) =>
  xattrReply(request, reply, (into) => {
    const all = listed.subarray(0, context.fs.listxattr(request.node, listed));
    const untrusted = withoutTrusted(all);
    // Asked for only where it matters: it may cost a look at the process.
    const isWhole = untrusted.length === all.length || context.isAdministrator(request.header);
    const visible = isWhole ? all : untrusted;
    if (into.length === 0) return visible.length;
    if (visible.length > into.length) throw failure("ERANGE");
    into.set(visible);
    return visible.length;
  });

const ACCESS_LIST = attributeName("system.posix_acl_access");

/**
 * Whether an ACL takes the set-group-id bit away: its setter is not in the file's group and lacks CAP_FSETID. Without
 * FUSE_SETXATTR_EXT the structure ends before the flag, and the caller's uid has to do.
 */
function takesSetGroupId({ args, caller }: Request<"SETXATTR">, name: Uint8Array): boolean {
  if (args.view.byteLength >= sizeOf("fuse_setxattr_in")) {
    return (args.setxattr_flags & C.FUSE_SETXATTR_ACL_KILL_SGID) !== 0;
  }
  return caller.uid !== 0 && Buffer.compare(name, ACCESS_LIST) === 0;
}

const setxattr: Handler<"SETXATTR"> = (context, request) => {
  const { size, flags } = request.args;
  if (size !== request.payloadBytes) {
    throw new ProtocolError(`SETXATTR says ${size} bytes and carries ${request.payloadBytes}`);
  }
  if (size > MAX_XATTR_BYTES) throw failure("E2BIG");
  const value = joined(request);
  const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  const name = attributeOf(request);
  const set = (): void => context.fs.setxattr(request.node, name, bytes, flags);
  if (takesSetGroupId(request, name)) context.fs.withoutFsetid(request.caller, set);
  else set();
  return 0;
};

/** The entries of BATCH_FORGET and REMOVEMAPPING: as many as the count says, no fewer. */
function entriesOf(
  request: Request<"BATCH_FORGET"> | Request<"REMOVEMAPPING">,
  entryBytes: number,
): { view: DataView; count: number } {
  const { count } = request.args;
  if (count * entryBytes > request.payloadBytes) {
    const fit = Math.floor(request.payloadBytes / entryBytes);
    throw new ProtocolError(`${request.opcode} counts ${count} entries and carries ${fit}`);
  }
  return { view: joined(request), count };
}

const batchForget: Handler<"BATCH_FORGET"> = (context, request) => {
  const { view, count } = entriesOf(request, FORGET_ONE_BYTES);
  for (let i = 0; i < count; i += 1) {
    const { nodeid, nlookup } = new ForgetOne(view, i * FORGET_ONE_BYTES);
    context.sizes?.forget(nodeid as NodeId);
    context.fs.forget(nodeid as NodeId, nlookup);
  }
  return 0;
};

const copyFileRange: Handler<"COPY_FILE_RANGE" | "COPY_FILE_RANGE_64"> = (context, request, reply) => {
  const { args } = request;
  const from = { handle: args.fh_in as FileHandle, offset: args.off_in };
  const to = { handle: args.fh_out as FileHandle, offset: args.off_out };
  if (args.flags !== 0n) throw failure("EINVAL");
  const copied = asUser(context, request, () => context.fs.copyFileRange(from, to, args.len));
  context.sizes?.written(args.nodeid_out as NodeId, args.off_out + BigInt(copied));
  // fuse_write_out (a 32-bit size and padding) and fuse_copy_file_range_out share these 8 bytes.
  reply.view.setBigUint64(reply.at + COPY_OUT.bytes_copied, BigInt(copied), true);
  return COPY_OUT_BYTES;
};

const setupMapping: Handler<"SETUPMAPPING"> = (context, { node, args }) => {
  if (context.dax === null) throw failure("ENOSYS");
  context.dax.setup({
    node,
    fileOffset: args.foffset,
    lengthBytes: args.len,
    windowOffset: args.moffset,
    writable: (args.flags & C.FUSE_SETUPMAPPING_FLAG_WRITE) !== 0n,
  });
  return 0;
};

const removeMapping: Handler<"REMOVEMAPPING"> = (context, request) => {
  if (context.dax === null) throw failure("ENOSYS");
  const { view, count } = entriesOf(request, REMOVE_ONE_BYTES);
  const removals = Array.from({ length: count }, (_, i) => {
    const { moffset, len } = new RemoveOne(view, i * REMOVE_ONE_BYTES);
    return { windowOffset: moffset, lengthBytes: len };
  });
  context.dax.remove(removals);
  return 0;
};

const lseek: Handler<"LSEEK"> = (context, request, reply) => {
  // What the client's kernel holds back is not in the source. Without an answer it takes the whole file for data (fuse_lseek()).
  if (context.clientOwnsSizes) throw failure("ENOSYS");
  const { offset: from, whence } = request.args;
  const offset = context.fs.lseek(handleOf(request), from, whence);
  reply.view.setBigUint64(reply.at + LSEEK_OUT.offset, offset, true);
  return LSEEK_OUT_BYTES;
};

/** The scope of FSYNC and FSYNCDIR. */
function syncScope({ args }: Request<"FSYNC" | "FSYNCDIR">): SyncScope {
  return (args.fsync_flags & C.FUSE_FSYNC_FDATASYNC) === 0 ? "all" : "data";
}

/** The lock that a request is about. */
function lockOf(context: HandlerContext, { args }: Request<"GETLK" | "SETLK" | "SETLKW">): FileLock {
  const kind = (args.lk_flags & C.FUSE_LK_FLOCK) === 0 ? "posix" : "flock";
  if (!context.locks[kind]) throw failure("ENOSYS");
  const lock = new FileLockIn(args.view, LK_IN.lk);
  if (![F_RDLCK, F_WRLCK, F_UNLCK].includes(lock.type)) throw failure("EINVAL");
  const { type, start, end, pid } = lock;
  return { kind, type, start, end, pid, owner: args.owner as LockOwner };
}

const getlk: Handler<"GETLK"> = (context, request, reply) => {
  const lock = lockOf(context, request);
  if (lock.kind !== "posix") throw failure("EINVAL");
  const found = context.fs.getLock(handleOf(request), lock) ?? { ...lock, type: F_UNLCK };
  const at = reply.at + LK_OUT.lk;
  reply.view.setBigUint64(at + LOCK.start, found.start, true);
  reply.view.setBigUint64(at + LOCK.end, found.end, true);
  reply.view.setUint32(at + LOCK.type, found.type, true);
  reply.view.setUint32(at + LOCK.pid, found.pid, true);
  return LK_OUT_BYTES;
};

/** A lock in the way is EAGAIN, or waited for: elsewhere, so that what gives it back can be served. */
const setlk: Handler<"SETLK" | "SETLKW"> = (context, request, reply) => {
  const { lockWaits } = context;
  const lock = lockOf(context, request);
  const handle = handleOf(request);
  const isSet = context.fs.setLock(handle, lock);
  // A lock of flock(2) is given back before it is converted, also in vain.
  if (lock.type !== F_WRLCK || lock.kind === "flock") lockWaits?.released();
  if (isSet) return 0;
  if (request.opcode === "SETLK") throw failure("EAGAIN");
  const { device } = reply.sink;
  if (lockWaits === null || device === undefined) throw new Postponed(LOCK_RETRY_MS, () => undefined);
  if (!lockWaits.enter({ unique: request.header.unique, device, handle, lock })) throw failure("ENOLCK");
  throw new AnsweredLater();
};

const flush: Handler<"FLUSH"> = (context, request) => {
  // With POSIX locks forwarded, close(2) drops its owner's.
  if (context.flushIsNothing && !context.locks.posix) throw failure("ENOSYS");
  const handle = handleOf(request);
  try {
    context.fs.flush(handle);
  } finally {
    const isDropped =
      context.locks.posix && context.fs.dropLocks(handle, request.args.lock_owner as LockOwner);
    if (isDropped) context.lockWaits?.released();
  }
  return 0;
};

const release: Handler<"RELEASE"> = (context, request) => {
  const handle = handleOf(request);
  const { release_flags, lock_owner } = request.args;
  if (context.locks.flock && (release_flags & C.FUSE_RELEASE_FLOCK_UNLOCK) !== 0) {
    // The descriptor may stay: others use it, or the client's kernel (FUSE_PASSTHROUGH).
    const owner = lock_owner as LockOwner;
    context.fs.setLock(handle, { kind: "flock", type: F_UNLCK, start: 0n, end: 0n, owner, pid: 0 });
  }
  context.backing?.released(handle);
  context.fs.release(handle);
  if (context.locks.flock || context.locks.posix) context.lockWaits?.released();
  return 0;
};

/** A handler whose reply has no body. */
function silent<N extends OpcodeName>(
  work: (context: HandlerContext, request: Request<N>) => void,
): Handler<N> {
  return (context, request) => {
    work(context, request);
    return 0;
  };
}

/** A row of the table without its handler here does not compile, nor does a handler without its row. */
export const HANDLERS: { readonly [N in ServedOpcode]: Handler<N> } = {
  LOOKUP: (c, q, r) => entryReply(c, r, c.fs.lookup(q.node, checkedName(nameOf(q, 0)))),
  FORGET: silent((c, q) => {
    c.sizes?.forget(q.node);
    c.fs.forget(q.node, q.args.nlookup);
  }),
  BATCH_FORGET: batchForget,
  GETATTR: (c, q, r) => attributesReply(c, r, q.node, c.fs.getattr(q.node)),
  STATX: (c, q, r) => {
    const attributes = c.fs.getattr(q.node);
    c.sizes?.shown(q.node, attributes);
    return encode.encodeStatx(r.view, r.at, attributes, c.validity);
  },
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
    const what = newNode(q.caller, q.args.mode, q.args.umask);
    return entryReply(c, r, c.fs.mknod(placeOf(q), what, encode.decodedDevice(q.args.rdev)));
  },
  MKDIR: (c, q, r) => entryReply(c, r, c.fs.mkdir(placeOf(q), newNode(q.caller, q.args.mode, q.args.umask))),
  UNLINK: silent((c, q) => c.fs.unlink(placeOf(q))),
  RMDIR: silent((c, q) => c.fs.rmdir(placeOf(q))),
  RENAME: silent((c, q) => c.fs.rename(placeOf(q), placeOf(q, 1, q.args.newdir as NodeId), 0)),
  RENAME2: silent((c, q) => c.fs.rename(placeOf(q), placeOf(q, 1, q.args.newdir as NodeId), q.args.flags)),
  LINK: (c, q, r) => entryReply(c, r, c.fs.link(q.args.oldnodeid as NodeId, placeOf(q))),
  OPEN: (c, q, r) => {
    const { flags, open_flags } = q.args;
    const handle = asCaller(c, q, open_flags & C.FUSE_OPEN_KILL_SUIDGID, () => c.fs.open(q.node, flags));
    if ((flags & files.O_TRUNC) !== 0) c.sizes?.truncated(q.node, 0n);
    return openReply(c, r, r.at, { node: q.node, handle, flags });
  },
  CREATE: create,
  TMPFILE: create,
  READ: read,
  WRITE: write,
  STATFS: (c, q, r) => encode.encodeStatfs(r.view, r.at, c.fs.statfs(q.node)),
  RELEASE: release,
  FLUSH: flush,
  GETLK: getlk,
  SETLK: setlk,
  SETLKW: setlk,
  FSYNC: silent((c, q) => c.fs.fsync(handleOf(q), syncScope(q))),
  OPENDIR: (c, q, r) => openReply(c, r, r.at, { node: q.node, handle: c.fs.opendir(q.node), flags: null }),
  READDIR: readdir,
  READDIRPLUS: readdirplus,
  RELEASEDIR: silent((c, q) => c.fs.releasedir(handleOf(q))),
  FSYNCDIR: silent((c, q) => c.fs.fsyncdir(handleOf(q), syncScope(q))),
  SETXATTR: setxattr,
  GETXATTR: (c, q, r) => xattrReply(q, r, (into) => c.fs.getxattr(q.node, attributeOf(q), into)),
  LISTXATTR: listxattr,
  REMOVEXATTR: silent((c, q) => c.fs.removexattr(q.node, attributeOf(q))),
  ACCESS: silent((c, q) => c.fs.access(q.node, q.args.mask, q.caller)),
  FALLOCATE: silent((c, q) => {
    const { mode, offset, length } = q.args;
    asUser(c, q, () => c.fs.fallocate(handleOf(q), mode, offset, length));
    if ((mode & files.FALLOC_FL_KEEP_SIZE) === 0) c.sizes?.written(q.node, offset + length);
  }),
  LSEEK: lseek,
  COPY_FILE_RANGE: copyFileRange,
  COPY_FILE_RANGE_64: copyFileRange,
  SYNCFS: silent((c, q) => c.fs.syncfs(q.node)),
  SETUPMAPPING: setupMapping,
  REMOVEMAPPING: removeMapping,
};

/** Serves a request by its opcode's handler. Opcodes without one are ENOSYS. */
export function handled(context: HandlerContext, request: AnyRequest, reply: Reply): number {
  // `decodeBody` has paired the arguments with the opcode, so this handler gets those of its own row.
  const handlers: Partial<Readonly<Record<OpcodeName, unknown>>> = HANDLERS;
  const handler = handlers[request.opcode] as Handler<OpcodeName> | undefined;
  if (handler === undefined) throw failure("ENOSYS");
  return handler(context, request, reply);
}
