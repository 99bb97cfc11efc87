/** Names: making, renaming, linking, removing, resolving. */
import {
  closeSync,
  existsSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { files } from "../../../../sys/src/index.ts";
import { named, open, tried, withOpen } from "../calls.ts";
import { type Cases, made, mode } from "./case.ts";

const path = files.pathBytes;
const rename = (from: string, to: string, flags: number): number | string =>
  named(files.renameat2(files.AT_FDCWD, path(from), files.AT_FDCWD, path(to), flags));

export const names: Cases = {
  "what is not there is ENOENT, below a file ENOTDIR": ({ at }) => {
    made(at("file"));
    return ["missing", "missing/x", "file/x"].map((name) => tried(() => statSync(at(name)).size));
  },
  "a name may have 255 bytes": ({ at }) =>
    [255, 256].map((length) => tried(() => made(at("n".repeat(length))).length > 0)),
  "names are bytes": ({ at }) => {
    const name = Buffer.concat([Buffer.from(at("")), Buffer.from([0xff, 0xfe, 0x20, 0x0a])]);
    writeFileSync(name, "x");
    return [
      readdirSync(at("."), { encoding: "buffer" }).map((entry) => entry.toString("hex")),
      readFileSync(name),
    ];
  },
  "rename replaces": ({ at }) => {
    made(at("one"), "1");
    made(at("two"), "2");
    renameSync(at("one"), at("two"));
    return [readdirSync(at(".")), readFileSync(at("two"), "utf8")];
  },
  "rename refuses what it must": ({ at }) => {
    for (const name of ["full", "full/inside", "empty"]) mkdirSync(at(name));
    made(at("file"));
    const pairs = [
      ["empty", "full"],
      ["file", "empty"],
      ["empty", "file"],
      ["full", "full/inside/x"],
      ["missing", "x"],
      ["full/inside", "empty"],
    ] as const;
    return pairs.map(([from, to]) => tried(() => renameSync(at(from), at(to))));
  },
  "rename flags: NOREPLACE, EXCHANGE": ({ at }) => {
    made(at("one"), "1");
    made(at("two"), "2");
    return [
      rename(at("one"), at("two"), files.RENAME_NOREPLACE),
      rename(at("one"), at("three"), files.RENAME_NOREPLACE),
      rename(at("two"), at("three"), files.RENAME_EXCHANGE),
      rename(at("two"), at("four"), files.RENAME_EXCHANGE),
      rename(at("two"), at("three"), files.RENAME_EXCHANGE | files.RENAME_NOREPLACE),
      readFileSync(at("two"), "utf8"),
    ];
  },
  "rename WHITEOUT leaves a device 0:0": ({ at }) => {
    made(at("one"));
    const result = rename(at("one"), at("two"), files.RENAME_WHITEOUT);
    return [result, readdirSync(at(".")), tried(() => lstatSync(at("one")).rdev), mode(at("one"))];
  },
  "a hard link is the same file": ({ at }) => {
    made(at("one"), "x");
    linkSync(at("one"), at("two"));
    writeFileSync(at("two"), "longer");
    const same = statSync(at("one")).ino === statSync(at("two")).ino;
    unlinkSync(at("one"));
    return [same, readFileSync(at("two"), "utf8"), statSync(at("two")).nlink];
  },
  "a link to a folder is EPERM, to a symbolic link is one more name of it": ({ at }) => {
    mkdirSync(at("folder"));
    symlinkSync("nowhere", at("link"));
    const results = [
      tried(() => linkSync(at("folder"), at("x"))),
      tried(() => linkSync(at("link"), at("y"))),
    ];
    return [results, readlinkSync(at("y")), lstatSync(at("link")).nlink];
  },
  "a link over a name is EEXIST": ({ at }) => {
    made(at("one"));
    made(at("two"));
    return [tried(() => linkSync(at("one"), at("two"))), tried(() => linkSync(at("missing"), at("x")))];
  },
  "symbolic links: content, size, loops, nowhere": ({ at }) => {
    symlinkSync("a".repeat(4095), at("long"));
    symlinkSync("loop", at("loop"));
    symlinkSync("nowhere", at("dangling"));
    return [
      readlinkSync(at("long")).length,
      lstatSync(at("long")).size,
      tried(() => symlinkSync("a".repeat(4096), at("too-long"))),
      ...["loop", "dangling"].map((name) => tried(() => openSync(at(name), "r"))),
      tried(() => readlinkSync(made(at("file")))),
    ];
  },
  "an absolute link leads where the client sees it": ({ at }) => {
    made(at("target"), "seen");
    symlinkSync(at("target"), at("link"));
    return readFileSync(at("link"), "utf8");
  },
  "what is open stays there without a name": ({ at }) => {
    const fd = openSync(at("file"), "w+");
    unlinkSync(at("file"));
    writeFileSync(fd, "still there");
    const { nlink, size } = fstatSync(fd);
    closeSync(fd);
    return [nlink, size, existsSync(at("file"))];
  },
  "unlink and rmdir refuse each other's": ({ at }) => {
    mkdirSync(at("full/inside"), { recursive: true });
    made(at("file"));
    return [
      tried(() => unlinkSync(at("full"))),
      tried(() => rmdirSync(at("full"))),
      tried(() => rmdirSync(at("file"))),
      tried(() => rmdirSync(at("missing"))),
      tried(() => rmdirSync(at("full/inside"))),
    ];
  },
  "open flags refuse: EXCL, NOFOLLOW, DIRECTORY": ({ at }) => {
    made(at("file"));
    mkdirSync(at("folder"));
    symlinkSync("nowhere", at("link"));
    const create = files.O_WRONLY | files.O_CREAT;
    return [
      withOpen(at("file"), create | files.O_EXCL, () => 0),
      withOpen(at("link"), create | files.O_EXCL, () => 0),
      withOpen(at("link"), files.O_NOFOLLOW, () => 0),
      withOpen(at("file"), files.O_DIRECTORY, () => 0),
      withOpen(at("folder"), files.O_WRONLY, () => 0),
      withOpen(at("folder"), create, () => 0),
      withOpen(at("link"), create, () => readdirSync(at("."))),
    ];
  },
  "nothing is made in a folder that was removed": ({ at }) => {
    mkdirSync(at("folder"));
    const fd = open(at("folder"), files.O_DIRECTORY);
    rmdirSync(at("folder"));
    const results = [
      named(files.openat(fd, path("new"), files.O_CREAT | files.O_WRONLY, 0o600)),
      named(files.mkdirat(fd, path("new"), 0o700)),
    ];
    closeSync(fd);
    return results;
  },
  "an unnamed file gets a name": ({ at }) =>
    withOpen(at("."), files.O_TMPFILE | files.O_RDWR, (fd) => {
      files.pwrite(fd, Buffer.from("content"), 0n);
      const [from, to] = [path(`/proc/self/fd/${fd}`), path(at("named"))];
      const before = fstatSync(fd).nlink;
      const result = files.linkat(files.AT_FDCWD, from, files.AT_FDCWD, to, files.AT_SYMLINK_FOLLOW);
      return [
        before,
        named(result),
        readFileSync(at("named"), "utf8"),
        mode(at("named")) === mode(made(at("other"))),
      ];
    }),
  "what the host makes is there": ({ at, host }) => {
    made(host("file"), "host's");
    mkdirSync(host("folder"));
    return [readFileSync(at("file"), "utf8"), statSync(at("folder")).isDirectory(), readdirSync(at("."))];
  },
};
