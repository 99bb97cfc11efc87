/**
 * One row an opcode: the table that decoder, dispatcher, log lines, documentation and fuzz corpus derive from.
 *
 * `args`: structure after the header (`argsBytes` where older clients, or this server's negotiation, send a prefix).
 * `names`: NUL-terminated texts after it. `payload`: what follows those. `reply`: what a success carries.
 * `port`: what must be present for the operation to be served at all. `since`: protocol minor that brought it.
 */
import type { StructName } from "./structs.ts";

export type Payload = "none" | "sized" | "entries" | "rest";
export type ReplyShape = "none" | "empty" | "struct" | "bytes" | "size-or-bytes";
export type NeededPort = "file-system" | "window" | "session" | "absent";

export type OpcodeRow = {
  readonly name: string;
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

type Extra = Partial<Pick<OpcodeRow, "since" | "argsBytes" | "names" | "payload" | "reply" | "out" | "port">>;

function row(name: string, number: number, args: StructName | null, extra: Extra = {}): OpcodeRow {
  const reply = extra.reply ?? (extra.out === undefined ? "empty" : "struct");
  const defaults = { since: 1, argsBytes: null, names: 0, payload: "none", out: null } as const;
  return { name, number, args, ...defaults, port: "file-system", ...extra, reply };
}

export const OPCODES: readonly OpcodeRow[] = [
  row("LOOKUP", 1, null, { names: 1, out: "fuse_entry_out" }),
  row("FORGET", 2, "fuse_forget_in", { reply: "none" }),
  row("GETATTR", 3, "fuse_getattr_in", { out: "fuse_attr_out" }),
  row("SETATTR", 4, "fuse_setattr_in", { out: "fuse_attr_out" }),
  row("READLINK", 5, null, { reply: "bytes" }),
  row("SYMLINK", 6, null, { names: 2, out: "fuse_entry_out" }),
  row("MKNOD", 8, "fuse_mknod_in", { names: 1, out: "fuse_entry_out" }),
  row("MKDIR", 9, "fuse_mkdir_in", { names: 1, out: "fuse_entry_out" }),
  row("UNLINK", 10, null, { names: 1 }),
  row("RMDIR", 11, null, { names: 1 }),
  row("RENAME", 12, "fuse_rename_in", { names: 2 }),
  row("LINK", 13, "fuse_link_in", { names: 1, out: "fuse_entry_out" }),
  row("OPEN", 14, "fuse_open_in", { out: "fuse_open_out" }),
  row("READ", 15, "fuse_read_in", { reply: "bytes" }),
  row("WRITE", 16, "fuse_write_in", { payload: "sized", out: "fuse_write_out" }),
  row("STATFS", 17, null, { out: "fuse_statfs_out" }),
  row("RELEASE", 18, "fuse_release_in"),
  row("FSYNC", 20, "fuse_fsync_in"),
  // Without FUSE_SETXATTR_EXT, which this server does not ask for, the structure is its first 8 bytes.
  row("SETXATTR", 21, "fuse_setxattr_in", { argsBytes: 8, names: 1, payload: "sized" }),
  row("GETXATTR", 22, "fuse_getxattr_in", { names: 1, reply: "size-or-bytes", out: "fuse_getxattr_out" }),
  row("LISTXATTR", 23, "fuse_getxattr_in", { reply: "size-or-bytes", out: "fuse_getxattr_out" }),
  row("REMOVEXATTR", 24, null, { names: 1 }),
  row("FLUSH", 25, "fuse_flush_in"),
  row("INIT", 26, "fuse_init_in", { argsBytes: 16, out: "fuse_init_out", port: "session" }),
  row("OPENDIR", 27, "fuse_open_in", { out: "fuse_open_out" }),
  row("READDIR", 28, "fuse_read_in", { reply: "bytes" }),
  row("RELEASEDIR", 29, "fuse_release_in"),
  row("FSYNCDIR", 30, "fuse_fsync_in"),
  row("GETLK", 31, "fuse_lk_in", { since: 7, out: "fuse_lk_out", port: "absent" }),
  row("SETLK", 32, "fuse_lk_in", { since: 7, port: "absent" }),
  row("SETLKW", 33, "fuse_lk_in", { since: 7, port: "absent" }),
  row("ACCESS", 34, "fuse_access_in", { since: 3 }),
  row("CREATE", 35, "fuse_create_in", { since: 3, names: 1, out: "fuse_entry_out" }),
  row("INTERRUPT", 36, "fuse_interrupt_in", { since: 5, reply: "none", port: "session" }),
  row("BMAP", 37, "fuse_bmap_in", { since: 5, out: "fuse_bmap_out", port: "absent" }),
  row("DESTROY", 38, null, { since: 5, port: "session" }),
  row("IOCTL", 39, "fuse_ioctl_in", { since: 11, payload: "rest", out: "fuse_ioctl_out", port: "absent" }),
  row("POLL", 40, "fuse_poll_in", { since: 11, out: "fuse_poll_out", port: "absent" }),
  row("NOTIFY_REPLY", 41, "fuse_notify_retrieve_in", {
    since: 15,
    payload: "rest",
    reply: "none",
    port: "session",
  }),
  row("BATCH_FORGET", 42, "fuse_batch_forget_in", { since: 16, payload: "entries", reply: "none" }),
  row("FALLOCATE", 43, "fuse_fallocate_in", { since: 19 }),
  row("READDIRPLUS", 44, "fuse_read_in", { since: 21, reply: "bytes" }),
  row("RENAME2", 45, "fuse_rename2_in", { since: 23, names: 2 }),
  row("LSEEK", 46, "fuse_lseek_in", { since: 24, out: "fuse_lseek_out" }),
  row("COPY_FILE_RANGE", 47, "fuse_copy_file_range_in", { since: 28, out: "fuse_write_out" }),
  row("SETUPMAPPING", 48, "fuse_setupmapping_in", { since: 31, port: "window" }),
  row("REMOVEMAPPING", 49, "fuse_removemapping_in", { since: 31, payload: "entries", port: "window" }),
  row("SYNCFS", 50, "fuse_syncfs_in", { since: 34 }),
  row("TMPFILE", 51, "fuse_create_in", { since: 37, names: 1, out: "fuse_entry_out" }),
  row("STATX", 52, "fuse_statx_in", { since: 39, out: "fuse_statx_out" }),
  row("COPY_FILE_RANGE_64", 53, "fuse_copy_file_range_in", { since: 45, out: "fuse_copy_file_range_out" }),
];

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

/** The number of an opcode of the table. Throws for a name that the table does not have. */
export function opcodeNumber(name: string): number {
  const row = OPCODES.find((candidate) => candidate.name === name);
  if (row === undefined) throw new Error(`unknown opcode ${name}`);
  return row.number;
}
