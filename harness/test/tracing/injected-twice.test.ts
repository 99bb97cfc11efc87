import { describe, expect, it } from "vitest";
import { injectedTwice, injectedTwiceText } from "../../src/tracing/injected-twice.ts";

const header = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 1/1   #P:2\n";
/** As Linux 6.12 wrote them in QEMU 7.2 with two emulated CPUs: an exit in the handler of 0xf3, and one at its end. */
const recorded = [
  "node-172     [000] d..1.    64.562238: kvm_exit: vcpu 0 reason msr rip 0x41433 info1 0x0000000000000001 info2 0x0000000000000000 intr_info 0x000003f3 error_code 0x00000000",
  "node-172     [000] d..1.   100.148090: kvm_exit: vcpu 0 reason npf rip 0x410b2 info1 0x0000000100000006 info2 0x00000000000b0ff8 intr_info 0x000003f3 error_code 0x00000000",
] as const;
const withInfo = (info: string): string => recorded[0].replace("0x000003f3", `0x${info}`);

describe("an exit", () => {
  it("shows a second delivery by an exception whose vector is no exception's", () => {
    for (const line of recorded) expect(injectedTwice(line)).toEqual({ vector: 0xf3, line });
  });

  it.each([
    ["during the delivery itself (valid)", "800003f3", 0xf3],
    ["of the lowest vector of an interrupt", "00000320", 0x20],
    ["of the highest", "000003ff", 0xff],
  ])("shows it %s", (_what, info, vector) => {
    expect(injectedTwice(withInfo(info))?.vector).toBe(vector);
  });

  it.each([
    ["nothing was delivered", "00000000"],
    ["the interrupt was delivered once", "000000f3"],
    ["an interrupt's delivery was cut short", "800000f3"],
    ["an NMI was delivered", "00000202"],
    ["a page fault was delivered, with its error code", "00000b0e"],
    ["a page fault's delivery was cut short", "80000b0e"],
    ["the last exception was delivered", "0000031f"],
    ["INT 0x80 was delivered", "00000480"],
    ["Intel's INT3, a software exception, was delivered", "00000603"],
  ])("shows none where %s", (_what, info) => {
    expect(injectedTwice(withInfo(info))).toBeNull();
  });

  it("is one of kvm_exit, which has the field", () => {
    expect(injectedTwice("")).toBeNull();
    expect(injectedTwice(header)).toBeNull();
    expect(injectedTwice(recorded[0].replace("kvm_exit", "kvm_nested_vmexit"))).toBeNull();
    // Before Linux 5.10.
    expect(
      injectedTwice("node-1 [000] d..1. 1.5: kvm_exit: reason msr rip 0x41433 info 1 0 vcpu 0"),
    ).toBeNull();
  });
});

describe("a trace", () => {
  it("has the first one among others", () => {
    const text = [header, withInfo("000000f3"), recorded[1], recorded[0], ""].join("\n");
    expect(injectedTwice(text)?.line).toBe(recorded[1]);
  });

  it("is named with the emulator and its CPUs", () => {
    const found = { vector: 0xf3, line: "LINE" };
    expect(injectedTwiceText(found, 2)).toBe(
      "the emulator delivered an injected event twice (QEMU TCG with 2 CPUs): an exit reports an exception of vector 0xf3: LINE",
    );
    expect(injectedTwiceText(found, 1)).toContain("(QEMU TCG with 1 CPU)");
  });
});
