/**
 * The report: everything that the renderers show, made of recorded runs by one pure function.
 * Runs of the same case are merged; shards that are missing and runs that broke off are named, never passed over.
 */
import {
  type Attestation,
  type Contradiction,
  type Counts,
  countVerdicts,
  type DocumentedCell,
  type EngineNature,
  enablesApf,
  exitCodeOf,
  exitCodeOfSignal,
  exitCodes,
  type Proposal,
  placeName,
  proposals as presets,
  type RacedRounds,
  type Scenario,
  type ScoreCell,
  type ScoredCase,
  scorecard,
  scored,
} from "../../../language/src/index.ts";
import { type Compared, type ComparedRow, comparedRows } from "../compare/comparison.ts";
import { linuxRuns, microRuns } from "../compare/linux-runs.ts";
import { engineNames } from "../engines/registry.ts";
import type { GuardRecord } from "../guards/records.ts";
import type { RunInfo } from "../run/observer.ts";
import { type CaseResult, mergeRuns, runsOf } from "../run/result.ts";
import { RecordError, type RecordedRun } from "./decode.ts";

export type ContradictionOf = Contradiction & Pick<ScoreCell, "proposal" | "property">;

/** All contradictions of the cells. */
export function contradictionsIn(cells: readonly ScoreCell[]): readonly ContradictionOf[] {
  return cells.flatMap(({ proposal, property, contradictions }) =>
    contradictions.map((one) => ({ ...one, proposal, property })),
  );
}

export type Report = {
  /** One for `run`, several for merged runs; in the order given. */
  readonly runs: readonly RunInfo[];
  /** One a case and kernel, in the order in which the cases were first met. */
  readonly results: readonly CaseResult[];
  readonly scenarios: readonly Scenario[];
  /** Those that ran, presets first. */
  readonly proposals: readonly Proposal[];
  /** Those of the scorecard: a proposal's, and behind it what it is on a Linux guest. */
  readonly rows: readonly Proposal[];
  readonly cells: readonly ScoreCell[];
  /** The ways out on real Linux guests, of these runs or recorded; empty where one proposal ran, and no Linux guest. */
  readonly compared: readonly ComparedRow[];
  /** Cases in which a real run shows what the model excludes, by property. */
  readonly contradictions: readonly ContradictionOf[];
  readonly counts: Counts;
  readonly exitCode: number;
  /** Why this is part of what was to run only; empty: it is all of it. */
  readonly gaps: readonly string[];
  readonly defects: readonly string[];
  readonly durationMs: number;
  /** Races and prices of the guards that were measured beside the runs. */
  readonly guards: readonly GuardRecord[];
};

function attestationOf(result: CaseResult): Attestation | null {
  return result.result?.kind === "evidence" ? result.result.evidence.attestation : null;
}

/** Runs are of the same case only on the same kernel: elsewhere they are a comparison, not a repetition. */
function keyOf(result: CaseResult, info: RunInfo): string {
  const { scenario, proposal, engine, nature, machine } = result.planned;
  const attestation = attestationOf(result);
  const kernel = attestation?.kernel ?? info.kernel;
  const backend = attestation === null ? info.kvmBackend : attestation.kvmBackend;
  // What KVM's module is inside a VM depends on the emulated CPU, which is no part of the kernel under test.
  const module = nature.runsKvm && machine === "here" ? backend : "";
  // A model's answers do not depend on what it ran on.
  const found = nature.isReal ? `${kernel} ${module}` : "";
  return [scenario.id, proposal.id, engine, machine, found].join("\n");
}

