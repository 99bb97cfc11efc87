/**
 * From JSON lines back to what was recorded: runs with their results, typed as they were when they ran.
 * The only way into a report: `daxfault run` goes it too, so that a report drawn later is the same report.
 */
import type { z } from "zod";
import {
  type Access,
  type Evidence,
  type Expectation,
  type FaultPlace,
  type HostResult,
  type Observations,
  type Proposal,
  parseAccessText,
  parseHostResultText,
  parseVmmText,
  type RunResult,
  type Scenario,
  ScenarioError,
  signalOfExitCode,
  splitVmm,
  type Verdict,
  type Vmm,
} from "../../../language/src/index.ts";
import { issueText, parseScenarios } from "../../../language/src/read.ts";
import { engineRow, kernelEngines } from "../engines/registry.ts";
import { type GuardRecord, guardRecordSchema, isGuardLine } from "../guards/records.ts";
import type { RunEnd, RunInfo } from "../run/observer.ts";
import { enginesFor, type PlannedCase } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";
import { recordSchema } from "./jsonl.ts";
import type { CaseRecord, ObservationsRecord, PlaceRecord, RecordLine, SummaryRecord } from "./records.ts";

/** One `daxfault run`, as far as it came. */
export type RecordedRun = {
  readonly info: RunInfo;
  /** Of the plan, in its order. */
  readonly scenarios: readonly Scenario[];
  /** As they ended. */
  readonly results: readonly CaseResult[];
  /** null: the run wrote no end (it was killed, or is still going on). */
  readonly end: RunEnd | null;
};

/** A line that is none, or that contradicts another. The message names the line. */
export class RecordError extends Error {
  override readonly name = "RecordError";
}

function known<Word>(word: Word | null, text: string): Word {
  if (word === null) throw new RecordError(`${JSON.stringify(text)} is no word of an observation`);
  return word;
}

function mapLabels<Word>(
  actors: Readonly<Record<string, Readonly<Record<string, string>>>>,
  parse: (text: string) => Word | null,
): Readonly<Record<string, Readonly<Record<string, Word>>>> {
  return Object.fromEntries(
    Object.entries(actors).map(([actor, labels]) => [
      actor,
      Object.fromEntries(Object.entries(labels).map(([label, text]) => [label, known(parse(text), text)])),
    ]),
  );
}

const bigintOrNull = (text: string | null): bigint | null => (text === null ? null : BigInt(text));

function decodePlace(at: PlaceRecord | null): FaultPlace | null {
  if (at === null) return null;
  const { rip, cpl, gva, gpa, hva } = at;
  return { rip: BigInt(rip), cpl, gva: BigInt(gva), gpa: bigintOrNull(gpa), hva: bigintOrNull(hva) };
}

function decodeVmm(list: ObservationsRecord["vmm"]): readonly Vmm[] | null {
  return (
    list?.map(({ state, faultsPerSecond, at }) =>
      known(parseVmmText(state, faultsPerSecond, decodePlace(at)), state),
    ) ?? null
  );
}

function decodeObservations({ accesses, host, vmm, ...rest }: ObservationsRecord): Observations {
  return {
    accesses: mapLabels<Access>(accesses, parseAccessText),
    host: mapLabels<HostResult>(host, parseHostResultText),
    vmm: decodeVmm(vmm),
    ...rest,
  };
}

function decodeEvidence(record: CaseRecord): Evidence | null {
  const { attestation, observations, exhaustiveness, events, counters, trace } = record;
  if (attestation === null || observations === null || exhaustiveness === null) return null;
  return {
    attestation,
    observations: decodeObservations(observations),
    ends: (record.ends ?? []).map((end) => ({ ...end, observations: decodeObservations(end.observations) })),
    counts: events as Evidence["counts"],
    counters: Object.fromEntries(Object.entries(counters).map(([name, value]) => [name, BigInt(value)])),
    accessMs: record.accessMs,
    trace: trace.map(({ gpa, ...event }) => ({ ...event, gpa: bigintOrNull(gpa) })),
    kvmTrace: record.kvmTrace,
    ...(record.guestConsole === undefined ? {} : { guestConsole: record.guestConsole }),
    exhaustiveness,
    durationMs: record.engineMs ?? record.durationMs,
  };
}

function decodeResult(record: CaseRecord): RunResult | null {
  if (record.failure !== null) return record.failure;
  const evidence = decodeEvidence(record);
  return evidence === null ? null : { kind: "evidence", evidence };
}

/** Runs that were recorded before `erratum` was a member have it in the reason only. */
function erratumOf({ reason, erratum }: CaseRecord["verdict"]): string | undefined {
  return erratum ?? /^erratum (\S+) is in force here but is not seen\b/.exec(reason)?.[1];
}

function decodeVerdict(verdict: CaseRecord["verdict"]): Verdict {
  const { kind, cause, reason } = verdict;
  if (kind === "xpass") {
    const erratum = erratumOf(verdict);
    return erratum === undefined ? { kind, reason } : { kind, reason, erratum };
  }
  if (kind !== "inconclusive") return { kind, reason };
  if (cause === undefined) throw new RecordError("an inconclusive verdict without its cause");
  return { kind, cause, reason };
}

/** Engine and machine of a case; of lines that do not name them, by the rule of the versions that wrote such lines. */
function decodeExecution(
  record: CaseRecord,
  proposal: Proposal,
): Pick<PlannedCase, "engine" | "nature" | "machine"> {
  const { engine: place, machine, executor } = record;
  const isKernel = place.startsWith("kernel:");
  const name = executor ?? (isKernel ? enginesFor(proposal, kernelEngines)[0]?.name : place);
  if (name === undefined) throw new RecordError(`no engine runs ${proposal.id} inside kernels`);
  const where = machine ?? (isKernel ? (place as PlannedCase["machine"]) : "here");
  return { engine: name, nature: engineRow(name).nature, machine: where };
}

