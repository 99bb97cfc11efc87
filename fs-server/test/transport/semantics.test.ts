/**
 * What Linux users rely on, done in a folder and on a devfuse mount of another: both must show the same. Owners and
 * permissions are checked by other users than root, who are tried with setpriv(1).
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { files, mapAnonymous } from "../../../sys/src/index.ts";
import { succeeded } from "../../src/fs/errors.ts";
import { temporaryDirectory } from "../support/directories.ts";
import { noMountBecause, type Server, startServer } from "../support/server.ts";

const USER = "4711";
const reason = process.geteuid?.() === 0 ? noMountBecause("devfuse") : "needs root to act as other users";
if (reason !== null) console.warn(`skipped: semantics of a mount: ${reason}`);

/** Runs a shell command as a user without any capability. Returns its exit code. */
function asUser(command: string, cwd: string): number | null {
  const identity = ["--reuid", USER, "--regid", USER, "--clear-groups"];
  return spawnSync("setpriv", [...identity, "sh", "-c", command], { cwd }).status;
}

function shell(command: string, cwd: string): number | null {
  return spawnSync("sh", ["-c", command], { cwd }).status;
}

function mode(path: string): string {
  const { mode: bits, uid, gid } = lstatSync(path);
  return `${bits.toString(8)} ${uid} ${gid}`;
}

function setAttribute(path: string, name: string, value: Uint8Array): void {
  succeeded(files.setxattr(files.pathBytes(path), files.pathBytes(name), value, 0));
}

function attribute(path: string, name: string): string {
  const into = Buffer.alloc(256);
  const size = files.getxattr(files.pathBytes(path), files.pathBytes(name), into);
  return size < 0 ? `error ${size}` : into.subarray(0, size).toString("hex");
}

/** struct posix_acl_xattr_header and entries { tag, perm, id } (linux/posix_acl_xattr.h). */
function acl(...entries: readonly (readonly [tag: number, permissions: number, id?: number])[]): Buffer {
  const bytes = Buffer.alloc(4 + entries.length * 8);
  bytes.writeUInt32LE(2, 0);
  for (const [i, [tag, permissions, id = 0xffffffff]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + i * 8);
    bytes.writeUInt16LE(permissions, 6 + i * 8);
    bytes.writeUInt32LE(id, 8 + i * 8);
  }
  return bytes;
}
const [USER_OBJ, USER_ENTRY, GROUP_OBJ, MASK, OTHER] = [1, 2, 4, 16, 32] as const;
const forUser = acl([USER_OBJ, 7], [USER_ENTRY, 6, Number(USER)], [GROUP_OBJ, 0], [MASK, 6], [OTHER, 0]);
/** VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective. */
const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");

