/** The built micro-guest: loads dist/vmm/guest/microguest.bin and reads its header (struct image_header of machine.h). */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { accessVerbs, type Touch } from "../../../../language/src/index.ts";
import { channelLayout } from "../../guest/channel.ts";
import { machineLayout } from "./layout.ts";

/** Largest image that fits below the channel. */
const MAX_IMAGE_BYTES = Number(machineLayout.CHANNEL_ADDRESS - machineLayout.IMAGE_ADDRESS);
/** Words of the header before the addresses of the instructions. */
const HEAD_WORDS = 12;
/** A verb has an instruction for each width, or one. That of a fetch lies in the window. */
const byWidth = accessVerbs.filter(({ touch }) => isByWidth(touch));
const single = accessVerbs.filter(({ touch }) => !isByWidth(touch) && touch.instruction !== "call");
const HEADER_WORDS = HEAD_WORDS + byWidth.length * machineLayout.ACCESS_SIZES + single.length;

function isByWidth({ instruction }: Touch): boolean {
  return instruction === "move" || instruction === "locked";
}

export type DescriptorTable = { readonly base: bigint; readonly limit: number };

export type GuestImage = {
  /** To be copied to IMAGE_ADDRESS; everything behind it is zero. */
  readonly bytes: Uint8Array;
  readonly entry: bigint;
  readonly bootStack: bigint;
  readonly gdt: DescriptorTable;
  readonly idt: DescriptorTable;
  readonly tss: DescriptorTable;
  /** Pages that CPL 3 may touch: from, to (exclusive). */
  readonly user: { readonly start: bigint; readonly end: bigint };
  /**
   * Address of the one instruction that touches the window, by `load/8`, `store/1`, `atomic/16`, `copy-from`, `copy-to`.
   * A fetch has none: its rip is the window address.
   */
  readonly accessInstructions: ReadonlyMap<string, bigint>;
};

/** Where the build puts the image: beside the compiled code, also in an installed package. */
export function imagePath(): string {
  // This file is <root>/vmm/src/arch/x86/image.ts or <root>/dist/vmm/src/arch/x86/image.js.
  const beside = fileURLToPath(new URL("../../../guest/microguest.bin", import.meta.url));
  const fromSources = fileURLToPath(new URL("../../../../dist/vmm/guest/microguest.bin", import.meta.url));
  return existsSync(beside) ? beside : fromSources;
}

/** Throws an Error that names the file and says what to do when it is missing or not an image of ours. */
export function loadImage(path: string = imagePath()): GuestImage {
  if (!existsSync(path))
    throw new Error(`micro-guest ${path} is missing: build it with vmm/guest/build (needs gcc)`);
  return parseImage(readFileSync(path), path);
}

export function parseImage(bytes: Uint8Array, path: string): GuestImage {
  if (bytes.length < HEADER_WORDS * 8 || bytes.length > MAX_IMAGE_BYTES) {
    throw new Error(`${path}: ${bytes.length} bytes, expected ${HEADER_WORDS * 8} to ${MAX_IMAGE_BYTES}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const word = (index: number) => view.getBigUint64(index * 8, true);
  if (word(0) !== channelLayout.CHANNEL_MAGIC) {
    throw new Error(
      `${path}: magic 0x${word(0).toString(16)} is not the micro-guest's: rebuild it with vmm/guest/build`,
    );
  }
  const table = (index: number) => ({ base: word(index), limit: Number(word(index + 1)) });
  return {
    bytes,
    entry: word(1),
    bootStack: word(2),
    gdt: table(3),
    idt: table(5),
    tss: table(7),
    user: { start: word(9), end: word(10) },
    accessInstructions: accessInstructions(word),
  };
}

/** As they follow each other in the header: those with widths first, each group in the order of the verbs' numbers. */
function accessInstructions(word: (index: number) => bigint): Map<string, bigint> {
  const map = new Map<string, bigint>();
  let next = HEAD_WORDS;
  for (const { verb } of byWidth) {
    for (let log2 = 0; log2 < machineLayout.ACCESS_SIZES; log2++) {
      const address = word(next++);
      if (address !== 0n) map.set(`${verb}/${2 ** log2}`, address);
    }
  }
  for (const { verb } of single) map.set(verb, word(next++));
  return map;
}
