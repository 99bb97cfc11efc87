/**
 * Files of any size, lent to a VMM that maps none past its end: each behind a file of a FUSE mount of this process, with the same
 * pages (FUSE_PASSTHROUGH, Linux 6.9) and a size that no mapping reaches.
 *
 * QEMU asks lseek(2) for the size before it maps a descriptor (qemu_ram_alloc_from_fd()), and mmap(2) of such a file maps the
 * file behind it (fuse_passthrough_mmap(), backing_file_mmap()): the same page cache, and truncation takes the pages away from
 * the mapping as ever. The mount is in no tree: it goes with its last descriptor. Needs CAP_SYS_ADMIN, and a source that is no
 * stacked file system (overlayfs). Where that is missing files are passed as they are.
 */
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { compiledEntry, files, MNT_DETACH, memfdCreate, unmount } from "../../../../sys/src/index.ts";
import { failure } from "../../fs/errors.ts";
import { mountDevice } from "../devfuse/device.ts";
import type { Lender } from "./handed-files.ts";
import type { LongFilesMessage, LongFilesThreadData } from "./long-files-thread.ts";

const START_BOUND_MS = 10_000;
const SMALL_HEAP = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 };

/** The mount, for each thread that lends from it. */
export type LongFilesMount = {
  readonly root: number;
  /** Names so far. None is used again: the kernel may remember one. */
  readonly count: SharedArrayBuffer;
};

export class LongFiles implements Lender {
  readonly canMapPastEnd = true;
  readonly mount: LongFilesMount;

  constructor(mount: LongFilesMount) {
    this.mount = mount;
  }

  /** Or why there are none here. */
  static async open(log: (line: string) => void): Promise<LongFiles | string> {
    let root: number;
    let agreed: string | null;
    try {
      const mountPoint = mkdtempSync(join(tmpdir(), "daxfault-window-"));
      let device: number;
      // Nothing of this asks the server, and the mount is seen in the tree for a moment only.
      try {
        device = mountDevice({ mountPoint, readOnly: false });
        const flags = files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC;
        root = files.openat(files.AT_FDCWD, files.pathBytes(mountPoint), flags);
      } finally {
        unmount(mountPoint, MNT_DETACH);
        rmdirSync(mountPoint);
      }
      agreed = await started(device, log);
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
    if (root < 0) return `the mount cannot be opened: ${failure(-root).code}`;
    if (agreed !== null) return agreed;
    const lender = new LongFiles({ root, count: new SharedArrayBuffer(8) });
    return lender.#refusal() ?? lender;
  }

  /** By a file of memory. */
  #refusal(): string | null {
    const fd = memfdCreate("daxfault-window");
    try {
      const lent = this.lend(fd);
      if (lent === null) return "the kernel passes no file through (FUSE_DEV_IOC_BACKING_OPEN)";
      files.close(lent);
      return null;
    } finally {
      files.close(fd);
    }
  }

  /** Opens the file behind it as well (fuse_passthrough_open()): whoever calls this may wait for the source. */
  lend(fd: number): number | null {
    const { root, count } = this.mount;
    const name = files.pathBytes(`${Atomics.add(new BigInt64Array(count), 0, 1n) + 1n}-${fd}`);
    const lent = files.openat(root, name, files.O_RDWR | files.O_CLOEXEC);
    return lent < 0 ? null : lent;
  }
}

/** Starts the thread that answers for the mount. Returns why it cannot be used, or null. */
function started(device: number, log: (line: string) => void): Promise<string | null> {
  const workerData: LongFilesThreadData = { device };
  const entry = compiledEntry(import.meta.url, "./long-files-thread.ts");
  const worker = new Worker(entry, { workerData, trackUnmanagedFds: false, resourceLimits: SMALL_HEAP });
  worker.unref();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(`no INIT within ${START_BOUND_MS} ms`), START_BOUND_MS);
    worker.on("error", (error) => {
      log(`defect of the thread of long files: ${error}`);
      reject(error);
    });
    worker.on("message", ({ passesThrough }: LongFilesMessage) => {
      clearTimeout(timer);
      resolve(
        passesThrough ? null : "this kernel has no FUSE_PASSTHROUGH (Linux 6.9, CONFIG_FUSE_PASSTHROUGH)",
      );
    });
  });
}