/** Each shows something of its folder that can be compared. */
const observations: Readonly<Record<string, (at: (name: string) => string) => unknown>> = {
  "the umask takes bits off what is made": (at) => {
    shell("umask 027; : > file; mkdir folder; mkfifo fifo; umask 0; : > open", at("."));
    return ["file", "folder", "fifo", "open"].map((name) => mode(at(name)));
  },
  "what a user makes is the user's": (at) => {
    chmodSync(at("."), 0o777);
    asUser(": > file; mkdir folder; ln -s file link; mkfifo fifo", at("."));
    return ["file", "folder", "link", "fifo"].map((name) => mode(at(name)));
  },
  "a set-group-id folder gives its group": (at) => {
    mkdirSync(at("folder"));
    chownSync(at("folder"), 0, 1234);
    chmodSync(at("folder"), 0o2777);
    asUser(": > file; mkdir below", at("folder"));
    return [mode(at("folder/file")), mode(at("folder/below"))];
  },
  "a write by another takes set-user-id and capabilities away": (at) => {
    writeFileSync(at("file"), "program");
    chmodSync(at("file"), 0o6777);
    setAttribute(at("file"), "security.capability", capability);
    const before = [mode(at("file")), attribute(at("file"), "security.capability")];
    asUser("printf x >> file", at("."));
    return [
      before,
      mode(at("file")),
      attribute(at("file"), "security.capability"),
      statSync(at("file")).size,
    ];
  },
  "a new owner takes set-user-id away": (at) => {
    writeFileSync(at("file"), "program");
    chmodSync(at("file"), 0o6755);
    chownSync(at("file"), 1, 1);
    return mode(at("file"));
  },
  "truncation by another takes set-user-id away": (at) => {
    writeFileSync(at("file"), "program");
    chmodSync(at("file"), 0o4777);
    return [asUser(": > file", at(".")), mode(at("file"))];
  },
  "an ACL lets one user in and shows in the group bits": (at) => {
    writeFileSync(at("file"), "content");
    chmodSync(at("file"), 0o600);
    const before = asUser("cat file", at("."));
    setAttribute(at("file"), "system.posix_acl_access", forUser);
    const after = [
      asUser("cat file", at(".")),
      asUser("printf x >> file", at(".")),
      asUser("./file", at(".")),
    ];
    return [before, after, mode(at("file")), attribute(at("file"), "system.posix_acl_access")];
  },
  "a default ACL is inherited, and the umask is left out": (at) => {
    mkdirSync(at("folder"));
    setAttribute(at("folder"), "system.posix_acl_default", forUser);
    shell("umask 077; : > file; mkdir below", at("folder"));
    const names = ["folder/file", "folder/below"];
    return names.flatMap((name) => [
      mode(at(name)),
      attribute(at(name), "system.posix_acl_access"),
      attribute(at(name), "system.posix_acl_default"),
    ]);
  },
  "others' files are closed to a user": (at) => {
    writeFileSync(at("file"), "secret");
    chmodSync(at("file"), 0o600);
    chmodSync(at("."), 0o755);
    const commands = ["cat file", "printf x > file", "rm -f file", ": > new", "chmod 777 file", "ls"];
    return commands.map((command) => asUser(command, at(".")));
  },
  "the sticky bit protects names": (at) => {
    writeFileSync(at("file"), "");
    chmodSync(at("."), 0o1777);
    return [asUser("rm -f file", at(".")), asUser(": > own && rm own", at("."))];
  },
  "a hard link is the same file": (at) => {
    writeFileSync(at("one"), "x");
    linkSync(at("one"), at("two"));
    writeFileSync(at("two"), "longer");
    const same = statSync(at("one")).ino === statSync(at("two")).ino;
    unlinkSync(at("one"));
    return [same, readFileSync(at("two"), "utf8"), statSync(at("two")).nlink];
  },
  "special files are what they were made": (at) => {
    const make = (name: string, kind: number, device: bigint): number =>
      files.mknodat(files.AT_FDCWD, files.pathBytes(at(name)), kind, device);
    const made = [
      make("fifo", files.S_IFIFO | 0o640, 0n),
      make("null", 0o020600, files.deviceNumber(1, 3)),
      make("large", 0o060600, files.deviceNumber(259, 70_000)),
      make("socket", 0o140600, 0n),
    ];
    return [
      made,
      readdirSync(at(".")).map((name) => `${name} ${mode(at(name))} ${lstatSync(at(name)).rdev}`),
    ];
  },
  "a FIFO on it joins two processes": (at) =>
    spawnSync("sh", ["-c", "mkfifo fifo; (echo through > fifo &) ; timeout 5 cat fifo"], {
      cwd: at("."),
    }).stdout.toString(),
  "holes are where they were left": (at) => {
    const fd = openSync(at("sparse"), "w+");
    writeSync(fd, "data", 1_048_576);
    const found = [
      files.lseek(fd, 0n, files.SEEK_DATA),
      files.lseek(fd, 1_048_576n, files.SEEK_HOLE),
      files.lseek(fd, 2_097_152n, files.SEEK_DATA),
    ];
    const { size, blocks } = statSync(at("sparse"));
    closeSync(fd);
    return [found, size, blocks];
  },
  "O_DIRECT reads and writes": (at) => {
    const { bytes, free } = mapAnonymous(16_384);
    const flags = files.O_RDWR | files.O_CREAT | files.O_DIRECT;
    const fd = succeeded(files.openat(files.AT_FDCWD, files.pathBytes(at("direct")), flags, 0o600));
    bytes.fill(7);
    const written = files.pwrite(fd, bytes, 4096n);
    bytes.fill(0);
    const read = files.pread(fd, bytes, 0n);
    const seen = [written, read, bytes[0], bytes[4096], files.pread(fd, bytes.subarray(0, 4096), 20_480n)];
    closeSync(fd);
    free();
    return seen;
  },
  "O_APPEND appends, large writes too": (at) => {
    const fd = openSync(at("log"), "a");
    for (let i = 0; i < 5; i += 1) writeSync(fd, Buffer.alloc(200_000, String(i)), 0, 200_000, 0);
    closeSync(fd);
    const content = readFileSync(at("log"));
    return [content.length, [0, 1, 2, 3, 4].map((i) => content[i * 200_000 + 17])];
  },
  "a folder is listed whole while names come and go": (at) => {
    for (let i = 0; i < 600; i += 1) writeFileSync(at(`stays-${i}`), "");
    const fd = openSync(at("."), "r");
    const seen: string[] = [];
    const buffer = Buffer.alloc(2048);
    for (let round = 0; ; round += 1) {
      const length = succeeded(files.getdents(fd, buffer));
      if (length === 0 || round > 1000) break;
      for (let from = 0; from < length; from += buffer.readUInt16LE(from + 16)) {
        seen.push(buffer.toString("latin1", from + 19, buffer.indexOf(0, from + 19)));
      }
      writeFileSync(at(`comes-${round}`), "");
      if (round > 3) rmSync(at(`comes-${round - 3}`));
    }
    closeSync(fd);
    const stayed = seen.filter((name) => name.startsWith("stays-"));
    return [stayed.length, new Set(stayed).size];
  },
};

