/**
 * One of many clients that get in each other's way in one folder: makes, writes, renames, cuts, links and removes a
 * few names at random. Prints how often each errno came: `client-main FOLDER SEED OPERATIONS`.
 */
import { join } from "node:path";
import { files } from "../../../sys/src/index.ts";
import { failure } from "../fs/errors.ts";
import { Random } from "../fuzz/generate.ts";

const NAMES = ["a", "b", "c", "d", "e", "f"];

function main(): void {
  const [folder = ".", seed = "1", operations = "1000"] = process.argv.slice(2);
  const random = new Random(Number(seed));
  const counts: Record<string, number> = {};
  const data = new Uint8Array(5000).fill(Number(seed));
  const path = (): Uint8Array => {
    const parent = random.below(2) === 0 ? [] : [`dir-${random.below(3)}`];
    return files.pathBytes(join(folder, ...parent, random.pick(NAMES)));
  };
  const directory = (): Uint8Array => files.pathBytes(join(folder, `dir-${random.below(3)}`));
  const cwd = files.AT_FDCWD;
  const steps: (() => number)[] = [
    () => {
      const fd = files.openat(cwd, path(), files.O_CREAT | files.O_RDWR, 0o644);
      if (fd < 0) return fd;
      const written = files.pwrite(fd, data, BigInt(random.below(10_000)));
      files.pread(fd, new Uint8Array(4096), 0n);
      files.close(fd);
      return written;
    },
    () => files.unlinkat(cwd, path(), 0),
    () => files.renameat2(cwd, path(), cwd, path(), 0),
    () => files.truncate(path(), BigInt(random.below(20_000))),
    () => files.linkat(cwd, path(), cwd, path(), 0),
    () => files.mkdirat(cwd, directory(), 0o755),
    () => files.unlinkat(cwd, directory(), files.AT_REMOVEDIR),
    () => files.renameat2(cwd, directory(), cwd, directory(), 0),
    () => files.statx(cwd, path(), 0, files.STATX_BASIC_STATS, new Uint8Array(files.STATX_BYTES)),
  ];
  for (let i = 0; i < Number(operations); i += 1) {
    const result = random.pick(steps)();
    const what = result < 0 ? failure(-result).code : "done";
    counts[what] = (counts[what] ?? 0) + 1;
  }
  console.log(JSON.stringify(counts));
}

main();
