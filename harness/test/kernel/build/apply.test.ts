/** Patches on a folder of sources, with the real patch(1). */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { describe, expect, it } from "vitest";
import { applyPatches } from "../../../src/kernel/build/apply.ts";
import { readPatchText } from "../../../src/kernel/patch-text.ts";
import type { Patch } from "../../../src/kernel/patches.ts";
import { caseFolder } from "../../support/folders.ts";

const hasPatch = (process.env.PATH ?? "")
  .split(delimiter)
  .some((folder) => existsSync(join(folder, "patch")));

const source = "one\ntwo\nthree\nfour\nfive\n";
const change = (from: string, to: string): string =>
  `--- a/virt/kvm/a.c\n+++ b/virt/kvm/a.c\n@@ -2,3 +2,3 @@\n two\n-${from}\n+${to}\n four\n`;

function patchOf(name: string, text: string): Patch {
  return { name, path: `./${name}`, sha256: "0".repeat(64), files: readPatchText(name, text) };
}

async function apply(...patches: readonly Patch[]): Promise<string> {
  const work = caseFolder();
  mkdirSync(join(work, "source/virt/kvm"), { recursive: true });
  writeFileSync(join(work, "source/virt/kvm/a.c"), source);
  const options = { source: join(work, "source"), version: "6.99.5-1", work, logPath: join(work, "log") };
  await applyPatches(patches, { ...options, signal: new AbortController().signal });
  return readFileSync(join(work, "source/virt/kvm/a.c"), "utf8");
}

describe.skipIf(!hasPatch)("applyPatches (needs patch)", () => {
  it("applies one after the other", async () => {
    const text = await apply(
      patchOf("a.patch", change("three", "3")),
      patchOf("b.patch", change("3", "III")),
    );
    expect(text).toBe(source.replace("three", "III"));
  });

  it("says which hunk is rejected, and where", async () => {
    const second = "@@ -5 +5 @@\n-five\n+5\n";
    await expect(apply(patchOf("a.patch", change("drei", "3") + second))).rejects.toThrow(
      "./a.patch does not apply to Linux 6.99.5-1: virt/kvm/a.c:2: this hunk was rejected\n" +
        "@@ -2,3 +2,3 @@\n two\n-drei\n+3\n four",
    );
  });

  it("says that it is in the sources already, and that there is no such file", async () => {
    await expect(apply(patchOf("a.patch", change("drei", "three")))).rejects.toThrow(
      /does not apply to Linux 6\.99\.5-1: it is in these sources already$/,
    );
    const other = change("a", "b").replaceAll("a.c", "b.c");
    await expect(apply(patchOf("a.patch", other))).rejects.toThrow(
      /does not apply to Linux 6\.99\.5-1: there is no file virt\/kvm\/b\.c$/,
    );
  });
});
