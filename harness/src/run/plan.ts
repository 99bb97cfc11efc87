/** Which cases a run has: scenario x proposal x engine, each with whether it can run here. */

import {
  type EngineName,
  isKernelEngine,
  type Proposal,
  type Scenario,
} from "../../../language/src/index.ts";
import type { Case, Engine, Support } from "../engine.ts";

export type PlannedCase = Case & {
  readonly support: Support;
  /** What names scenario and proposal's source on the command line: an id or a file, and where ids come from. */
  readonly argument: string;
  /** What names the engine there; left out: `--engine NAME`. */
  readonly engineOption?: string;
};

/** A scenario and what names it on the command line. */
export type NamedScenario = { readonly scenario: Scenario; readonly argument: string };

/** A proposal and the option that says where it comes from; empty for a preset. */
export type NamedProposal = { readonly proposal: Proposal; readonly option: string };

export type EngineState = { readonly engine: Engine; readonly available: Support };

/**
 * Proposals without a VM are for the engine without a VM, and the reverse; what no kernel has is for the model alone,
 * which runs everything.
 */
function isFor(proposal: Proposal, engine: EngineName): boolean {
  if (isKernelEngine(engine)) return proposal.kvm === "none" || proposal.kvm === "today";
  switch (engine) {
    case "model":
      return true;
    case "process":
      return proposal.kvm === "none";
    case "kvm":
      return proposal.kvm === "today";
  }
}

/**
 * Is the scenario about this proposal? One that names none is about all that let the truncation happen; those that are
 * to prevent it depend on the way in which the host does it, and are named.
 */
export function isAboutProposal(scenario: Scenario, proposal: Proposal): boolean {
  if (scenario.proposals === null) return proposal.server === "none";
  return scenario.proposals.includes(proposal.id);
}

/**
 * The cases, scenario by scenario. Pairs that make no sense (a VM's proposal on an engine without a VM) are left out,
 * unless nothing else is left: then somebody has asked for them and gets the reason.
 */
export function plan(
  scenarios: readonly NamedScenario[],
  proposals: readonly NamedProposal[],
  engines: readonly EngineState[],
): readonly PlannedCase[] {
  const sensible: PlannedCase[] = [];
  const others: PlannedCase[] = [];
  for (const { scenario, argument } of scenarios) {
    for (const { proposal, option } of proposals) {
      if (!isAboutProposal(scenario, proposal)) continue;
      for (const { engine, available } of engines) {
        const support = available.kind === "no" ? available : engine.supports(scenario, proposal);
        const list = isFor(proposal, engine.name) ? sensible : others;
        const words = option === "" ? argument : `${argument} ${option}`;
        const engineOption = engine.option === undefined ? {} : { engineOption: engine.option };
        list.push({ scenario, argument: words, proposal, engine: engine.name, support, ...engineOption });
      }
    }
  }
  return sensible.length > 0 ? sensible : others;
}

/** A part of the cases: those at positions that leave `index - 1` when divided by `count`. */
export type Shard = { readonly index: number; readonly count: number };

/** Every case is in exactly one shard; neighbours, which cost about the same, are in different ones. */
export function shardOf(cases: readonly PlannedCase[], shard: Shard | null): readonly PlannedCase[] {
  if (shard === null) return cases;
  return cases.filter((_case, position) => position % shard.count === shard.index - 1);
}

/** As a POSIX shell reads it as one word. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The command that runs one case again. */
export function replayCommand({ argument, proposal, engine, engineOption }: PlannedCase): string {
  return `daxfault run ${argument} --proposal ${proposal.id} ${engineOption ?? `--engine ${engine}`}`;
}
