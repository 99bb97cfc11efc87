/** The answer on one screen: what stands on it, and that it stays one. */
import { describe, expect, it } from "vitest";
import { expectationWith } from "../../../language/test/support/evidence.ts";
import { recordedLinuxGuests } from "../../src/compare/linux-guest.ts";
import { loadScenarios } from "../../src/fixtures.ts";
import { answerWord, briefText, SCREEN_LINES } from "../../src/report/brief.ts";
import { makeReport } from "../../src/report/report.ts";
import { columnsOf, type Style } from "../../src/report/style.ts";
import type { CaseResult } from "../../src/run/result.ts";
import { executionOf, recordedWith, resultWith } from "../support/results.ts";

const styleOf = (widthColumns: number): Style => ({
  widthColumns,
  bold: (text) => text,
  dim: (text) => text,
  verdict: (_kind, text) => text,
});

/** As a run without `--kernel` does. */
const PRINTED_LINES = 8;

const background = {
  documented: [],
  linuxGuests: () => ({ recorded: recordedLinuxGuests(), scenarios: loadScenarios() }),
};

const briefOf = (results: readonly CaseResult[], widthColumns = 100): string =>
  briefText(makeReport([recordedWith(results)], background), styleOf(widthColumns), {
    whole: ["All of it is there."],
    printedLines: PRINTED_LINES,
  });

/** Many cases of several proposals, each with a scenario of its own. */
const many = (changes: Parameters<typeof resultWith>[0] = {}): readonly CaseResult[] =>
  ["apf-guest", "efault-exit", "mce-injection"].flatMap((proposal) =>
    Array.from({ length: 40 }, (_, index) =>
      resultWith({ proposal, scenario: { id: `${proposal}-${index}` }, ...changes }),
    ),
  );

describe("answerWord", () => {
  it.each([
    [["hung", "VMM looping"], "VM hangs"],
    [["killed", "VMM stopped(efault)"], "VM stops"],
    [["killed", "kernel panic"], "guest panics"],
    [["killed", "VMM stopped(efault)", "kernel oops"], "guest oops"],
    [["sigbus(BUS_MCEERR_AR)"], "SIGBUS MCEERR_AR"],
    [["sigbus(SI_KERNEL)"], "SIGBUS SI_KERNEL"],
    [["sigsegv(SEGV_ACCERR)"], "SIGSEGV ACCERR"],
    [["sigbus(unobserved)"], "SIGBUS"],
    [["efault"], "EFAULT"],
    [["value"], "value"],
    [[], ""],
  ])("%j is %s", (words, text) => {
    expect(answerWord(words)).toBe(text);
  });
});

