import { describe, expect, it } from "vitest";
import type { Vmm } from "../../../language/src/index.ts";
import { scenarioWith } from "../../../language/test/support/cases.ts";
import {
  type Changes,
  evidenceWith,
  expectationWith,
  place,
} from "../../../language/test/support/evidence.ts";
import type { ComparedRow } from "../../src/compare/comparison.ts";
import { loadScenarios } from "../../src/fixtures.ts";
import { answersText, comparedNote } from "../../src/report/answers.ts";
import { cellLines } from "../../src/report/cells.ts";
import { cutGrid, gridWidth, renderGrid } from "../../src/report/grid.ts";
import { makeReport } from "../../src/report/report.ts";
import { type Style, wrap } from "../../src/report/style.ts";
import {
  deviationsText,
  findingsText,
  reportText,
  skippedText,
  summaryText,
  tableText,
  tailText,
} from "../../src/report/text.ts";
import { recordedCase } from "../support/linux-cases.ts";
import { executionOf, recordedWith, resultWith } from "../support/results.ts";

const styleOf = (widthColumns: number): Style => ({
  widthColumns,
  bold: (text) => text,
  dim: (text) => text,
  verdict: (_kind, text) => text,
});
const style = styleOf(160);

const value = { kind: "value", value: 1n } as const;
function cell(
  vmm: readonly Vmm[] | null,
  last: object,
  rest: Changes["observations"] = {},
): readonly string[] {
  const observations = { accesses: { victim: { "load#1": value, "load#2": last } }, vmm, ...rest };
  return cellLines(resultWith({ evidence: evidenceWith({ observations } as Changes) }));
}
const efault: Vmm = { kind: "stopped", reason: "efault", at: place };
const looping: Vmm = { kind: "looping", faultsPerSecond: 22134.4, at: place };

describe("cellLines", () => {
  it.each([
    [
      "an exit",
      [efault],
      { kind: "killed" },
      ["✓ EFAULT at rip 0x41000,", "  cpl 3, gpa 0x40001000,", "  hva 0x7f0000001000"],
    ],
    ["a loop", [looping], { kind: "hung" }, ["✓ looping: 22,134 faults/s"]],
    ["SIGBUS", null, { kind: "sigbus", code: "unobserved" }, ["✓ SIGBUS"]],
    ["SIGSEGV", null, { kind: "sigsegv", code: "SEGV_ACCERR" }, ["✓ SIGSEGV (SEGV_ACCERR)"]],
    ["an errno", null, { kind: "errno", errno: "EIO" }, ["✓ EIO to the task"]],
    ["a short read", null, { kind: "short", bytes: 4 }, ["✓ short: 4 bytes"]],
    ["zeros", [{ kind: "running" }], { kind: "zero" }, ["✓ zeros"]],
    ["a value", [{ kind: "running" }], value, ["✓ value"]],
    ["stale bytes", [{ kind: "running" }], { kind: "stale", value: 5n }, ["✓ stale 0x5"]],
    [
      "a loop that ended",
      [looping, { kind: "running" }],
      { kind: "zero" },
      ["✓ looping: 22,134 faults/s", "  then: zeros"],
    ],
    [
      "an exit without a place",
      [{ kind: "stopped", reason: "mmio", at: null }],
      { kind: "killed" },
      ["✓ MMIO exit"],
    ],
    [
      "a place outside every slot",
      [{ ...efault, at: { ...place, gpa: null, hva: null } }],
      { kind: "killed" },
      ["✓ EFAULT at rip 0x41000,", "  cpl 3, gpa none,", "  hva none"],
    ],
  ] as const)("shows %s", (_what, vmm, last, lines) => {
    expect(cell(vmm, last)).toEqual(lines);
  });

  it("shows how a counting task got on", () => {
    const { victim, host } = scenarioWith({}).actors;
    if (victim === undefined || host === undefined) throw new Error("no such actors");
    const scenario = {
      actors: { victim, counter: { in: "guest-task", steps: [{ verb: "count" }] }, host },
    } as const;
    const evidence = evidenceWith({ observations: { bystanders: { counter: "starved" } } });
    expect(cellLines(resultWith({ scenario, evidence })).at(-1)).toBe("  counter: starved");
  });

  it("names a few tasks, and counts many", () => {
    const { victim } = scenarioWith({}).actors;
    if (victim === undefined) throw new Error("no such actor");
    const lines = (count: number): readonly string[] => {
      const names = Array.from({ length: count }, (_, n) => `task-${n + 1}`);
      const seen = (n: number) => (n === 0 ? { kind: "zero" } : { kind: "sigbus", code: "BUS_ADRERR" });
      const accesses = Object.fromEntries(
        names.map((name, n) => [name, { "load#1": value, "load#2": seen(n) }]),
      );
      const evidence = evidenceWith({
        observations: { vmm: [{ kind: "running" }], accesses },
      } as unknown as Changes);
      const actors = Object.fromEntries(names.map((name) => [name, victim]));
      return cellLines(resultWith({ scenario: { actors }, evidence }));
    };
    expect(lines(2)).toEqual(["✓ task-1: zeros", "  task-2: SIGBUS (BUS_ADRERR)"]);
    expect(lines(100)).toEqual(["✓ 1 task: zeros", "  99 tasks: SIGBUS (BUS_ADRERR)"]);
  });

  it("names the engine where a cell holds several", () => {
    const loop = resultWith({ evidence: evidenceWith({ observations: { vmm: [looping] } }) });
    expect(cellLines(loop, "kvm")).toEqual(["✓ kvm:", "  looping: 22,134 faults/s"]);
    const modelled = evidenceWith({ observations: { vmm: [{ ...looping, faultsPerSecond: 0 }] } });
    expect(cellLines(resultWith({ evidence: modelled }), "kvm")).toEqual(["✓ kvm: looping"]);
  });

  it("shows what kept a case from showing anything", () => {
    const verdict = { kind: "inconclusive", cause: "timeout", reason: "too long" } as const;
    expect(cellLines(resultWith({ verdict, evidence: null }))).toEqual(["? timeout"]);
  });
});