describe.skipIf(reason !== null)("on a mount as in the folder underneath", () => {
  let folder: string;
  let mounted: string;
  let server: Server;
  let count = 0;

  beforeAll(async () => {
    folder = temporaryDirectory();
    mounted = temporaryDirectory();
    const source = temporaryDirectory();
    for (const path of [folder, source, mounted]) chmodSync(path, 0o755);
    server = await startServer(["--source", source, "--mountpoint", mounted, "--posix-acl"]);
  });

  afterAll(async () => {
    expect((await server.stop()).code).toBe(0);
  });

  it.each(Object.entries(observations))("%s", (_title, observe) => {
    count += 1;
    const [below, above] = [folder, mounted].map((base) => {
      mkdirSync(join(base, `case-${count}`));
      return observe((name) => join(base, `case-${count}`, name));
    });
    expect(above).toEqual(below);
  });
});

describe.skipIf(reason !== null)("a mount of a tmpfs", () => {
  it("reads and writes above 2^53 bytes as anywhere else", async () => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    expect(shell(`mount -t tmpfs -o size=16m none ${source}`, "/")).toBe(0);
    try {
      const server = await startServer(["--source", source, "--mountpoint", mounted]);
      const fd = openSync(join(mounted, "far"), "w+");
      const far = 2n ** 53n + 1n;
      expect(files.pwrite(fd, Buffer.from("far away"), far)).toBe(8);
      const into = Buffer.alloc(8);
      expect(files.pread(fd, into, far)).toBe(8);
      expect(into.toString()).toBe("far away");
      expect(statSync(join(mounted, "far"), { bigint: true }).size).toBe(far + 8n);
      expect(files.lseek(fd, 4096n, files.SEEK_DATA)).toBe((far / 4096n) * 4096n);
      closeSync(fd);
      expect(files.pread(openSync(join(source, "far"), "r"), into, far)).toBe(8);
      await server.stop();
    } finally {
      shell(`umount -l ${source}`, "/");
    }
  });
});