describe("briefText", () => {
  it("has today and the proposals first, each with who changes and where the row is from", () => {
    const text = briefOf(
      many().map((result) => ({ ...result, planned: { ...result.planned, ...executionOf("model") } })),
    );
    const lines = text.split("\n");
    const at = (pattern: RegExp): number => lines.findIndex((line) => pattern.test(line));
    expect(lines[0]).toMatch(/^The host truncates a file/);
    const rows = [
      /^today +VM hangs/,
      /^-EFAULT exit +VM stops/,
      /^SIGBUS injection/,
      /^machine check by KVM/,
    ];
    const places = rows.map(at);
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(places).not.toContain(-1);
    expect(text).toContain("final-efault: changes KVM; Linux 6.12 on 6.12, recorded 2026-11-26");
    expect(text).toContain("sigbus-injection: changes KVM and guest kernel;");
    expect(text).toMatch(/Only the process is harmed, best first: kernel\s+lease 4 of 4, .*today 0 of 4/s);
    // What is not of this run says so, and how it is had again.
    expect(text).toMatch(/^Recorded on KVM of Linux 6\.12\..* in a VM \(fixtures\/linux-guest\)/m);
    expect(text).toContain("endless-loop (recorded, not run here)");
    expect(text).toContain("daxfault run hang-without-apf --kernel debian:6.12");
  });

  it("has what ran here on real KVM below what is recorded", () => {
    const scenario = loadScenarios().find(({ id }) => id === "load-after-truncate");
    const lines = briefOf([...many(), resultWith({ proposal: "apf-guest", scenario: scenario ?? {} })]).split(
      "\n",
    );
    const today = lines.findIndex((line) => line.startsWith("today"));
    expect(lines[today + 2]).toMatch(/^ {2}this run: micro-guest +VM stops/);
  });

  it("says findings of this run with a command, and none that is only recorded beside them", () => {
    const defect = { id: "endless-loop", text: "It loops.", source: "async_pf.c" };
    const text = briefOf(many({ expectation: expectationWith({ defect }) }));
    expect(text).toContain("endless-loop (120 cases): It loops.");
    expect(text).toContain("daxfault run apf-guest-0 --proposal apf-guest --engine kvm");
    expect(text).not.toContain("recorded, not run here");
  });

  it("shows a few cases themselves, and answers no other question", () => {
    const text = briefOf([resultWith(), resultWith({ proposal: "apf-guest" })]);
    expect(text).toMatch(/^scenario/);
    expect(text).not.toContain("The host truncates");
    expect(text).not.toContain("recorded");
    expect(text.split("\n").at(-1)).toBe("All of it is there.");
  });

  it("says that nothing ran, and why", () => {
    const skipped = resultWith({ verdict: { kind: "skip", reason: "no KVM" } });
    expect(briefOf([skipped])).toMatch(/^Nothing ran\.\n\n1 case skipped\n +1 {2}no KVM/);
  });

  it("counts many reasons, with the commonest and what to do", () => {
    const skips = Array.from({ length: 9 }, (_, index) =>
      resultWith({
        scenario: { id: `skipped-${index}` },
        verdict: { kind: "skip", reason: index < 5 ? "no KVM" : `reason ${index}` },
      }),
    );
    expect(briefOf([...many(), ...skips])).toContain(
      "9 cases skipped, for 5 reasons; 5 of them: no KVM (do: mend it)",
    );
  });

  it("says a reason whole, with what to do, and of a very long one as much as fits four lines", () => {
    const reason = `${"the disk is full, ".repeat(8)}Next: free some there`;
    const failed = resultWith({ verdict: { kind: "fail", reason } });
    expect(briefOf([failed]).replaceAll(/\s+/g, " ")).toContain(reason);
    const endless = resultWith({ verdict: { kind: "fail", reason: "console ".repeat(300) } });
    const quoted = briefOf([endless])
      .split("\n")
      .filter((line) => line.includes("console"));
    expect(quoted).toHaveLength(4);
    expect(quoted.at(-1)).toMatch(/…$/);
  });

  it.each([100, 120, 80])("is one screen at %i columns, whatever came out, and within its width", (width) => {
    const defect = { id: "endless-loop", text: "It loops. ".repeat(30), source: "async_pf.c" };
    const results = [
      ...many({ expectation: expectationWith({ defect }) }),
      ...many({ verdict: { kind: "fail", reason: "no ".repeat(200) } }),
      ...many({ verdict: { kind: "skip", reason: "why" } }),
    ].map((result, index) => ({
      ...result,
      planned: {
        ...result.planned,
        scenario: { ...result.planned.scenario, id: `s${index}` },
        argument: `s${index}`,
      },
    }));
    const lines = briefOf(results, width).split("\n");
    expect(lines.length).toBeLessThanOrEqual(width < 100 ? SCREEN_LINES : SCREEN_LINES - PRINTED_LINES);
    const commands = lines.filter((line) => columnsOf(line) > width);
    expect(commands.filter((line) => !/daxfault run|:/.test(line))).toEqual([]);
    expect(lines.join("\n")).toMatch(/and [0-9]+ more cases/);
    expect(lines.join("\n")).toContain("✗ fail: ");
  });

  it("does not take a model's case for one that ran on KVM", () => {
    const modelled = many().map((result) => ({
      ...result,
      planned: { ...result.planned, ...executionOf("model") },
    }));
    expect(briefOf(modelled)).not.toContain("micro-guest");
  });
});
