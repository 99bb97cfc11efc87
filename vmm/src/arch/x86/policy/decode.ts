/**
 * From registers at an exit to the address that was about to be touched.
 *
 * A VMM decodes the instruction at rip. The micro-guest has one touching instruction for each access (access.S), so a
 * table of them is the whole decoder: operand register and direction. Nothing of the scenario is used, so that what an
 * injection tells the guest can be held against what the guest itself says it was doing.
 */

import type { GeneralRegister, GeneralRegisters } from "../abi.ts";
import type { GuestImage } from "../image.ts";

export type DecodedAccess = {
  readonly kind: "read" | "write" | "fetch";
  /** Guest virtual address of the first byte. For copies: of the byte that the copy has got to. */
  readonly gva: bigint;
  /** From there on; 1 for copies, which touch a byte at a time. */
  readonly lengthBytes: number;
};

type Operand = {
  readonly kind: "read" | "write";
  readonly register: GeneralRegister;
  /** Added to the register's value. */
  readonly displacement?: bigint;
};

/** `mov eax, imm32` and `ret`, as the file's code has them. */
const CODE_BYTES = 6;

/** By what stands before the slash in `GuestImage.accessInstructions`. */
const operands: Readonly<Record<string, Operand>> = {
  load: { kind: "read", register: "rdi" },
  store: { kind: "write", register: "rdi" },
  // The processor asks for write access before it reads.
  atomic: { kind: "write", register: "rdi" },
  "copy-from": { kind: "read", register: "rsi" },
  "copy-to": { kind: "write", register: "rdi" },
  "kernel-read": { kind: "read", register: "rsi" },
  "kernel-write": { kind: "write", register: "rdi" },
  push: { kind: "write", register: "rsp", displacement: -8n },
};

/** By `load/8`, `copy-from`, `push`. */
function lengthOf(name: string): number {
  if (name === "push") return 8;
  return Number(name.split("/")[1] ?? 1);
}

/** @param window the guest physical range that files are mapped into; guest virtual is the same */
export function decodeAccess(
  image: GuestImage,
  registers: GeneralRegisters,
  window: { readonly base: bigint; readonly sizeBytes: number },
): DecodedAccess | null {
  const inWindow = (address: bigint) =>
    address >= window.base && address < window.base + BigInt(window.sizeBytes);
  if (inWindow(registers.rip)) return { kind: "fetch", gva: registers.rip, lengthBytes: CODE_BYTES };
  for (const [name, address] of image.accessInstructions) {
    if (address !== registers.rip) continue;
    const operand = operands[name.split("/")[0] ?? ""];
    if (operand === undefined) return null;
    const gva = registers[operand.register] + (operand.displacement ?? 0n);
    return { kind: operand.kind, gva, lengthBytes: lengthOf(name) };
  }
  return null;
}
