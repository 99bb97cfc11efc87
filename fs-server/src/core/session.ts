/**
 * A session: one client, from INIT to DESTROY. Takes requests as spans, answers each through a sink exactly once
 * (never, for opcodes without a reply), whatever the request looks like: `handle` does not throw.
 *
 * Only `#answer` commits, and every path through `handle` ends in it or is an opcode without reply, so "exactly
 * once" holds by construction. A defect of a handler is an EIO to the client and is reported, never a silence.
 */
import { initFlag } from "../abi/constants.ts";
import { offsetsOf } from "../abi/layout.ts";
import { opcodeRow } from "../abi/opcodes.ts";
import { DaxMappings } from "../dax/mappings.ts";
import type { DaxWindow } from "../dax/window.ts";
import { type BackingFiles, type Backings, BackingTable } from "../fs/backing.ts";
import { FileSystemError, failure } from "../fs/errors.ts";
import type { FileSystem, NodeId } from "../fs/filesystem.ts";
import { AnsweredLater, type LockWaits } from "../fs/lock-waits.ts";
import { Postponed } from "../fs/postponed.ts";
import { ClientSizes, type SizeStore } from "./client-sizes.ts";
import { type HandlerContext, Reply } from "./context.ts";
import type { Validity } from "./encode.ts";
import { ProtocolError, TransportError } from "./errors.ts";
import { handled } from "./handlers.ts";
import { type Agreement, MAX_WRITE_BYTES, negotiate, type Offer } from "./init.ts";
import { replyLine, requestLine } from "./log.ts";
import { OUT_HEADER_BYTES, type ReplySink } from "./reply.ts";
import {
  type AnyRequest,
  decodeBody,
  decodeHeader,
  type Header,
  type PipedPayload,
  type Request,
  type Unique,
} from "./request.ts";

const OUT = offsetsOf("fuse_out_header");
/** Requests kept for later at once; more are answered EIO, so that a client cannot pile them up. */
const MAX_POSTPONED = 64;
const LASTING_MS = 60_000;
const DEFAULT_VALIDITY: Validity = { entryMs: 1000, attributesMs: 1000 };

export type SessionOptions = {
  readonly fs: FileSystem;
  readonly window?: DaxWindow;
  readonly backingFiles?: BackingFiles;
  readonly ioUring?: boolean;
  /** Of which files `backingFiles` has which; by default a table of this session's own. */
  readonly backings?: Backings;
  /** Of the files' sizes as the client knows them; by default this session's own. */
  readonly sizes?: SizeStore;
  readonly writebackCache?: boolean;
  readonly posixAcl?: boolean;
  readonly announceSubmounts?: boolean;
  readonly posixLocks?: boolean;
  /** Locks of flock(2). */
  readonly flocks?: boolean;
  /** Where locks are waited for; left out: requests are kept for later, and try again. */
  readonly lockWaits?: LockWaits;
  readonly keepCache?: boolean;
  /** The source has nothing to do or to say when a file is closed: FLUSH is answered ENOSYS, once. */
  readonly flushIsNothing?: boolean;
  /**
   * Whether the client knows the inode of a directory's entry for certain. READDIRPLUS sends the name alone then, where what
   * the client was told of it stays valid for LASTING_MS and more: it asks by itself for what it needs sooner.
   */
  readonly isKnown?: (directory: NodeId, ino: bigint) => boolean;
  /** No pages of files are kept by the client's kernel (FOPEN_DIRECT_IO). */
  readonly directIo?: boolean;
  /** Largest WRITE and READ, in whole pages; MAX_WRITE_BYTES by default. */
  readonly maxWriteBytes?: number;
  readonly validity?: Validity;
  /** Whether a caller has CAP_SYS_ADMIN; by default uid 0 has it, which is all that a guest's request says. */
  readonly isAdministrator?: (header: Header) => boolean;
  /** Milliseconds of a steady clock. */
  readonly now?: () => number;
  readonly onInit?: (agreement: Agreement) => void;
  /** A defect of the server: what happened to which request. */
  readonly onDefect?: (message: string, error: unknown) => void;
  /** An INTERRUPT of a request that this session does not keep for later: another thread may serve it. */
  readonly onInterrupt?: (unique: Unique) => void;
  /** What another session of the same client has agreed on at INIT. */
  readonly agreement?: Agreement;
  /** One line per message, in both directions. */
  readonly log?: (line: string) => void;
};

export type MessageResult =
  | { readonly kind: "answered" }
  | { readonly kind: "no-reply" }
  | { readonly kind: "postponed" }
  /** The message has no whole header, so it cannot be answered. */
  | { readonly kind: "malformed" }
  | { readonly kind: "ended"; readonly reason: string };

const ANSWERED: MessageResult = { kind: "answered" };
const NO_REPLY: MessageResult = { kind: "no-reply" };
const POSTPONED: MessageResult = { kind: "postponed" };
const MALFORMED: MessageResult = { kind: "malformed" };

export type Counts = { requests: number; protocolErrors: number; defects: number; undelivered: number };

