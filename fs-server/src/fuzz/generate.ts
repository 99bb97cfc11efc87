/**
 * Requests as a hostile or broken client would send them, derived from the opcode table: mostly right, with one thing
 * wrong. Deterministic: the same seed gives the same messages.
 */
import { layoutOf, offsetsOf } from "../abi/layout.ts";
import { OPCODES, type OpcodeRow } from "../abi/opcodes.ts";
import { STRUCTS, type StructName } from "../abi/structs.ts";
import { argsBytesOf, IN_HEADER_BYTES } from "../core/request.ts";

const IN = offsetsOf("fuse_in_header");

/** xorshift32: small, fast, and the same everywhere. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 0x9e3779b9;
  }

  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }

  below(limit: number): number {
    return this.next() % limit;
  }

  pick<T>(from: readonly T[]): T {
    const value = from[this.below(from.length)];
    if (value === undefined) throw new Error("nothing to pick from");
    return value;
  }
}

/** Numbers that break things, and small ones, which name nodes, handles and sizes that exist. */
const NASTY: readonly bigint[] = [
  2n ** 64n - 1n,
  2n ** 63n,
  2n ** 63n - 1n,
  2n ** 53n + 1n,
  2n ** 32n,
  2n ** 31n,
  4096n,
  65_537n,
  2n ** 21n,
];

function number(random: Random): bigint {
  return random.below(10) < 7 ? BigInt(random.below(12)) : random.pick(NASTY);
}

const NAMES = [
  "a",
  "b",
  "dir",
  "link",
  "..",
  ".",
  "a/b",
  "",
  "x".repeat(255),
  "x".repeat(256),
  "\u00ff",
  "-",
];

function text(random: Random): Buffer {
  return Buffer.from(`${random.pick(NAMES)}${random.below(30) === 0 ? "" : "\0"}`);
}

function payloadFor(random: Random, row: OpcodeRow): Buffer {
  if (row.payload === "none") return Buffer.alloc(0);
  const entries = Buffer.alloc(random.below(5) * 16);
  for (let at = 0; at < entries.length; at += 8) entries.writeBigUInt64LE(number(random), at);
  return entries;
}

/** Where a row's structure has the field that counts its payload. */
function offsetOf(row: OpcodeRow, name: string): number {
  const field = row.args === null ? undefined : layoutOf(row.args).fields.find((each) => each.name === name);
  if (field === undefined) throw new Error(`${row.name} has no field ${name}`);
  return field.offset;
}

/** The fields of a structure, those of structures within among them; arrays left out. */
function scalarsOf(
  name: StructName,
  from = 0,
): readonly { readonly offset: number; readonly sizeBytes: number }[] {
  return layoutOf(name).fields.flatMap(({ type, offset, sizeBytes }) =>
    type in STRUCTS
      ? scalarsOf(type as StructName, from + offset)
      : [{ offset: from + offset, sizeBytes: type.endsWith("]") ? 0 : sizeBytes }],
  );
}

/** One message. `unique` is always right, so that answers can be counted by it. */
export function hostileMessage(random: Random, unique: bigint): Uint8Array {
  const row = random.pick(OPCODES);
  const argsBytes = row.name === "INIT" ? 64 : argsBytesOf(row);
  const args = Buffer.alloc(argsBytes);
  for (const field of row.args === null ? [] : scalarsOf(row.args)) {
    if (field.offset + field.sizeBytes > argsBytes) continue;
    if (field.sizeBytes === 8) args.writeBigUInt64LE(number(random), field.offset);
    else if (field.sizeBytes === 4) args.writeUInt32LE(Number(number(random) & 0xffff_ffffn), field.offset);
  }
  const payload = payloadFor(random, row);
  // Half of the sized payloads have their true length, else hardly any would pass that check.
  if (row.payload === "sized" && random.below(2) === 0) {
    args.writeUInt32LE(payload.length, offsetOf(row, "size"));
  }
  if (row.payload === "entries" && random.below(2) === 0)
    args.writeUInt32LE(payload.length / 16, offsetOf(row, "count"));
  const names = Array.from({ length: row.names }, () => text(random));
  const message = Buffer.concat([Buffer.alloc(IN_HEADER_BYTES), args, ...names, payload]);
  message.writeUInt32LE(message.length, IN.len);
  message.writeUInt32LE(random.below(50) === 0 ? random.below(5000) : row.number, IN.opcode);
  message.writeBigUInt64LE(unique, IN.unique);
  message.writeBigUInt64LE(random.below(10) < 8 ? BigInt(1 + random.below(6)) : number(random), IN.nodeid);
  return spoiled(random, message);
}

/** Sometimes a lying length, a cut, flipped bytes or added ones; the request's id is left alone. */
function spoiled(random: Random, message: Buffer): Uint8Array {
  switch (random.below(12)) {
    case 0:
      message.writeUInt32LE(Number(number(random) & 0xffff_ffffn), IN.len);
      return message;
    case 1:
      return message.subarray(0, random.below(message.length + 1));
    case 2: {
      const at = IN_HEADER_BYTES + random.below(Math.max(1, message.length - IN_HEADER_BYTES));
      if (at < message.length) message[at] = random.below(256);
      return message;
    }
    case 3:
      return Buffer.concat([message, Buffer.alloc(random.below(64), random.below(256))]);
    default:
      return message;
  }
}
