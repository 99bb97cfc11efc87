/** What handlers of requests share: ports, options, and the reply under construction. */
import type { OpcodeName } from "../abi/opcodes.ts";
import type { DaxMappings } from "../dax/mappings.ts";
import type { FileHandle, FileSystem, NodeId } from "../fs/filesystem.ts";
import type { ClientSizes } from "./client-sizes.ts";
import type { Validity } from "./encode.ts";
import { OUT_HEADER_BYTES, type ReplySink } from "./reply.ts";
import type { Header, Request } from "./request.ts";

/** Port: files whose content the client's kernel reads and writes itself (FUSE_PASSTHROUGH). */
export interface BackingFiles {
  /** Registers a descriptor; null: the kernel would not. */
  open(fd: number): number | null;
  close(id: number): void;
}

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
  /** null where the client's kernel owns the sizes: then it also finds the end of the file. */
  readonly sizes: ClientSizes | null;
  /** Registered content by node, once FUSE_PASSTHROUGH was agreed; else null. */
  backing: Backings | null;
};

/** The kernel wants one backing file per inode, however often that is open. */
export interface Backings {
  /** The id to answer an open with, or null. */
  opened(node: NodeId, handle: FileHandle, fd: number): number | null;
  /** Before the handle is released. */
  released(handle: FileHandle): void;
}

/** Of one thread. */
export class BackingTable implements Backings {
  readonly #port: BackingFiles;
  readonly #byNode = new Map<NodeId, { readonly id: number; opens: number }>();
  readonly #nodeOf = new Map<FileHandle, NodeId>();

  constructor(port: BackingFiles) {
    this.#port = port;
  }

  opened(node: NodeId, handle: FileHandle, fd: number): number | null {
    let shared = this.#byNode.get(node);
    if (shared === undefined) {
      const id = this.#port.open(fd);
      if (id === null) return null;
      shared = { id, opens: 0 };
      this.#byNode.set(node, shared);
    }
    shared.opens += 1;
    this.#nodeOf.set(handle, node);
    return shared.id;
  }

  released(handle: FileHandle): void {
    const node = this.#nodeOf.get(handle);
    if (node === undefined) return;
    this.#nodeOf.delete(handle);
    const shared = this.#byNode.get(node);
    if (shared === undefined) return;
    shared.opens -= 1;
    if (shared.opens > 0) return;
    this.#byNode.delete(node);
    this.#port.close(shared.id);
  }
}

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
