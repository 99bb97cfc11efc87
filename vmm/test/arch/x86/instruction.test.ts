import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type GeneralRegisters, generalRegisters } from "../../../src/arch/x86/abi.ts";
import { memoryOperands } from "../../../src/arch/x86/instruction.ts";
import { compilerOrReason } from "../../support/compile.ts";

const compiler = compilerOrReason();
/** Where instruction.c puts the code. */
const CODE = 0x10000000n;
/** The trap flag ends each run after one instruction: what follows it may be anything. */
const RFLAGS_IF_TF = 0x302n;

const plain = Object.fromEntries(
  generalRegisters.map((name, index) => [name, 0x100000n * BigInt(index + 1)]),
) as GeneralRegisters;
const bases = { fs: 0x7000000000n, gs: 0x9000000000n };

const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));

const shown = (text: string, registers: GeneralRegisters = plain): string[] =>
  memoryOperands(bytesOf(text), registers, bases).map(
    ({ kind, gva, lengthBytes }) => `${kind} ${gva.toString(16)} ${lengthBytes}`,
  );

describe("memoryOperands", () => {
  it.each([
    ["mov (%rdi),%al", "8a 07", ["read 600000 1"]],
    ["mov (%rdi),%rax", "48 8b 07", ["read 600000 8"]],
    ["mov %ax,0x10(%rdi)", "66 89 47 10", ["write 600010 2"]],
    ["movb $0x5a,(%rax)", "c6 00 5a", ["write 100000 1"]],
    ["lock xadd %eax,(%rdi)", "f0 0f c1 07", ["write 600000 4"]],
    ["lock cmpxchg16b (%rdi)", "f0 48 0f c7 0f", ["write 600000 16"]],
    ["cmp (%rdi),%rax reads", "48 3b 07", ["read 600000 8"]],
    ["cmp %rax,(%rdi) reads", "48 39 07", ["read 600000 8"]],
    ["rep movsb", "f3 a4", ["read 500000 1", "write 600000 1"]],
    ["rep movsq", "f3 48 a5", ["read 500000 8", "write 600000 8"]],
    ["rep stosq", "f3 48 ab", ["write 600000 8"]],
    ["push %rbx", "53", ["write 6ffff8 8"]],
    ["call *(%rax)", "ff 10", ["read 100000 8", "write 6ffff8 8"]],
    ["mov %gs:0x28,%rax", "65 48 8b 04 25 28 00 00 00", ["read 9000000028 8"]],
    ["mov 0x100(%rip),%eax", "8b 05 00 01 00 00", ["read 1100106 4"]],
    ["cmpl $1,0x100(%rip): behind its immediate", "83 3d 00 01 00 00 01", ["read 1100107 4"]],
    ["mov -8(%r13,%r9,4),%edx", "43 8b 54 8d f8", ["read 35ffff8 4"]],
    ["vmovdqu (%rdi),%ymm0", "c5 fe 6f 07", ["read 600000 32"]],
    ["movups %xmm0,(%rsi)", "0f 11 06", ["write 500000 16"]],
    ["mov %rax,%rbx touches nothing", "48 89 c3", []],
    ["an instruction that is not known", "0f 38 f0 07", []],
    ["bytes that end too early", "48 8b 84", []],
    ["no bytes", "", []],
  ])("%s", (_name, text, expected) => {
    expect(shown(text)).toEqual(expected);
  });

  it("never throws", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20 }), (bytes) => {
        expect(memoryOperands(bytes, plain, bases).length).toBeLessThanOrEqual(2);
      }),
      { numRuns: 5000 },
    );
  });
});

