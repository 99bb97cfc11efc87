/** Set-user-id, set-group-id and file capabilities: what takes them away (setattr_should_drop_suidgid(), cap_inode_killpriv()). */
import { chmodSync, chownSync, closeSync, truncateSync, writeSync } from "node:fs";
import { files } from "../../../../sys/src/index.ts";
import {
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_USER,
  ACL_USER_OBJ,
  acl,
  asUser,
  attribute,
  mapped,
  named,
  open,
  setAttribute,
  tried,
  withOpen,
} from "../calls.ts";
import { type Case, type Cases, made, mode, OTHER, type Place, USER } from "./case.ts";

/** VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective. */
const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
const CONTENT = "program ".repeat(1024);

/** A program of root's that everyone may write, with set-id bits and a capability. */
function program({ at }: Place, bits = 0o6777): string {
  const file = made(at("program"), CONTENT);
  chmodSync(file, bits);
  setAttribute(file, "security.capability", capability);
  return file;
}

const seen = (file: string): unknown => [mode(file), attribute(file, "security.capability")];

/** What is left after another user, its owner and root did something to it. */
function afterEach(change: (file: string, place: Place) => unknown): Case {
  return (place) =>
    [
      { who: OTHER, bits: 0o6777 },
      { who: OTHER, bits: 0o2767 },
      { who: { uid: 0, gid: 0 }, bits: 0o6777 },
    ].map(({ who, bits }) => {
      const file = program(place, bits);
      chmodSync(made(place.at("from"), CONTENT), 0o644);
      const before = seen(file);
      const result = who.uid === 0 ? change(file, place) : asUser(who, () => change(file, place));
      return [before, result, seen(file)];
    });
}

const writable = (file: string, work: (fd: number) => number): unknown =>
  withOpen(file, files.O_RDWR, (fd) => named(work(fd)));

export const privileges: Cases = {
  "a write takes set-id bits and capabilities": afterEach((file) =>
    writable(file, (fd) => files.pwrite(fd, Buffer.from("x"), 0n)),
  ),
  "a large write takes them": afterEach((file) =>
    writable(file, (fd) => files.pwrite(fd, Buffer.alloc(200_000, 1), 0n)),
  ),
  "an appended write takes them": afterEach((file) =>
    withOpen(file, files.O_WRONLY | files.O_APPEND, (fd) => named(files.write(fd, Buffer.from("x")))),
  ),
  "truncate takes them": afterEach((file) => tried(() => truncateSync(file, 100))),
  "ftruncate takes them": afterEach((file) => writable(file, (fd) => files.ftruncate(fd, 100n))),
  "O_TRUNC takes them": afterEach((file) => withOpen(file, files.O_WRONLY | files.O_TRUNC, () => 0)),
  "fallocate takes them": afterEach((file) => writable(file, (fd) => files.fallocate(fd, 0, 0n, 100_000n))),
  "a punched hole takes them": afterEach((file) =>
    writable(file, (fd) =>
      files.fallocate(fd, files.FALLOC_FL_PUNCH_HOLE | files.FALLOC_FL_KEEP_SIZE, 0n, 4096n),
    ),
  ),
  "copy_file_range takes them": afterEach((file, { at }) =>
    withOpen(at("from"), files.O_RDONLY, (from) =>
      writable(file, (fd) => files.copyFileRange({ fd: from, offset: 0n }, { fd, offset: 0n }, 4096n)),
    ),
  ),
  "chown by root takes them": ({ at, host }) =>
    [0o6755, 0o2644, 0o6711].map((bits) => {
      const file = program({ at, host }, bits);
      chownSync(file, USER.uid, USER.gid);
      return seen(file);
    }),
  "chown by the owner to another of its groups takes them": ({ at, host }) => {
    const file = program({ at, host });
    chownSync(file, USER.uid, USER.gid);
    chmodSync(file, 0o6755);
    const result = asUser({ ...USER, groups: [5000] }, () => tried(() => chownSync(file, USER.uid, 5000)));
    return [result, seen(file)];
  },
  "an owner's own write takes them": ({ at, host }) => {
    const file = program({ at, host });
    chownSync(file, USER.uid, USER.gid);
    chmodSync(file, 0o6755);
    asUser(USER, () => writable(file, (fd) => files.pwrite(fd, Buffer.from("x"), 0n)));
    return seen(file);
  },
  "a descriptor that was open before they were set takes them by ftruncate": ({ at, host }) => {
    const file = made(at("program"), CONTENT);
    chmodSync(file, 0o666);
    const fd = asUser(OTHER, () => open(file, files.O_RDWR));
    program({ at, host });
    asUser(OTHER, () => files.ftruncate(fd, 10n));
    closeSync(fd);
    return seen(file);
  },
  "a descriptor that was open before they were set takes them by write": ({ at, host }) => {
    const file = made(at("program"), CONTENT);
    chmodSync(file, 0o666);
    const fd = asUser(OTHER, () => open(file, files.O_RDWR));
    program({ at, host });
    asUser(OTHER, () => files.pwrite(fd, Buffer.from("x"), 0n));
    closeSync(fd);
    return seen(file);
  },
  "a store through a mapping leaves set-id bits": ({ at, host }) => {
    const file = program({ at, host });
    asUser(OTHER, () =>
      withOpen(file, files.O_RDWR, (fd) =>
        mapped(fd, 4096, (bytes) => {
          bytes[0] = 1;
        }),
      ),
    );
    return mode(file);
  },
  "an ACL set by an owner outside the group takes set-group-id": ({ at }) => {
    const file = made(at("file"));
    chownSync(file, USER.uid, 5000);
    chmodSync(file, 0o2755);
    const list = acl(
      [ACL_USER_OBJ, 7],
      [ACL_USER, 4, 9999],
      [ACL_GROUP_OBJ, 5],
      [ACL_MASK, 5],
      [ACL_OTHER, 5],
    );
    const set = (): unknown => setAttribute(file, "system.posix_acl_access", list);
    const byRoot = [set(), mode(file)];
    return [byRoot, asUser({ ...USER, groups: [5000] }, set), mode(file), asUser(USER, set), mode(file)];
  },
  "root's write leaves set-id bits": ({ at, host }) => {
    const file = program({ at, host });
    const fd = open(file, files.O_RDWR);
    writeSync(fd, "x");
    closeSync(fd);
    return mode(file);
  },
};
