/**
 * Random operations on one file, each checked against a copy in memory (the idea of the fsx tester): writes, reads,
 * truncations, holes, allocations, re-opens. Whatever a file system may reorder or cache, the bytes must be right.
 */
import { files } from "../../../sys/src/index.ts";
import { succeeded } from "../fs/errors.ts";
import { Random } from "../fuzz/generate.ts";

const MAX_BYTES = 256 * 1024;
const FALLOC_PUNCH_HOLE_KEEP_SIZE = 3;
const FALLOC_KEEP_SIZE = 1;

export type FsxFigures = {
  readonly operations: number;
  /** What the file system does not have (fallocate through libfuse 2). */
  readonly unsupported: number;
  /** The first difference, or null. */
  readonly wrong: string | null;
};

/**
 * Runs `operations` operations on a fresh file at `path`.
 * @param hostPath the same file below the mount: one in four operations comes from there. null: none
 */
export function fsx(
  path: string,
  seed: number,
  operations: number,
  hostPath: string | null = null,
): FsxFigures {
  const random = new Random(seed);
  const model = new Uint8Array(MAX_BYTES);
  let size = 0;
  let unsupported = 0;
  const open = (name: string, flags: number): number =>
    succeeded(files.openat(files.AT_FDCWD, files.pathBytes(name), files.O_RDWR | flags, 0o600));
  const sides = (flags: number): readonly number[] =>
    [path, ...(hostPath === null ? [] : [hostPath])].map((name, i) => open(name, i === 0 ? flags : 0));
  let fds = sides(files.O_CREAT | files.O_TRUNC);
  const close = (): void => {
    for (const each of fds) files.close(each);
  };
  const resize = (newSize: number): void => {
    if (newSize < size) model.fill(0, newSize, size);
    size = newSize;
  };
  for (let i = 0; i < operations; i += 1) {
    const fd = fds[random.below(4) === 0 ? fds.length - 1 : 0] ?? -1;
    const at = random.below(MAX_BYTES);
    const length = 1 + random.below(Math.min(MAX_BYTES - at, 40_000));
    switch (random.below(8)) {
      case 0:
      case 1:
      case 2: {
        const data = new Uint8Array(length).fill(random.below(256));
        succeeded(files.pwrite(fd, data, BigInt(at)));
        model.set(data, at);
        size = Math.max(size, at + length);
        break;
      }
      case 3:
        succeeded(files.ftruncate(fd, BigInt(at)));
        resize(at);
        break;
      case 4: {
        const result = files.fallocate(fd, FALLOC_PUNCH_HOLE_KEEP_SIZE, BigInt(at), BigInt(length));
        if (result < 0) unsupported += 1;
        else model.fill(0, at, at + length);
        break;
      }
      case 5:
        if (files.fallocate(fd, FALLOC_KEEP_SIZE, BigInt(at), BigInt(length)) < 0) unsupported += 1;
        break;
      case 6:
        close();
        fds = sides(0);
        break;
      default: {
        const into = new Uint8Array(length);
        const got = succeeded(files.pread(fd, into, BigInt(at)));
        const expected = model.subarray(at, Math.max(at, Math.min(at + length, size)));
        if (Buffer.compare(into.subarray(0, got), expected) !== 0) {
          close();
          return {
            operations: i,
            unsupported,
            wrong: `seed ${seed}, operation ${i}: read ${length} at ${at}`,
          };
        }
      }
    }
  }
  const whole = new Uint8Array(MAX_BYTES);
  const got = succeeded(files.pread(fds[0] ?? -1, whole, 0n));
  close();
  const same = Buffer.compare(whole.subarray(0, got), model.subarray(0, size)) === 0;
  return { operations, unsupported, wrong: same ? null : `seed ${seed}: the whole file differs at the end` };
}
