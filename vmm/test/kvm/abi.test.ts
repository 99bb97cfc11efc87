import { describe, expect, it } from "vitest";
import {
  eventsOffset,
  generalRegisters,
  kvmFeatureBit,
  msr,
  segmentOffset,
  sregsOffset,
  syncBit,
  syncOffset,
  x86SizeOf,
} from "../../src/arch/x86/abi.ts";
import { capability, exitReason, requestNumber, requests, runOffset, sizeOf } from "../../src/kvm/abi.ts";
import { compileAndRun, compilerOrReason } from "../support/compile.ts";

const compiler = compilerOrReason();

/** [name, C expression, our number]. Constants newer than the installed header are guarded by #ifdef. */
function rows(): [string, string, bigint][] {
  const constants = { ...capability, ...exitReason, ...kvmFeatureBit, ...msr, ...syncBit };
  return [
    ...Object.entries(constants).map(
      ([name, value]) => [name, name, BigInt(value)] as [string, string, bigint],
    ),
    ...(Object.keys(requests) as (keyof typeof requests)[]).map(
      (name) => [name, name, requestNumber(name)] as [string, string, bigint],
    ),
    ...offsets("struct kvm_run", runOffset),
    ...offsets("struct kvm_sregs", sregsOffset),
    ...offsets("struct kvm_segment", segmentOffset),
    ...offsets("struct kvm_vcpu_events", eventsOffset),
    ...offsets("struct kvm_sync_regs", syncOffset),
    ...generalRegisters.map(
      (name, i) =>
        [`kvm_regs.${name}`, `offsetof(struct kvm_regs, ${name})`, BigInt(8 * i)] as [string, string, bigint],
    ),
    ...Object.entries({ ...sizeOf, ...x86SizeOf }).map(
      ([name, size]) =>
        [`sizeof ${name}`, `sizeof(struct ${name})`, BigInt(size)] as [string, string, bigint],
    ),
  ];
}

function offsets(struct: string, table: Readonly<Record<string, number>>): [string, string, bigint][] {
  return Object.entries(table).map(([field, offset]) => [
    `${struct}.${field}`,
    `offsetof(${struct}, ${field})`,
    BigInt(offset),
  ]);
}

/** What the installed header may lack: came together in Linux 6.8. Only this may be missing. */
const newerThanOldHeaders = [
  "struct kvm_run.memory_fault.",
  "sizeof kvm_create_guest_memfd",
  "sizeof kvm_userspace_memory_region2",
  "KVM_SET_USER_MEMORY_REGION2",
  "KVM_CREATE_GUEST_MEMFD",
];

/** Of proposals in fixtures/kernels: in no header of a release. */
const proposed = ["KVM_FEATURE_ASYNC_PF_ERROR", "KVM_FEATURE_VE_INFO"];

describe("kvm/abi.ts and arch/x86/abi.ts against <linux/kvm.h> and <asm/kvm.h>", () => {
  it.skipIf(compiler.reason !== null)(`has the header's numbers${compiler.note}`, () => {
    const hasMemoryFault = probeHeader();
    const compared = rows().filter(
      ([name]) => hasMemoryFault || !newerThanOldHeaders.some((prefix) => name.startsWith(prefix)),
    );
    const lines = compared.map(([name, expression]) => {
      const print = `printf("%s=%llu\\n", "${name}", (unsigned long long)(${expression}));`;
      return name === expression ? `\n#ifdef ${name}\n${print}\n#endif\n` : print;
    });
    const output = compileAndRun(
      `#include <stddef.h>\n#include <stdio.h>\n#include <linux/kvm.h>\n#include <asm/kvm_para.h>\n#define MSR_IA32_TSC 0x10\n#define MSR_IA32_MCG_STATUS 0x17a\n#define MSR_IA32_MC0_STATUS 0x401\nint main(void) { ${lines.join("\n")} }`,
    );
    const actual = new Map(
      output
        .trim()
        .split("\n")
        .map((line) => line.split("=") as [string, string]),
    );
    // TSC, MCG_STATUS and MC0_STATUS are architectural, not in a UAPI header; every other row comes from the compiler.
    for (const [name, , ours] of compared) {
      const theirs = actual.get(name);
      if (theirs !== undefined) expect(`${name}=${BigInt(theirs)}`).toBe(`${name}=${ours}`);
    }
    const missing = compared.filter(([name]) => !actual.has(name)).map(([name]) => name);
    const unexpected = missing.filter(
      (name) => !(name in capability || name in exitReason || proposed.includes(name)),
    );
    expect(unexpected).toEqual([]);
    expect(actual.size).toBeGreaterThan(100);
  });
});

function probeHeader(): boolean {
  return compileAndRun(
    `#include <stdio.h>\n#include <linux/kvm.h>\nint main(void) {\n#ifdef KVM_EXIT_MEMORY_FAULT\nputs("1");\n#else\nputs("0");\n#endif\n}`,
  ).startsWith("1");
}
