/**
 * The report as JUnit XML: a suite a scenario, a case a proposal and engine. An inconclusive result is an
 * error, what is unexpected (fail, xpass) a failure; a known deviation (xfail) is skipped, with its reason.
 */
import { replayCommand } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";
import { visibleData } from "./encode.ts";
import { escapeMarkup } from "./markup.ts";
import { engineNamer, type Report, scenariosOf } from "./report.ts";
import { seenLines } from "./story.ts";

function bodyOf(result: CaseResult): string {
  const { verdict, planned } = result;
  const message = escapeMarkup(verdict.reason);
  const seen =
    result.result?.kind === "evidence" ? seenLines(planned.scenario, result.result.evidence).join("\n") : "";
  const text = escapeMarkup(
    [verdict.reason, seen, replayCommand(planned)].filter((line) => line !== "").join("\n"),
  );
  switch (verdict.kind) {
    case "pass":
      return "";
    case "skip":
    case "xfail":
      return `<skipped message="${message}"/>`;
    case "fail":
    case "xpass":
      return `<failure type="${verdict.kind}" message="${message}">${text}</failure>`;
    case "inconclusive":
      return `<error type="${verdict.cause}" message="${message}">${text}</error>`;
  }
}

type Tally = { tests: number; failures: number; errors: number; skipped: number; seconds: number };

function tallyOf(results: readonly CaseResult[]): Tally {
  const count = (kinds: readonly string[]): number =>
    results.filter(({ verdict }) => kinds.includes(verdict.kind)).length;
  return {
    tests: results.length,
    failures: count(["fail", "xpass"]),
    errors: count(["inconclusive"]),
    skipped: count(["skip", "xfail"]),
    seconds: results.reduce((sum, { durationMs }) => sum + durationMs / 1000, 0),
  };
}

function tallyText({ tests, failures, errors, skipped, seconds }: Tally): string {
  return `tests="${tests}" failures="${failures}" errors="${errors}" skipped="${skipped}" time="${seconds.toFixed(3)}"`;
}

export function junitText(recorded: Report): string {
  const report = visibleData(recorded);
  const { results, gaps } = report;
  const nameOf = engineNamer(results);
  const lines = ['<?xml version="1.0" encoding="UTF-8"?>'];
  const total = tallyOf(results);
  // A run that did not come to its end is never green.
  const all = gaps.length === 0 ? total : { ...total, tests: total.tests + 1, errors: total.errors + 1 };
  lines.push(`<testsuites name="daxfault" ${tallyText(all)}>`);
  for (const { id } of scenariosOf(results)) {
    const group = results.filter(({ planned }) => planned.scenario.id === id);
    lines.push(`  <testsuite name="${escapeMarkup(id)}" ${tallyText(tallyOf(group))}>`);
    for (const result of group) {
      const name = escapeMarkup(`${result.planned.proposal.id} x ${nameOf(result)}`);
      const head = `<testcase classname="${escapeMarkup(id)}" name="${name}" time="${(result.durationMs / 1000).toFixed(3)}"`;
      const body = bodyOf(result);
      lines.push(body === "" ? `    ${head}/>` : `    ${head}>${body}</testcase>`);
    }
    lines.push("  </testsuite>");
  }
  if (gaps.length > 0) {
    const message = escapeMarkup(gaps.join("; "));
    lines.push(
      '  <testsuite name="daxfault" tests="1" failures="0" errors="1" skipped="0" time="0.000">',
      `    <testcase classname="daxfault" name="the run is complete" time="0.000"><error type="partial" message="${message}"/></testcase>`,
      "  </testsuite>",
    );
  }
  lines.push("</testsuites>");
  return `${lines.join("\n")}\n`;
}
