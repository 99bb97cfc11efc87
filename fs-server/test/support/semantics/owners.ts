/** Owners and permissions: whose is what is made, and who may do what. */
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { files, setUmask } from "../../../../sys/src/index.ts";
import { asUser, named, tried } from "../calls.ts";
import { type Cases, made, mode, OTHER, USER } from "./case.ts";

const path = files.pathBytes;
const mknod = (name: string, kind: number, device = 0n): number | string =>
  named(files.mknodat(files.AT_FDCWD, path(name), kind, device));

function withUmask<T>(mask: number, work: () => T): T {
  const before = setUmask(mask);
  try {
    return work();
  } finally {
    setUmask(before);
  }
}

export const owners: Cases = {
  "the umask takes bits off what is made": ({ at }) => {
    withUmask(0o027, () => {
      writeFileSync(at("file"), "", { mode: 0o666 });
      mkdirSync(at("folder"), { mode: 0o777 });
      mknod(at("fifo"), files.S_IFIFO | 0o666);
    });
    withUmask(0, () => writeFileSync(at("open"), "", { mode: 0o666 }));
    return ["file", "folder", "fifo", "open"].map((name) => mode(at(name)));
  },
  "what a user makes is the user's": ({ at }) => {
    chmodSync(at("."), 0o777);
    asUser(USER, () => {
      made(at("file"));
      mkdirSync(at("folder"));
      symlinkSync("file", at("link"));
      mknod(at("fifo"), files.S_IFIFO | 0o600);
    });
    return ["file", "folder", "link", "fifo"].map((name) => mode(at(name)));
  },
  "a set-group-id folder gives its group": ({ at }) => {
    mkdirSync(at("folder"));
    chownSync(at("folder"), 0, 1234);
    chmodSync(at("folder"), 0o2777);
    asUser(USER, () => {
      made(at("folder/file"));
      mkdirSync(at("folder/below"));
    });
    return [mode(at("folder/file")), mode(at("folder/below"))];
  },
  "others' files are closed to a user": ({ at }) => {
    made(at("file"), "secret");
    chmodSync(at("file"), 0o600);
    chmodSync(at("."), 0o755);
    return asUser(USER, () => [
      tried(() => readFileSync(at("file"))),
      tried(() => writeFileSync(at("file"), "x")),
      tried(() => rmSync(at("file"))),
      tried(() => made(at("new"))),
      tried(() => chmodSync(at("file"), 0o777)),
      readdirSync(at(".")),
    ]);
  },
  "the sticky bit protects names": ({ at }) => {
    made(at("file"));
    chmodSync(at("."), 0o1777);
    return asUser(USER, () => [tried(() => rmSync(at("file"))), tried(() => rmSync(made(at("own"))))]);
  },
  "a supplementary group lets its members in": ({ at }) => {
    made(at("file"), "group's");
    chownSync(at("file"), 0, 5000);
    chmodSync(at("file"), 0o640);
    const read = (): unknown => tried(() => readFileSync(at("file"), "utf8"));
    return [asUser(USER, read), asUser({ ...USER, groups: [5000] }, read)];
  },
  "chown is root's, but for an owner's own groups": ({ at }) => {
    made(at("file"));
    chownSync(at("file"), USER.uid, USER.gid);
    const give = (uid: number, gid: number): unknown => tried(() => chownSync(at("file"), uid, gid));
    const results = asUser({ ...USER, groups: [5000] }, () => [
      give(0, USER.gid),
      give(USER.uid, 6000),
      give(USER.uid, 5000),
    ]);
    return [results, asUser(OTHER, () => give(OTHER.uid, OTHER.gid)), mode(at("file"))];
  },
  "chmod by an owner outside the group takes set-group-id away": ({ at }) => {
    made(at("file"));
    chownSync(at("file"), USER.uid, 5000);
    const change = (): unknown => tried(() => chmodSync(at("file"), 0o6755));
    return [asUser(OTHER, change), asUser(USER, change), mode(at("file"))];
  },
  "a user makes no devices": ({ at }) => {
    chmodSync(at("."), 0o777);
    return asUser(USER, () => [
      mknod(at("null"), 0o020666, files.deviceNumber(1, 3)),
      mknod(at("socket"), 0o140600),
      mknod(at("file"), files.S_IFREG | 0o600),
    ]);
  },
  "special files are what they were made": ({ at }) => {
    const results = [
      mknod(at("fifo"), files.S_IFIFO | 0o640),
      mknod(at("null"), 0o020600, files.deviceNumber(1, 3)),
      mknod(at("large"), 0o060600, files.deviceNumber(259, 70_000)),
      mknod(at("socket"), 0o140600),
    ];
    return [
      results,
      readdirSync(at(".")).map((name) => `${name} ${mode(at(name))} ${lstatSync(at(name)).rdev}`),
    ];
  },
  "a folder without x lets nobody through": ({ at }) => {
    mkdirSync(at("folder"));
    made(at("folder/file"), "x");
    chmodSync(at("folder"), 0o744);
    return asUser(USER, () => [
      tried(() => readdirSync(at("folder"))),
      tried(() => readFileSync(at("folder/file"))),
    ]);
  },
};
