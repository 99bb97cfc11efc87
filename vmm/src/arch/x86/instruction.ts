/**
 * The memory operands of an instruction in 64-bit mode, from its bytes and the registers (Intel SDM vol. 2, 2.1 and
 * appendix A): what a VMM finds out at an exit that names no address. Pure.
 *
 * Not a disassembler: the moves, arithmetic, atomics, string and stack instructions that compilers and Linux's copy
 * routines use. An instruction that is not known has no operands here, which is an answer, not a guess.
 */
import { type GeneralRegister, type GeneralRegisters, generalRegisters } from "./abi.ts";

export const MAX_INSTRUCTION_BYTES = 15;

export type MemoryOperand = {
  /** `write`: also where it reads first, as the processor asks for write access then. */
  readonly kind: "read" | "write";
  readonly gva: bigint;
  readonly lengthBytes: number;
};

export type SegmentBases = { readonly fs: bigint; readonly gs: bigint };

/** Registers by their number in ModRM, SIB and opcodes; `generalRegisters` has KVM's order. */
const numbered = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  ...generalRegisters.slice(8, 16),
] as readonly GeneralRegister[];

type Size = "byte" | "operand" | 2 | 4 | 8 | 16 | 512;
/** What an opcode with ModRM does to its r/m operand where that is memory, and its immediate. */
type Row = {
  readonly kind: MemoryOperand["kind"];
  readonly size: Size;
  readonly immediate?: "byte" | "operand";
};

const row = (kind: Row["kind"], size: Size, immediate?: Row["immediate"]): Row =>
  immediate === undefined ? { kind, size } : { kind, size, immediate };

function arithmetic(opcode: number): Row {
  const size = (opcode & 1) === 0 ? "byte" : "operand";
  const isCompare = opcode >> 3 === 7;
  return row((opcode & 2) !== 0 || isCompare ? "read" : "write", size);
}

/** One-byte opcodes. @param reg ModRM's middle field, which extends some of them */
function oneByte(opcode: number, reg: number): Row | null {
  const width: Size = (opcode & 1) === 0 ? "byte" : "operand";
  if (opcode < 0x40 && (opcode & 7) < 4) return arithmetic(opcode);
  switch (opcode) {
    case 0x63:
      return row("read", 4);
    case 0x69:
      return row("read", "operand", "operand");
    case 0x6b:
      return row("read", "operand", "byte");
    case 0x80:
    case 0x81:
    case 0x83:
      return row(reg === 7 ? "read" : "write", width, opcode === 0x81 ? "operand" : "byte");
    case 0x84:
    case 0x85:
    case 0x8a:
    case 0x8b:
      return row("read", width);
    case 0x86:
    case 0x87:
    case 0x88:
    case 0x89:
      return row("write", width);
    case 0xc0:
    case 0xc1:
      return row("write", width, "byte");
    case 0xc6:
    case 0xc7:
      return reg === 0 ? row("write", width, width) : null;
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
      return row("write", width);
    case 0xf6:
    case 0xf7:
      if (reg < 2) return row("read", width, width);
      return row(reg < 4 ? "write" : "read", width);
    case 0xfe:
    case 0xff:
      if (reg < 2) return row("write", width);
      return opcode === 0xff && (reg === 2 || reg === 4 || reg === 6) ? row("read", 8) : null;
    default:
      return null;
  }
}

type Prefixes = {
  readonly operand16: boolean;
  readonly repeat: 0 | 0xf2 | 0xf3;
  readonly wide: boolean;
};

/** SSE moves: the prefix decides between one number and a whole register. */
function vectorSize({ repeat }: Prefixes, whole: 16 | 32): number {
  return repeat === 0xf3 ? 4 : repeat === 0xf2 ? 8 : whole;
}

