import { describe, expect, it } from "vitest";
import { tidyBreaches } from "../check-tidy.ts";
import type { SourceFile } from "../sources.ts";

const config: SourceFile = {
  path: "vitest.config.ts",
  text: 'include: ["{harness,sys}/test/**/*.test.ts"],',
};
const breaches = (...files: SourceFile[]) => {
  const paths = files.map(({ path }) => path);
  const exists = (path: string) => paths.some((one) => one === path || one.startsWith(`${path}/`));
  return tidyBreaches({ files: [config, ...files], exists });
};
const page = (...lines: string[]): string =>
  ["# A page", "", "For people who read.", "", ...lines].join("\n");

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
    const text = page("```", wide, "```", `See \`${wide}\`.`, `| ${"a | ".repeat(60)}`);
    expect(breaches({ path: "docs/a.md", text })).toEqual([]);
    expect(breaches({ path: "vmm/README.md", text: wide })).toEqual([]);
  });

  it("takes links and names of files that lead somewhere", () => {
    const text = page(
      "## What to do, today",
      "[there](b.md#a-page), [here](#what-to-do-today), [elsewhere](https://example.org/x), `harness/test`,",
      "`scripts/a --wide`, `scripts/*.sh`, `fs/fuse/dax.c`, `harness/src/NAME/a.ts`, `harness/test/a`, `[no](link.md)`",
      "```",
      "[no](link.md) `docs/none.md`",
      "```",
    );
    const others = ["harness/test/a.test.ts", "scripts/a"].map((path) => ({ path, text: "" }));
    expect(breaches({ path: "docs/a.md", text }, { path: "docs/b.md", text: page() }, ...others)).toEqual([]);
  });

  it.each([
    [
      "a page that does not say whom it is for",
      "docs/a.md",
      "# A\n\nIt serves files.",
      "whom the page is for",
    ],
    ["a page without a title", "docs/a.md", "For people.\n\n# A", "whom the page is for"],
    ["a link that leads nowhere", "docs/a.md", page("[a](../b.md)"), "leads nowhere: ../b.md"],
    ["a link to no heading", "docs/a.md", page("[a](a.md#b)"), "no heading for the link a.md#b"],
    ["a file that is not there", "README.md", "See `docs/none.md`.", "no such file: docs/none.md"],
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