/** An address that no page of the program has, and no other one's disp32 reaches. */
const address = fc.bigInt({ min: 0x1000_0000_0000n, max: 0x3000_0000_0000n });
const one = fc.record({
  registers: fc.array(address, { minLength: 16, maxLength: 16 }),
  fs: fc.bigInt({ min: 0n, max: 0x1000_0000_0000n }),
  gs: fc.bigInt({ min: 0n, max: 0x1000_0000_0000n }),
  prefixes: fc.constantFrom<number[][]>([], [], [], [0x66], [0xf3], [0xf2], [0x64], [0x65], [0x67]),
  rex: fc.constantFrom([], [0x40], [0x48], [0x49], [0x41], [0x4a], [0x4f], [0x44]),
  opcode: fc.oneof(
    fc.integer({ min: 0, max: 0xff }).map((byte) => [byte]),
    fc.integer({ min: 0, max: 0xff }).map((byte) => [0x0f, byte]),
  ),
  rest: fc.uint8Array({ minLength: 10, maxLength: 10 }),
});

/** Nothing that jumps, calls the kernel, or changes segments: it would not come back as a fault. */
function isTame(opcode: readonly number[]): boolean {
  const [first = 0, second = 0] = opcode;
  if (first === 0x0f) {
    return (
      [
        0x10, 0x11, 0x28, 0x29, 0x2b, 0x6f, 0x7f, 0xaf, 0xb0, 0xb1, 0xb6, 0xb7, 0xbe, 0xbf, 0xba, 0xc0,
      ].includes(second) ||
      [0xc1, 0xc3, 0xc7, 0x6e, 0x7e, 0xd6].includes(second) ||
      (second >= 0x40 && second < 0x50) ||
      (second >= 0x90 && second < 0xa0)
    );
  }
  if (first < 0x40) return (first & 7) < 4;
  if (first >= 0x80 && first <= 0x8b) return first !== 0x82;
  return [
    0x50, 0x58, 0x63, 0x68, 0x69, 0x6a, 0x6b, 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xc0, 0xc1,
    0xc6, 0xc7, 0xd0, 0xd1, 0xd2, 0xd3, 0xf6, 0xf7, 0xfe,
  ].includes(first);
}

describe("memoryOperands against the processor", () => {
  it.skipIf(compiler.reason !== null || process.arch !== "x64")(
    `finds the address and the direction of the fault${compiler.note}`,
    () => {
      const directory = mkdtempSync(join(tmpdir(), "daxfault-instruction-"));
      try {
        const program = join(directory, "instruction");
        const source = fileURLToPath(new URL("instruction.c", import.meta.url));
        execFileSync("gcc", ["-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], { stdio: "pipe" });
        const cases = fc
          .sample(one, { numRuns: 20_000, seed: 16 })
          .filter(({ opcode }) => isTame(opcode))
          .map((sample) => {
            const bytes = Uint8Array.from([
              ...sample.prefixes.flat(),
              ...sample.rex,
              ...sample.opcode,
              ...sample.rest,
            ]);
            return { ...sample, bytes: bytes.subarray(0, 15) };
          });
        const hex = (value: bigint | number): string => value.toString(16);
        const input = cases
          .map(({ registers, fs, gs, bytes }) =>
            [...registers, CODE, RFLAGS_IF_TF, fs, gs, ...bytes].map(hex).join(" "),
          )
          .join("\n");
        const lines = execFileSync(program, { input: `${input}\n`, encoding: "utf8", timeout: 60_000 })
          .trim()
          .split("\n");
        expect(lines.length).toBe(cases.length);
        let compared = 0;
        const wrong: string[] = [];
        for (const [index, line] of lines.entries()) {
          const sample = cases[index];
          if (sample === undefined || line === "none") continue;
          const values = [...sample.registers, CODE, RFLAGS_IF_TF];
          const registers = Object.fromEntries(
            generalRegisters.map((name, i) => [name, values[i] ?? 0n]),
          ) as GeneralRegisters;
          const operands = memoryOperands(sample.bytes, registers, sample);
          if (operands.length === 0) continue;
          compared += 1;
          const seen = operands.map(({ kind, gva }) => `${hex(gva)} ${kind}`);
          const text = Buffer.from(sample.bytes).toString("hex");
          if (!seen.includes(line)) wrong.push(`${text}: ${seen.join(", ")}; the processor: ${line}`);
        }
        expect(wrong).toEqual([]);
        expect(compared).toBeGreaterThan(2000);
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    },
  );
});