function checkSame(runs: readonly RecordedRun[]): void {
  const hashes = new Map<string, string>();
  const axes = new Map<string, string>();
  for (const { planned } of runs.flatMap(({ results }) => results)) {
    const { scenario, proposal } = planned;
    const hash = hashes.get(scenario.id) ?? scenario.hash;
    if (hash !== scenario.hash) {
      throw new RecordError(
        `the runs have two texts of scenario ${scenario.id} (hashes ${hash}, ${scenario.hash})`,
      );
    }
    hashes.set(scenario.id, hash);
    const { kvm, exits, vmm, guest, server, lapic } = proposal;
    const point = [kvm, exits, vmm, guest, server, lapic ?? "none"].join(", ");
    const first = axes.get(proposal.id) ?? point;
    if (first !== point)
      throw new RecordError(`the runs mean two things by proposal ${proposal.id}: ${first}; ${point}`);
    axes.set(proposal.id, point);
  }
}

function mergeResults(runs: readonly RecordedRun[]): readonly CaseResult[] {
  const groups = new Map<string, CaseResult[]>();
  for (const { info, results } of runs) {
    for (const result of results) {
      const key = keyOf(result, info);
      const group = groups.get(key) ?? [];
      group.push(result);
      groups.set(key, group);
    }
  }
  return [...groups.values()].map(mergeRuns);
}

/** By scenario in the order of the plans, then proposal, then place: cases are recorded as they end. */
function inOrder(results: readonly CaseResult[], scenarioIds: readonly string[]): readonly CaseResult[] {
  const scenarios = [...new Set(scenarioIds)];
  const proposals = proposalsOf(results).map(({ id }) => id);
  // Those on this machine, then booted kernels as they come.
  const places: readonly string[] = [
    ...new Set([...engineNames, ...results.map(({ planned }) => placeName(planned))]),
  ];
  const rank = new Map(
    results.map((result) => {
      const { scenario, proposal } = result.planned;
      const row = scenarios.indexOf(scenario.id) * proposals.length + proposals.indexOf(proposal.id);
      return [result, row * places.length + places.indexOf(placeName(result.planned))];
    }),
  );
  return [...results].sort((a, b) => (rank.get(a) ?? 0) - (rank.get(b) ?? 0));
}

/** Which shards of a set are not among the runs. */
function missingShards(runs: readonly RecordedRun[]): readonly string[] {
  const sets = new Map<number, Set<number>>();
  for (const { info } of runs) {
    if (info.shard === null) continue;
    const present = sets.get(info.shard.count) ?? new Set();
    present.add(info.shard.index);
    sets.set(info.shard.count, present);
  }
  return [...sets].flatMap(([count, present]) => {
    const missing = Array.from({ length: count }, (_, index) => index + 1).filter(
      (index) => !present.has(index),
    );
    // One shard alone is what its job was asked for.
    if (missing.length === 0 || runs.length === 1) return [];
    return [`shard ${missing.join(", ")} of ${count} is missing`];
  });
}

/** Cases that were to run several times, and of which an interruption came before the last run. */
function shortened(results: readonly CaseResult[], repeat: number): readonly string[] {
  return results.flatMap((result) => {
    const runs = runsOf(result);
    const { scenario, proposal } = result.planned;
    return runs === 0 || runs >= repeat
      ? []
      : [`${scenario.id} x ${proposal.id} x ${placeName(result.planned)}: ${runs} of ${repeat} runs`];
  });
}

function gapsOf(runs: readonly RecordedRun[]): readonly string[] {
  const gaps = runs.flatMap(({ info, results, end }): readonly string[] => {
    const missing = info.cases - results.length;
    const what = `${missing} of ${info.cases} cases of the run of ${info.startedAt} did not end`;
    const by = end === null ? "it broke off" : end.interruptedBy && `interrupted by ${end.interruptedBy}`;
    if (by === null) return missing > 0 ? [what] : [];
    return [`${what}: ${by}`, ...shortened(results, info.repeat)];
  });
  return [...gaps, ...missingShards(runs)];
}

