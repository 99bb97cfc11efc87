/**
 * fanotify(7): events about files, some of which wait for an answer (fs/notify/fanotify/fanotify_user.c).
 *
 * Only single files are marked here, never a mount or a file system. A group whose descriptor is closed, by close(2) or
 * by the death of its process, allows everything that still waits (fanotify_release()).
 */
import { check, declare, errnoNumber, lastErrno } from "./libc.ts";

export const FAN_CLOEXEC = 0x1;
export const FAN_CLASS_NOTIF = 0x0;
/** Events about content before it is touched (Linux 6.14). */
export const FAN_CLASS_PRE_CONTENT = 0x8;
/** The event names the thread, not its process (Linux 4.20). */
export const FAN_REPORT_TID = 0x100;
/**
 * The event names the file by its handle instead of opening it (Linux 5.1). Without it a group gets no
 * event for a truncation: FAN_MODIFY of notify_change() carries a dentry and no path to open (fsnotify_change()). [measured]
 */
export const FAN_REPORT_FID = 0x200;

export const FAN_MODIFY = 0x2;
export const FAN_Q_OVERFLOW = 0x4000;
export const FAN_OPEN_PERM = 0x10000;
/** Before content is read, written, mapped or truncated; with the range (Linux 6.14). */
export const FAN_PRE_ACCESS = 0x100000;
/** In a mask, of a folder: what happens to the files in it, too, not to those in folders below. */
export const FAN_EVENT_ON_CHILD = 0x8000000;

const FAN_MARK_ADD = 0x1;
const FAN_MARK_REMOVE = 0x2;
const FAN_ALLOW = 1;
const FAN_DENY = 2;
/** FAN_DENY_ERRNO() of include/uapi/linux/fanotify.h (Linux 6.14). */
const FAN_ERRNO_SHIFT = 24;
const FAN_EVENT_INFO_TYPE_FID = 1;
const FAN_EVENT_INFO_TYPE_RANGE = 6;
/** struct fanotify_event_info_header, then __kernel_fsid_t, then struct file_handle. */
const FILE_HANDLE_AT = 12;
const MAX_HANDLE_BYTES = 128;
const METADATA_BYTES = 24;
const METADATA_VERSION = 3;
const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;
const O_CLOEXEC = 0o2000000;
const O_LARGEFILE = process.arch === "arm64" ? 0o400000 : 0o100000;

const cInit = declare<(flags: number, eventFlags: number) => number>(
  "int fanotify_init(uint32 flags, uint32 eventFlags)",
);
const cMark = declare<
  (group: number, flags: number, mask: bigint, directory: number, path: string) => number
>("int fanotify_mark(int group, uint32 flags, uint64 mask, int directory, const char *path)");
const cHandle = declare<
  (directory: number, path: string, handle: Uint8Array, mountId: Int32Array, flags: number) => number
>("int name_to_handle_at(int directory, const char *path, void *handle, void *mountId, int flags)");
const cWrite = declare<(fd: number, from: Uint8Array, length: number) => number>(
  "int64 write(int fd, const void *from, uint64 length)",
);

/** A new group. Throws a SyscallError: EPERM without CAP_SYS_ADMIN, EINVAL where the kernel lacks the class, EMFILE at the limit. */
export function fanotifyInit(flags: number): number {
  return check("fanotify_init", cInit(flags | FAN_CLOEXEC, O_CLOEXEC | O_LARGEFILE));
}

/** Marks the inode of `path`, nothing else. Throws a SyscallError: EOPNOTSUPP where the file system has no such events. */
export function fanotifyMarkInode(group: number, mask: number, path: string): void {
  check("fanotify_mark", cMark(group, FAN_MARK_ADD, BigInt(mask), AT_FDCWD, path), path);
}

/** Takes the mark away. Throws a SyscallError; ENOENT: there is none. */
export function fanotifyUnmarkInode(group: number, mask: number, path: string): void {
  check("fanotify_mark", cMark(group, FAN_MARK_REMOVE, BigInt(mask), AT_FDCWD, path), path);
}

