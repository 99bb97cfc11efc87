/**
 * A request in neutral form: header, args, names, payload spans. Never one contiguous buffer, because a virtqueue
 * splits messages where it likes; only what straddles two spans is copied, and of payloads nothing ever is.
 * Decoding follows the opcode table; every number a client gives is compared with what really came.
 */
import { initFlag } from "../abi/constants.ts";
import { offsetsOf, sizeOf } from "../abi/layout.ts";
import { type ArgsOf, OPCODES, type OpcodeName, type OpcodeRow, opcodeRow } from "../abi/opcodes.ts";
import { type StructReader, type StructView, structReader } from "../abi/struct-view.ts";
import type { StructName } from "../abi/structs.ts";
import type { Caller, NodeId } from "../fs/filesystem.ts";
import { ProtocolError } from "./errors.ts";

export type Unique = bigint & { readonly __brand: "Unique" };

export type Header = {
  readonly unique: Unique;
  readonly opcode: number;
  readonly node: NodeId;
  readonly caller: Caller;
  readonly pid: number;
  readonly lengthBytes: number;
  readonly extensionBytes: number;
};

/** Content of a WRITE that is not in memory: the transport holds references to the client's pages. */
export interface PipedPayload {
  readonly lengthBytes: number;
  /** Moves it to an open file. Returns the bytes moved; null: not this way, and nothing was. */
  moveTo(fd: number, offset: bigint): number | null;
  /** Copies it into memory; instead of `moveTo`. */
  bytes(): Uint8Array;
}

/** A request of one of the opcodes `N`: `args` has the fields that they have in common. */
export type Request<N extends OpcodeName = OpcodeName> = {
  readonly header: Header;
  readonly opcode: N;
  readonly row: OpcodeRow;
  readonly node: NodeId;
  readonly caller: Caller;
  /** The fixed structure of the row, at least `argsBytes` long. */
  readonly args: StructView<ArgsOf<N>>;
  /** With their NUL. */
  readonly names: readonly Uint8Array[];
  readonly payload: readonly Uint8Array[];
  /** In place of `payload`, or null. */
  readonly piped: PipedPayload | null;
  readonly payloadBytes: number;
};

/** A request of any opcode, discriminated by `opcode`. */
export type AnyRequest = { [N in OpcodeName]: Request<N> }[OpcodeName];

export const IN_HEADER_BYTES: number = sizeOf("fuse_in_header");
const AT = offsetsOf("fuse_in_header");
/** Longest text: a path with its NUL. */
const MAX_NAME_BYTES = 4096;
const EMPTY: readonly Uint8Array[] = [];
/** By opcode number. */
const argsReader: readonly (StructReader<StructName | null> | undefined)[] = OPCODES.reduce<
  StructReader<StructName | null>[]
>((table, { number, args }) => {
  table[number] = structReader(args);
  return table;
}, []);

/** Reads along spans. Returned bytes share the span's memory unless they straddle two. */
class Cursor {
  readonly #spans: readonly Uint8Array[];
  #index = 0;
  #offset = 0;
  remaining: number;

  constructor(spans: readonly Uint8Array[]) {
    this.#spans = spans;
    this.remaining = spans.reduce((sum, span) => sum + span.length, 0);
  }

  #current(): Uint8Array {
    for (;;) {
      const span = this.#spans[this.#index];
      if (span === undefined) throw new ProtocolError("the message ends early");
      if (this.#offset < span.length) return span;
      this.#index += 1;
      this.#offset = 0;
    }
  }