function exitCodeOfRuns(
  runs: readonly RecordedRun[],
  counts: Counts,
  { gaps, defects, contradictions }: Pick<Report, "gaps" | "defects" | "contradictions">,
): number {
  const [signal] = runs.flatMap(({ end }) => (end === null ? [] : (end.interruptedBy ?? [])));
  if (signal !== undefined) return exitCodeOfSignal(signal);
  if (defects.length > 0) return exitCodes.defect;
  const code = exitCodeOf(counts);
  // A real run shows what the model excludes: one of the two is wrong, whatever each case was expected to show.
  if (contradictions.length > 0) return exitCodes.unexpected;
  return code === exitCodes.ok && gaps.length > 0 ? exitCodes.inconclusive : code;
}

/** `kvm on kvm_amd, Linux 6.12.1`: what ran a real case. */
function realPlace(place: string, { kernel, kvmBackend, guest }: Attestation): string {
  const inside = guest === null ? "" : `, the guest Linux ${guest.release}`;
  return `${place} on ${kvmBackend === null ? "" : `${kvmBackend}, `}Linux ${kernel}${inside}`;
}

/** The races that guards ran, by proposal: all guests together. */
function racedRounds(guards: readonly GuardRecord[]): readonly RacedRounds[] {
  return presets.flatMap(({ id, server }): RacedRounds[] => {
    const races = guards.flatMap((record) =>
      record.type === "race" && record.guard === server && server !== "none" && record.done > 0
        ? [record]
        : [],
    );
    if (races.length === 0) return [];
    const sum = (of: (race: (typeof races)[number]) => number): number =>
      races.reduce((total, race) => total + of(race), 0);
    return [{ proposal: id, rounds: sum(({ done }) => done), lost: sum(({ lost }) => lost) }];
  });
}

type LinuxNature = Pick<EngineNature, "vmm" | "runsKvm">;

/** `linux`, or that in QEMU, under TCG where KVM does not run it. */
function linuxRowName({ vmm, runsKvm }: LinuxNature): "linux" | "qemu" | "qemu-tcg" {
  if (vmm === undefined) return "linux";
  return runsKvm ? "qemu" : "qemu-tcg";
}

const linuxRowTitles = {
  linux: "The guest is Linux as it is.",
  qemu: "The guest is Linux as it is, in QEMU.",
  "qemu-tcg": "The guest is Linux as it is, in QEMU's emulator, which touches the page itself.",
} as const;

/** The row of a proposal on a Linux guest: it is what its kernel is, not what the proposal wishes for. */
function onLinux(proposal: Proposal, nature: LinuxNature): Proposal {
  const guest = proposal.kvm === "none" ? proposal.guest : enablesApf(proposal) ? "apf" : "unaware";
  const name = linuxRowName(nature);
  return {
    ...proposal,
    guest,
    id: `${proposal.id}@${name}`,
    title: `${proposal.title} ${linuxRowTitles[name]}`,
  };
}

/** Rows of the scorecard: a proposal, and behind it what it is on a Linux guest, as far as either ran. */
function rowsOf(results: readonly CaseResult[]): readonly Proposal[] {
  return proposalsOf(results).flatMap((proposal) => {
    const own = results.filter(({ planned }) => planned.proposal.id === proposal.id);
    const onGuests = own.flatMap(({ planned: { nature } }) =>
      nature.isLinuxGuest ? [onLinux(proposal, nature)] : [],
    );
    const hasOther = own.some(({ planned }) => !planned.nature.isLinuxGuest);
    return [...(hasOther ? [proposal] : []), ...uniqueById(onGuests)];
  });
}

/** The case as the scorecard looks at it; null without evidence. */
export function scoredCase({ planned, verdict, result, expectation }: CaseResult): ScoredCase | null {
  if (result?.kind !== "evidence") return null;
  const { scenario, proposal, nature } = planned;
  const { evidence } = result;
  const place = nature.isReal ? realPlace(placeName(planned), evidence.attestation) : placeName(planned);
  const row = nature.isLinuxGuest ? onLinux(proposal, nature) : proposal;
  return scored({ scenario, proposal: row, place, nature, verdict, expectation, evidence });
}

function uniqueById<Item extends { readonly id: string }>(items: readonly Item[]): readonly Item[] {
  return [...new Map(items.map((item) => [item.id, item])).values()];
}