describe("tableText", () => {
  const results = [
    resultWith({ proposal: "apf-loop", evidence: evidenceWith({ observations: { vmm: [looping] } }) }),
    resultWith(),
    resultWith({ scenario: { id: "store-after-truncate" }, verdict: { kind: "fail", reason: "r" } }),
    resultWith({ scenario: { id: "skipped" }, verdict: { kind: "skip", reason: "no KVM" } }),
  ];

  it("has a row a scenario and a column a proposal, in the presets' order", () => {
    expect(tableText(results, style).split("\n")).toEqual([
      "scenario              efault-exit               apf-loop",
      expect.stringMatching(/^─+$/),
      "load-after-truncate   ✓ EFAULT at rip 0x41000,  ✓ looping: 22,134 faults/s",
      "                        cpl 3, gpa 0x40001000,",
      "                        hva 0x7f0000001000",
      expect.stringMatching(/^─+$/),
      "store-after-truncate  ✗ EFAULT at rip 0x41000,",
      "                        cpl 3, gpa 0x40001000,",
      "                        hva 0x7f0000001000",
      "",
      "✓ pass  ✗ fail  ≈ xfail  ! xpass  ? inconclusive",
    ]);
  });

  it("never exceeds the width, down to the list form", () => {
    for (const width of [48, 60, 76, 78, 100, 160]) {
      const lines = tableText(results, styleOf(width)).split("\n").slice(0, -2);
      for (const line of lines) expect(line.length, `${width}: ${line}`).toBeLessThanOrEqual(width);
    }
    expect(tableText(results, styleOf(60))).toContain("  efault-exit   ✓ EFAULT at rip 0x41000,");
  });

  it("says so where nothing ran", () => {
    expect(tableText([], style)).toBe("Nothing ran.");
  });
});

