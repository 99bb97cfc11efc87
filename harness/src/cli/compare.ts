/**
 * `daxfault compare`: is what was observed among what the model allows? Or: do two recorded runs agree?
 * Where a kernel's tracepoints were recorded: is their order one that the model has?
 *
 * A real observation that the model does not allow is a positive difference: model or kernel is wrong, and the command
 * fails (unless the search was cut off by a bound: a cut-off model convicts nobody). What the model allows and nobody
 * has seen is a negative difference: information.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  accessText,
  type Evidence,
  exitCodes,
  hostResultText,
  type KvmPart,
  kvmParts,
  type Proposal,
  placeName,
  proposals,
  type Scenario,
  vmmText,
} from "../../../language/src/index.ts";
import { type Divergence, type DivergenceRow, divergenceOf } from "../compare/divergence.ts";
import { OrderTally, orderLine, orderText, recordedOrder, type Traced } from "../compare/order-tally.ts";
import { Reasons } from "../compare/reasons.ts";
import { allowedEnds, isSame, wordsText } from "../engines/model/allowed.ts";
import { bare, translate, type Words } from "../engines/model/translate.ts";
import { modelNames, realNames } from "../engines/registry.ts";
import { loadScenarios } from "../fixtures.ts";
import { builtPath } from "../paths.ts";
import type { Style } from "../report/style.ts";
import type { CaseResult } from "../run/result.ts";
import type { CompareLine } from "./lines.ts";
import { type JsonOutput, openJson } from "./output.ts";
import { readRuns } from "./report.ts";
import { UsageError } from "./usage.ts";

export type CompareCommandOptions = {
  readonly engines: string;
  readonly json?: string;
  readonly all?: boolean;
  /** What the recorded kernel has built in; left out: it is a stock kernel. */
  readonly kvm?: string;
};

/** What of a recorded case is compared. */
export type Recorded = {
  readonly scenario: string;
  readonly scenarioHash: string;
  readonly proposal: string;
  readonly engine: string;
  readonly kvmBackend: string | null;
  readonly words: Words;
  /** The kernel's tracepoints with what they are of; null: there are none. */
  readonly traced: Traced | null;
  /** An erratum that is in force and was not seen: what the judge said of it. */
  readonly goneErratum: string | null;
};

/** A case that the real engine could not run. */
type Skipped = Pick<Recorded, "scenario" | "proposal" | "engine"> & { readonly reason: string };
export type RecordedCases = { readonly observed: readonly Recorded[]; readonly skipped: readonly Skipped[] };

function recordedWords({ observations }: Evidence): Words {
  const { accesses, host, vmm, guestKernel, bystanders } = observations;
  const steps = [
    ...stepWords(accesses, (access) => bare(accessText(access))),
    ...stepWords(host, (step) => bare(hostResultText(step))),
  ];
  const last = vmm?.at(-1);
  return {
    steps: Object.fromEntries(steps),
    bystanders,
    vmm: last === undefined ? null : vmmText(last),
    guestKernel,
  };
}

function stepWords<Seen>(
  actors: Readonly<Record<string, Readonly<Record<string, Seen>>>>,
  word: (seen: Seen) => string,
): readonly (readonly [string, string])[] {
  return Object.entries(actors).flatMap(([actor, labels]) =>
    Object.entries(labels).map(([label, seen]) => [`${actor}.${label}`, word(seen)] as const),
  );
}

function recordedOf(one: CaseResult, evidence: Evidence): Recorded {
  const { scenario, proposal } = one.planned;
  const { attestation, kvmTrace } = evidence;
  return {
    scenario: scenario.id,
    scenarioHash: scenario.hash,
    proposal: proposal.id,
    engine: placeName(one.planned),
    kvmBackend: attestation.kvmBackend,
    words: recordedWords(evidence),
    traced: kvmTrace === null ? null : { attestation, kvmTrace },
    goneErratum:
      one.verdict.kind === "xpass" && one.verdict.reason.startsWith("erratum ") ? one.verdict.reason : null,
  };
}

