/** Folders as they are read, locks, mappings, and what other programs do. */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { files } from "../../../../sys/src/index.ts";
import {
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  flock,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  lockInTheWay,
  mapped,
  named,
  setLock,
  tried,
  withOpen,
} from "../calls.ts";
import { type Cases, made } from "./case.ts";

type Record = { readonly name: string; readonly ino: bigint; readonly type: number };

function entries(fd: number, bufferBytes: number, between: () => void = () => {}): Record[] {
  const seen: Record[] = [];
  const buffer = Buffer.alloc(bufferBytes);
  for (;;) {
    const length = files.getdents(fd, buffer);
    if (length <= 0) return seen;
    for (let from = 0; from < length; from += buffer.readUInt16LE(from + 16)) {
      const name = buffer.toString("latin1", from + 19, buffer.indexOf(0, from + 19));
      seen.push({ name, ino: buffer.readBigUInt64LE(from), type: buffer.readUInt8(from + 18) });
    }
    between();
  }
}

export const directories: Cases = {
  "a folder is listed whole while names come and go": ({ at }) => {
    for (let i = 0; i < 600; i += 1) made(at(`stays-${i}`));
    let round = 0;
    const seen = withOpen(at("."), files.O_DIRECTORY, (fd) =>
      entries(fd, 2048, () => {
        made(at(`comes-${round}`));
        if (round > 3) rmSync(at(`comes-${round - 3}`));
        round += 1;
      }).filter(({ name }) => name.startsWith("stays-")),
    ) as Record[];
    return [seen.length, new Set(seen.map(({ name }) => name)).size];
  },
  "entries have the number and type of their file": ({ at }) => {
    made(at("file"));
    mkdirSync(at("folder"));
    symlinkSync("file", at("link"));
    const seen = withOpen(at("."), files.O_DIRECTORY, (fd) => entries(fd, 4096)) as Record[];
    return seen
      .map(({ name, ino, type }) => [
        name,
        type,
        name === "link" || name === ".." || statSync(at(name), { bigint: true }).ino === ino,
      ])
      .sort();
  },
  "a folder counts its folders": ({ at }) => {
    for (const name of ["a", "b", "c"]) mkdirSync(at(name));
    rmSync(at("b"), { recursive: true });
    return statSync(at(".")).nlink;
  },
  "a folder read again from its start has what came": ({ at }) =>
    withOpen(at("."), files.O_DIRECTORY, (fd) => {
      made(at("one"));
      const first = entries(fd, 4096).length;
      made(at("two"));
      files.lseek(fd, 0n, files.SEEK_SET);
      return [first, entries(fd, 4096).length];
    }),
  "a folder is neither read nor written as a file": ({ at }) =>
    withOpen(at("."), files.O_DIRECTORY, (fd) => [
      named(files.pread(fd, new Uint8Array(10), 0n)),
      named(files.fsync(fd)),
      named(files.fdatasync(fd)),
      named(files.getdents(fd, new Uint8Array(4))),
    ]),
};

export const processes: Cases = {
  "flock keeps another description out": ({ at }) => {
    made(at("file"));
    return withOpen(at("file"), files.O_RDWR, (one) =>
      withOpen(at("file"), files.O_RDWR, (two) => [
        flock(one, LOCK_EX | LOCK_NB),
        flock(two, LOCK_SH | LOCK_NB),
        flock(one, LOCK_SH),
        flock(two, LOCK_SH | LOCK_NB),
        flock(one, LOCK_EX | LOCK_NB),
        flock(two, LOCK_UN),
        flock(one, LOCK_EX | LOCK_NB),
      ]),
    );
  },
  "locks of ranges keep another description out": ({ at }) => {
    made(at("file"));
    return withOpen(at("file"), files.O_RDWR, (one) =>
      withOpen(at("file"), files.O_RDWR, (two) => [
        setLock(one, F_WRLCK, 0n, 100n),
        setLock(two, F_RDLCK, 50n, 10n),
        setLock(two, F_WRLCK, 100n, 10n),
        lockInTheWay(two, F_WRLCK, 0n, 10n),
        setLock(one, F_UNLCK, 20n, 20n),
        setLock(two, F_WRLCK, 25n, 5n),
        lockInTheWay(two, F_RDLCK, 30n, 100n),
      ]),
    );
  },
  "a store through a mapping is in the file": ({ at, host }) => {
    made(at("file"), Buffer.alloc(8192, "a"));
    withOpen(at("file"), files.O_RDWR, (fd) => {
      mapped(fd, 8192, (bytes) => bytes.fill(0x62, 100, 5000));
      files.fsync(fd);
    });
    const [above, below] = [readFileSync(at("file")), readFileSync(host("file"))];
    return [above.equals(below), above.indexOf("b"), above.lastIndexOf("b")];
  },
  "a mapping sees what is written": ({ at }) => {
    made(at("file"), Buffer.alloc(4096, "a"));
    return withOpen(at("file"), files.O_RDWR, (fd) =>
      mapped(fd, 4096, (bytes) => {
        files.pwrite(fd, Buffer.from("written"), 10n);
        return Buffer.from(bytes.subarray(8, 19)).toString("latin1");
      }),
    );
  },
  "a program on it runs, and is busy for writers": ({ at }) => {
    copyFileSync("/bin/sleep", at("program"));
    chmodSync(at("program"), 0o755);
    const busy = "./program 5 & sleep 0.1; (: >> program) 2>/dev/null; echo $?; kill $!";
    return spawnSync("sh", ["-c", busy], { cwd: at(".") }).stdout.toString();
  },
  "a script without x does not run": ({ at }) => {
    writeFileSync(at("script"), "#!/bin/sh\necho ran\n");
    const run = (): unknown => {
      const { status, error } = spawnSync(at("script"));
      return status ?? (error as NodeJS.ErrnoException).code;
    };
    const before = run();
    chmodSync(at("script"), 0o755);
    return [before, run()];
  },
  "a FIFO on it joins two processes": ({ at }) =>
    spawnSync("sh", ["-c", "mkfifo fifo; (echo through > fifo &) ; timeout 5 cat fifo"], {
      cwd: at("."),
    }).stdout.toString(),
  "a socket on it joins two processes, and is opened by nobody": ({ at }) => {
    files.mknodat(files.AT_FDCWD, files.pathBytes(at("socket")), 0o140600, 0n);
    return withOpen(at("socket"), files.O_RDWR, () => 0);
  },
  "a pipeline of programs leaves the same": ({ at }) => {
    const script =
      "seq 1000 > a; sort -r a > b; gzip -n b; cp -a b.gz c.gz; mv c.gz d.gz; zcat d.gz | md5sum; tar cf t a d.gz; tar tf t";
    return spawnSync("sh", ["-c", script], { cwd: at(".") }).stdout.toString();
  },
  "a file is open many times": ({ at }) => {
    made(at("file"), "x");
    const fds = Array.from({ length: 50 }, () => openSync(at("file"), "r"));
    for (const fd of fds) closeSync(fd);
    return [tried(() => readFileSync(at("file"), "utf8")), readdirSync(at("."))];
  },
};
