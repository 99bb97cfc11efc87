import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { matchesGlob } from "../src/glob.ts";
import {
  type Counts,
  countVerdicts,
  exitCodeOf,
  needsAttention,
  severity,
  type Verdict,
} from "../src/verdict.ts";

const kinds = ["pass", "fail", "xfail", "xpass", "skip", "inconclusive"] as const;
const make = (kind: (typeof kinds)[number]): Verdict =>
  kind === "inconclusive" ? { kind, cause: "vacuous", reason: "" } : { kind, reason: "" };
const counts = (changes: Partial<Counts>): Counts => ({ ...countVerdicts([]), ...changes });

describe("countVerdicts", () => {
  it("loses none", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...kinds)), (list) => {
        const total = Object.values(countVerdicts(list.map(make))).reduce((sum, count) => sum + count, 0);
        expect(total).toBe(list.length);
      }),
    );
  });
});

describe("exitCodeOf", () => {
  it.each([
    ["all as expected", { pass: 3, xfail: 1, skip: 9 }, 0],
    ["known deviations only", { xfail: 1 }, 0],
    ["a failure", { pass: 3, fail: 1, inconclusive: 1 }, 1],
    ["an improvement", { pass: 3, xpass: 1 }, 1],
    ["no proof", { pass: 3, inconclusive: 1 }, 2],
    ["all skipped", { skip: 9 }, 3],
    ["no case at all", {}, 3],
  ])("%s", (_what, changes, code) => {
    expect(exitCodeOf(counts(changes))).toBe(code);
  });

  it("is never 0 where something needs attention or nothing ran", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...kinds)), (list) => {
        const code = exitCodeOf(countVerdicts(list.map(make)));
        const green = list.some((kind) => kind === "pass" || kind === "xfail") && !list.some(needsAttention);
        expect(code === 0).toBe(green);
      }),
    );
  });
});

describe("severity", () => {
  it("puts a failure before an improvement before no proof", () => {
    expect([...kinds].sort((a, b) => severity(b) - severity(a))).toEqual([
      "fail",
      "xpass",
      "inconclusive",
      "skip",
      "xfail",
      "pass",
    ]);
  });
});

describe("matchesGlob", () => {
  it.each([
    ["load-*", "load-after", true],
    ["*load-*", "nvdimm/load-after", true],
    ["load-*", "nvdimm/load-after", false],
    ["*-after-*-page", "load-after-truncate-in-page", true],
    ["*-page", "load-in-pages", false],
    ["a*a", "a", false],
    ["load", "load", true],
    ["load", "loads", false],
    ["lo.d", "load", false],
    ["*", "", true],
  ])("%s, %s: %s", (pattern, text, matches) => {
    expect(matchesGlob(pattern, text)).toBe(matches);
  });

  it("matches every text that the pattern was made from", () => {
    const part = fc.stringMatching(/^[a-z/-]{0,6}$/);
    fc.assert(
      fc.property(
        fc.array(part, { minLength: 1, maxLength: 5 }),
        fc.array(part, { minLength: 4, maxLength: 4 }),
        (parts, fill) => {
          const text = parts
            .map((one, index) => one + (index < parts.length - 1 ? (fill[index] ?? "") : ""))
            .join("");
          expect(matchesGlob(parts.join("*"), text)).toBe(true);
        },
      ),
    );
  });
});