/** Opcodes after 0x0f that move vector registers, of SSE and of AVX. */
function vectorMove(opcode: number, prefixes: Prefixes, whole: 16 | 32): MemoryOperandShape | null {
  switch (opcode) {
    case 0x10:
    case 0x11:
      return { kind: opcode === 0x10 ? "read" : "write", bytes: vectorSize(prefixes, whole) };
    case 0x28:
    case 0x6f:
      return { kind: "read", bytes: whole };
    case 0x29:
    case 0x2b:
    case 0x7f:
    case 0xe7:
      return { kind: "write", bytes: whole };
    case 0x12:
    case 0x16:
      return { kind: "read", bytes: 8 };
    case 0x13:
    case 0x17:
    case 0xd6:
      return { kind: "write", bytes: 8 };
    case 0x6e:
      return { kind: "read", bytes: prefixes.wide ? 8 : 4 };
    case 0x7e:
      if (prefixes.repeat === 0xf3) return { kind: "read", bytes: 8 };
      return { kind: "write", bytes: prefixes.wide ? 8 : 4 };
    default:
      return null;
  }
}

/** Other opcodes after 0x0f. */
function twoByte(opcode: number, reg: number, prefixes: Prefixes): Row | null {
  const width: Size = (opcode & 1) === 0 ? "byte" : "operand";
  if (opcode >= 0x40 && opcode < 0x50) return row("read", "operand");
  if (opcode >= 0x90 && opcode < 0xa0) return row("write", "byte");
  switch (opcode) {
    case 0xaf:
      return row("read", "operand");
    case 0xb0:
    case 0xb1:
    case 0xc0:
    case 0xc1:
      return row("write", width);
    case 0xb6:
    case 0xbe:
      return row("read", "byte");
    case 0xb7:
    case 0xbf:
      return row("read", 2);
    case 0xba:
      return reg < 4 ? null : row(reg === 4 ? "read" : "write", "operand", "byte");
    case 0xc3:
      return row("write", "operand");
    case 0xc7:
      return reg === 1 ? row("write", prefixes.wide ? 16 : 8) : null;
    default:
      return null;
  }
}

type MemoryOperandShape = { readonly kind: MemoryOperand["kind"]; readonly bytes: number };

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes.subarray(0, MAX_INSTRUCTION_BYTES);
  }

  get at(): number {
    return this.#at;
  }

  peek(): number {
    return this.#bytes[this.#at] ?? -1;
  }

  byte(): number {
    const value = this.peek();
    if (value < 0) throw new RangeError("the instruction ends beyond the bytes that are known");
    this.#at += 1;
    return value;
  }

  signed(bytes: 1 | 4): bigint {
    let value = 0n;
    for (let i = 0; i < bytes; i++) value |= BigInt(this.byte()) << BigInt(8 * i);
    return BigInt.asIntN(8 * bytes, value);
  }

  address(): bigint {
    let value = 0n;
    for (let i = 0; i < 8; i++) value |= BigInt(this.byte()) << BigInt(8 * i);
    return value;
  }
}

/** Prefixes, REX and VEX, as far as they matter for the operand. */
type Head = Prefixes & {
  readonly address32: boolean;
  readonly segment: "fs" | "gs" | null;
  /** Bits that extend ModRM.rm (or SIB.base) and SIB.index. */
  readonly extendBase: number;
  readonly extendIndex: number;
  readonly map: "one" | "two" | "other";
  readonly opcode: number;
  /** Bytes of a vector register: 16, or 32 with VEX.L; null without VEX. */
  readonly vex: 16 | 32 | null;
};

