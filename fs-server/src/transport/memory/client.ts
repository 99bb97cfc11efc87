/**
 * A client in the same process: encodes requests by the opcode table and hands them to a session.
 *
 * For tests, fuzzing, and clients without a kernel (the micro-guest). `split` cuts
 * messages and reply room into spans, as a virtqueue would.
 */
import { KERNEL_MINOR_VERSION } from "../../abi/constants.ts";
import { encode, offsetsOf, sizeOf } from "../../abi/layout.ts";
import { type OpcodeName, opcodeNamed } from "../../abi/opcodes.ts";
import { ContiguousSink, ScatteredSink } from "../../core/reply.ts";
import { argsBytesOf, IN_HEADER_BYTES } from "../../core/request.ts";
import type { MessageResult, Session } from "../../core/session.ts";

const OUT = offsetsOf("fuse_out_header");
const OUT_BYTES = sizeOf("fuse_out_header");
const DEFAULT_CAPACITY = 128 * 1024;

export type Call = {
  readonly node?: bigint;
  readonly args?: Readonly<Record<string, bigint | number>>;
  readonly names?: readonly string[];
  readonly payload?: Uint8Array;
  readonly uid?: number;
  readonly gid?: number;
};

export type Answer = {
  /** 0, or a positive errno. */
  readonly errno: number;
  readonly body: DataView;
};

export type MemoryClientOptions = {
  /** Bytes per span; null: one piece. */
  readonly split: number | null;
  readonly capacityBytes?: number;
  /** Every message of both directions, whole. */
  readonly record?: (direction: "rx" | "tx", message: Uint8Array) => void;
};

function pieces(message: Uint8Array, bytes: number | null): Uint8Array[] {
  if (bytes === null) return [message];
  const result: Uint8Array[] = [];
  for (let at = 0; at < message.length; at += bytes) result.push(message.subarray(at, at + bytes));
  return result;
}

/** The bytes of a request. */
export function encodeRequest(name: OpcodeName, unique: bigint, call: Call): Uint8Array {
  const row = opcodeNamed(name);
  const { node = 1n, args = {}, names = [], payload = new Uint8Array(0), uid = 0, gid = 0 } = call;
  const texts = names.map((text) => Buffer.from(`${text}\0`));
  // INIT is sent whole, other structures at the length that this protocol version has.
  const argsBytes = row.name === "INIT" ? sizeOf("fuse_init_in") : argsBytesOf(row);
  const head = new Uint8Array(IN_HEADER_BYTES + argsBytes);
  const message = Buffer.concat([head, ...texts, payload]);
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  encode("fuse_in_header", { len: message.length, opcode: row.number, unique, nodeid: node, uid, gid }, view);
  if (row.args !== null) encode(row.args, args, view, IN_HEADER_BYTES);
  return message;
}

/** What a client sends its messages to: a session, or a transport with one behind it. */
export type MessageHandler = Pick<Session, "handle">;

export class MemoryClient {
  readonly #session: MessageHandler;
  readonly #options: MemoryClientOptions;
  #unique = 0n;
  /** Answers that came, by request id: more than one each would be a defect. */
  readonly answers: Map<bigint, number> = new Map();

  constructor(session: MessageHandler, options: MemoryClientOptions = { split: null }) {
    this.#session = session;
    this.#options = options;
  }

  /** INIT with everything a current kernel offers. */
  init(minor: number = KERNEL_MINOR_VERSION): Answer {
    const args = { major: 7, minor, max_readahead: 131_072, flags: 0xffff_ffff, flags2: 0xffff_ffff };
    return this.call("INIT", { node: 0n, args });
  }

  /** Sends one request and returns its answer. Throws if there was none. */
  call(name: OpcodeName, call: Call = {}): Answer {
    this.#unique += 2n;
    const { answer, result } = this.send(encodeRequest(name, this.#unique, call));
    if (answer === null) throw new Error(`${name} was not answered: ${result.kind}`);
    return answer;
  }

  /** Sends one request of an opcode without a reply. */
  post(name: OpcodeName, call: Call = {}): MessageResult {
    this.#unique += 2n;
    return this.send(encodeRequest(name, this.#unique, call)).result;
  }

  /** Sends any bytes at all. */
  send(message: Uint8Array): { readonly answer: Answer | null; readonly result: MessageResult } {
    const { split, record, capacityBytes = DEFAULT_CAPACITY } = this.#options;
    record?.("rx", message);
    const memory = new Uint8Array(capacityBytes);
    let usedBytes = 0;
    const done = (bytes: number): boolean => {
      usedBytes = bytes;
      const unique = new DataView(memory.buffer).getBigUint64(OUT.unique, true);
      this.answers.set(unique, (this.answers.get(unique) ?? 0) + 1);
      return true;
    };
    const sink =
      split === null
        ? new ContiguousSink(memory, (reply) => done(reply.length))
        : new ScatteredSink(pieces(memory, split), done);
    const result = this.#session.handle(pieces(message, split), sink);
    if (usedBytes === 0) return { answer: null, result };
    const view = new DataView(memory.buffer, 0, usedBytes);
    record?.("tx", memory.subarray(0, usedBytes));
    const errno = Math.abs(view.getInt32(OUT.error, true));
    return {
      answer: { errno, body: new DataView(memory.buffer, OUT_BYTES, usedBytes - OUT_BYTES) },
      result,
    };
  }
}
