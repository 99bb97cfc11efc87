/** How a source directory is served. */
import { readFileSync } from "node:fs";

export type PassthroughOptions = {
  /** Refuse everything that changes the source with EROFS. */
  readonly readOnly: boolean;
  /**
   * The client's kernel caches writes and owns size and append (FUSE_WRITEBACK_CACHE): files open for writing are
   * then also read from, and O_APPEND must not reach the source.
   */
  readonly writebackCache: boolean;
  /** Follow mount points inside the source. Off: what is mounted there is EXDEV, since it lies outside the folder. */
  readonly crossMounts: boolean;
  /** Most nodes known at once; beyond, new look-ups fail with ENFILE. Each costs a descriptor. */
  readonly nodeLimit: number;
  /** Most files and directories open at once. */
  readonly handleLimit: number;
};

/** Descriptors that the rest of the process needs. */
const RESERVED_DESCRIPTORS = 256;

/** Defaults; the limits share out what RLIMIT_NOFILE allows. */
export function passthroughOptions(given: Partial<PassthroughOptions> = {}): PassthroughOptions {
  const descriptors = Math.max(descriptorLimit() - RESERVED_DESCRIPTORS, 64);
  const handleLimit = Math.max(Math.floor(descriptors / 4), 16);
  return {
    readOnly: false,
    writebackCache: false,
    crossMounts: false,
    nodeLimit: descriptors - handleLimit,
    handleLimit,
    ...given,
  };
}

/** The soft limit of this process on open descriptors (Node raises it to the hard one at start). */
function descriptorLimit(): number {
  const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  return limit === undefined ? 1024 : Number(limit);
}
