import { describe, expect, it } from "vitest";
import { tidyBreaches } from "../check-tidy.ts";
import type { SourceFile } from "../sources.ts";

const config: SourceFile = {
  path: "vitest.config.ts",
  text: 'include: ["{harness,sys}/test/**/*.test.ts"],',
};
const breaches = (...files: SourceFile[]) => tidyBreaches([config, ...files]);

describe("tidyBreaches", () => {
  it("is silent about a tidy repository", () => {
    expect(
      breaches(
        { path: "harness/test/a.test.ts", text: 'it("works", () => {});' },
        { path: "harness/test/support/cases.ts", text: "export const describe = 1;" },
        { path: "harness/src/a.ts", text: 'read("fixtures/kinds");\nconst path = "/tmp/x";' },
        { path: "fixtures/kinds/stock.json", text: "{}" },
        { path: "harness/src/b.ts", text: 'const signs = "\u2026 \u2500 \u2713 \u00d7 \u2286";' },
        { path: "README.md", text: "Any character may stand here: \u2026" },
      ),
    ).toEqual([]);
  });

  it("takes wide fences, wide code and tables of short cells", () => {
    const wide = "x ".repeat(100);
    const text = ["```", wide, "```", `See \`${wide}\`.`, `| ${"a | ".repeat(60)}`].join("\n");
    expect(breaches({ path: "docs/a.md", text })).toEqual([]);
    expect(breaches({ path: "vmm/README.md", text: wide })).toEqual([]);
  });

  it.each([
    ["prose that is too wide", "docs/a.md", `${"x ".repeat(60)}x`, "121 columns of prose"],
    ["a sentence in a cell", "README.md", `| a | ${"x".repeat(81)} |`, "a cell of 81 columns"],
    ["a test outside the collected folders", "tools/test/a.test.ts", 'it("x", f);', "does not collect"],
    ["a test under another name", "harness/test/a.ts", 'describe("x", f);', "does not collect"],
    ["a test that stands alone", "harness/test/a.test.ts", "it.only(f)", "stands alone"],
    ["work left over", "harness/src/a.ts", "// TODO: later", "do it"],
    ["a path of one machine", "harness/src/a.ts", 'const x = "/home/me/x";', "path of one machine"],
    ["a look-alike character", "harness/src/a.ts", "const \u0430 = 1;", "U+0430"],
    ["a blank that is none", "harness/src/a.ts", "const a =\u00a01;", "U+00a0"],
    ["a character that turns the text round", "harness/src/a.ts", "// \u202e", "U+202e"],
    ["a fixture that nobody reads", "fixtures/old/a.json", "{}", "no code mentions"],
  ])("reports %s", (_what, path, text, message) => {
    expect(breaches({ path, text }).join("\n")).toContain(message);
  });
});
