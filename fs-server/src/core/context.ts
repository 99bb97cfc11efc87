/** What handlers of requests share: ports, options, and the reply under construction. */
import type { OpcodeName } from "../abi/opcodes.ts";
import type { DaxMappings } from "../dax/mappings.ts";
import type { Backings } from "../fs/backing.ts";
import type { FileHandle, FileSystem, NodeId } from "../fs/filesystem.ts";
import type { LockWaits } from "../fs/lock-waits.ts";
import type { ClientSizes } from "./client-sizes.ts";
import type { Validity } from "./encode.ts";
import { OUT_HEADER_BYTES, type ReplySink } from "./reply.ts";
import type { Header, Request } from "./request.ts";

export type HandlerContext = {
  readonly fs: FileSystem;
  readonly dax: DaxMappings | null;
  readonly validity: Validity;
  /** Keep cached pages over open and close (FOPEN_KEEP_CACHE). */
  readonly keepCache: boolean;
  /** Files are read and written by requests (FOPEN_DIRECT_IO). */
  readonly directIo: boolean;
  /** Was writeback caching offered? Then the client's kernel owns the sizes of files. */
  readonly clientOwnsSizes: boolean;
  /** Whether the caller of a request has CAP_SYS_ADMIN: `trusted.*` attributes are listed for such callers only. */
  readonly isAdministrator: (header: Header) => boolean;
  /**
   * The source has nothing to do or to say when a file is closed: FLUSH is ENOSYS unless it drops locks, and the client's
   * kernel sends no more (fuse_flush()).
   */
  readonly flushIsNothing: boolean;
  /** Whether an entry of a directory is one that READDIRPLUS need not look up again (`SessionOptions`); null: each is. */
  readonly isKnown: ((directory: NodeId, ino: bigint) => boolean) | null;
  /** Which kinds of locks go to the source: what INIT offers. */
  readonly locks: { readonly posix: boolean; readonly flock: boolean };
  /** null: who waits for a lock is kept for later, and tries again. */
  readonly lockWaits: LockWaits | null;
  /** null where the client's kernel owns the sizes: then it also finds the end of the file. */
  readonly sizes: ClientSizes | null;
  /** Registered content by node, once FUSE_PASSTHROUGH was agreed; else null. */
  backing: Backings | null;
};

/** One answer being built. Handlers write after the header and return the bytes they wrote. */
export class Reply {
  readonly sink: ReplySink;
  /** Content bytes read into the sink's payload memory. */
  payloadBytes = 0;
  /** References given out by this answer, to be taken back if it cannot be delivered. */
  entry: NodeId | null = null;
  handle: FileHandle | null = null;
  entries: NodeId[] | null = null;

  constructor(sink: ReplySink) {
    this.sink = sink;
  }

  get view(): DataView {
    return this.sink.frame.view;
  }

  /** Where the body starts. */
  get at(): number {
    return OUT_HEADER_BYTES;
  }

  /** Most bytes of body. 0 also where not even a header has room. */
  get room(): number {
    const bytes = Math.min(this.sink.capacityBytes, this.sink.frame.bytes.length);
    return Math.max(0, bytes - OUT_HEADER_BYTES);
  }
}

/**
 * Serves one request of the opcodes `N`; returns the bytes of body written to the frame. Throws errors of the three
 * families.
 */
export type Handler<N extends OpcodeName> = (
  context: HandlerContext,
  request: Request<N>,
  reply: Reply,
) => number;
