/** Times, extended attributes, access control lists, statistics. */
import {
  chmodSync,
  chownSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { files } from "../../../../sys/src/index.ts";
import {
  ACL_GROUP,
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_USER,
  ACL_USER_OBJ,
  acl,
  asUser,
  attribute,
  attributeNames,
  named,
  setAttribute,
  tried,
} from "../calls.ts";
import { type Cases, made, mode, OTHER, USER } from "./case.ts";

const path = files.pathBytes;
const times = (name: string): bigint[] => {
  const { atimeNs, mtimeNs } = statSync(name, { bigint: true });
  return [atimeNs, mtimeNs];
};
/** Runs `change` a little later, and says which of a file's times it moved. */
function moved(name: string, change: () => void): unknown {
  const before = statSync(name, { bigint: true });
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  change();
  const after = statSync(name, { bigint: true });
  return { mtime: after.mtimeNs > before.mtimeNs, ctime: after.ctimeNs > before.ctimeNs };
}
const forUser = acl(
  [ACL_USER_OBJ, 7],
  [ACL_USER, 6, USER.uid],
  [ACL_GROUP_OBJ, 0],
  [ACL_MASK, 6],
  [ACL_OTHER, 0],
);
const ACCESS = "system.posix_acl_access";
const DEFAULT = "system.posix_acl_default";

export const attributes: Cases = {
  "times are set to the nanosecond, kept, or now": ({ at }) => {
    made(at("file"));
    const access = { seconds: 1_000_000_000n, nanoseconds: 123_456_789 };
    const modification = { seconds: -1n, nanoseconds: 999_999_999 };
    const set = (what: Parameters<typeof files.utimensat>[2]): number | string =>
      named(files.utimensat(files.AT_FDCWD, path(at("file")), what, 0));
    const first = [set({ access, modification }), times(at("file"))];
    const kept = { seconds: 0n, nanoseconds: files.UTIME_OMIT };
    set({ access: kept, modification: { seconds: 5n, nanoseconds: 7 } });
    return [
      first,
      times(at("file")),
      set({ access: { seconds: 0n, nanoseconds: 1_000_000_000 }, modification: kept }),
    ];
  },
  "a user may touch what it may write, and set times of its own only": ({ at }) => {
    chmodSync(made(at("file")), 0o666);
    const kept = { access: { seconds: 1n, nanoseconds: 0 }, modification: { seconds: 1n, nanoseconds: 0 } };
    const now = { seconds: 0n, nanoseconds: files.UTIME_NOW };
    return asUser(USER, () => [
      named(files.utimensat(files.AT_FDCWD, path(at("file")), kept, 0)),
      named(files.utimensat(files.AT_FDCWD, path(at("file")), { access: now, modification: now }, 0)),
    ]);
  },
  "a symbolic link has times of its own": ({ at }) => {
    symlinkSync("nowhere", at("link"));
    return [tried(() => lutimesSync(at("link"), 10, 20)), tried(() => utimesSync(at("link"), 1, 1))];
  },
  "what changes a file moves its times": ({ at }) => {
    made(at("file"), "content");
    return [
      moved(at("file"), () => writeFileSync(at("file"), "x")),
      moved(at("file"), () => chmodSync(at("file"), 0o600)),
      moved(at("file"), () => truncateSync(at("file"), 0)),
      moved(at("file"), () => setAttribute(at("file"), "user.x", Buffer.from("x"))),
      moved(at("."), () => made(at("new"))),
    ];
  },
  "blocks and sizes of a file are its own": ({ at, host }) => {
    made(at("file"), Buffer.alloc(100_000, 1));
    const { size, nlink, blksize } = statSync(at("file"));
    return [size, nlink, blksize, statSync(at("file")).ino === statSync(host("file")).ino];
  },
  "a file's birth is known, and stays": ({ at, host }) => {
    made(at("file"), "content");
    const { birthtimeNs } = statSync(host("file"), { bigint: true });
    return [birthtimeNs > 0n, statSync(at("file"), { bigint: true }).birthtimeNs === birthtimeNs];
  },
  "statistics are those of the source": ({ at }) => {
    const { bsize, blocks, files: inodes } = statfsSync(at("."));
    return [bsize, blocks, inodes];
  },
  "extended attributes: set, listed, replaced, removed": ({ at }) => {
    made(at("file"));
    const [CREATE, REPLACE] = [1, 2];
    const set = (value: string, flags: number): unknown =>
      setAttribute(at("file"), "user.one", Buffer.from(value), flags);
    return [
      set("x", REPLACE),
      set("x", CREATE),
      set("y", CREATE),
      set("longer", REPLACE),
      attribute(at("file"), "user.one"),
      attributeNames(at("file")),
      named(files.removexattr(path(at("file")), path("user.one"))),
      named(files.removexattr(path(at("file")), path("user.one"))),
      attribute(at("file"), "user.one"),
    ];
  },
  "extended attributes: sizes and refusals": ({ at }) => {
    made(at("file"));
    setAttribute(at("file"), "user.one", Buffer.alloc(100, 1));
    symlinkSync("file", at("link"));
    const small = Buffer.alloc(10);
    return [
      named(files.getxattr(path(at("file")), path("user.one"), small)),
      named(files.getxattr(path(at("file")), path("user.one"), new Uint8Array(0))),
      named(files.listxattr(path(at("file")), new Uint8Array(0))),
      named(files.listxattr(path(at("file")), small.subarray(0, 2))),
      setAttribute(at("file"), `user.${"n".repeat(300)}`, small),
      setAttribute(at("file"), "unknown.one", small),
      setAttribute(at("file"), "user.empty", new Uint8Array(0)),
      attribute(at("file"), "user.empty"),
    ];
  },
  "trusted attributes are root's": ({ at }) => {
    chmodSync(made(at("file")), 0o666);
    setAttribute(at("file"), "trusted.x", Buffer.from("x"));
    setAttribute(at("file"), "user.x", Buffer.from("x"));
    const seen = (): unknown => [
      attributeNames(at("file")),
      attribute(at("file"), "trusted.x"),
      setAttribute(at("file"), "trusted.y", Buffer.from("y")),
    ];
    return [asUser(USER, seen), seen()];
  },
};

export const lists: Cases = {
  "an ACL lets one user in and shows in the group bits": ({ at }) => {
    chmodSync(made(at("file"), "content"), 0o600);
    const read = (): unknown => tried(() => readFileSync(at("file"), "utf8"));
    const write = (): unknown => tried(() => writeFileSync(at("file"), "x"));
    const before = asUser(USER, read);
    setAttribute(at("file"), ACCESS, forUser);
    return [
      before,
      asUser(USER, read),
      asUser(USER, write),
      asUser(OTHER, read),
      mode(at("file")),
      attribute(at("file"), ACCESS),
    ];
  },
  "a group with --- is kept out": ({ at }) => {
    chmodSync(made(at("file"), "secret"), 0o644);
    chmodSync(at("."), 0o755);
    setAttribute(
      at("file"),
      ACCESS,
      acl([ACL_USER_OBJ, 6], [ACL_GROUP_OBJ, 4], [ACL_GROUP, 0, 5000], [ACL_MASK, 4], [ACL_OTHER, 4]),
    );
    const read = (): unknown => tried(() => readFileSync(at("file"), "utf8"));
    return [asUser({ ...USER, groups: [5000] }, read), asUser(OTHER, read)];
  },
  "a user's entry comes before its groups": ({ at }) => {
    made(at("file"), "secret");
    chownSync(at("file"), 0, 5000);
    setAttribute(
      at("file"),
      ACCESS,
      acl([ACL_USER_OBJ, 6], [ACL_USER, 0, USER.uid], [ACL_GROUP_OBJ, 6], [ACL_MASK, 6], [ACL_OTHER, 6]),
    );
    return asUser({ ...USER, groups: [5000] }, () => tried(() => readFileSync(at("file"), "utf8")));
  },
  "a default ACL is inherited, and the umask is left out": ({ at }) => {
    mkdirSync(at("folder"));
    setAttribute(at("folder"), DEFAULT, forUser);
    made(at("folder/file"));
    mkdirSync(at("folder/below"));
    return ["folder/file", "folder/below"].flatMap((name) => [
      mode(at(name)),
      attribute(at(name), ACCESS),
      attribute(at(name), DEFAULT),
    ]);
  },
  "chmod changes the mask of an ACL": ({ at }) => {
    setAttribute(made(at("file"), "content"), ACCESS, forUser);
    chmodSync(at("file"), 0o640);
    const write = asUser(USER, () => tried(() => writeFileSync(at("file"), "x")));
    return [write, mode(at("file")), attribute(at("file"), ACCESS)];
  },
  "an ACL is its owner's to change": ({ at }) => {
    chmodSync(made(at("file")), 0o666);
    const set = (): unknown => setAttribute(at("file"), ACCESS, forUser);
    return [
      asUser(USER, set),
      setAttribute(at("file"), DEFAULT, forUser),
      setAttribute(at("file"), ACCESS, Buffer.from("nonsense")),
    ];
  },
  "an ACL that is removed lets nobody in": ({ at }) => {
    chmodSync(made(at("file"), "content"), 0o600);
    setAttribute(at("file"), ACCESS, forUser);
    const removed = named(files.removexattr(path(at("file")), path(ACCESS)));
    return [
      removed,
      asUser(USER, () => tried(() => readFileSync(at("file")))),
      attribute(at("file"), ACCESS),
      mode(at("file")),
    ];
  },
};
