/**
 * One of some processes that open, close, rename, unlink, link, cut and lock the same few names for a while: `rivals-main FOLDER
 * TOTAL SEED MS`. TOTAL, a file of FOLDER, is counted up under a lock. Prints how often each operation ended how: `NAME ERRNO`.
 */
import { join } from "node:path";
import {
  F_UNLCK,
  F_WRLCK,
  files,
  flock,
  LOCK_EX,
  LOCK_NB,
  lockCommands,
  setRangeLock,
} from "../../../sys/src/index.ts";
import { failure } from "../fs/errors.ts";
import { Random } from "../fuzz/generate.ts";

const NAMES = ["a", "b", "c", "d", "e", "f", "g", "h"];
/** A file that is open in no process, or in one, most of the time: what is done for the first and the last of them. */
const OFTEN = 50;
const CONTENT = new Uint8Array(5000).fill(7);

type Steps = Readonly<Record<string, () => number>>;

/** What `work` returns of an open file, or the negative errno; which was closed. */
function opened(path: files.PathBytes, flags: number, work: (fd: number) => number): number {
  const fd = files.openat(files.AT_FDCWD, path, flags, 0o644);
  if (fd < 0) return fd;
  const result = work(fd);
  const closed = files.close(fd);
  return result < 0 ? result : closed;
}

/** One more in a file that others count up as well: 0, or the negative errno. */
function countedUp(fd: number): number {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  const got = files.pread(fd, bytes, 0n);
  view.setBigUint64(0, view.getBigUint64(0, true) + 1n, true);
  return got < 0 ? got : files.pwrite(fd, bytes, 0n);
}

function stepsIn(folder: string, totalName: string, random: Random): Steps {
  const { AT_FDCWD: cwd } = files;
  const path = (): files.PathBytes => files.pathBytes(join(folder, random.pick(NAMES)));
  const total = files.pathBytes(join(folder, totalName));
  const range = (type: number) => ({ type, start: BigInt(random.below(100)), end: 100n });
  const whole = (type: number) => ({ type, start: 0n, end: 7n });
  return {
    open: () => opened(path(), files.O_RDWR, () => 0),
    "open often": () => {
      let result = 0;
      for (let i = 0; i < OFTEN && result >= 0; i += 1) result = opened(total, files.O_RDWR, () => 0);
      return result;
    },
    "open to read": () => opened(path(), files.O_RDONLY, (fd) => files.pread(fd, new Uint8Array(4096), 0n)),
    create: () =>
      opened(path(), files.O_CREAT | files.O_RDWR, (fd) =>
        files.pwrite(fd, CONTENT, BigInt(random.below(10_000))),
      ),
    "create anew": () => opened(path(), files.O_CREAT | files.O_EXCL | files.O_RDWR, () => 0),
    "open to empty": () => opened(path(), files.O_TRUNC | files.O_WRONLY, () => 0),
    truncate: () => files.truncate(path(), BigInt(random.below(20_000))),
    ftruncate: () => opened(path(), files.O_RDWR, (fd) => files.ftruncate(fd, BigInt(random.below(20_000)))),
    unlink: () => files.unlinkat(cwd, path(), 0),
    rename: () => files.renameat2(cwd, path(), cwd, path(), 0),
    link: () => files.linkat(cwd, path(), cwd, path(), 0),
    stat: () => files.statx(cwd, path(), 0, files.STATX_BASIC_STATS, new Uint8Array(files.STATX_BYTES)),
    list: () =>
      opened(files.pathBytes(folder), files.O_RDONLY | files.O_DIRECTORY, (fd) =>
        files.getdents(fd, new Uint8Array(32 * 1024)),
      ),
    "lock a range": () =>
      opened(path(), files.O_RDWR, (fd) => setRangeLock(fd, lockCommands.set, range(F_WRLCK))),
    flock: () => opened(path(), files.O_RDWR, (fd) => flock(fd, LOCK_EX | LOCK_NB)),
    "count by fcntl": () =>
      opened(total, files.O_RDWR, (fd) => {
        const locked = setRangeLock(fd, lockCommands.setWait, whole(F_WRLCK));
        const counted = locked < 0 ? locked : countedUp(fd);
        // Every other time the lock goes with the file.
        return counted < 0 || random.below(2) === 0
          ? counted
          : setRangeLock(fd, lockCommands.set, whole(F_UNLCK));
      }),
  };
}

function main(): void {
  const [folder = ".", total = "total", seed = "1", ms = "1000"] = process.argv.slice(2);
  const random = new Random(Number(seed));
  const counts: Record<string, number> = {};
  const steps = Object.entries(stepsIn(folder, total, random));
  for (const end = performance.now() + Number(ms); performance.now() < end; ) {
    const [name, step] = random.pick(steps);
    const result = step();
    const what = `${name} ${result < 0 ? failure(-result).code : "done"}`;
    counts[what] = (counts[what] ?? 0) + 1;
  }
  console.log(JSON.stringify(counts));
}

main();
