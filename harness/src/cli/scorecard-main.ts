/**
 * The scorecard of the package, as text for documents: the real kernels of fixtures/observed, the model over all
 * interleavings, and documents. Entry point for scripts/generate-docs.ts; the same on every machine.
 */
import { needsOf, needsText, proposals, type ScoreCell, scorecard } from "../../../language/src/index.ts";
import { comparedRows, comparisonText } from "../compare/comparison.ts";
import { linuxGuestText, recordedLinuxGuests } from "../compare/linux-guest.ts";
import { loadObserved, scoredObservations } from "../compare/observed.ts";
import { symptomsText } from "../compare/symptoms.ts";
import { type ModelScoring, modelCases } from "../engines/model/scored.ts";
import { loadDocumented, loadExpectations, loadScenarios } from "../fixtures.ts";
import { linuxRaceTable, recordedLinuxRaces } from "../guards/race-table.ts";
import { answersExcerpt } from "../report/brief.ts";
import { contradictionsIn } from "../report/report.ts";
import { contradictionsText, scorecardText, scoreText } from "../report/scorecard.ts";
import type { Style } from "../report/style.ts";

const plain = (text: string): string => text;
const style: Style = { widthColumns: 100, bold: plain, dim: plain, verdict: (_kind, text) => text };

function cells(): readonly ScoreCell[] {
  const scenarios = loadScenarios();
  const expectations = loadExpectations();
  const scoring: ModelScoring = {
    scenarios,
    expectationOf: ({ scenario, proposal }) => expectations.find(scenario, proposal),
  };
  const modelled = proposals.map((proposal) => modelCases(proposal, scoring));
  return scorecard(
    proposals.map(({ id }) => id),
    {
      cases: [...scoredObservations(scenarios), ...modelled.flatMap(({ cases }) => cases)],
      documented: loadDocumented(),
    },
  );
}

/** One line a cell: what decided it, and how many cases. */
function detailLines(all: readonly ScoreCell[]): readonly string[] {
  return proposals.flatMap((proposal) => {
    const { id, title } = proposal;
    const own = all.filter(({ proposal, by }) => proposal === id && by !== null);
    return [
      "",
      `### ${id}`,
      "",
      `${title} Needs ${needsText(needsOf(proposal))}.`,
      "",
      ...own.map(
        (cell) =>
          `- \`${cell.property}\`: ${scoreText(cell)}${cell.figure === null ? "" : `, ${cell.figure}`}${cell.source === null ? "" : `: ${cell.source}`}`,
      ),
    ];
  });
}

function kernelLines(): readonly string[] {
  return [...loadObserved()].flatMap(([name, { kernels = [], recorded = "", cases }]) =>
    kernels
      .filter(({ kvmBackend }) => kvmBackend !== null)
      .map(
        ({ release, kvmBackend, origin, accelerator }) =>
          `- \`${name}\`: Linux ${release}, ${kvmBackend}, ${accelerator === null ? "on hardware" : `in QEMU (${accelerator})`}; ${origin ?? "the machine's own kernel"}; ${cases.length} observations, ${recorded}`,
      ),
  );
}

/** The table that a run prints first on a machine without KVM. */
function answer(): string {
  const rows = comparedRows({ own: [], recorded: recordedLinuxGuests(), scenarios: loadScenarios() });
  return answersExcerpt(rows, style);
}

/** Prints one JSON object: each part of the documents, by name. */
function main(): number {
  const all = cells();
  const parts = {
    table: scorecardText({ cells: all, proposals: [] }, style),
    details: detailLines(all).join("\n").trim(),
    kernels: kernelLines().join("\n"),
    linuxGuests: linuxGuestText(loadScenarios()),
    symptoms: symptomsText(loadScenarios(), loadObserved()),
    answer: answer(),
    comparison: comparisonText(recordedLinuxGuests(), loadScenarios()),
    linuxRaces: linuxRaceTable(recordedLinuxRaces()),
  };
  console.log(JSON.stringify(parts));
  const contradictions = contradictionsText(contradictionsIn(all), style);
  if (contradictions === null) return 0;
  console.error(contradictions);
  return 1;
}

process.exitCode = main();
