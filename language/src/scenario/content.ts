/**
 * The content of the file, and the classification of bytes seen in its mapping.
 *
 * `pattern`: the 64-bit little-endian word at offset n is n + 0xda0000000000. `code`: at each page's start
 * `mov eax, 0xda000000 + page number; ret`, then `int3` bytes. Both rules hold for offsets, not for a given file
 * size, so that an engine can compute what must stand anywhere.
 */
import type { Access } from "../vocabulary.ts";
import { type AccessStep, leftValue, observesNothing, touchOf, writtenValue } from "./guest-verbs.ts";
import { PAGE_BYTES } from "./limits.ts";
import type { Content } from "./scenario.ts";

const PATTERN_BASE = 0xda00_0000_0000n;
const CODE_BASE = 0xda00_0000n;
const OPCODE_MOV_EAX = 0xb8;
const OPCODE_RET = 0xc3;
const OPCODE_INT3 = 0xcc;

/** The value that `fetch` at this file offset (the start of a page) returns in EAX. */
export function fetchValue(fileOffset: bigint): bigint {
  return CODE_BASE + fileOffset / PAGE_BYTES;
}

/** The first bytes of a page of content `code`; the rest of the page is INT3. */
function codeHead(pageOffset: bigint): readonly number[] {
  const value = Number(fetchValue(pageOffset));
  const immediate = [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
  return [OPCODE_MOV_EAX, ...immediate, OPCODE_RET];
}

function codeBytes(fileOffset: bigint, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes).fill(OPCODE_INT3);
  const end = fileOffset + BigInt(lengthBytes);
  for (let page = fileOffset - (fileOffset % PAGE_BYTES); page < end; page += PAGE_BYTES) {
    for (const [index, byte] of codeHead(page).entries()) {
      const at = Number(page - fileOffset) + index;
      if (at >= 0 && at < lengthBytes) bytes[at] = byte;
    }
  }
  return bytes;
}

function patternBytes(fileOffset: bigint, lengthBytes: number): Uint8Array {
  // Whole words around the range, then the range out of them: the range may begin and end inside a word.
  const lead = Number(fileOffset % 8n);
  const first = fileOffset - BigInt(lead);
  const words = Math.ceil((lead + lengthBytes) / 8);
  // Halves as numbers: ten times faster than bigints, and a file of some MiB is made for every case. Exact, because
  // files end far below 2^52 (FILE_BYTES_MAX).
  const base = Number(PATTERN_BASE + first);
  const halves = new Uint32Array(2 * words);
  for (let index = 0; index < words; index += 1) {
    const word = base + 8 * index;
    halves[2 * index] = word % 2 ** 32;
    halves[2 * index + 1] = Math.floor(word / 2 ** 32);
  }
  return new Uint8Array(halves.buffer, lead, lengthBytes);
}

/** The bytes that the content rule puts at `fileOffset`. */
export function contentBytes(content: Content, fileOffset: bigint, lengthBytes: number): Uint8Array {
  switch (content) {
    case "pattern":
      return patternBytes(fileOffset, lengthBytes);
    case "code":
      return codeBytes(fileOffset, lengthBytes);
  }
}

/** Little-endian bytes as one number. */
export function toValue(bytes: Uint8Array): bigint {
  let value = 0n;
  for (const byte of bytes.toReversed()) value = (value << 8n) | BigInt(byte);
  return value;
}

/** A number as `lengthBytes` little-endian bytes, cut to that length. */
export function fromValue(value: bigint, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  for (let index = 0; index < lengthBytes; index += 1) {
    bytes[index] = Number((value >> BigInt(8 * index)) & 0xffn);
  }
  return bytes;
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** What a fetch that returned `eax` saw: our code of that page is `value`, anything else was never put there. */
function classifyFetch(fileOffset: bigint, eax: bigint): Access {
  return eax === fetchValue(fileOffset) ? { kind: "value", value: eax } : { kind: "stale", value: eax };
}

/** What a classification asks for besides the bytes seen. */
export type Surroundings = {
  readonly zerosAreHeld: () => boolean;
  readonly fileNow: () => Uint8Array;
  readonly wasHeld: (bytes: FoundBytes) => boolean;
};

/** What an access found, what it left there, and what the file holds now. */
export type FoundBytes = { readonly found: Uint8Array; readonly left: Uint8Array; readonly now: Uint8Array };

/**
 * What it means that an access has seen `seen`, or written it. One rule for all engines:
 * all zero where nobody wrote zeros is `zero`, whatever the file now holds (a hole reads as zeros, and the guest cannot
 * distinguish them); bytes that the file holds now, or held at the access and another step has changed since, are `value`;
 * all others are `stale`.
 * @param zerosAreHeld are zeros there the file's own value (`heldAt`)? Asked only where zeros were seen.
 * @param fileNow gives what a read of the same range of the file gives at this moment, zero-filled behind its end: of an
 *   atomic access that has changed the file since, what it leaves there of what it has seen; of an access that observes
 *   the file's size, that size as so many bytes
 * @param wasHeld has a later step changed bytes that the file held at the access (`wasHeld`)? Asked only where the file
 *   holds others now.
 */
export function classifyAccess(
  step: AccessStep,
  fileOffset: bigint,
  seen: Uint8Array,
  { zerosAreHeld, fileNow, wasHeld }: Surroundings,
): Access {
  const { kind } = touchOf(step);
  const value = toValue(seen);
  if (kind === "fetch") return classifyFetch(fileOffset, value);
  if (observesNothing(step)) return { kind: "done" };
  const now = fileNow();
  // A store that wrote zeros has seen its own value.
  const wroteZeros = kind === "store" && writtenValue(step) === 0n;
  if (isZero(seen) && kind !== "size" && !wroteZeros && !zerosAreHeld()) {
    return { kind: "zero" };
  }
  const left = kind === "atomic" ? fromValue(leftValue(step, value), seen.length) : seen;
  const isHeld = isSame(left, now) || (kind !== "size" && wasHeld({ found: seen, left, now }));
  return { kind: isHeld ? "value" : "stale", value };
}