export type FanotifyEvent = {
  readonly mask: number;
  /** The file, open in this process: the reader closes it. -1 for an overflow. */
  readonly fd: number;
  /** Process, or thread with FAN_REPORT_TID. */
  readonly pid: number;
  /** With FAN_REPORT_FID: as `fileHandle` gives it; else null. */
  readonly handle: string | null;
  /** Of FAN_PRE_ACCESS, in whole pages. A truncation to whole pages has the new size as offset and no length. [measured] */
  readonly range: { readonly offset: bigint; readonly lengthBytes: bigint } | null;
};

/** The events in what read(2) gave. Throws where the structure's version is not ours. */
export function parseFanotifyEvents(bytes: Uint8Array): FanotifyEvent[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const events: FanotifyEvent[] = [];
  for (let at = 0; at + METADATA_BYTES <= bytes.length; ) {
    const length = view.getUint32(at, true);
    const version = view.getUint8(at + 4);
    if (version !== METADATA_VERSION) {
      throw new Error(`fanotify events of version ${version}: this is written for ${METADATA_VERSION}`);
    }
    if (length < METADATA_BYTES) throw new Error(`a fanotify event of ${length} bytes`);
    const info = { from: at + view.getUint16(at + 6, true), to: at + length };
    events.push({
      mask: Number(view.getBigUint64(at + 8, true)),
      fd: view.getInt32(at + 16, true),
      pid: view.getInt32(at + 20, true),
      handle: handleOf(bytes, record(view, info, FAN_EVENT_INFO_TYPE_FID)),
      range: rangeOf(view, record(view, info, FAN_EVENT_INFO_TYPE_RANGE)),
    });
    at += length;
  }
  return events;
}

type Span = { readonly from: number; readonly to: number };

/** The first information record of a type: header (type, pad, length) and what follows. */
function record(view: DataView, { from, to }: Span, type: number): Span | null {
  for (let at = from; at + 4 <= to; ) {
    const length = view.getUint16(at + 2, true);
    if (length < 4 || at + length > to) return null;
    if (view.getUint8(at) === type) return { from: at, to: at + length };
    at += length;
  }
  return null;
}

/** struct fanotify_event_info_range: header, pad, offset, count. */
function rangeOf(view: DataView, span: Span | null): FanotifyEvent["range"] {
  if (span === null || span.to - span.from < 24) return null;
  return {
    offset: view.getBigUint64(span.from + 8, true),
    lengthBytes: view.getBigUint64(span.from + 16, true),
  };
}

function handleOf(bytes: Uint8Array, span: Span | null): string | null {
  return span === null ? null : handleText(bytes.subarray(span.from + FILE_HANDLE_AT, span.to));
}

/** struct file_handle: handle_bytes, handle_type, the handle. */
function handleText(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Buffer.from(bytes.subarray(4, 8 + view.getUint32(0, true))).toString("hex");
}

/** The handle that events of FAN_REPORT_FID name the file behind `path` by. Throws a SyscallError. */
export function fileHandle(path: string): string {
  const handle = new DataView(new ArrayBuffer(8 + MAX_HANDLE_BYTES));
  handle.setUint32(0, MAX_HANDLE_BYTES, true);
  const bytes = new Uint8Array(handle.buffer);
  check("name_to_handle_at", cHandle(AT_FDCWD, path, bytes, new Int32Array(1), AT_SYMLINK_FOLLOW), path);
  return handleText(bytes);
}

/** `denyWith`: what the refused call fails with; FAN_CLASS_PRE_CONTENT only, and of some errnos only, ETXTBSY among them. */
export type FanotifyAnswer = "allow" | { readonly denyWith: "EPERM" | "ETXTBSY" };

function responseOf(answer: FanotifyAnswer): number {
  if (answer === "allow") return FAN_ALLOW;
  const { denyWith } = answer;
  return denyWith === "EPERM" ? FAN_DENY : FAN_DENY | (errnoNumber(denyWith) << FAN_ERRNO_SHIFT);
}

/** Answers a permission event. Returns 0, or the negative errno. */
export function fanotifyRespond(group: number, eventFd: number, answer: FanotifyAnswer): number {
  const response = new Int32Array([eventFd, responseOf(answer)]);
  return cWrite(group, new Uint8Array(response.buffer), 8) === -1 ? -lastErrno() : 0;
}
