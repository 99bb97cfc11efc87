/** The formats for other programs and for mail: their grammar, and that nothing gets out of its place. */
import { describe, expect, it } from "vitest";
import { evidenceWith, expectationWith, place } from "../../../language/test/support/evidence.ts";
import { junitText } from "../../src/report/junit.ts";
import { ktapText } from "../../src/report/ktap.ts";
import { mailText } from "../../src/report/mail.ts";
import { markdownEscape, markdownText } from "../../src/report/markdown.ts";
import { escapeMarkup } from "../../src/report/markup.ts";
import { makeReport } from "../../src/report/report.ts";
import type { CaseResult } from "../../src/run/result.ts";
import { recordedWith, resultWith } from "../support/results.ts";

const nasty = `<script>alert(1)</script> & "it's" | \`x\` # ]]> \u0000\n* [a](b)`;
const defect = { id: "endless-loop", text: "KVM retries for ever.", source: "virt/kvm/async_pf.c" };
const loop = resultWith({
  scenario: { id: "a-loop" },
  proposal: "apf-loop",
  expectation: expectationWith({ defect }),
  evidence: evidenceWith({
    observations: { vmm: [{ kind: "looping", faultsPerSecond: 25_005, at: place }] },
  }),
});
const results: readonly CaseResult[] = [
  loop,
  resultWith({ scenario: { id: "b" }, verdict: { kind: "fail", reason: nasty } }),
  resultWith({ scenario: { id: "b" }, proposal: "native", verdict: { kind: "skip", reason: nasty } }),
  resultWith({ scenario: { id: "c" }, verdict: { kind: "xfail", reason: nasty } }),
  resultWith({
    scenario: { id: "d" },
    evidence: null,
    verdict: { kind: "inconclusive", cause: "timeout", reason: "too long" },
  }),
];
const report = makeReport([recordedWith(results)], { documented: [] });
const partial = makeReport([recordedWith([loop], {}, { cases: 2 })], { documented: [] });

