/**
 * The report as KTAP version 1 (Documentation/dev-tools/ktap.rst of Linux): a subtest a scenario, a result a proposal
 * and engine. xfail is `ok` with the directive XFAIL, as in kselftest; inconclusive is `not ok`.
 */
import { replayCommand } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";
import { visibleData } from "./encode.ts";
import { engineNamer, type Report, scenariosOf } from "./report.ts";

/** One line, no `#`: that begins a directive. */
export function ktapPlain(text: string): string {
  return text.replaceAll(/\s+/g, " ").replaceAll("#", "no.");
}

/** The result line behind its number. */
function lineOf(result: CaseResult, number: number, name: string): readonly string[] {
  const { verdict } = result;
  const reason = ktapPlain(verdict.reason);
  switch (verdict.kind) {
    case "pass":
      return [`ok ${number} ${name}`];
    case "skip":
      return [`ok ${number} ${name} # SKIP ${reason}`];
    case "xfail":
      return [`ok ${number} ${name} # XFAIL ${reason}`];
    case "fail":
    case "xpass":
    case "inconclusive":
      return [
        `# ${verdict.kind}: ${reason}`,
        `# ${ktapPlain(replayCommand(result.planned))}`,
        `not ok ${number} ${name}`,
      ];
  }
}

const isGood = ({ verdict }: CaseResult): boolean =>
  verdict.kind === "pass" || verdict.kind === "skip" || verdict.kind === "xfail";

export function ktapText(recorded: Report): string {
  const report = visibleData(recorded);
  const { results, gaps } = report;
  const scenarios = scenariosOf(results);
  const nameOf = engineNamer(results);
  const lines = ["KTAP version 1"];
  for (const { version, kernel, kvmBackend } of report.runs) {
    lines.push(`# ${ktapPlain(`daxfault ${version} on Linux ${kernel}, ${kvmBackend ?? "no KVM"}`)}`);
  }
  lines.push(`1..${scenarios.length + (gaps.length > 0 ? 1 : 0)}`);
  for (const [index, { id }] of scenarios.entries()) {
    const group = results.filter(({ planned }) => planned.scenario.id === id);
    lines.push("    KTAP version 1", `    1..${group.length}`);
    for (const [position, result] of group.entries()) {
      const name = ktapPlain(`${result.planned.proposal.id} x ${nameOf(result)}`);
      lines.push(...lineOf(result, position + 1, name).map((line) => `    ${line}`));
    }
    const allSkipped = group.every(({ verdict }) => verdict.kind === "skip");
    const directive = allSkipped ? " # SKIP" : "";
    lines.push(`${group.every(isGood) ? "ok" : "not ok"} ${index + 1} ${ktapPlain(id)}${directive}`);
  }
  // A run that did not come to its end is never green.
  if (gaps.length > 0) {
    lines.push(`# ${ktapPlain(gaps.join("; "))}`, `not ok ${scenarios.length + 1} the-run-is-complete`);
  }
  return `${lines.join("\n")}\n`;
}