function readHead(reader: Reader): Head {
  let operand16 = false;
  let address32 = false;
  let repeat: Prefixes["repeat"] = 0;
  let segment: Head["segment"] = null;
  for (;;) {
    const byte = reader.peek();
    if (byte === 0x66) operand16 = true;
    else if (byte === 0x67) address32 = true;
    else if (byte === 0xf2 || byte === 0xf3) repeat = byte;
    else if (byte === 0x64) segment = "fs";
    else if (byte === 0x65) segment = "gs";
    else if (![0x26, 0x2e, 0x36, 0x3e, 0xf0].includes(byte)) break;
    reader.byte();
  }
  const base = { operand16, address32, repeat, segment };
  if (reader.peek() === 0xc4 || reader.peek() === 0xc5) return { ...base, ...readVex(reader) };
  const rex = (reader.peek() & 0xf0) === 0x40 ? reader.byte() : 0;
  const first = reader.byte();
  const map = first === 0x0f ? "two" : "one";
  const opcode = map === "two" ? reader.byte() : first;
  return {
    ...base,
    wide: (rex & 8) !== 0,
    extendBase: (rex & 1) << 3,
    extendIndex: (rex & 2) << 2,
    map: map === "two" && (opcode === 0x38 || opcode === 0x3a) ? "other" : map,
    opcode,
    vex: null,
  };
}

/** VEX has the bits of REX inverted, the prefix 66, F3 or F2 in two bits, and the map. */
function readVex(
  reader: Reader,
): Pick<Head, "wide" | "extendBase" | "extendIndex" | "map" | "opcode" | "vex" | "repeat"> {
  const isLong = reader.byte() === 0xc4;
  const first = isLong ? reader.byte() : 0xe1;
  const second = reader.byte();
  const repeats = [0, 0, 0xf3, 0xf2] as const;
  return {
    wide: isLong && (second & 0x80) !== 0,
    extendBase: (first & 0x20) === 0 ? 8 : 0,
    extendIndex: (first & 0x40) === 0 ? 8 : 0,
    map: (first & 0x1f) === 1 ? "two" : "other",
    opcode: reader.byte(),
    vex: (second & 4) !== 0 ? 32 : 16,
    repeat: repeats[second & 3] ?? 0,
  };
}

class Decoder {
  readonly #reader: Reader;
  readonly #registers: GeneralRegisters;
  readonly #bases: SegmentBases;
  readonly #head: Head;

  constructor(bytes: Uint8Array, registers: GeneralRegisters, bases: SegmentBases) {
    this.#reader = new Reader(bytes);
    this.#registers = registers;
    this.#bases = bases;
    this.#head = readHead(this.#reader);
  }

  operands(): readonly MemoryOperand[] {
    const { map, opcode } = this.#head;
    const fixed = map === "one" ? this.#withoutModRm(opcode) : null;
    if (fixed !== null) return fixed;
    return map === "other" ? [] : this.#withModRm();
  }

