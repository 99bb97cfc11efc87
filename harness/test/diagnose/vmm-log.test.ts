import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { logVerdict, parseVmmLog } from "../../src/diagnose/vmm-log.ts";
import { packagePath } from "../../src/paths.ts";

describe("a VMM's log", () => {
  it("is QEMU's, of a guest whose memory file got shorter, with the instruction", () => {
    const path = packagePath("fixtures/diagnose/qemu-truncated-without-lapic.log");
    const [failure, ...others] = parseVmmLog(readFileSync(path, "utf8"));
    expect(others).toEqual([]);
    expect(failure).toMatchObject({
      line: 3,
      error: "Bad address",
      registers: { EIP: "00000004", CPL: "0" },
    });
    expect(failure?.code).toMatch(/^31 c0 8e d8 <a1> 00 80/);
    expect(failure === undefined ? null : logVerdict(failure)).toMatchObject({
      kind: "killed-by-efault",
      text: expect.stringContaining("the guest's kernel touched a page at RIP 00000004"),
    });
  });

  it("of a VMM in Rust has the failure without a dump", () => {
    const text = "[ERROR] vCPU 0: VcpuRun(Bad address (os error 14))\nother\n";
    const [failure] = parseVmmLog(text);
    expect(failure).toMatchObject({ line: 1, error: "Bad address", code: null });
    expect(failure === undefined ? null : logVerdict(failure).kind).toBe("killed-by-efault");
  });

  it("has failures of other kinds, each with its own dump", () => {
    const text = [
      "KVM internal error. Suberror: 1",
      "emulation failure",
      "RAX=ffff8000fee000f0 RBX=0000000000000000",
      "RIP=ffff80000020ea22 RFL=00010086 [--S--P-] CPL=0 II=0 A20=1 SMM=0 HLT=0",
      "Code=48 <8b> 00",
      "error: kvm run failed Invalid argument",
      "RIP=000000000000fff0 RFL=00000002 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0",
    ].join("\r\n");
    const [first, second] = parseVmmLog(text);
    expect(first).toMatchObject({ line: 1, error: null, code: "48 <8b> 00" });
    expect(first?.registers).toMatchObject({ RIP: "ffff80000020ea22", CPL: "0" });
    expect(second).toMatchObject({ line: 6, error: "Invalid argument" });
    expect(second?.registers).toMatchObject({ RIP: "000000000000fff0", CPL: "3" });
    expect([first, second].map((one) => (one === undefined ? null : logVerdict(one).kind))).toEqual([
      "internal-error",
      "failed",
    ]);
  });

  it.each([
    ["blanks after a failure", `error: kvm run failed Bad${" ".repeat(1_000_000)}x`],
    ["blanks instead of an error", `error: kvm run failed ${" ".repeat(1_000_000)}`],
    ["the word of a Rust VMM over and over", "vcpu".repeat(250_000)],
    ["its error without the word", "Bad address (os error 14)".repeat(40_000)],
    ["a register over and over", `error: kvm run failed x\n${"RAX=0000".repeat(125_000)}`],
    ["a register's name that never ends", `error: kvm run failed x\n${"A".repeat(1_000_000)}`],
    ["an instruction that never ends", `error: kvm run failed x\nCode=${"00 ".repeat(330_000)}!`],
  ])("has lines of a megabyte and is read within a second of CPU time: %s", (_, text) => {
    const before = process.cpuUsage();
    parseVmmLog(text);
    const { user } = process.cpuUsage(before);
    expect(user / 1e6).toBeLessThan(1);
  });

  it("of QEMU is no reason for a cont, which it refuses after that; of others nothing is known", () => {
    const [qemu, rust] = parseVmmLog(
      "error: kvm run failed Bad address\nFailure during vcpu run: Bad address (os error 14)\n",
    ).map(logVerdict);
    expect(qemu?.remedy).toContain("takes no cont");
    expect(rust?.remedy).not.toMatch(/QEMU|internal-error|cont\b/);
  });

  it.each([
    ["KVM: entry failed, hardware error 0x80000021", "entry failed, hardware error 0x80000021"],
    ["KVM: unknown exit, hardware reason 31", "unknown exit, hardware reason 31"],
  ])("has a failed entry, after which QEMU stops as well: %s", (line, error) => {
    const [failure] = parseVmmLog(`${line}\nRIP=000000000000fff0 CPL=0\n`);
    expect(failure).toMatchObject({ vmm: "qemu", error, registers: { RIP: "000000000000fff0" } });
    expect(failure === undefined ? null : logVerdict(failure).kind).toBe("failed");
  });

  it("has a line that is too long to be shown whole", () => {
    const [failure] = parseVmmLog(`error: kvm run failed Bad address${"x".repeat(100_000)}`);
    expect(failure?.message.length).toBeLessThan(400);
  });

  it("without one has none", () => {
    expect(parseVmmLog("")).toEqual([]);
    expect(parseVmmLog('a note of mine about "kvm run failed Bad address"')).toEqual([]);
    expect(parseVmmLog("qemu: terminating on signal 15\nvcpu is fine\n")).toEqual([]);
  });
});