describe("the lists below the table", () => {
  it("count skipped cases by reason, with the fix", () => {
    const skip = { kind: "skip", reason: "no KVM" } as const;
    const text = skippedText(
      [resultWith({ verdict: skip }), resultWith({ verdict: skip, proposal: "apf-loop" })],
      style,
    );
    expect(text).toContain("2 cases skipped\n    2  no KVM\n       fix: mend it");
    expect(text).toContain("daxfault run load-after-truncate --proposal efault-exit --engine kvm");
    expect(skippedText([resultWith()], style)).toBeNull();
  });

  it.each([
    { kind: "fail", reason: "r" },
    { kind: "xpass", reason: "r" },
    { kind: "xfail", reason: "r" },
    { kind: "inconclusive", cause: "vacuous", reason: "r" },
  ] as const)("end every line that is not a pass with a replay command: $kind", (verdict) => {
    expect(deviationsText([resultWith({ verdict })], style)).toMatch(
      /daxfault run load-after-truncate --proposal efault-exit --engine kvm$/,
    );
  });

  it("say nothing of passes", () => {
    expect(deviationsText([resultWith()], style)).toBeNull();
  });

  it("says once what kept an engine from all of its cases", () => {
    const verdict = { kind: "inconclusive", cause: "engine-error", reason: "it did not come up" } as const;
    const text = deviationsText([resultWith({ verdict }), resultWith({ verdict })], style) ?? "";
    expect(text.match(/it did not come up/g)).toHaveLength(1);
    expect(text).toMatch(/\(engine-error\): 2 cases on \S+\n.*\n {4}replay: such as daxfault run/);
    const other = { ...verdict, reason: "another" };
    expect(deviationsText([resultWith({ verdict }), resultWith({ verdict: other })], style)).toMatch(
      /it did not come up.*another/s,
    );
  });

  it("name a defect that was seen once, however many cases showed it", () => {
    const defect = { id: "endless-loop", text: "It loops.", source: "async_pf.c" };
    const result = resultWith({ expectation: expectationWith({ defect }) });
    const text = findingsText([result, result], style);
    expect(text).toContain("endless-loop (2 cases): It loops.");
    expect(
      findingsText(
        [resultWith({ verdict: { kind: "fail", reason: "r" }, expectation: expectationWith({ defect }) })],
        style,
      ),
    ).toBeNull();
  });

  it("name the loop that was seen where no rule says anything of the case", () => {
    const evidence = evidenceWith({
      observations: { vmm: [{ kind: "looping", faultsPerSecond: 9, at: place }] },
    });
    const verdict = { kind: "inconclusive", cause: "vacuous", reason: "no expectation" } as const;
    const text = findingsText([resultWith({ verdict, expectation: null, evidence })], style);
    expect(text).toMatch(/^Findings: defects of this kernel that were seen\n {2}endless-loop \(1 case\)/);
    expect(findingsText([resultWith({ verdict, expectation: null })], style)).toBeNull();
  });

  it("do not count what only the model did", () => {
    const defect = { id: "endless-loop", text: "It loops.", source: "async_pf.c" };
    const result = resultWith({ expectation: expectationWith({ defect }) });
    const modelled = { ...result, planned: { ...result.planned, ...executionOf("model") } };
    expect(findingsText([modelled], style)).toBeNull();
    expect(findingsText([modelled, result], style)).toContain("(1 case)");
  });

  it("name what needs attention once more behind the scorecard, gravest first, a line a reason", () => {
    const results = [
      resultWith({
        scenario: { id: "b" },
        verdict: { kind: "inconclusive", cause: "timeout", reason: "too long" },
      }),
      resultWith(),
      resultWith({ scenario: { id: "c" }, verdict: { kind: "fail", reason: `no\n${"x".repeat(100)}` } }),
    ];
    const lines = reportText(makeReport([recordedWith(results)], { documented: [] }), styleOf(60)).split(
      "\n",
    );
    expect(lines.slice(-10)).toEqual([
      "✗ fail: c x efault-exit x kvm",
      `    no ${"x".repeat(52)}…`,
      expect.stringMatching(/^ {4}\S*daxfault run c --proposal efault-exit --engine kvm$/),
      "? inconclusive (timeout): b x efault-exit x kvm",
      "    too long",
      expect.stringMatching(/^ {4}\S*daxfault run b --proposal efault-exit --engine kvm$/),
      "",
      "1 pass, 1 fail, 1 inconclusive in 1.0 s. Exit code 1:",
      "  something is not as expected (a fail, an xpass, or a real",
      "  run that the model excludes).",
    ]);
    expect(tailText([resultWith()], style)).toBeNull();
  });

  it("name only some of many once more, and say how many are left", () => {
    const fail = resultWith({ verdict: { kind: "fail", reason: "r" } });
    const lines =
      tailText(
        Array.from({ length: 100 }, () => fail),
        style,
      )?.split("\n") ?? [];
    expect(lines).toHaveLength(25);
    expect(lines.at(-1)).toBe("and 92 more cases, listed above the scorecard");
  });

  it("sum up", () => {
    const results = [
      resultWith(),
      resultWith({ scenario: { id: "b" }, verdict: { kind: "xfail", reason: "" } }),
    ];
    const report = makeReport([recordedWith(results, { durationMs: 1234 })], { documented: [] });
    expect(summaryText(report, style)).toBe(
      "1 pass, 1 xfail in 1.2 s. Exit code 0: everything went as expected.",
    );
  });
});

