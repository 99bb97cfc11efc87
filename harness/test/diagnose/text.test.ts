/** What a person with a VM that hangs reads first. */
import { describe, expect, it } from "vitest";
import type { HostFacts, VmFacts } from "../../src/diagnose/facts.ts";
import { diagnosisText } from "../../src/diagnose/text.ts";
import { diagnose } from "../../src/diagnose/verdict.ts";
import type { Style } from "../../src/report/style.ts";
import { fileWith, HVA, looksWith, pageWith, vcpuWith, vmWith } from "../support/vm-facts.ts";

const plain = (text: string): string => text;
const style: Style = { widthColumns: 60, bold: plain, dim: plain, verdict: (_kind, text) => text };

function textOf(vms: readonly VmFacts[]): string {
  const facts: HostFacts = { kernel: "6.12", isRoot: true, vms, unseen: [], pageWorkers: [], tookMs: 545 };
  return diagnosisText(
    facts,
    vms.map((vm) => diagnose(vm, [])),
    style,
  );
}

const loops = vmWith({
  pid: 100,
  files: [
    fileWith({ path: "/srv/whole", pieces: [{ start: HVA - 4096n, end: HVA, offset: 0n, access: "rw-s" }] }),
    fileWith({ path: "/srv/guest", sizeBytes: 0n }),
  ],
  vcpus: [vcpuWith({ pages: [pageWith({ ready: 99, hva: HVA })] })],
});
const outside = {
  looks: looksWith({ state: "S", call: { kind: "call", number: 202 }, waitsIn: "futex_wait" }),
};
const paused = vmWith({ pid: 200, vcpus: [vcpuWith(outside)] });
const gone = vmWith({ pid: 300, isGone: true });

describe("the text of a diagnosis", () => {
  it("begins with how many hang, and says the same of one VM", () => {
    expect(textOf([gone, paused, loops])).toMatch(
      /^3 VMs: 1 hangs, 1 is paused, 1 is fine \(Linux 6.12, looked at in 545 ms\)\n/,
    );
    expect(textOf([paused, paused])).toMatch(/^2 VMs: 2 are paused /);
    expect(textOf([loops])).toMatch(/^1 VM: it hangs /);
    expect(textOf([paused])).toMatch(/^1 VM: it is paused /);
  });

  it("has what hangs first", () => {
    expect(textOf([gone, paused, loops]).match(/process [0-9]+(?= \()/g)).toEqual([
      "process 100",
      "process 200",
      "process 300",
    ]);
  });

  it("has each command on a line of its own, however narrow the terminal is", () => {
    const lines = textOf([loops]).split("\n");
    expect(lines).toContain("      $ truncate -s '>4194304' /proc/100/map_files/7f0000000000-7f0000400000");
    expect(lines.filter((line) => line.includes("price:"))).toEqual(
      lines.filter((line) => line.startsWith("      price:")),
    );
  });

  it("has the file that explains it before the others", () => {
    const text = textOf([loops]);
    const files = text.slice(text.indexOf("files that it has mapped:"));
    expect(files.indexOf("/srv/guest")).toBeGreaterThan(0);
    expect(files.indexOf("/srv/guest")).toBeLessThan(files.indexOf("/srv/whole"));
  });
});
