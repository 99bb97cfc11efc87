/** Texts of patches: which files they are about, and what cannot be applied. */
import { describe, expect, it } from "vitest";
import { changedPart, isSameChange, readPatchText, summaryOf } from "../../src/kernel/patch-text.ts";

const hunk = "@@ -1,2 +1,2 @@\n one\n-two\n+2\n";
const about = (path: string, body = hunk): string => `--- a/${path}\n+++ b/${path}\n${body}`;
const pathsOf = (text: string): readonly string[] => readPatchText("x.patch", text).map(({ path }) => path);

describe("readPatchText", () => {
  it("has the parts of each file, and leaves the message out", () => {
    const text = `Subject: a\n\n--- not a file\n${about("virt/kvm/a.c")}${about("mm/gup.c")}-- \n2.39\n`;
    expect(readPatchText("x.patch", text)).toEqual([
      { path: "virt/kvm/a.c", text: about("virt/kvm/a.c") },
      { path: "mm/gup.c", text: about("mm/gup.c") },
    ]);
  });

  it("takes lines of a hunk for what they are, whatever they look like", () => {
    const body = "@@ -1,2 +1,2 @@\n one\n--- a/removed\n+++ b/added\n";
    expect(pathsOf(about("a/b.c", body))).toEqual(["a/b.c"]);
  });

  it("takes new and removed files, times behind names, and hunks of one line", () => {
    const added =
      "--- /dev/null\t2026-01-01\n+++ b/virt/kvm/new.c\t2026-01-01\n@@ -0,0 +1 @@\n+a\n\\ No newline at end of file\n";
    const removed = "--- a/virt/kvm/old.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n";
    expect(pathsOf(added + removed)).toEqual(["virt/kvm/new.c", "virt/kvm/old.c"]);
  });

  it.each([
    ["", "x.patch is no patch: it has no lines --- and +++"],
    ["int main;\n", "is no patch"],
    ["--- a.c\n+++ a.c\n@@ -1 +1 @@\n-a\n+b\n", "x.patch:1: no file with a folder before it"],
    [about("../../etc/passwd"), "x.patch:1: no file"],
    [about("virt/a.c", "nothing\n"), "x.patch:1: no hunk"],
    [
      about("virt/a.c", "@@ -1,3 +1,2 @@\n one\n-two\n+2\n"),
      "x.patch:3: this hunk has fewer lines than it says",
    ],
    ["GIT binary patch\n", "x.patch:1: a binary patch"],
  ])("refuses %j: %s", (text, why) => {
    expect(() => readPatchText("x.patch", text)).toThrow(why);
  });
});

describe("changedPart", () => {
  it.each([
    ["virt/kvm/kvm_main.c", "kvm"],
    ["arch/x86/kvm/mmu/mmu.c", "kvm"],
    ["include/linux/kvm_host.h", "kvm-header"],
    ["include/uapi/linux/kvm.h", "kvm-header"],
    ["include/trace/events/kvm.h", "kvm-header"],
    ["arch/x86/include/asm/kvm_host.h", "kvm-header"],
    ["arch/x86/include/uapi/asm/kvm_para.h", "kvm-header"],
    ["arch/x86/kernel/kvm.c", "other"],
    ["mm/gup.c", "other"],
    ["include/linux/mm.h", "other"],
    ["arch/arm64/kvm/mmu.c", "none"],
    ["Documentation/virt/kvm/api.rst", "none"],
    ["tools/testing/selftests/kvm/x.c", "none"],
    ["MAINTAINERS", "none"],
  ])("of %s is %s", (path, part) => {
    expect(changedPart(path)).toBe(part);
  });
});

describe("what is changed", () => {
  const filesOf = (text: string) => readPatchText("x.patch", text);

  it("is summed up by file, the first four by name", () => {
    const files = ["a.c", "b.c", "c.c", "d.c", "e.c", "f.c"].map((name) => about(`virt/${name}`));
    expect(summaryOf(filesOf(files[0] ?? ""))).toBe("virt/a.c +1 -1");
    expect(summaryOf(filesOf(files.join("")))).toBe(
      "virt/a.c +1 -1, virt/b.c +1 -1, virt/c.c +1 -1, virt/d.c +1 -1, 2 more",
    );
    expect(summaryOf([])).toBe("");
  });

  it.each([
    [true, "other lines around it, elsewhere", about("virt/a.c", "@@ -7,2 +9,2 @@ f()\n other\n-two\n+2\n")],
    [false, "another file", about("virt/b.c")],
    [false, "another line", about("virt/a.c", "@@ -1,2 +1,2 @@\n one\n-two\n+3\n")],
    [false, "a further file", about("virt/a.c") + about("virt/b.c")],
  ])("is the same: %s, of %s", (same, _what, text) => {
    expect(isSameChange(filesOf(about("virt/a.c")), filesOf(text))).toBe(same);
  });
});
