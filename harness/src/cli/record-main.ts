/**
 * From recorded runs (`run --json FILE`) to a file of fixtures/observed: each different observation once, in the words of
 * the vocabulary. Entry point of scripts/observed-record.
 */
import { writeFileSync } from "node:fs";
import type { OutcomeWords } from "../../../language/src/index.ts";
import type { Recorded } from "../compare/recorded.ts";
import { comparedWords } from "../engines/model/allowed.ts";
import { readRecorded } from "./compare.ts";

/** An observation without its verdict. */
export type Observed = Omit<Recorded, "outcome" | "goneErratum" | "traced" | "definition" | "isReal"> & {
  readonly words: OutcomeWords;
};

/** Identity and words; a case that ended in two ways is there twice. */
export function distinct(recorded: readonly Recorded[]): readonly Observed[] {
  const found = recorded.map(
    ({ scenario, scenarioHash, proposal, engine, kvmBackend, outcome }): Observed => ({
      scenario,
      scenarioHash,
      proposal,
      engine,
      kvmBackend,
      words: comparedWords(outcome),
    }),
  );
  return [...new Map(found.map((one) => [JSON.stringify(one), one])).values()];
}

function main([output, about, ...runs]: readonly string[]): void {
  if (output === undefined || about === undefined || runs.length === 0) {
    console.error("usage: scripts/observed-record NAME ABOUT RUN.json...");
    process.exit(64);
  }
  // An outcome of the model is no observation.
  const recorded = runs.flatMap((run) => readRecorded(run).observed).filter(({ isReal }) => isReal);
  writeFileSync(output, JSON.stringify({ about, cases: distinct(recorded) }));
}

if (process.argv[1]?.endsWith("record-main.js")) main(process.argv.slice(2));
