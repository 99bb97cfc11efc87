/**
 * From recorded runs (`run --json FILE`) to a file of fixtures/observed: each different observation once, in the words of
 * the vocabulary. Entry point of scripts/observed-record.
 */
import { writeFileSync } from "node:fs";
import { type ObservedCase, type ObservedFile, readObserved } from "../compare/observed.ts";
import type { ObservedKernel, Recorded } from "../compare/recorded.ts";
import { comparedWords } from "../engines/model/allowed.ts";
import { readRecorded } from "./compare.ts";
import { exitOnUsageError } from "./usage.ts";

/** The longest of the host's calls in all observations of the same words. */
function merged(one: ObservedCase, other: ObservedCase): ObservedCase {
  if (one.facts === undefined || other.facts === undefined) return one;
  const calls = [one.facts.hostMs, other.facts.hostMs].filter((ms) => ms !== null);
  return { ...one, facts: { ...one.facts, hostMs: calls.length === 0 ? null : Math.max(...calls) } };
}

function observedOf({
  scenario,
  scenarioHash,
  proposal,
  engine,
  kvmBackend,
  outcome,
  verdict,
  facts,
}: Recorded): ObservedCase {
  const hostMs = facts.hostMs === null ? null : Math.round(facts.hostMs * 10) / 10;
  const id = { scenario, scenarioHash, proposal, engine, kvmBackend };
  return { ...id, words: comparedWords(outcome), verdict, facts: { ...facts, hostMs } };
}

/**
 * Identity, words and facts; a case that ended in two ways is there twice.
 * @param before what was recorded earlier, and stays where its scenario is still the one that was run now
 */
export function distinct(
  recorded: readonly Recorded[],
  before: readonly ObservedCase[] = [],
): readonly ObservedCase[] {
  const hashes = new Map(recorded.map(({ scenario, scenarioHash }) => [scenario, scenarioHash]));
  const kept = before.filter(
    ({ scenario, scenarioHash }) => (hashes.get(scenario) ?? scenarioHash) === scenarioHash,
  );
  const found = new Map<string, ObservedCase>();
  for (const one of [...kept, ...recorded.map(observedOf)]) {
    const { scenario, scenarioHash, proposal, engine, kvmBackend, words, verdict, facts } = one;
    const key = JSON.stringify([
      ...[scenario, scenarioHash, proposal, engine, kvmBackend],
      ...[words, verdict, { ...facts, hostMs: null }],
    ]);
    const known = found.get(key);
    found.set(key, known === undefined ? one : merged(known, one));
  }
  return [...found.values()];
}

/** The kernels that ran them. */
function kernelsOf(
  recorded: readonly Recorded[],
  before: readonly ObservedKernel[],
): readonly ObservedKernel[] {
  const found = new Map<string, ObservedKernel>();
  for (const kernel of [...before, ...recorded.map((one) => one.kernel)])
    found.set(JSON.stringify(kernel), kernel);
  return [...found.values()];
}

function main([output, about, ...runs]: readonly string[]): void {
  if (output === undefined || about === undefined || runs.length === 0) {
    console.error("usage: scripts/observed-record NAME ABOUT|--add RUN.json...");
    process.exit(64);
  }
  // An outcome of the model is no observation.
  const recorded = runs.flatMap((run) => readRecorded(run).observed).filter(({ isReal }) => isReal);
  const before = about === "--add" ? readObserved(output) : { about, cases: [] };
  const file: ObservedFile = {
    about: before.about,
    // The first day of several: nothing is said to be newer than it is.
    recorded: before.recorded ?? new Date().toISOString().slice(0, 10),
    kernels: kernelsOf(recorded, before.kernels ?? []),
    cases: distinct(recorded, before.cases),
  };
  writeFileSync(output, JSON.stringify(file));
}

if (process.argv[1]?.endsWith("/record-main.js")) exitOnUsageError(() => main(process.argv.slice(2)));