/** The cases of a run's JSON lines: those with observations, and those that were skipped. */
export function readRecorded(path: string): RecordedCases {
  const results = readRuns(path).flatMap((run) => run.results);
  return {
    observed: results.flatMap((one) =>
      one.result?.kind === "evidence" ? [recordedOf(one, one.result.evidence)] : [],
    ),
    skipped: results.flatMap(({ planned, verdict }) =>
      verdict.kind === "skip"
        ? [
            {
              scenario: planned.scenario.id,
              proposal: planned.proposal.id,
              engine: placeName(planned),
              reason: verdict.reason,
            },
          ]
        : [],
    ),
  };
}

/** Runs the real engines now, in a process of its own, and reads what it recorded. */
function recordNow(engines: readonly string[]): RecordedCases {
  const directory = mkdtempSync(join(tmpdir(), "daxfault-compare-"));
  try {
    const file = join(directory, "run.jsonl");
    const main = builtPath("harness/src/cli/main.ts");
    const done = spawnSync(process.execPath, [main, "run", "--engine", ...engines, "--json", file], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    if (done.status === null || done.status >= exitCodes.usage) {
      throw new UsageError(
        `daxfault run --engine ${engines.join(" ")} ended with ${done.status ?? done.signal}`,
      );
    }
    return readRecorded(file);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

type Tally = {
  same: number;
  positive: number;
  bounded: number;
  unsupported: number;
  negative: number;
  readonly orders: OrderTally;
  /** Why only the real engines, only the model could take a case. */
  readonly onlyReal: Reasons;
  readonly onlyModel: Reasons;
};

/** Cases that the model could have taken, had a real engine. */
function countOnlyModel(
  skipped: readonly Skipped[],
  scenarios: ReadonlyMap<string, Scenario>,
  tally: Tally,
  all: boolean,
): number {
  let count = 0;
  for (const one of skipped) {
    const scenario = scenarios.get(one.scenario);
    const proposal = proposals.find((known) => known.id === one.proposal);
    if (scenario === undefined || proposal === undefined) continue;
    if (translate(scenario, proposal, { interpretsKernelMode: false }, true).kind === "no") continue;
    count++;
    tally.onlyModel.add(one.reason);
    if (all)
      console.log(`only model    ${one.scenario} x ${one.proposal} (not ${one.engine}): ${one.reason}`);
  }
  return count;
}

/** What a recorded case is to the model: its proposal, on the kernel that it was recorded on. */
type Modelled = {
  readonly proposal: Proposal;
  /** The preset by which `daxfault explore` knows it; null: none. */
  readonly preset: string | null;
};

/** @param kvm null: a stock kernel, as the proposal says */
export function modelledOn(kvm: KvmPart | null, id: string): Modelled | null {
  const named = proposals.find((known) => known.id === id);
  if (named === undefined) return null;
  if (kvm === null || named.kvm !== "today") return { proposal: named, preset: id };
  const proposal = { ...named, kvm };
  const { vmm, guest, server, lapic } = proposal;
  const preset = proposals.find(
    (other) =>
      other.kvm === kvm &&
      other.vmm === vmm &&
      other.guest === guest &&
      other.server === server &&
      other.lapic === lapic,
  );
  return { proposal, preset: preset?.id ?? null };
}

type Comparison = {
  readonly kvm: KvmPart | null;
  readonly tally: Tally;
  readonly json: JsonOutput<CompareLine>;
  readonly all: boolean;
};

function compareOne(one: Recorded, scenario: Scenario, { kvm, tally, json, all }: Comparison): void {
  const name = `${one.scenario} x ${one.proposal} (${one.engine})`;
  const say = (text: string): void => {
    if (!json.isStdout) console.log(text);
  };
  const modelled = modelledOn(kvm, one.proposal);
  const backend = { interpretsKernelMode: one.kvmBackend === "kvm_pvm" };
  const allowed =
    modelled === null
      ? ({ kind: "unsupported", reason: `no proposal ${one.proposal}` } as const)
      : allowedEnds(scenario, modelled.proposal, backend);
  const id = { scenario: one.scenario, proposal: one.proposal, engine: one.engine };
  const preset = modelled?.preset ?? null;
  const replayOf = (path: { readonly token: string; readonly timer: boolean }): string | null =>
    preset === null
      ? null
      : `daxfault explore ${preset} --scenario ${one.scenario} --replay ${path.token}${path.timer ? "" : " --no-timer"}`;
  if (modelled !== null && one.traced !== null) {
    const order = recordedOrder(scenario, modelled.proposal, backend, one.traced);
    tally.orders.add(order);
    if (order.kind === "diverges") {
      const replay = replayOf(order);
      json.write(orderLine(id, one.traced.kvmTrace, order, replay));
      say(
        `OTHER ORDER   ${name}\n${orderText(one.traced.kvmTrace, order)}${replay === null ? "" : `\n  ${replay}`}`,
      );
    }
  }
  const observed = wordsText(one.words);
  if (allowed.kind === "unsupported") {
    tally.unsupported++;
    tally.onlyReal.add(allowed.reason);
    if (all) say(`only ${one.engine.padEnd(8)} ${name}: ${allowed.reason}`);
    return;
  }
  const unseen = allowed.ends.filter(({ words }) => !isSame(words, one.words));
  tally.negative += unseen.length;
  for (const { words } of unseen) {
    json.write({
      type: "difference",
      sign: "negative",
      ...id,
      observed: null,
      allowed: [wordsText(words)],
      boundedBy: allowed.boundedBy,
      first: null,
      replay: null,
    });
    if (all) say(`not seen      ${name}: ${wordsText(words)}`);
  }
  if (unseen.length < allowed.ends.length) {
    tally.same++;
    return;
  }
  if (allowed.boundedBy === null) tally.positive++;
  else tally.bounded++;
  const ends = allowed.ends.map(({ words }) => wordsText(words));
  const divergence = divergenceOf(one.words, allowed.ends);
  const replay = divergence === null ? null : replayOf(divergence.nearest);
  json.write({
    type: "difference",
    sign: "positive",
    ...id,
    observed,
    allowed: ends,
    boundedBy: allowed.boundedBy,
    first: divergence?.rows.at(-1) ?? null,
    replay,
  });
  say(`NOT ALLOWED   ${name}`);
  if (divergence !== null) say(divergenceText(divergence, allowed.ends.length));
  if (replay !== null) say(`  ${replay}`);
}

/** Observed and allowed side by side, down to the first difference. */
function divergenceText({ rows }: Divergence, endCount: number): string {
  const of = endCount === 1 ? "its only end" : `the nearest of ${endCount} ends`;
  const lines = [{ what: "step", observed: "observed", allowed: `model, ${of}` }, ...rows];
  const wide = (column: (row: DivergenceRow) => string): number =>
    Math.max(...lines.map((row) => column(row).length));
  const [first, second] = [wide(({ what }) => what), wide(({ observed }) => observed)];
  return lines
    .map(({ what, observed, allowed }, index) => {
      const mark = index === lines.length - 1 ? "   <- first difference" : "";
      return `  ${what.padEnd(first)}  ${observed.padEnd(second)}  ${allowed}${mark}`;
    })
    .join("\n");
}

function compareWithModel(
  { observed, skipped }: RecordedCases,
  json: JsonOutput<CompareLine>,
  { all, kvm }: Pick<Comparison, "all" | "kvm">,
): number {
  const scenarios = new Map(loadScenarios().map((scenario) => [scenario.id, scenario]));
  const tally: Tally = {
    same: 0,
    positive: 0,
    bounded: 0,
    unsupported: 0,
    negative: 0,
    orders: new OrderTally(),
    onlyReal: new Reasons(),
    onlyModel: new Reasons(),
  };
  for (const one of observed) {
    const scenario = scenarios.get(one.scenario);
    if (scenario === undefined || scenario.hash !== one.scenarioHash) {
      throw new UsageError(
        `${one.scenario}: recorded with another text of the scenario (hash ${one.scenarioHash})`,
      );
    }
    compareOne(one, scenario, { kvm, tally, json, all });
  }
  const onlyModel = countOnlyModel(skipped, scenarios, tally, all && !json.isStdout);
  const gone = [...new Set(observed.flatMap(({ goneErratum }) => goneErratum ?? []))];
  const { onlyReal, onlyModel: modelReasons, orders, ...counts } = tally;
  const { followed, different } = orders;
  json.write({
    type: "comparison",
    ...counts,
    onlyModel,
    goneErrata: gone,
    ordersFollowed: followed,
    ordersDifferent: different,
  });
  if (!json.isStdout) {
    if (tally.unsupported > 0) {
      console.log(`${tally.unsupported} cases only a real engine took, because`);
      for (const line of onlyReal.lines()) console.log(line);
    }
    if (onlyModel > 0) {
      console.log(`${onlyModel} cases only the model can take, because`);
      for (const line of modelReasons.lines()) console.log(line);
    }
    const order = orders.text();
    if (order !== null) console.log(order);
    for (const reason of gone) console.log(`ERRATUM GONE  ${reason}`);
    console.log(
      `${tally.same} observations are among what the model allows, ${tally.positive} are not; ` +
        `${tally.bounded} not decided (search bounded), ${tally.unsupported} not for the model; ` +
        `${tally.negative} allowed ends were not seen.`,
    );
  }
  if (tally.positive > 0 || different > 0 || gone.length > 0) return exitCodes.unexpected;
  if (tally.bounded > 0) return exitCodes.inconclusive;
  return tally.same === 0 ? exitCodes.nothingRan : exitCodes.ok;
}

/** Case by case; cases of which the texts differ are refused, cases that only one run has are left out. */
function compareRuns(
  left: readonly Recorded[],
  right: readonly Recorded[],
  json: JsonOutput<CompareLine>,
): number {
  const keyOf = (one: Recorded): string => `${one.scenario} x ${one.proposal} (${one.engine})`;
  const others = new Map(right.map((one) => [keyOf(one), one]));
  let compared = 0;
  let different = 0;
  for (const one of left) {
    const other = others.get(keyOf(one));
    if (other === undefined) continue;
    if (other.scenarioHash !== one.scenarioHash)
      throw new UsageError(`${keyOf(one)}: two texts of one scenario`);
    compared++;
    if (isSame(one.words, other.words)) continue;
    different++;
    const [observed, allowed] = [wordsText(one.words), wordsText(other.words)];
    const { scenario, proposal, engine } = one;
    json.write({
      type: "difference",
      sign: "positive",
      scenario,
      proposal,
      engine,
      observed,
      allowed: [allowed],
      boundedBy: null,
      first: null,
      replay: null,
    });
    if (!json.isStdout)
      console.log(`DIFFERENT     ${keyOf(one)}\n  first   ${observed}\n  second  ${allowed}`);
  }
  if (!json.isStdout) console.log(`${compared} cases compared, ${different} differ.`);
  if (different > 0) return exitCodes.unexpected;
  return compared === 0 ? exitCodes.nothingRan : exitCodes.ok;
}

export function compareCommand(
  files: readonly string[],
  options: CompareCommandOptions,
  _style: Style,
): number {
  const named = options.engines.split(",");
  const engines = named.filter((name) => !modelNames.includes(name));
  if (engines.length === named.length || engines.some((name) => !realNames.includes(name))) {
    const amount = realNames.length === 2 ? "both" : "more";
    throw new UsageError(
      `--engines ${options.engines}: ${modelNames.join(" or ")}, and one or ${amount} of ${realNames.join(" and ")}`,
    );
  }
  const kvm = kvmParts.find((part) => part === options.kvm) ?? null;
  if (options.kvm !== undefined && kvm === null) {
    throw new UsageError(`--kvm ${options.kvm}: one of ${kvmParts.join(", ")}`);
  }
  if (files.length > 2)
    throw new UsageError("compare takes no file (runs now), one (with the model) or two (with each other)");
  const [first, second] = files;
  const json = openJson<CompareLine>(options.json);
  try {
    if (first !== undefined && second !== undefined)
      return compareRuns(readRecorded(first).observed, readRecorded(second).observed, json);
    const recorded = first === undefined ? recordNow(engines) : readRecorded(first);
    return compareWithModel(recorded, json, { all: options.all === true, kvm });
  } finally {
    json.close();
  }
}
