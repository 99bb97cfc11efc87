import { describe, expect, it } from "vitest";
import {
  propertyRows,
  proposals,
  type ScoreCell,
  type Share,
  scorecard,
} from "../../../language/src/index.ts";
import { contradictionsText, scorecardText, scoreSign, scoreText } from "../../src/report/scorecard.ts";
import type { Style } from "../../src/report/style.ts";

const plain = (text: string): string => text;
const style = (widthColumns: number): Style => ({
  widthColumns,
  bold: plain,
  dim: plain,
  verdict: (_kind, text) => text,
});

const undecided = (proposal: string): readonly ScoreCell[] =>
  scorecard([proposal], { cases: [], documented: [] });
const share = (holds: Share["holds"]): Share => ({
  holds,
  cases: 2,
  places: ["kvm on Linux 6.12"],
  exhaustive: false,
});

/** A row in which this property has this cell. */
function row(proposal: string, property: string, changes: Partial<ScoreCell>): readonly ScoreCell[] {
  return undecided(proposal).map((cell) => (cell.property === property ? { ...cell, ...changes } : cell));
}

const cells = {
  real: { holds: "yes", by: "real", real: share("yes"), model: null },
  model: { holds: "no", by: "model", real: null, model: share("no") },
  both: { holds: "partly", by: "both", real: share("yes"), model: share("partly") },
  document: { holds: "no", by: "document", source: "a book" },
} as const;
const contradiction = { scenario: "s", place: "kvm on Linux 6.12", real: "no", model: "yes" } as const;

describe("a cell", () => {
  const [any] = undecided("native");
  if (any === undefined) throw new Error("no cell");

  it.each([
    ["real", "✓ ", "yes (real yes in 2)"],
    ["model", "✗m", "no (model no in 2)"],
    ["both", "±+", "partly (real yes in 2, model partly in 2)"],
    ["document", "✗d", "no, documented"],
  ] as const)("decided by %s", (by, sign, text) => {
    const cell = { ...any, ...cells[by] };
    expect(scoreSign(cell)).toBe(sign);
    expect(scoreText(cell)).toBe(text);
  });

  it("that a real run and the model contradict each other in shows both", () => {
    const cell = { ...any, ...cells.both, contradictions: [contradiction] };
    expect(scoreSign(cell)).toBe("≠ ");
    expect(scoreText(cell)).toBe("contradiction (real yes in 2, model partly in 2)");
  });
});

describe("the table", () => {
  it("has proposals as rows, in one piece of 80 columns whatever they are", () => {
    const all = proposals.flatMap(({ id }) => undecided(id).map((cell) => ({ ...cell, ...cells.model })));
    const lines = scorecardText({ cells: all, proposals: [] }, style(80))?.split("\n") ?? [];
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
    for (const { id } of proposals) expect(lines.filter((line) => line.startsWith(`${id} `))).toHaveLength(1);
    for (const { id } of propertyRows) expect(lines.filter((line) => line.endsWith(id))).toHaveLength(1);
  });

  it("puts each sign below the stem of its property", () => {
    const text = scorecardText(
      {
        cells: [...row("native", "contained", cells.real), ...row("apf-loop", "prevented", cells.model)],
        proposals: [],
      },
      style(80),
    );
    expect(text?.split("\n").slice(1, 5)).toEqual([
      "          contained",
      "          │  prevented",
      "native    ✓  ·",
      "apf-loop  ·  ✗m",
    ]);
    expect(text).toContain("Real: kvm on Linux 6.12.");
    expect(text).toContain(`Left out: ${propertyRows.length - 2} properties`);
  });

  it("is a list where the terminal is narrower than it", () => {
    const text = scorecardText(
      {
        cells: [...row("native", "contained", cells.real), ...row("apf-loop", "prevented", cells.model)],
        proposals: [],
      },
      style(20),
    );
    expect(text).toContain("native\n  yes: contained\napf-loop\n  no: preventedm\n");
  });

  it("has the figures behind the words", () => {
    const text = scorecardText(
      { cells: row("pre-content", "host-unharmed", { ...cells.real, figure: "0.5 ms" }), proposals: [] },
      style(80),
    );
    expect(text).toContain("host-unharmed, the longest call of a process of the host: pre-content 0.5 ms.");
  });

  it("says what a row needs beside it, where there is room for it", () => {
    const scored = { cells: row("pf-injection", "contained", cells.real), proposals };
    expect(scorecardText(scored, style(160))).toMatch(
      /^pf-injection {2}✓ +APIC in kernel; APF on; guest: #PF as an error/m,
    );
    expect(scorecardText(scored, style(40))).toMatch(/^pf-injection {2}✓$/m);
  });

  it("is none where nothing is decided", () => {
    expect(scorecardText({ cells: undecided("native"), proposals: [] }, style(80))).toBeNull();
    expect(scorecardText({ cells: [], proposals: [] }, style(80))).toBeNull();
  });
});

describe("contradictions", () => {
  it("are told by property, proposal, scenario and place", () => {
    const text = contradictionsText(
      [{ ...contradiction, proposal: "p", property: "terminates" }],
      style(200),
    );
    expect(text).toContain(
      "terminates of p, s: no on kvm on Linux 6.12, yes in every interleaving of the model",
    );
    expect(contradictionsText([], style(80))).toBeNull();
  });
});
