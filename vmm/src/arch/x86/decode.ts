/**
 * From registers at an exit to the address that was about to be touched.
 *
 * A VMM decodes the instruction at rip. The micro-guest has one touching instruction for each access (access.S), so a
 * table of them is the whole decoder: operand register and direction. Nothing of the scenario is used, so that an
 * injection can be compared with the guest's own report of its access.
 */
import { accessVerbs, type Touch } from "../../../../language/src/index.ts";
import type { GeneralRegister, GeneralRegisters } from "./abi.ts";
import type { GuestImage } from "./image.ts";

export type DecodedAccess = {
  readonly kind: "read" | "write" | "fetch";
  /** Guest virtual address of the first byte. For copies: of the byte that the copy has got to. */
  readonly gva: bigint;
  /** From there on; 1 for copies, which touch a byte at a time. */
  readonly lengthBytes: number;
};

/** `mov eax, imm32` and `ret`, as the file's code has them. */
const CODE_BYTES = 6;

/** The register by which access.S addresses the window, and the displacement. */
function addressOf({ kind, instruction }: Touch): { register: GeneralRegister; displacement: bigint } {
  switch (instruction) {
    case "move":
    case "locked":
    case "call":
      return { register: "rdi", displacement: 0n };
    case "string":
      return { register: kind === "load" ? "rsi" : "rdi", displacement: 0n };
    case "stack":
      return { register: "rsp", displacement: -8n };
  }
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
    const [verb, width] = name.split("/");
    const touch = accessVerbs.find((row) => row.verb === verb)?.touch;
    if (touch === undefined) return null;
    const { register, displacement } = addressOf(touch);
    return {
      // Of an atomic operation the processor asks for write access before it reads.
      kind: touch.kind === "load" ? "read" : "write",
      gva: registers[register] + displacement,
      lengthBytes: Number(width ?? touch.bytes?.touched ?? 1),
    };
  }
  return null;
}
