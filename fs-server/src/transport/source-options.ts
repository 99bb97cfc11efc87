/** How a source is served, to a mount as to a guest. */
import type { FileHandlesUse } from "../../../language/src/words.ts";

export type SourceOptions = {
  readonly readOnly: boolean;
  readonly debug: boolean;
  /** The client's kernel caches writes and owns file sizes (FUSE_WRITEBACK_CACHE). */
  readonly writebackCache: boolean;
  /** The client's kernel enforces POSIX ACLs (FUSE_POSIX_ACL); null: where the source has them. */
  readonly posixAcl: boolean | null;
  readonly keepCache: boolean;
  /** The client's kernel keeps no pages of files (FOPEN_DIRECT_IO). */
  readonly directIo: boolean;
  readonly allowDirectIo: boolean;
  /** Rules of IdMap. */
  readonly translateUid: readonly string[];
  readonly translateGid: readonly string[];
  /** Mounts inside the source are crossed, and announced to kernels that take it (FUSE_SUBMOUNTS). */
  readonly announceSubmounts: boolean;
  readonly fileHandles: FileHandlesUse;
  readonly entryTimeoutMs: number;
  readonly attributeTimeoutMs: number;
};