type Waiting = {
  readonly unique: Unique;
  /** The request's own: where its answer belongs, whenever that is. */
  readonly sink: ReplySink;
  readonly spans: readonly Uint8Array[];
  readonly dueMs: number;
  readonly postponed: Postponed;
};

export class Session {
  readonly counts: Counts = { requests: 0, protocolErrors: 0, defects: 0, undelivered: 0 };
  readonly #options: SessionOptions;
  readonly #context: HandlerContext;
  readonly #now: () => number;
  #agreement: Agreement | null = null;
  #waiting: Waiting[] = [];

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    const { validity = DEFAULT_VALIDITY } = options;
    const isLasting = Math.min(validity.entryMs, validity.attributesMs) >= LASTING_MS;
    this.#context = {
      fs: options.fs,
      dax: options.window === undefined ? null : new DaxMappings(options.fs, options.window),
      validity,
      keepCache: options.keepCache ?? false,
      directIo: options.directIo ?? false,
      isKnown: isLasting ? (options.isKnown ?? null) : null,
      flushIsNothing: options.flushIsNothing ?? false,
      isAdministrator: options.isAdministrator ?? (({ caller }) => caller.uid === 0),
      clientOwnsSizes: options.writebackCache ?? false,
      locks: { posix: options.posixLocks ?? false, flock: options.flocks ?? false },
      lockWaits: options.lockWaits ?? null,
      sizes: options.writebackCache ? null : new ClientSizes(options.sizes),
      backing: null,
    };
    if (options.agreement !== undefined) this.#agreed(options.agreement);
  }

  /** What INIT agreed on, or null before it and after DESTROY. */
  get agreement(): Agreement | null {
    return this.#agreement;
  }

  get dax(): DaxMappings | null {
    return this.#context.dax;
  }

  /**
   * Serves one message. The spans may be reused once this returns; so may the sink's memory, but not the sink: the
   * answer to a postponed request goes through it later. `piped`: content that follows the spans.
   */
  handle(spans: readonly Uint8Array[], sink: ReplySink, piped: PipedPayload | null = null): MessageResult {
    this.counts.requests += 1;
    let decoded: ReturnType<typeof decodeHeader>;
    try {
      decoded = decodeHeader(spans);
    } catch {
      this.counts.protocolErrors += 1;
      return MALFORMED;
    }
    const reply = new Reply(sink);
    const { unique } = decoded.header;
    let noReply = false;
    try {
      const request = decodeBody(decoded.header, decoded.cursor, piped, this.#agreement?.flags);
      noReply = request.row.reply === "none";
      this.#options.log?.(requestLine(request));
      const bodyBytes = this.#dispatch(request, reply);
      if (noReply) return NO_REPLY;
      return this.#answer(unique, 0, bodyBytes, reply);
    } catch (error) {
      if (error instanceof Postponed) {
        return this.#postpone(unique, piped === null ? spans : [...spans, piped.bytes()], error, reply);
      }
      if (error instanceof AnsweredLater) return POSTPONED;
      const errno = this.#errnoFor(error);
      if (noReply) return NO_REPLY;
      this.#takeBack(reply);
      reply.payloadBytes = 0;
      return this.#answer(unique, errno, 0, reply);
    }
  }

  /**
   * Answers a request of which the transport could read the header alone: the rest is memory that is not there, or too
   * long. As `handle` does, otherwise.
   */
  refuse(spans: readonly Uint8Array[], sink: ReplySink, code: "EFAULT" | "EINVAL"): MessageResult {
    this.counts.requests += 1;
    let header: Header;
    try {
      ({ header } = decodeHeader(spans));
    } catch {
      this.counts.protocolErrors += 1;
      return MALFORMED;
    }
    if (opcodeRow(header.opcode)?.reply === "none") return NO_REPLY;
    return this.#answer(header.unique, failure(code).errno, 0, new Reply(sink));
  }

  /** Milliseconds until a postponed request is due, or null if none waits. */
  msUntilDue(): number | null {
    const first = Math.min(...this.#waiting.map((waiting) => waiting.dueMs));
    // Infinity of none, and where every one of them is kept for ever.
    return Number.isFinite(first) ? Math.max(0, first - this.#now()) : null;
  }

  /** Serves the postponed requests that are due. */
  handleDue(): void {
    const now = this.#now();
    const due = this.#waiting.filter((waiting) => waiting.dueMs <= now);
    this.#waiting = this.#waiting.filter((waiting) => waiting.dueMs > now);
    for (const { spans, postponed, sink } of due) {
      postponed.redeem();
      this.handle(spans, sink);
      postponed.over();
    }
  }

  /** The client is gone without DESTROY: everything it held is given back. */
  end(): void {
    this.#agreement = null;
    for (const { postponed } of this.#waiting.splice(0)) postponed.over();
    this.#context.sizes?.clear();
    this.#context.dax?.removeAll();
    this.#context.fs.reset();
  }

  #dispatch(request: AnyRequest, reply: Reply): number {
    if (request.opcode === "INIT") return this.#init(request, reply);
    if (this.#agreement === null) throw new ProtocolError(`${request.opcode} before INIT`, "EIO");
    if (request.opcode === "DESTROY") {
      this.end();
      return 0;
    }
    if (request.opcode === "INTERRUPT") {
      this.#interrupt(request.args.unique as Unique);
      return 0;
    }
    return handled(this.#context, request, reply);
  }

  #init(request: Request<"INIT">, reply: Reply): number {
    if (this.#agreement !== null) throw new ProtocolError("INIT twice", "EIO");
    const { window, backingFiles } = this.#options;
    const offer: Offer = {
      writebackCache: this.#options.writebackCache ?? false,
      posixAcl: this.#options.posixAcl ?? false,
      directIo: this.#context.directIo,
      announceSubmounts: this.#options.announceSubmounts ?? false,
      mapAlignmentLog2: window === undefined ? null : Math.round(Math.log2(Number(window.alignmentBytes))),
      backingFiles: backingFiles !== undefined,
      ioUring: this.#options.ioUring ?? false,
      posixLocks: this.#context.locks.posix,
      flocks: this.#context.locks.flock,
      maxWriteBytes: this.#options.maxWriteBytes ?? MAX_WRITE_BYTES,
    };
    const result = negotiate(request.args, offer, reply.view, reply.at);
    if (result.kind === "retry") return result.bodyBytes;
    this.#agreed(result.agreement);
    this.#options.onInit?.(result.agreement);
    return result.bodyBytes;
  }

  #agreed(agreement: Agreement): void {
    const { backingFiles, backings } = this.#options;
    this.#agreement = agreement;
    const passthrough = (agreement.flags & initFlag("FUSE_PASSTHROUGH")) !== 0n;
    if (!passthrough || backingFiles === undefined) return;
    this.#context.backing = backings ?? new BackingTable(backingFiles);
  }

  /**
   * A postponed request is answered EINTR at once; the INTERRUPT itself has no reply. One that was served before the
   * INTERRUPT was read is not known any more; one that another thread serves is for `onInterrupt`.
   */
  #interrupt(unique: Unique): void {
    if (!this.interrupt(unique)) this.#options.onInterrupt?.(unique);
  }

  /** Answers a request that this session keeps for later EINTR. False: it keeps none with this id. */
  interrupt(unique: bigint): boolean {
    const index = this.#waiting.findIndex((waiting) => waiting.unique === unique);
    if (index < 0) return false;
    const [interrupted] = this.#waiting.splice(index, 1);
    if (interrupted === undefined) return false;
    interrupted.postponed.over();
    this.#answer(interrupted.unique, failure("EINTR").errno, 0, new Reply(interrupted.sink));
    return true;
  }

  #postpone(unique: Unique, spans: readonly Uint8Array[], postponed: Postponed, reply: Reply): MessageResult {
    if (this.#waiting.length >= MAX_POSTPONED) {
      postponed.over();
      return this.#answer(unique, failure("EIO").errno, 0, reply);
    }
    // The transport reuses its buffer: what waits needs its own.
    const copies = spans.map((span) => span.slice());
    const dueMs = this.#now() + postponed.delayMs;
    this.#waiting.push({ unique, sink: reply.sink, spans: copies, dueMs, postponed });
    return POSTPONED;
  }

  #errnoFor(error: unknown): number {
    if (error instanceof FileSystemError) return error.errno;
    if (error instanceof ProtocolError) {
      this.counts.protocolErrors += 1;
      return failure(error.code).errno;
    }
    this.counts.defects += 1;
    this.#options.onDefect?.("a handler threw", error);
    return failure("EIO").errno;
  }

  /** The one place that answers. */
  #answer(unique: Unique, errno: number, bodyBytes: number, reply: Reply): MessageResult {
    const { view } = reply;
    view.setUint32(OUT.len, OUT_HEADER_BYTES + bodyBytes + reply.payloadBytes, true);
    view.setInt32(OUT.error, errno === 0 ? 0 : -errno, true);
    view.setBigUint64(OUT.unique, unique, true);
    this.#options.log?.(replyLine(unique, errno, bodyBytes + reply.payloadBytes));
    try {
      if (!reply.sink.commit(OUT_HEADER_BYTES + bodyBytes, reply.payloadBytes)) {
        this.counts.undelivered += 1;
        this.#takeBack(reply);
      }
      return ANSWERED;
    } catch (error) {
      const reason = error instanceof TransportError ? error.message : String(error);
      return { kind: "ended", reason };
    }
  }

  /** References and handles that the client never heard of would stay for ever. */
  #takeBack(reply: Reply): void {
    const { fs } = this.#options;
    if (reply.entry !== null) fs.forget(reply.entry, 1n);
    for (const node of reply.entries ?? []) fs.forget(node, 1n);
    const { handle } = reply;
    reply.entry = null;
    reply.entries = null;
    reply.handle = null;
    if (handle === null) return;
    this.#context.backing?.released(handle);
    try {
      fs.release(handle);
    } catch {
      try {
        fs.releasedir(handle);
      } catch {
        // Neither a file nor a directory any more: nothing is left to give back.
      }
    }
  }
}
