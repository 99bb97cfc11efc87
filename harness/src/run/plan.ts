/** Which cases a run has: scenario x proposal x engine, each with whether it can run here. */
import type { Case, Engine, Support } from "../engine.ts";
import type { EngineName } from "../evidence.ts";
import type { Proposal } from "../proposal.ts";
import type { Scenario } from "../scenario/scenario.ts";

export type PlannedCase = Case & {
  readonly support: Support;
  /** What names the scenario on the command line: its id, or the file it came from. */
  readonly argument: string;
};

/** A scenario and what names it on the command line. */
export type NamedScenario = { readonly scenario: Scenario; readonly argument: string };

export type EngineState = { readonly engine: Engine; readonly available: Support };

/**
 * Proposals without a VM are for the engine without a VM, and the reverse; what no kernel has is for the model alone,
 * which runs everything.
 */
function isFor(proposal: Proposal, engine: EngineName): boolean {
  switch (engine) {
    case "model":
      return true;
    case "process":
      return proposal.kvm === "none";
    case "kvm":
      return proposal.kvm === "today";
  }
}

/** Is the scenario about this proposal? */
export function isAboutProposal(scenario: Scenario, proposal: Proposal): boolean {
  return scenario.proposals === null || scenario.proposals.includes(proposal.id);
}

/**
 * The cases, scenario by scenario. Pairs that make no sense (a VM's proposal on an engine without a VM) are left out,
 * unless nothing else is left: then somebody has asked for them and gets the reason.
 */
export function plan(
  scenarios: readonly NamedScenario[],
  proposals: readonly Proposal[],
  engines: readonly EngineState[],
): readonly PlannedCase[] {
  const sensible: PlannedCase[] = [];
  const others: PlannedCase[] = [];
  for (const { scenario, argument } of scenarios) {
    for (const proposal of proposals) {
      if (!isAboutProposal(scenario, proposal)) continue;
      for (const { engine, available } of engines) {
        const support = available.kind === "no" ? available : engine.supports(scenario, proposal);
        const list = isFor(proposal, engine.name) ? sensible : others;
        list.push({ scenario, argument, proposal, engine: engine.name, support });
      }
    }
  }
  return sensible.length > 0 ? sensible : others;
}

/** The command that runs one case again. */
export function replayCommand({ argument, proposal, engine }: PlannedCase): string {
  return `daxfault run ${argument} --proposal ${proposal.id} --engine ${engine}`;
}
