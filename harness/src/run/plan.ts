/** Which cases a run has: scenario x proposal x engine x machine, each with whether it can run. */

import {
  askedId,
  type KvmPart,
  type Proposal,
  placeName,
  proposalOn,
  type Scenario,
} from "../../../language/src/index.ts";
import type { Case, EngineKind, Machine, Support } from "../engine.ts";

export type PlannedCase = Case & {
  readonly support: Support;
  /** What names scenario and proposal's source on the command line: an id or a file, and where ids come from. */
  readonly argument: string;
  /** What names engine and machine there; left out: `--engine NAME`. */
  readonly engineOption?: string;
};

/** A scenario and what names it on the command line. */
export type NamedScenario = {
  readonly scenario: Scenario;
  readonly argument: string;
  /** Ids of the proposals under which it is meant; left out: of those that it is about. */
  readonly only?: readonly string[];
};

export function isMeant({ only }: NamedScenario, { id }: Proposal): boolean {
  return only === undefined || only.includes(id);
}

/** A proposal and the option that says where it comes from; empty for a preset. */
export type NamedProposal = { readonly proposal: Proposal; readonly option: string };

/** What names both on the command line: an id or a file, and the options that say where ids come from. */
export function argumentOf({ argument }: NamedScenario, { option }: NamedProposal): string {
  return option === "" ? argument : `${argument} ${option}`;
}

/** What cases can be run on: an engine that was asked for, or a machine with all engines that run on it. */
export type Place = {
  readonly machine: Machine;
  readonly engines: readonly EngineKind[];
  readonly available: Support;
};

/** Does the engine carry out the proposal, whether a kernel has it or not? */
function carriesOut({ proposals }: EngineKind, proposal: Proposal): boolean {
  switch (proposals) {
    case "all":
      return true;
    case "with-vm":
      return proposal.kvm !== "none";
    case "without-vm":
      return proposal.kvm === "none";
    case "without-kvm":
      return proposal.kvm === "none" || proposal.server !== "none";
  }
}

/** The engines that a proposal is for; all of them where it is for none, so that each gives its reason. */
export function enginesFor(proposal: Proposal, engines: readonly EngineKind[]): readonly EngineKind[] {
  const fitting = engines.filter((engine) => carriesOut(engine, proposal));
  return fitting.length > 0 ? fitting : engines;
}

/** Does the pair make sense? What the kernel does not have (`kvm` is neither `none` nor its own) is for engines that carry out all. */
function isSensible(engine: EngineKind, proposal: Proposal, builtIn: KvmPart): boolean {
  if (engine.proposals === "all") return true;
  return carriesOut(engine, proposal) && (proposal.kvm === "none" || proposal.kvm === builtIn);
}

/**
 * Is the scenario about this proposal? One that names none is about all that let the truncation happen; those that are
 * to prevent it depend on the way in which the host does it, and are named.
 */
export function isAboutProposal(scenario: Scenario, proposal: Proposal): boolean {
  if (scenario.proposals === null) return proposal.server === "none";
  return scenario.proposals.includes(proposal.id);
}

/** What is said of a Linux guest as people run it is asked of an emulated one, too: it has no KVM, so that its proposal is `native`. */
function isAboutEmulated(scenario: Scenario, proposal: Proposal, { nature }: EngineKind): boolean {
  const isEmulated = nature.vmm !== undefined && !nature.runsKvm;
  return isEmulated && proposal.kvm === "none" && (scenario.proposals ?? []).includes("apf-guest");
}

/** A scenario that is about `apf-loop` alone asks whether KVM loops: a KVM with a proposal built in is asked, too. */
function askedOf(builtIn: KvmPart, { proposals }: Scenario, proposal: Proposal): Proposal {
  return proposals?.length === 1 ? proposalOn(builtIn, proposal) : proposal;
}

/**
 * The cases, scenario by scenario. Pairs that make no sense (a VM's proposal on an engine without a VM) are left out,
 * unless nothing else is left: then they were asked for, and are skipped with the reason.
 */
export function plan(
  scenarios: readonly NamedScenario[],
  proposals: readonly NamedProposal[],
  places: readonly Place[],
): readonly PlannedCase[] {
  const sensible: PlannedCase[] = [];
  const others: PlannedCase[] = [];
  for (const namedScenario of scenarios) {
    const { scenario } = namedScenario;
    for (const namedProposal of proposals.filter(({ proposal }) => isMeant(namedScenario, proposal))) {
      const isAbout = isAboutProposal(scenario, namedProposal.proposal);
      const argument = argumentOf(namedScenario, namedProposal);
      for (const { machine, engines, available } of places) {
        const builtIn = machine.builtIn.kvm;
        const proposal = askedOf(builtIn, scenario, namedProposal.proposal);
        for (const engine of enginesFor(proposal, engines)) {
          if (!isAbout && !isAboutEmulated(scenario, proposal, engine)) continue;
          const { name, nature } = engine;
          const support = available.kind === "no" ? available : machine.supports(name, scenario, proposal);
          const option = machine.option(name);
          const engineOption = option === null ? {} : { engineOption: option };
          const place = { engine: name, nature, machine: machine.name, ...engineOption };
          const list = isSensible(engine, proposal, builtIn) ? sensible : others;
          list.push({ scenario, argument, proposal, ...place, support });
        }
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

/** A letter that needs no quotes. A tilde is one inside a name (a Debian version). */
const PLAIN = "(?:[A-Za-z0-9_./:=@%+,-]|(?<=[A-Za-z0-9_.-])~)";
const PLAIN_WORD = new RegExp(`^${PLAIN}+$`);

/** As a POSIX shell reads it as one word. */
export function shellWord(text: string): string {
  return PLAIN_WORD.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Words as `shellWord` writes them, one blank between two. */
const QUOTED_WORD = `(?:${PLAIN}|'[^']*'|\\\\')+`;
const SHELL_WORDS = new RegExp(`^${QUOTED_WORD}(?: ${QUOTED_WORD})*$`);

/** Options as a record has them, already quoted; what is not, one word. */
function shellWords(text: string): string {
  return SHELL_WORDS.test(text) ? text : shellWord(text);
}

/** What names a case's engine and machine on the command line. */
export function placeOption(planned: PlannedCase): string {
  return planned.engineOption === undefined
    ? `--engine ${shellWord(placeName(planned))}`
    : shellWords(planned.engineOption);
}

/** The command that runs one case again. */
export function replayCommand(planned: PlannedCase): string {
  const { argument, proposal } = planned;
  return `daxfault run ${shellWords(argument)} --proposal ${shellWord(askedId(proposal.id))} ${placeOption(planned)}`;
}