describe("renderGrid", () => {
  it("draws a rule only beside rows of several lines", () => {
    const grid = {
      head: ["a", "b"],
      rows: [
        [["1"], ["2"]],
        [["3"], ["4"]],
        [["5"], ["6", "7"]],
      ],
    };
    expect(gridWidth(grid)).toBe(4);
    expect(renderGrid(grid, style)).toBe(["a  b", "────", "1  2", "3  4", "────", "5  6", "   7"].join("\n"));
  });
});

describe("cutGrid", () => {
  const grid = {
    head: ["id", "aaa", "bbb", "ccc"],
    rows: [
      [["x"], ["1"], [], ["3"]],
      [["y"], [], ["2"], []],
    ],
  };

  it("leaves a grid that fits alone", () => {
    expect(cutGrid(grid, 17)).toEqual([grid]);
  });

  it("repeats the first column, and leaves out rows that have nothing in a piece", () => {
    expect(cutGrid(grid, 12)).toEqual([
      {
        head: ["id", "aaa", "bbb"],
        rows: [
          [["x"], ["1"], []],
          [["y"], [], ["2"]],
        ],
      },
      { head: ["id", "ccc"], rows: [[["x"], ["3"]]] },
    ]);
    expect(cutGrid(grid, 1)).toHaveLength(3);
  });
});

describe("wrap", () => {
  it("breaks at blanks, and leaves longer words whole", () => {
    expect(wrap("aa bb cc dddddddd e", 5)).toEqual(["aa bb", "cc", "dddddddd", "e"]);
    expect(wrap("", 5)).toEqual([]);
  });
});

describe("the answers on Linux guests", () => {
  const rows: readonly ComparedRow[] = [
    {
      title: "today",
      proposal: "apf-guest",
      kernels: "6.12 on 6.12",
      source: "this run",
      day: null,
      host: "6.12.1",
      changes: [],
      cells: [["hung", "VMM looping"], ["hung", "VMM looping"], [], ["killed", "kernel panic"]],
    },
    {
      title: "machine check by KVM",
      proposal: "kvm-mce-injection",
      kernels: "6.12 on 6.12 with its patch",
      source: "recorded",
      day: "2026-11-26",
      host: "6.12.1",
      changes: ["KVM"],
      cells: [
        ["sigbus(BUS_MCEERR_AR)"],
        ["sigbus(BUS_MCEERR_AR)"],
        ["killed", "VMM stopped(efault)"],
        ["killed", "VMM stopped(efault)"],
      ],
    },
  ];

  it("fit 100 columns in one piece: what became of VMM or kernel stands for the access", () => {
    const text = answersText(rows, styleOf(100)) ?? "";
    const lines = text.split("\n");
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100);
    expect(lines.filter((line) => line.includes("write(2) from it"))).toHaveLength(1);
    expect(lines[3]).toMatch(/^today +VMM looping +VMM looping +kernel panic$/);
    expect(text).toMatch(/machine check by KVM +sigbus +sigbus +VMM stopped +VMM stopped/);
    expect(text).toMatch(/kvm-mce-injection +\(BUS_MCEERR_AR\) +\(BUS_MCEERR_AR\) +\(efault\) +\(efault\)/);
  });

  it("say which rows ran and which are recorded", () => {
    const noteOf = (some: readonly ComparedRow[]): string => comparedNote(some);
    expect(noteOf(rows)).toMatch(/^Of this run: apf-guest; the other rows are recorded/);
    expect(noteOf(rows.slice(1))).toMatch(/^Nothing of it ran here/);
    expect(noteOf(rows.slice(0, 1))).toBe("All of it ran here.");
    expect(answersText([], styleOf(100))).toBeNull();
  });

  it("stand in a report of several proposals, and not in that of one", () => {
    const linuxGuests = () => ({
      recorded: [
        {
          about: "",
          recorded: "2026-11-26",
          host: "6.12.1",
          guest: "6.12.1",
          microGuest: "kvm_amd-6.12",
          cases: [recordedCase("load-after-truncate", "apf-guest", { last: "hung", vmm: "looping" })],
        },
      ],
      scenarios: loadScenarios(),
    });
    const reportOf = (...proposals: readonly string[]): string => {
      const results = proposals.map((proposal) => resultWith({ proposal }));
      return reportText(makeReport([recordedWith(results)], { documented: [], linuxGuests }), styleOf(100));
    };
    expect(reportOf("apf-loop", "efault-exit")).toContain("The answers, on real KVM: ");
    expect(reportOf("apf-loop")).not.toContain("The answers");
  });
});