function decodeCase(record: CaseRecord, scenario: Scenario, proposal: Proposal): CaseResult {
  const { argument, engineOption, verdict } = record;
  const support: PlannedCase["support"] =
    verdict.kind === "skip" && record.outcomes.length === 0
      ? { kind: "no", reason: verdict.reason, fix: record.fix }
      : { kind: "yes" };
  return {
    planned: {
      scenario,
      argument,
      proposal,
      ...decodeExecution(record, proposal),
      support,
      ...(engineOption === null ? {} : { engineOption }),
    },
    verdict: decodeVerdict(verdict),
    result: decodeResult(record),
    expectation: record.expectation as Expectation | null,
    outcomes: record.outcomes,
    durationMs: record.durationMs,
  };
}

type Definitions = {
  readonly scenarios: Map<string, Scenario>;
  readonly proposals: Map<string, Proposal>;
};

function defineScenario(record: RecordLine & { type: "scenario" }, { scenarios }: Definitions): void {
  const { id, hash, source } = record;
  // What it may be about was checked when it was recorded, against proposals that need not be known here.
  const about = Array.isArray(source.proposals) ? source.proposals.map(String) : [];
  const [scenario] = parseScenarios(JSON.stringify(source), `scenario ${id}`, about);
  if (scenario === undefined || scenario.hash !== hash) {
    throw new RecordError(`the recorded text of ${id} does not have the recorded hash ${hash}`);
  }
  scenarios.set(id, scenario);
}

function toCase(record: CaseRecord, { scenarios, proposals }: Definitions): CaseResult {
  const scenario = scenarios.get(record.scenario);
  const proposal = proposals.get(record.proposal);
  if (scenario === undefined || proposal === undefined) {
    const missing = scenario === undefined ? `scenario ${record.scenario}` : `proposal ${record.proposal}`;
    throw new RecordError(`a case of ${missing}, which no line before it defines`);
  }
  if (scenario.hash !== record.scenarioHash) {
    throw new RecordError(`${record.scenario} has hash ${scenario.hash}, the case ${record.scenarioHash}`);
  }
  return decodeCase(record, scenario, proposal);
}

type OpenRun = Definitions & { info: RunInfo; results: CaseResult[]; end: RunEnd | null };

/** `line` as the schema has it. Throws a RecordError that says what is wrong, and where. */
function checked<Line>(schema: z.ZodType<Line>, line: unknown, what: string): Line {
  const parsed = schema.safeParse(line);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const at = issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".")}: `;
  throw new RecordError(`${what}: ${at}${issue === undefined ? "" : issueText(issue, schema, line)}`);
}

/** The measurements of `bench guards` among the lines. Throws a RecordError that names the line. */
export function decodeGuards(lines: readonly unknown[], source: string): readonly GuardRecord[] {
  return lines.flatMap((line, index) => {
    const what = `${source}:${index + 1}: not a line of daxfault bench guards --json`;
    return isGuardLine(line) ? [checked(guardRecordSchema, line, what)] : [];
  });
}

/** The runs in the lines, one after the other. Throws a RecordError that names the line. */
export function decodeRuns(lines: readonly unknown[], source: string): readonly RecordedRun[] {
  const runs: OpenRun[] = [];
  for (const [index, line] of lines.entries()) {
    if (isGuardLine(line)) continue;
    const place = `${source}:${index + 1}`;
    const record = checked(recordSchema, line, `${place}: not a line of daxfault run --json`);
    if (record.type === "run") {
      const { type: _type, ...info } = record;
      runs.push({ info, results: [], end: null, scenarios: new Map(), proposals: new Map() });
      continue;
    }
    const run = runs.at(-1);
    if (run === undefined) throw new RecordError(`${place}: ${record.type} before the line of type run`);
    try {
      if (record.type === "engine" && record.attestation !== null) {
        run.info = { ...run.info, attestations: [...run.info.attestations, record.attestation] };
      }
      if (record.type === "proposal") run.proposals.set(record.id, toProposal(record));
      if (record.type === "scenario") defineScenario(record, run);
      if (record.type === "case") run.results.push(toCase(record, run));
      if (record.type === "summary") run.end = toEnd(record);
    } catch (error) {
      if (error instanceof RecordError || error instanceof ScenarioError) {
        throw new RecordError(`${place}: ${error.message}`);
      }
      throw error;
    }
  }
  return runs.map((run) => ({
    info: run.info,
    scenarios: [...run.scenarios.values()],
    results: run.results,
    end: run.end,
  }));
}

function toEnd({ interrupted, exitCode, defects, durationMs }: SummaryRecord): RunEnd {
  const signal = signalOfExitCode(exitCode) ?? "SIGINT";
  return { interruptedBy: interrupted ? signal : null, defects, durationMs };
}

function toProposal(record: RecordLine & { type: "proposal" }): Proposal {
  const { type: _type, exits, ...proposal } = record;
  const split = splitVmm(proposal.vmm, proposal.guest);
  const earlier = split ?? { exits: proposal.vmm === "none" ? "none" : "kvm" };
  // The values of the axes are words of the version that recorded them: shown, never interpreted. But one axis was split.
  return { ...proposal, ...(exits === undefined ? earlier : { exits }) } as Proposal;
}
