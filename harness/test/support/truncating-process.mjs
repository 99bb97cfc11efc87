/**
 * A process that makes a file shorter, in every way of `daxfault guards` and some more. Arguments: the file, and the same in a
 * mount (or -). It has the file open since its start, says so in a line, and answers each line `WAY ROUNDS` with one of JSON: how
 * often each errno came (`done`: none), and the file's size. Ways: those of race-ways.ts; all: by turns.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { actOnPath } from "../../../dist/harness/src/engines/host-action.js";
import { raceWays } from "../../../dist/harness/src/guards/race.js";
import { wayOfCutting } from "../../../dist/harness/src/guards/race-ways.js";
import { addressOf, declare, errnoName, files, IoUring, truncate } from "../../../dist/sys/src/index.js";

const [path, mounted] = process.argv.slice(2);
const old = openSync(path, "r+");
const cFallocate = declare("int fallocate(int fd, int mode, int64 offset, int64 length)");

function openAnd(place, flags, work) {
  const fd = openSync(place, flags);
  try {
    work(fd);
  } finally {
    closeSync(fd);
  }
}

class UringError extends Error {
  constructor(result) {
    super(errnoName(-result));
    this.code = errnoName(-result);
  }
}

let ring = null;
/** One operation, by a worker of the kernel's where the kernel says so. */
function uring(opcode, fill) {
  ring ??= new IoUring(1);
  ring.prepare(0, (sqe) => {
    sqe.setUint8(0, opcode);
    fill(sqe);
  });
  ring.push(0);
  while (!ring.next()) ring.submit(1);
  if (ring.result < 0) throw new UringError(ring.result);
  return ring.result;
}
/** include/uapi/linux/io_uring.h */
const IORING = { fallocate: 17, openat: 18, write: 23, ftruncate: 55 };
const pathBytes = files.pathBytes(path);
const oneByte = new Uint8Array([0x41]);

const uringTruncate = (size) =>
  openAnd(path, "r+", (fd) =>
    uring(IORING.ftruncate, (sqe) => {
      sqe.setInt32(4, fd, true);
      sqe.setBigUint64(8, BigInt(size), true);
    }),
  );
const uringOpen = (flags) =>
  closeSync(
    uring(IORING.openat, (sqe) => {
      sqe.setInt32(4, files.AT_FDCWD, true);
      sqe.setBigUint64(16, addressOf(pathBytes), true);
      sqe.setUint32(28, flags, true);
    }),
  );

const others = {
  "inside-a-page": () => truncate(path, 5000n),
  "one-byte": () => truncate(path, BigInt(fstatSync(old).size - 1)),
  "uring-ftruncate": () => uringTruncate(0),
  "uring-inside-a-page": () => uringTruncate(5000),
  "uring-open-o-trunc": () => uringOpen(files.O_RDWR | files.O_TRUNC),
  "uring-open": () => uringOpen(files.O_RDWR),
  "uring-collapse": () =>
    openAnd(path, "r+", (fd) =>
      uring(IORING.fallocate, (sqe) => {
        sqe.setInt32(4, fd, true);
        sqe.setBigUint64(8, 4096n, true);
        sqe.setBigUint64(16, 4096n, true);
        sqe.setUint32(24, files.FALLOC_FL_COLLAPSE_RANGE, true);
      }),
    ),
  "uring-write": () =>
    openAnd(path, "r+", (fd) =>
      uring(IORING.write, (sqe) => {
        // IOSQE_ASYNC: a worker does it.
        sqe.setUint8(1, 16);
        sqe.setInt32(4, fd, true);
        sqe.setBigUint64(16, addressOf(oneByte), true);
        sqe.setUint32(24, 1, true);
      }),
    ),
  "collapse-old-fd": () => {
    if (cFallocate(old, files.FALLOC_FL_COLLAPSE_RANGE, 4096n, 4096n) !== 0) throw new UringError(-1);
  },
  grow: () => truncate(path, BigInt(fstatSync(old).size + 4096)),
  "back-to-whole": () => truncate(path, BigInt(fstatSync(old).size - 4096)),
  punch: () => actOnPath({ verb: "punch", offset: 0x2000n, length: 0x1000n }, path),
  read: () => openAnd(path, "r", (fd) => readSync(fd, new Uint8Array(100))),
  write: () => openAnd(path, "r+", (fd) => writeSync(fd, oneByte)),
};

function perform(way) {
  if (way in others) {
    others[way]();
    return;
  }
  const cutting = wayOfCutting(way);
  if (cutting.by === "path") actOnPath(cutting.action, path);
  else if (cutting.by === "old-descriptor") ftruncateSync(old, 0);
  else openAnd(cutting.through === "file" ? path : mounted, "r+", (fd) => ftruncateSync(fd, 0));
}

const host = raceWays.filter((way) => way !== "by-guest" && (way !== "by-mount" || mounted !== "-"));
const cutting = [
  ...host,
  "inside-a-page",
  "one-byte",
  "uring-ftruncate",
  "uring-inside-a-page",
  "uring-open-o-trunc",
  "uring-collapse",
];

process.stdout.write("open\n");
createInterface({ input: process.stdin }).on("line", (line) => {
  const [way, count] = line.split(" ");
  const ways = way === "all" ? cutting : [way];
  const errnos = {};
  for (let round = 0; round < Number(count); round += 1) {
    const now = ways[round % ways.length];
    let errno = "done";
    try {
      perform(now);
    } catch (error) {
      errno = error.code ?? String(error);
    }
    errnos[errno] = (errnos[errno] ?? 0) + 1;
    if (way === "all" && errno !== "ETXTBSY")
      errnos[`${now}: ${errno}`] = (errnos[`${now}: ${errno}`] ?? 0) + 1;
  }
  process.stdout.write(`${JSON.stringify({ errnos, sizeBytes: fstatSync(old).size })}\n`);
});
