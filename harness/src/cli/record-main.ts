/**
 * From recorded runs (`run --json FILE`) to a file of fixtures/observed: each different observation once, in the words of
 * the vocabulary. Entry point of scripts/observed-record.
 */
import { writeFileSync } from "node:fs";
import type { ObservedCase, ObservedFile } from "../compare/observed.ts";
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

/** Identity, words and facts; a case that ended in two ways is there twice. */
export function distinct(recorded: readonly Recorded[]): readonly ObservedCase[] {
  const found = new Map<string, ObservedCase>();
  for (const { scenario, scenarioHash, proposal, engine, kvmBackend, outcome, verdict, facts } of recorded) {
    const hostMs = facts.hostMs === null ? null : Math.round(facts.hostMs * 10) / 10;
    const id = { scenario, scenarioHash, proposal, engine, kvmBackend };
    const one = { ...id, words: comparedWords(outcome), verdict, facts: { ...facts, hostMs } };
    const key = JSON.stringify({ ...one, facts: { ...facts, hostMs: null } });
    const known = found.get(key);
    found.set(key, known === undefined ? one : merged(known, one));
  }
  return [...found.values()];
}

/** The kernels that ran them. */
function kernelsOf(recorded: readonly Recorded[]): readonly ObservedKernel[] {
  const found = new Map<string, ObservedKernel>();
  for (const { kernel } of recorded) found.set(JSON.stringify(kernel), kernel);
  return [...found.values()];
}

function main([output, about, ...runs]: readonly string[]): void {
  if (output === undefined || about === undefined || runs.length === 0) {
    console.error("usage: scripts/observed-record NAME ABOUT RUN.json...");
    process.exit(64);
  }
  // An outcome of the model is no observation.
  const recorded = runs.flatMap((run) => readRecorded(run).observed).filter(({ isReal }) => isReal);
  const file: ObservedFile = {
    about,
    recorded: new Date().toISOString().slice(0, 10),
    kernels: kernelsOf(recorded),
    cases: distinct(recorded),
  };
  writeFileSync(output, JSON.stringify(file));
}

if (process.argv[1]?.endsWith("/record-main.js")) exitOnUsageError(() => main(process.argv.slice(2)));