/** The proposals of these cases: presets in their order, then the others as they come. */
export function proposalsOf(results: readonly CaseResult[]): readonly Proposal[] {
  const found = uniqueById(results.map(({ planned }) => planned.proposal));
  const rank = (id: string): number => {
    const index = presets.findIndex((preset) => preset.id === id);
    return index < 0 ? presets.length : index;
  };
  return [...found].sort((a, b) => rank(a.id) - rank(b.id));
}

export function scenariosOf(results: readonly CaseResult[]): readonly Scenario[] {
  return uniqueById(results.map(({ planned }) => planned.scenario));
}

/** What a case's place is called in this report: with its kernel where the report has it on several. */
export function engineNamer(results: readonly CaseResult[]): (result: CaseResult) => string {
  const kernels = new Map<string, Set<string>>();
  const kernelOf = (result: CaseResult): string => {
    const attestation = attestationOf(result);
    if (attestation === null) return "";
    return [attestation.kvmBackend, attestation.kernel].filter((part) => part !== null).join(" ");
  };
  for (const result of results) {
    const kernel = kernelOf(result);
    if (kernel === "" || !result.planned.nature.isReal) continue;
    const place = placeName(result.planned);
    const known = kernels.get(place) ?? new Set();
    known.add(kernel);
    kernels.set(place, known);
  }
  return (result) => {
    const place = placeName(result.planned);
    const kernel = kernelOf(result);
    return (kernels.get(place)?.size ?? 0) > 1 && kernel !== "" ? `${place} (${kernel})` : place;
  };
}

/** What the package knows, beside which runs are looked at. */
export type Background = {
  readonly documented: readonly DocumentedCell[];
  /** Recordings of Linux guests, loaded where a report shows them; left out: none. */
  readonly linuxGuests?: () => Omit<Compared, "own" | "micro">;
};

/** A run of one proposal is a question about that one, unless it has answers for the table. */
function comparedIn(
  results: readonly CaseResult[],
  proposals: readonly Proposal[],
  linuxGuests: () => Omit<Compared, "own" | "micro">,
): readonly ComparedRow[] {
  const own = linuxRuns(results);
  if (proposals.length < 2 && own.length === 0) return [];
  const { recorded, scenarios } = linuxGuests();
  const micro = microRuns(results);
  return comparedRows({ own, micro, recorded, scenarios: [...scenariosOf(results), ...scenarios] });
}

/** Throws a RecordError where the runs contradict each other. */
export function makeReport(
  runs: readonly RecordedRun[],
  { documented, linuxGuests = () => ({ recorded: [], scenarios: [] }) }: Background,
  guards: readonly GuardRecord[] = [],
): Report {
  checkSame(runs);
  const results = inOrder(
    mergeResults(runs),
    runs.flatMap(({ scenarios }) => scenarios.map(({ id }) => id)),
  );
  const ran = results.filter(({ result }) => result !== null);
  const counts = countVerdicts(results.map(({ verdict }) => verdict));
  const gaps = gapsOf(runs);
  const defects = runs.flatMap(({ end }) => end?.defects ?? []);
  const rows = rowsOf(ran);
  const cells = scorecard(
    rows.map(({ id }) => id),
    {
      cases: results.map(scoredCase).filter((one) => one !== null),
      documented,
      races: racedRounds(guards),
    },
  );
  const contradictions = contradictionsIn(cells);
  const proposals = proposalsOf(ran);
  return {
    runs: runs.map(({ info }) => info),
    results,
    scenarios: scenariosOf(results),
    proposals,
    rows,
    cells,
    compared: comparedIn(ran, proposals, linuxGuests),
    contradictions,
    counts,
    exitCode: exitCodeOfRuns(runs, counts, { gaps, defects, contradictions }),
    gaps,
    defects,
    durationMs: runs.reduce((sum, { end }) => sum + (end?.durationMs ?? 0), 0),
    guards,
  };
}
