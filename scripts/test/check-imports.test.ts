import { describe, expect, it } from "vitest";
import { type ImportRules, importBreaches, importsOf } from "../check-imports.ts";

const rules: ImportRules = {
  parts: { sys: [], vmm: ["sys"], harness: ["sys", "vmm"] },
  faces: { sys: ["sys/src/read.ts", "sys/test/support/"] },
  floors: {
    comment: "not a rule",
    vmm: [["a.ts", "b.ts"], ["kvm/"], ["kvm/x86/", "guest/"], ["index.ts"]],
  },
  packages: {
    comment: "not a rule",
    koffi: ["sys/src/libc.ts"],
    "mmap-io": ["harness/src/engines/mmap-io/"],
  },
};

const breaches = (path: string, text: string) => importBreaches(rules, [{ path, text }]);

describe("importsOf", () => {
  it("finds every form of import", () => {
    const text = [
      'import { a } from "./a.ts";',
      'import type { b } from "../b.ts";',
      'export * from "./c.ts";',
      'import "./d.ts";',
      "import {",
      "  e,",
      '} from "e";',
      'const f = await import("./f.ts");',
      'const g = require("g");',
    ].join("\n");
    expect(importsOf(text)).toEqual(["./a.ts", "../b.ts", "./c.ts", "./d.ts", "e", "./f.ts", "g"]);
  });

  it("takes no text for an import", () => {
    expect(importsOf('// the import of goods from "abroad"\nconst text = "import x";')).toEqual([]);
  });
});

describe("importBreaches", () => {
  it.each([
    ["its own room", "vmm/src/kvm/a.ts", "./b.ts"],
    ["a room on a floor below", "vmm/src/guest/a.ts", "../kvm/b.ts"],
    ["the folder around a room, on a floor below", "vmm/src/kvm/x86/a.ts", "../b.ts"],
    ["a test what it tests", "vmm/test/a.test.ts", "../src/kvm/b.ts"],
    ["an allowed part's index", "vmm/src/kvm/a.ts", "../../../sys/src/index.ts"],
    ["another face", "vmm/src/a.ts", "../../sys/src/read.ts"],
    ["a part's test support, in a test", "vmm/test/kvm/a.test.ts", "../../../sys/test/support/b.ts"],
    ["a package of its own", "harness/src/engines/mmap-io/mapper-main.ts", "mmap-io"],
    ["a package without a rule", "vmm/src/a.ts", "zod"],
    ["Node", "sys/src/a.ts", "node:fs"],
  ])("allows %s", (_what, path, specifier) => {
    expect(breaches(path, `import x from "${specifier}";`)).toEqual([]);
  });

  it.each([
    ["a part above", "sys/src/a.ts", "../../vmm/src/index.ts", "sys may import no other part"],
    ["a part's inside", "harness/src/a.ts", "../../vmm/src/kvm/vm.ts", "only through vmm/src/index.ts"],
    [
      "test support outside tests",
      "vmm/src/a.ts",
      "../../sys/test/support/b.ts",
      "only through sys/src/index.ts",
    ],
    ["a part not listed", "vmm/src/a.ts", "../../harness/src/engine.ts", "vmm may import only sys"],
    ["a room beside", "vmm/src/guest/a.ts", "../kvm/x86/b.ts", "kvm/x86/ is beside it"],
    ["a file beside", "vmm/src/a.ts", "./b.ts", "b.ts is beside it"],
    ["a room above", "vmm/src/kvm/a.ts", "../guest/b.ts", "guest/ is above it"],
    ["a room inside a folder, on a floor above", "vmm/src/kvm/a.ts", "./x86/b.ts", "kvm/x86/ is above it"],
    ["somebody else's package", "vmm/src/a.ts", "koffi", "only sys/src/libc.ts may"],
    ["a package's file", "vmm/src/a.ts", "koffi/indirect", "only sys/src/libc.ts may"],
  ])("refuses %s", (_what, path, specifier, message) => {
    expect(breaches(path, `import x from "${specifier}";`)).toEqual([expect.stringContaining(message)]);
  });

  it("refuses a file in no room", () => {
    expect(breaches("vmm/src/boot/a.ts", "")).toEqual([expect.stringContaining("in no room of vmm")]);
  });

  it("refuses a folder that is no part", () => {
    expect(breaches("tools/a.ts", "")).toEqual([expect.stringContaining("the folder tools is not a part")]);
  });
});