describe("junitText", () => {
  it("counts as JUnit does, and escapes", () => {
    const text = junitText(report);
    expect(text).toMatch(
      /^<\?xml version="1.0" encoding="UTF-8"\?>\n<testsuites name="daxfault" tests="5" failures="1" errors="1" skipped="2" /,
    );
    expect(text.match(/<testcase /g)).toHaveLength(5);
    expect(text).toContain("&lt;script&gt;");
    expect(text).not.toMatch(/<script/);
    // Every tag that opens is closed.
    const open: string[] = [];
    for (const [, slash, name, rest] of text.matchAll(/<(\/?)([a-z]+)((?:[^<>"]|"[^"<>]*")*)>/g)) {
      if (slash === "/") expect(open.pop()).toBe(name);
      else if (rest?.endsWith("/") !== true) open.push(name ?? "");
    }
    expect(open).toEqual([]);
  });

  it("makes a partial run an error", () => {
    expect(junitText(partial)).toContain('<error type="partial" message="1 of 2 cases');
  });
});

/** The grammar of Documentation/dev-tools/ktap.rst, as far as a reader needs it. */
function readKtap(text: string): { ok: number; notOk: number; skip: number; xfail: number } {
  const lines = text.trimEnd().split("\n");
  expect(lines.shift()).toBe("KTAP version 1");
  const seen = { ok: 0, notOk: 0, skip: 0, xfail: 0 };
  const expected = new Map<string, number>();
  const next = new Map<string, number>();
  for (const line of lines) {
    const indent = /^ */.exec(line)?.[0] ?? "";
    const body = line.slice(indent.length);
    const plan = /^1\.\.(\d+)$/.exec(body);
    const result = /^(not )?ok (\d+)( [^#]+)?( # (SKIP|XFAIL)\b.*)?$/.exec(body);
    if (plan !== null) {
      expected.set(indent, Number(plan[1]));
      next.set(indent, 1);
    } else if (result !== null) {
      expect(Number(result[2])).toBe(next.get(indent));
      next.set(indent, Number(result[2]) + 1);
      if (indent === "") expect(next.get("    ")).toBe((expected.get("    ") ?? 0) + 1);
      else if (result[5] === "SKIP") seen.skip += 1;
      else if (result[5] === "XFAIL") seen.xfail += 1;
      else if (result[1] === undefined) seen.ok += 1;
      else seen.notOk += 1;
    } else {
      expect(body).toMatch(/^(#|KTAP version 1$)/);
    }
  }
  expect(next.get("")).toBe((expected.get("") ?? 0) + 1);
  return seen;
}

describe("ktapText", () => {
  it("follows the grammar, plans included", () => {
    expect(readKtap(ktapText(report))).toEqual({ ok: 1, notOk: 2, skip: 1, xfail: 1 });
  });

  it("ends a partial run with not ok", () => {
    expect(ktapText(partial)).toMatch(/not ok 2 the-run-is-complete\n$/);
  });
});

describe("mailText", () => {
  const text = mailText(report, ["QEMU 11.1.3"]);

  it("keeps to 72 columns, but for words that are longer", () => {
    const long = text.split("\n").filter((line) => line.length > 72);
    for (const line of long) expect(line.trim().split(" ")).toHaveLength(1);
  });

  it("has what a reader needs: machine, defect, steps, expected, seen, counters, command", () => {
    for (const part of [
      "Linux 6.18.0",
      "QEMU 11.1.3",
      "endless-loop (1 case): KVM retries for ever.",
      "victim (guest task, CPL 3): load 0x1000 8; signal touched; await cut;",
      "victim.last: killed",
      "VMM: looping, 25005 faults/s at rip 0x41000, cpl 3",
      "pf_taken=12",
      "3.5 ms  host      truncate: to 0 bytes",
      "daxfault run a-loop --proposal apf-loop --engine kvm",
    ]) {
      expect(text.replaceAll(/\s+/g, " ")).toContain(part.replaceAll(/\s+/g, " "));
    }
  });
});

describe("the head of mailText", () => {
  it("does not call a defect that was expected simply expected: its reader knows nothing of verdicts", () => {
    const mailOf = (result: CaseResult): string =>
      mailText(makeReport([recordedWith([result])], { documented: [] }));
    expect(mailOf(loop)).toContain("\n1 pass: as expected of this kernel, a defect included.\n");
    expect(mailOf(loop)).toContain("Verdict: pass: as expected, and the defect endless-loop shows");
    expect(mailOf(resultWith())).toContain("\n1 pass: everything went as expected.\n");
  });
});

describe("markdownText", () => {
  it("lets no text of a case become markup", () => {
    const text = markdownText(report);
    expect(text).toContain("## daxfault: something is not as expected");
    expect(text).not.toMatch(/(?<!\\)<script/);
    expect(text).toContain("\\<script\\>");
    // Each row of a table has as many cells as its head.
    for (const block of text.split("\n\n").filter((part) => part.startsWith("|"))) {
      const widths = block.split("\n").map((row) => row.replaceAll("\\|", "").split("|").length);
      expect(new Set(widths).size).toBe(1);
    }
  });

  it("marks a partial run", () => {
    expect(markdownText(partial)).toContain("**Part of the run only:**");
  });

  it("escapes", () => {
    expect(markdownEscape("a_b*c\n<d>")).toBe("a\\_b\\*c \\<d\\>");
  });
});

describe("escapeMarkup", () => {
  it("leaves nothing that ends an attribute or an element, and nothing that XML forbids", () => {
    expect(escapeMarkup(`<a b="c" d='e'>&\u0000\ud800`)).toBe(
      "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;\ufffd\ufffd",
    );
    expect(escapeMarkup("\u{1f600} \u00e9\n")).toBe("\u{1f600} \u00e9\n");
  });
});