  take(lengthBytes: number, what: string): Uint8Array {
    if (lengthBytes > this.remaining) {
      throw new ProtocolError(`${what} needs ${lengthBytes} bytes, the message has ${this.remaining} left`);
    }
    if (lengthBytes === 0) return new Uint8Array(0);
    const span = this.#current();
    this.remaining -= lengthBytes;
    if (this.#offset + lengthBytes <= span.length) {
      this.#offset += lengthBytes;
      return span.subarray(this.#offset - lengthBytes, this.#offset);
    }
    const joined = new Uint8Array(lengthBytes);
    let filled = 0;
    while (filled < lengthBytes) {
      const piece = this.#current().subarray(this.#offset, this.#offset + lengthBytes - filled);
      joined.set(piece, filled);
      filled += piece.length;
      this.#offset += piece.length;
    }
    return joined;
  }

  /** Up to and with the next NUL. */
  terminated(what: string): Uint8Array {
    if (this.remaining === 0) throw new ProtocolError(`${what} is missing`);
    const span = this.#current();
    const nul = span.indexOf(0, this.#offset);
    if (nul >= 0) return this.take(nul + 1 - this.#offset, what);
    // Straddles spans, or has no end: gather up to the limit and look again.
    const limit = Math.min(this.remaining, MAX_NAME_BYTES);
    const saved = { index: this.#index, offset: this.#offset, remaining: this.remaining };
    const gathered = this.take(limit, what);
    const end = gathered.indexOf(0);
    if (end < 0) throw new ProtocolError(`${what} has no end within ${limit} bytes`);
    this.#index = saved.index;
    this.#offset = saved.offset;
    this.remaining = saved.remaining;
    return this.take(end + 1, what);
  }

  rest(): readonly Uint8Array[] {
    if (this.remaining === 0) return EMPTY;
    const first = this.#current().subarray(this.#offset);
    return [first, ...this.#spans.slice(this.#index + 1).filter((span) => span.length > 0)];
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The header and the rest of a message. Throws a ProtocolError if there is no whole header. */
export function decodeHeader(spans: readonly Uint8Array[]): { header: Header; cursor: Cursor } {
  const cursor = new Cursor(spans);
  const view = viewOf(cursor.take(IN_HEADER_BYTES, "fuse_in_header"));
  const header: Header = {
    lengthBytes: view.getUint32(AT.len, true),
    opcode: view.getUint32(AT.opcode, true),
    unique: view.getBigUint64(AT.unique, true) as Unique,
    node: view.getBigUint64(AT.nodeid, true) as NodeId,
    caller: { uid: view.getUint32(AT.uid, true), gid: view.getUint32(AT.gid, true) },
    pid: view.getUint32(AT.pid, true),
    extensionBytes: view.getUint16(AT.total_extlen, true) * 8,
  };
  return { header, cursor };
}

/** Bytes that the row's fixed structure takes on the wire. */
export function argsBytesOf(row: OpcodeRow): number {
  return row.argsBytes ?? (row.args === null ? 0 : sizeOf(row.args));
}

const SETXATTR_EXT = initFlag("FUSE_SETXATTR_EXT");

/**
 * The whole request by the table. Throws a ProtocolError.
 * @param piped content that follows
 * @param agreed flags of INIT, some of which make structures longer
 */
export function decodeBody(
  header: Header,
  cursor: Cursor,
  piped: PipedPayload | null = null,
  agreed = 0n,
): AnyRequest {
  const totalBytes = cursor.remaining + IN_HEADER_BYTES + (piped?.lengthBytes ?? 0);
  if (header.lengthBytes !== totalBytes) {
    throw new ProtocolError(`header says ${header.lengthBytes} bytes, ${totalBytes} came`);
  }
  const row = opcodeRow(header.opcode);
  if (row === undefined) throw new ProtocolError(`unknown opcode ${header.opcode}`, "ENOSYS");
  // INIT is as long as the client's protocol version makes it: take everything.
  const isExtended = row.name === "SETXATTR" && (agreed & SETXATTR_EXT) !== 0n;
  const bytes = isExtended ? sizeOf("fuse_setxattr_in") : argsBytesOf(row);
  const fixed = row.name === "INIT" ? cursor.remaining : bytes;
  if (fixed < argsBytesOf(row)) throw new ProtocolError(`INIT of ${fixed} bytes is too short`);
  const Reader = argsReader[row.number] ?? structReader(null);
  const args = new Reader(viewOf(cursor.take(fixed, row.args ?? "args")));
  const names: Uint8Array[] = [];
  for (let i = 0; i < row.names; i += 1) names.push(cursor.terminated(`name ${i + 1} of ${row.name}`));
  const payload = row.payload === "none" ? EMPTY : cursor.rest();
  const payloadBytes = row.payload === "none" ? 0 : cursor.remaining + (piped?.lengthBytes ?? 0);
  const { node, caller } = header;
  const request = { header, opcode: row.name, row, node, caller, args, names, payload, piped, payloadBytes };
  // The one place that pairs an opcode with its arguments: both come from the same row.
  return request as AnyRequest;
}

/** A payload as one piece: copied only if it came in several. For small, structured payloads. */
export function joined(request: Request): DataView {
  const { payload, payloadBytes } = request;
  const [only] = payload;
  if (payload.length <= 1) return only === undefined ? new DataView(new ArrayBuffer(0)) : viewOf(only);
  const all = new Uint8Array(payloadBytes);
  let filled = 0;
  for (const span of payload) {
    all.set(span, filled);
    filled += span.length;
  }
  return viewOf(all);
}
