/** The report as a mail to a list: plain text, 72 columns, nothing that a mail client could spoil. */

import { needsAttention, verdictKinds } from "../../../language/src/index.ts";
import { replayCommand } from "../run/plan.ts";
import { type CaseResult, runsOf } from "../run/result.ts";
import { visible, visibleData } from "./encode.ts";
import { defectOf, endText, findingsOf } from "./findings.ts";
import { COLUMNS, indented, section } from "./mail-layout.ts";
import type { Report } from "./report.ts";
import { scoreText } from "./scorecard.ts";
import { counterLines, eventLine, expectedLines, seenLines, setupLines, unitOf } from "./story.ts";
import { wrap } from "./style.ts";
import { capabilityText, caseTitle, engineLines, plural } from "./text.ts";

/** A list takes so many cases in full; the others are named. */
const CASES_IN_FULL = 8;
/** Of a long trace the beginning shows the cause, the end the outcome. */
const EVENTS_SHOWN = 24;

/** Events that repeat are one line with their number. */
function traceLines(result: CaseResult): readonly string[] {
  if (result.result?.kind !== "evidence") return [];
  const { trace } = result.result.evidence;
  const lines = trace.map((event) => eventLine(event, unitOf(result)));
  if (lines.length <= EVENTS_SHOWN) return lines;
  const half = EVENTS_SHOWN / 2;
  return [...lines.slice(0, half), `... ${lines.length - EVENTS_SHOWN} more ...`, ...lines.slice(-half)];
}

function caseText(result: CaseResult): readonly string[] {
  const { planned, verdict, expectation, outcomes } = result;
  const kind = verdict.kind === "inconclusive" ? `inconclusive (${verdict.cause})` : verdict.kind;
  const defect = defectOf(result);
  const shown = defect === null ? "" : `, and the defect ${defect.id} shows`;
  const title = caseTitle(result);
  const evidence = result.result?.kind === "evidence" ? result.result.evidence : null;
  const runs = runsOf(result);
  const failure =
    result.result === null || evidence !== null
      ? []
      : [`${result.result.kind}: ${"message" in result.result ? result.result.message : ""}`];
  return [
    "",
    "-".repeat(COLUMNS),
    ...wrap(title, COLUMNS),
    ...indented(planned.scenario.purpose, 2),
    ...indented(`Proposal ${planned.proposal.id}: ${planned.proposal.title}`, 2),
    ...indented(`Verdict: ${kind}: ${verdict.reason}${shown}`, 2),
    ...section("Steps", setupLines(planned.scenario)),
    ...section("Expected", expectedLines(expectation)),
    ...section("Seen", evidence === null ? failure : seenLines(planned.scenario, evidence)),
    ...section(
      "Outcomes",
      runs > 1 ? outcomes.map(({ count, text }) => `${count} of ${runs} runs: ${text}`) : [],
    ),
    ...section("What happened", traceLines(result)),
    ...section("KVM's counters", evidence === null ? [] : [counterLines(evidence).join(" ")].filter(Boolean)),
    ...section("Run it again", [replayCommand(planned)]),
  ];
}

/** Cases that a reader must see in full: what is not as expected, one for each defect; all of a small run. */
function casesInFull({ results }: Report): readonly CaseResult[] {
  const ran = results.filter(({ verdict }) => verdict.kind !== "skip");
  if (ran.length <= 2) return ran;
  const attention = ran.filter(({ verdict }) => needsAttention(verdict.kind));
  const defects = findingsOf(results).flatMap(({ cases }) => cases.slice(0, 1));
  return [...attention, ...defects].slice(0, CASES_IN_FULL);
}

function machineLines({ runs }: Report): readonly string[] {
  return runs.flatMap((info) => [
    `daxfault ${info.version}, ${info.startedAt}`,
    `Linux ${info.kernel}, page size ${info.pageSize}, Node ${info.node}, files on ${info.fileSystem}`,
    ...info.attestations
      .filter(({ kvmBackend }) => kvmBackend !== null)
      .flatMap((attestation) =>
        attestation.vm === null
          ? [`${attestation.kvmBackend}: ${capabilityText(attestation)}`]
          : engineLines(attestation).map((line) => line.trim()),
      ),
  ]);
}

function scoreLines({ cells }: Report): readonly string[] {
  const groups = new Map<string, string[]>();
  for (const cell of cells) {
    if (cell.by === null || cell.by === "document") continue;
    const list = groups.get(cell.proposal) ?? [];
    list.push(`${cell.property} ${scoreText(cell)}`);
    groups.set(cell.proposal, list);
  }
  return [...groups].map(([proposal, list]) => `${proposal}: ${list.join(", ")}`);
}

/**
 * @param environment Further lines about the machine (QEMU's version, the command line of the kernel), from `repro`.
 */
export function mailText(recorded: Report, environment: readonly string[] = []): string {
  const report = visibleData(recorded);
  const { counts, gaps } = report;
  const full = casesInFull(report);
  const others = report.results.filter(
    (result) => needsAttention(result.verdict.kind) && !full.includes(result),
  );
  const counted = verdictKinds.filter((kind) => counts[kind] > 0).map((kind) => `${counts[kind]} ${kind}`);
  const lines = [
    "What a guest sees when the host truncates the file under its memory",
    "=".repeat(COLUMNS),
    ...wrap(`${counted.join(", ")}: ${endText(report)}.`, COLUMNS),
    ...section("This is part of the run only", gaps),
    ...section("Where it ran", [...machineLines(report), ...environment.map(visible)]),
    ...section(
      "Defects of this kernel that were seen",
      findingsOf(report.results).map(({ id, text, source, cases }) => {
        return `${id} (${plural(cases.length, "case")}): ${text} [${source}]`;
      }),
    ),
    ...section("Which properties hold (cases that decided it)", scoreLines(report)),
    ...full.flatMap(caseText),
    ...section(
      "Not shown in full",
      others.map((result) => `${caseTitle(result)}: ${result.verdict.reason}`),
    ),
  ];
  return `${lines.map((line) => line.trimEnd()).join("\n")}\n`;
}