  #register(number: number): bigint {
    return this.#registers[numbered[number] ?? "rax"];
  }

  #operand(kind: MemoryOperand["kind"], address: bigint, lengthBytes: number): MemoryOperand {
    const { segment, address32 } = this.#head;
    const base = segment === null ? 0n : this.#bases[segment];
    const offset = BigInt.asUintN(address32 ? 32 : 64, address);
    return { kind, gva: BigInt.asUintN(64, base + offset), lengthBytes };
  }

  #bytesOf(size: Size): number {
    const { wide, operand16 } = this.#head;
    if (size === "byte") return 1;
    return size === "operand" ? (wide ? 8 : operand16 ? 2 : 4) : size;
  }

  /** String, stack and moffs instructions; null for all that have ModRM. */
  #withoutModRm(opcode: number): readonly MemoryOperand[] | null {
    const { rsi, rdi, rsp, rbp } = this.#registers;
    const bytes = this.#bytesOf((opcode & 1) === 0 ? "byte" : "operand");
    const { address32, operand16, wide } = this.#head;
    // ES, which FS and GS prefixes do not change, is flat: the destination has no segment.
    const target = BigInt.asUintN(address32 ? 32 : 64, rdi);
    const destination = (kind: MemoryOperand["kind"]) => ({ kind, gva: target, lengthBytes: bytes });
    const slot = operand16 && !wide ? 2 : 8;
    const stack = (kind: MemoryOperand["kind"], gva: bigint) => [{ kind, gva, lengthBytes: slot }];
    if ((opcode & 0xf8) === 0x50 || [0x68, 0x6a, 0x9c, 0xe8].includes(opcode)) {
      return stack("write", rsp - BigInt(slot));
    }
    if ((opcode & 0xf8) === 0x58 || [0x9d, 0xc2, 0xc3].includes(opcode)) return stack("read", rsp);
    switch (opcode) {
      case 0xa0:
      case 0xa1:
        return [this.#operand("read", this.#reader.address(), bytes)];
      case 0xa2:
      case 0xa3:
        return [this.#operand("write", this.#reader.address(), bytes)];
      case 0xa4:
      case 0xa5:
        return [this.#operand("read", rsi, bytes), destination("write")];
      case 0xa6:
      case 0xa7:
        return [this.#operand("read", rsi, bytes), destination("read")];
      case 0xaa:
      case 0xab:
        return [destination("write")];
      case 0xac:
      case 0xad:
        return [this.#operand("read", rsi, bytes)];
      case 0xae:
      case 0xaf:
        return [destination("read")];
      case 0xc9:
        return stack("read", rbp);
      default:
        return null;
    }
  }

  #withModRm(): readonly MemoryOperand[] {
    const { map, opcode, vex } = this.#head;
    const modRm = this.#reader.byte();
    const reg = (modRm >> 3) & 7;
    const vector = map === "two" ? vectorMove(opcode, this.#head, vex ?? 16) : null;
    const known =
      vex !== null ? null : map === "two" ? twoByte(opcode, reg, this.#head) : oneByte(opcode, reg);
    if (modRm >> 6 === 3 || (vector === null && known === null)) return [];
    const immediateBytes = known?.immediate === undefined ? 0 : Math.min(4, this.#bytesOf(known.immediate));
    const address = this.#address(modRm, immediateBytes);
    const operand =
      vector === null && known !== null
        ? this.#operand(known.kind, address, this.#bytesOf(known.size))
        : this.#operand(vector?.kind ?? "read", address, vector?.bytes ?? 0);
    const pushes = map === "one" && opcode === 0xff && (reg === 2 || reg === 6);
    if (!pushes) return [operand];
    return [operand, { kind: "write", gva: this.#registers.rsp - 8n, lengthBytes: 8 }];
  }

  /** ModRM, SIB, displacement (SDM vol. 2, 2.1.5 and 2.2.1.6). */
  #address(modRm: number, immediateBytes: number): bigint {
    const mod = modRm >> 6;
    const rm = modRm & 7;
    if (rm === 4) return this.#scaled(mod);
    if (mod === 0 && rm === 5) {
      const displacement = this.#reader.signed(4);
      return this.#registers.rip + BigInt(this.#reader.at + immediateBytes) + displacement;
    }
    return this.#register(rm | this.#head.extendBase) + this.#displacement(mod);
  }

  #scaled(mod: number): bigint {
    const sib = this.#reader.byte();
    const index = ((sib >> 3) & 7) | this.#head.extendIndex;
    const scaled = index === 4 ? 0n : this.#register(index) << BigInt(sib >> 6);
    if ((sib & 7) === 5 && mod === 0) return scaled + this.#reader.signed(4);
    const base = this.#register((sib & 7) | this.#head.extendBase);
    return base + scaled + this.#displacement(mod);
  }

  #displacement(mod: number): bigint {
    return mod === 0 ? 0n : this.#reader.signed(mod === 1 ? 1 : 4);
  }
}

/** @param bytes from rip on, up to fifteen. Empty: none, not known, or the bytes end before the instruction does. */
export function memoryOperands(
  bytes: Uint8Array,
  registers: GeneralRegisters,
  bases: SegmentBases,
): readonly MemoryOperand[] {
  try {
    return new Decoder(bytes, registers, bases).operands();
  } catch (error) {
    if (error instanceof RangeError) return [];
    throw error;
  }
}
