/**
 * One row an opcode, by its name in <linux/fuse.h> without `FUSE_`: decoder, dispatcher, log lines, documentation and
 * fuzz corpus derive from this table, and so do the types of the handlers and of their arguments.
 *
 * `args`: structure after the header (`argsBytes` where older clients, or this server's negotiation, send a prefix).
 * `names`: NUL-terminated texts after it. `payload`: what follows those. `reply`: what a success carries; `struct` with
 * `out`, else `empty`. `port`: what must be present for the operation to be served at all; `session`: the session serves
 * it itself; `absent`: always ENOSYS. `since`: protocol minor that brought it.
 */
import type { StructName } from "./structs.ts";

export type Payload = "none" | "sized" | "entries" | "rest";
export type ReplyShape = "none" | "empty" | "struct" | "bytes" | "size-or-bytes";
export type NeededPort = "file-system" | "window" | "session" | "absent";

type Fields = {
  readonly number: number;
  readonly since: number;
  readonly args: StructName | null;
  readonly argsBytes: number | null;
  readonly names: number;
  readonly payload: Payload;
  readonly reply: ReplyShape;
  readonly out: StructName | null;
  readonly port: NeededPort;
};

/** A row as written: what is left out has the value of `DEFAULTS`. */
type WrittenRow = Partial<Fields> & Pick<Fields, "number">;
const DEFAULTS = {
  since: 1,
  args: null,
  argsBytes: null,
  names: 0,
  payload: "none",
  out: null,
  port: "file-system",
} as const;

const ROWS = {
  LOOKUP: { number: 1, names: 1, out: "fuse_entry_out" },
  FORGET: { number: 2, args: "fuse_forget_in", reply: "none" },
  GETATTR: { number: 3, args: "fuse_getattr_in", out: "fuse_attr_out" },
  SETATTR: { number: 4, args: "fuse_setattr_in", out: "fuse_attr_out" },
  READLINK: { number: 5, reply: "bytes" },
  SYMLINK: { number: 6, names: 2, out: "fuse_entry_out" },
  MKNOD: { number: 8, args: "fuse_mknod_in", names: 1, out: "fuse_entry_out" },
  MKDIR: { number: 9, args: "fuse_mkdir_in", names: 1, out: "fuse_entry_out" },
  UNLINK: { number: 10, names: 1 },
  RMDIR: { number: 11, names: 1 },
  RENAME: { number: 12, args: "fuse_rename_in", names: 2 },
  LINK: { number: 13, args: "fuse_link_in", names: 1, out: "fuse_entry_out" },
  OPEN: { number: 14, args: "fuse_open_in", out: "fuse_open_out" },
  READ: { number: 15, args: "fuse_read_in", reply: "bytes" },
  WRITE: { number: 16, args: "fuse_write_in", payload: "sized", out: "fuse_write_out" },
  STATFS: { number: 17, out: "fuse_statfs_out" },
  RELEASE: { number: 18, args: "fuse_release_in" },
  FSYNC: { number: 20, args: "fuse_fsync_in" },
  // Without FUSE_SETXATTR_EXT, which goes with POSIX ACLs, the structure is its first 8 bytes.
  SETXATTR: { number: 21, args: "fuse_setxattr_in", argsBytes: 8, names: 1, payload: "sized" },
  GETXATTR: {
    number: 22,
    args: "fuse_getxattr_in",
    names: 1,
    reply: "size-or-bytes",
    out: "fuse_getxattr_out",
  },
  LISTXATTR: { number: 23, args: "fuse_getxattr_in", reply: "size-or-bytes", out: "fuse_getxattr_out" },
  REMOVEXATTR: { number: 24, names: 1 },
  FLUSH: { number: 25, args: "fuse_flush_in" },
  INIT: { number: 26, args: "fuse_init_in", argsBytes: 16, out: "fuse_init_out", port: "session" },
  OPENDIR: { number: 27, args: "fuse_open_in", out: "fuse_open_out" },
  READDIR: { number: 28, args: "fuse_read_in", reply: "bytes" },
  RELEASEDIR: { number: 29, args: "fuse_release_in" },
  FSYNCDIR: { number: 30, args: "fuse_fsync_in" },
  GETLK: { number: 31, args: "fuse_lk_in", since: 7, out: "fuse_lk_out" },
  SETLK: { number: 32, args: "fuse_lk_in", since: 7 },
  SETLKW: { number: 33, args: "fuse_lk_in", since: 7 },
  ACCESS: { number: 34, args: "fuse_access_in", since: 3 },
  CREATE: { number: 35, args: "fuse_create_in", since: 3, names: 1, out: "fuse_entry_out" },
  INTERRUPT: { number: 36, args: "fuse_interrupt_in", since: 5, reply: "none", port: "session" },
  BMAP: { number: 37, args: "fuse_bmap_in", since: 5, out: "fuse_bmap_out", port: "absent" },
  DESTROY: { number: 38, since: 5, port: "session" },
  IOCTL: {
    number: 39,
    args: "fuse_ioctl_in",
    since: 11,
    payload: "rest",
    out: "fuse_ioctl_out",
    port: "absent",
  },
  POLL: { number: 40, args: "fuse_poll_in", since: 11, out: "fuse_poll_out", port: "absent" },
  NOTIFY_REPLY: {
    number: 41,
    args: "fuse_notify_retrieve_in",
    since: 15,
    payload: "rest",
    reply: "none",
    port: "session",
  },
  BATCH_FORGET: { number: 42, args: "fuse_batch_forget_in", since: 16, payload: "entries", reply: "none" },
  FALLOCATE: { number: 43, args: "fuse_fallocate_in", since: 19 },
  READDIRPLUS: { number: 44, args: "fuse_read_in", since: 21, reply: "bytes" },
  RENAME2: { number: 45, args: "fuse_rename2_in", since: 23, names: 2 },
  LSEEK: { number: 46, args: "fuse_lseek_in", since: 24, out: "fuse_lseek_out" },
  COPY_FILE_RANGE: { number: 47, args: "fuse_copy_file_range_in", since: 28, out: "fuse_write_out" },
  SETUPMAPPING: { number: 48, args: "fuse_setupmapping_in", since: 31, port: "window" },
  REMOVEMAPPING: { number: 49, args: "fuse_removemapping_in", since: 31, payload: "entries", port: "window" },
  SYNCFS: { number: 50, args: "fuse_syncfs_in", since: 34 },
  TMPFILE: { number: 51, args: "fuse_create_in", since: 37, names: 1, out: "fuse_entry_out" },
  STATX: { number: 52, args: "fuse_statx_in", since: 39, out: "fuse_statx_out" },
  COPY_FILE_RANGE_64: {
    number: 53,
    args: "fuse_copy_file_range_in",
    since: 45,
    out: "fuse_copy_file_range_out",
  },
} as const;

