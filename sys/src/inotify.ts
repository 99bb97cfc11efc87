/** inotify(7): what happened to a file, after the fact. */
import { check, declare } from "./libc.ts";

export const IN_MODIFY = 0x2;
export const IN_Q_OVERFLOW = 0x4000;

const IN_CLOEXEC = 0o2000000;
const HEADER_BYTES = 16;

const cInit = declare<(flags: number) => number>("int inotify_init1(int flags)");
const cAdd = declare<(group: number, path: string, mask: number) => number>(
  "int inotify_add_watch(int group, const char *path, uint32 mask)",
);
const cRemove = declare<(group: number, watch: number) => number>(
  "int inotify_rm_watch(int group, int watch)",
);

/** A new group. Throws a SyscallError: EMFILE at fs.inotify.max_user_instances or the descriptor limit. */
export function inotifyInit(): number {
  return check("inotify_init1", cInit(IN_CLOEXEC));
}

/** Watches the inode of `path`; one watch an inode. Throws a SyscallError: ENOSPC at fs.inotify.max_user_watches. */
export function inotifyWatch(group: number, path: string, mask: number): number {
  return check("inotify_add_watch", cAdd(group, path, mask), path);
}

export function inotifyUnwatch(group: number, watch: number): void {
  check("inotify_rm_watch", cRemove(group, watch));
}

export type InotifyEvent = { readonly watch: number; readonly mask: number };

/** The events in what read(2) gave. */
export function parseInotifyEvents(bytes: Uint8Array): InotifyEvent[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const events: InotifyEvent[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; at += HEADER_BYTES + view.getUint32(at + 12, true)) {
    events.push({ watch: view.getInt32(at, true), mask: view.getUint32(at + 4, true) });
  }
  return events;
}
