/** Processes of other users and namespaces, and files that are none: looked at without failing, and shown as text. */
import { truncateSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { collect } from "../../src/diagnose/collect.ts";
import { behindEndBytes, type HostFacts, type VmFacts } from "../../src/diagnose/facts.ts";
import { diagnosisText } from "../../src/diagnose/text.ts";
import { ThisHost } from "../../src/diagnose/this-host.ts";
import { diagnose } from "../../src/diagnose/verdict.ts";
import { visibleData } from "../../src/report/encode.ts";
import { childOf, factsOf, fileForAll, startMapping, strangers } from "../support/mapping.ts";

const BYTES = 2 * 2 ** 20;

const plain = (text: string): string => text;
function textOf({ facts, vm }: { readonly facts: HostFacts; readonly vm: VmFacts }): string {
  const shown = visibleData({ facts, diagnoses: [diagnose(vm, [])] });
  return diagnosisText(shown.facts, shown.diagnoses, {
    widthColumns: 120,
    bold: plain,
    dim: plain,
    verdict: (_kind, text) => text,
  });
}

const newFile = (name = "guest ram"): string => fileForAll(name, BYTES);

const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)("a process", () => {
  it("of another user, in namespaces of mounts and PIDs of its own, is seen with its file", async () => {
    const path = newFile();
    const { pid } = await startMapping([path], strangers);
    truncateSync(path, 4096);
    const looked = await factsOf(childOf(pid));
    expect(looked.vm.namespaces).toEqual({ hasOwnMounts: true, hasOwnPids: true });
    const file = looked.vm.files.find((one) => one.path === path);
    expect(file === undefined ? null : behindEndBytes(file)).toBe(BigInt(BYTES - 4096));
    expect(textOf(looked)).toMatch(/in namespaces of its own/);
  });

  it("whose names are an attack is shown as text", async () => {
    const path = newFile("a\n\u001b]0;x\u0007\u001b[31mred\u009b (deleted)");
    const { pid } = await startMapping([path]);
    const looked = await factsOf(pid);
    expect(looked.vm.files.some((one) => one.path.includes("red"))).toBe(true);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there
    expect(textOf(looked)).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  });

  it("with memory without a name is seen with its size", async () => {
    const looked = await factsOf((await startMapping([])).pid);
    const memory = looked.vm.files.find((one) => one.path.startsWith("/memfd:"));
    expect(memory).toMatchObject({ isDeleted: true, sizeBytes: BigInt(2 ** 20) });
  });

  it("that ends while it is looked at is said to have ended, whenever that is", async () => {
    for (const afterMs of [0, 5, 50, 300]) {
      const mapping = await startMapping([newFile()]);
      const looking = collect(
        new ThisHost(),
        { kind: "pid", pid: mapping.pid },
        { kernel: "", isRoot: true },
      );
      setTimeout(() => void mapping.end(), afterMs);
      const { facts } = await looking;
      for (const vm of facts.vms) expect(diagnose(vm, []).verdict.kind).toBe("gone");
    }
  });
});