export type OpcodeName = keyof typeof ROWS;
export type OpcodeRow = Fields & { readonly name: OpcodeName };

/** The structure after the header of an opcode's request; null: there is none. */
export type ArgsOf<N extends OpcodeName> = (typeof ROWS)[N] extends {
  readonly args: infer S extends StructName;
}
  ? S
  : null;

/** The opcodes that need a handler. */
export type ServedOpcode = {
  [N in OpcodeName]: (typeof ROWS)[N] extends { readonly port: "session" | "absent" } ? never : N;
}[OpcodeName];

/** `R`, if every row of it is a `WrittenRow` without further members. */
type Checked<R extends Readonly<Record<string, WrittenRow>>> = {
  [N in keyof R]: { [Member in keyof R[N]]: Member extends keyof Fields ? R[N][Member] : never };
};

function completed(name: OpcodeName, written: WrittenRow): OpcodeRow {
  return { name, ...DEFAULTS, reply: written.out === undefined ? "empty" : "struct", ...written };
}

export const OPCODES: readonly OpcodeRow[] = Object.entries<WrittenRow>(
  ROWS satisfies Checked<typeof ROWS>,
).map(([name, written]) => completed(name as OpcodeName, written));

const byNumber: readonly (OpcodeRow | undefined)[] = OPCODES.reduce<(OpcodeRow | undefined)[]>(
  (table, entry) => {
    table[entry.number] = entry;
    return table;
  },
  [],
);

/** The row of an opcode, or undefined for a number that the protocol does not define. */
export function opcodeRow(number: number): OpcodeRow | undefined {
  return byNumber[number];
}

const byName = new Map(OPCODES.map((row) => [row.name, row]));

/** The row of an opcode of the table. */
export function opcodeNamed(name: OpcodeName): OpcodeRow {
  const row = byName.get(name);
  if (row === undefined) throw new Error(`unknown opcode ${name}`);
  return row;
}
