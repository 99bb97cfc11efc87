/**
 * `daxfault explore`: every interleaving, in the model. Without a scenario: the scorecard (`explore-scorecard.ts`).
 * With one: what can come out of it. With a token: the story, step by step.
 */
import {
  caseOf,
  claims,
  decideClaim,
  type GuestModel,
  guestModel,
  mermaidDiagram,
  parseToken,
  ReplayError,
  replay,
  type Situation,
  situations,
  textDiagram,
} from "../../../kvm-model/src/index.ts";
import { exitCodes, nearest, type Parts } from "../../../language/src/index.ts";
import { beyondProcess } from "../engines/beyond-process.ts";
import { allowedEnds, comparedText, comparedWords, replayText } from "../engines/model/allowed.ts";
import { asOfProcess } from "../engines/model/process-words.ts";
import { hardware, partsOf, translate } from "../engines/model/translate.ts";
import { visible, visibleLines } from "../report/encode.ts";
import type { Style } from "../report/style.ts";
import { type Catalogue, isScenarioFile } from "../run/catalogue.ts";
import { argumentOf, isAboutProposal, type NamedProposal, type NamedScenario } from "../run/plan.ts";
import { scoreCommand } from "./explore-scorecard.ts";
import type { ExploreLine } from "./lines/explore.ts";
import { type JsonOutput, openJson } from "./output.ts";
import { openCatalogue, type SourceOptions } from "./selection.ts";
import { parseCount, select, UsageError } from "./usage.ts";

export type ExploreCommandOptions = SourceOptions & {
  readonly scenario?: string;
  readonly replay?: string;
  readonly json?: string;
  readonly claims?: boolean;
  readonly mermaid?: boolean;
  readonly timer: boolean;
  readonly maxStates: string;
};

const STATES_MAX = 100_000_000;

/** A situation of the model's own, or scenarios: one by its id, or those of a file. */
type Place =
  | { readonly kind: "situation"; readonly id: Situation }
  | { readonly kind: "scenarios"; readonly of: readonly NamedScenario[] };

function findPlace(name: string, { scenarios, fileScenarios }: Catalogue): Place {
  if (isScenarioFile(name)) return { kind: "scenarios", of: fileScenarios };
  const situation = situations.find((known) => known === name);
  if (situation !== undefined) return { kind: "situation", id: situation };
  const named = scenarios.find(({ scenario }) => scenario.id === name);
  if (named !== undefined) return { kind: "scenarios", of: [named] };
  const near = nearest(name, [...situations, ...scenarios.map(({ scenario }) => scenario.id)]);
  throw new UsageError(`no scenario ${JSON.stringify(name)}; nearest: ${near.join(", ")}`);
}

/** The one scenario of the place, for a path: a token is of one case. */
function onlyScenario(of: readonly NamedScenario[]): NamedScenario {
  const [only, second] = of;
  if (only === undefined) throw new UsageError("no scenario in that file");
  if (second === undefined) return only;
  const names = of.slice(0, 4).map(({ argument }) => argument);
  throw new UsageError(`--replay is of one scenario, the file has ${of.length}: ${names.join(", ")}`);
}

/** A proposal with a VM: what the scorecard of the model is about. */
function hasVm(named: NamedProposal): boolean {
  return named.proposal.kvm !== "none" && partsOf(named.proposal) !== null;
}

function withParts({ proposal }: NamedProposal): Parts {
  const parts = partsOf(proposal);
  if (parts === null) throw new UsageError(`${proposal.id} is not for the model: a part of its VM is "none"`);
  return parts;
}

/** With the command that asks reality instead, if reality can be asked that. */
function notForModel(place: NamedScenario, named: NamedProposal, reason: string): UsageError {
  if (named.proposal.kvm === "none" && beyondProcess(place.scenario) !== null)
    return new UsageError(`${place.scenario.id} is not for ${named.proposal.id}: ${reason}`);
  const command = `daxfault run ${argumentOf(place, named)} --proposal ${named.proposal.id}`;
  return new UsageError(`${place.scenario.id} is not for the model: ${reason}; run it: ${command}`);
}

function modelOf(
  place: Place,
  named: NamedProposal,
  { timer }: Pick<ExploreCommandOptions, "timer">,
): GuestModel {
  if (place.kind === "situation") return guestModel(caseOf(place.id, withParts(named)));
  const only = onlyScenario(place.of);
  const { scenario } = only;
  const translation = translate(scenario, named.proposal, { backend: hardware, timer });
  if (translation.kind === "no") {
    throw notForModel(only, named, translation.reason);
  }
  // With the actions that a path of `daxfault compare` may take; they come last, so that no other token means anything else.
  return guestModel({ ...translation.case, interference: true });
}

function printPath(
  named: NamedProposal,
  place: Place,
  options: ExploreCommandOptions,
  token: string,
): number {
  const { model } = modelOf(place, named, options);
  try {
    const parsed = parseToken(token);
    const path = replay(model, parsed);
    const from = parsed.cycle.length === 0 ? null : parsed.stem.length;
    const { steps, cycleAt } =
      named.proposal.kvm === "none" ? asOfProcess(path.steps, from) : { steps: path.steps, cycleAt: from };
    console.log(
      visibleLines(options.mermaid === true ? mermaidDiagram(steps, cycleAt) : textDiagram(steps, cycleAt)),
    );
    return exitCodes.ok;
  } catch (error) {
    if (error instanceof ReplayError) throw new UsageError(error.message);
    throw error;
  }
}

function decideClaims(
  names: readonly string[],
  maxStates: number,
  json: JsonOutput<ExploreLine>,
  style: Style,
): number {
  let refuted = 0;
  let open = 0;
  for (const claim of select("claim", names, claims)) {
    const decided = decideClaim(claim, { maxStates });
    if (decided.verdict === "refuted") refuted++;
    if (decided.verdict === "open") open++;
    const { exhaustiveness } = decided.facts;
    const { id, kind, says } = claim;
    json.write({
      type: "claim",
      id,
      kind,
      says,
      verdict: decided.verdict,
      exhaustiveness,
      tokens: decided.tokens,
    });
    if (json.isStdout) continue;
    const mark = { confirmed: "pass", refuted: "fail", open: "inconclusive" } as const;
    const states = `${exhaustiveness.states} states`;
    console.log(
      `${style.verdict(mark[decided.verdict], decided.verdict.padEnd(10))} ${id.padEnd(26)} ${says} [${states}]`,
    );
  }
  if (refuted > 0) return exitCodes.unexpected;
  return open > 0 ? exitCodes.inconclusive : exitCodes.ok;
}

function showEnds(
  place: NamedScenario,
  named: NamedProposal,
  maxStates: number,
  json: JsonOutput<ExploreLine>,
): number {
  const { scenario } = place;
  const { proposal } = named;
  const allowed = allowedEnds(scenario, proposal, hardware, { maxStates });
  if (allowed.kind === "unsupported") throw notForModel(place, named, allowed.reason);
  const { states, boundedBy } = allowed;
  if (!json.isStdout)
    console.log(
      `${visible(`${scenario.id} x ${proposal.id}`)}: ${allowed.ends.length} ends in ${states} states` +
        (boundedBy === null ? "" : `; the search stopped at the bound (${boundedBy}): there may be more`),
    );
  for (const end of allowed.ends) {
    const way = replayText(proposal.id, argumentOf(place, named), end);
    json.write({
      type: "end",
      proposal: proposal.id,
      scenario: scenario.id,
      words: comparedWords(end.outcome),
      states,
      boundedBy,
      replay: way,
    });
    if (!json.isStdout) console.log(`  ${visible(comparedText(end.outcome))}\n    ${visible(way)}`);
  }
  return boundedBy === null ? exitCodes.ok : exitCodes.inconclusive;
}

/** An option that the others leave without a meaning is refused, not ignored. */
function checkTogether({
  claims: decides,
  scenario,
  replay: token,
  json,
  ...path
}: ExploreCommandOptions): void {
  const problems: readonly (readonly [isOne: boolean, message: string])[] = [
    [
      decides === true && scenario !== undefined,
      "--claims takes no --scenario: claims have situations of their own",
    ],
    [decides === true && token !== undefined, "--claims takes no --replay"],
    [token !== undefined && json !== undefined, "--replay writes no JSON lines: leave out --json"],
    [token === undefined && path.mermaid === true, "--mermaid needs --replay: it is about a path"],
    [token === undefined && !path.timer, "--no-timer needs --replay: it is about a path"],
  ];
  const problem = problems.find(([isOne]) => isOne);
  if (problem !== undefined) throw new UsageError(problem[1]);
}

export function exploreCommand(
  names: readonly string[],
  options: ExploreCommandOptions,
  style: Style,
): number {
  checkTogether(options);
  const maxStates = parseCount("--max-states", options.maxStates, 1, STATES_MAX);
  if (options.claims === true)
    return decideClaims(names, maxStates, openJson<ExploreLine>(options.json), style);
  const file = options.scenario !== undefined && isScenarioFile(options.scenario) ? [options.scenario] : [];
  const catalogue = openCatalogue(options, file);
  const items = catalogue.proposals.map((named) => ({ id: named.proposal.id, named }));
  const selected = select("proposal", names, items).map(({ named }) => named);
  const oneCase = "--replay needs one PROPOSAL and --scenario: a token means something for one case only";
  if (options.scenario === undefined) {
    if (options.replay !== undefined) throw new UsageError(oneCase);
    return scoreCommand(selected, catalogue, { maxStates, json: options.json, style });
  }
  const place = findPlace(options.scenario, catalogue);
  const chosen = names.length === 0 ? selected.filter(hasVm) : selected;
  const [only] = chosen;
  if (options.replay !== undefined) {
    if (only === undefined || chosen.length !== 1) throw new UsageError(oneCase);
    return printPath(only, place, options, options.replay);
  }
  const json = openJson<ExploreLine>(options.json);
  if (place.kind === "situation") {
    throw new UsageError(`${place.id} is a situation of claims: run daxfault explore --claims`);
  }
  const isWanted = (one: NamedScenario, { proposal }: NamedProposal): boolean =>
    names.length > 0 || isAboutProposal(one.scenario, proposal);
  const codes = place.of.flatMap((one) =>
    chosen.filter((named) => isWanted(one, named)).map((named) => showEnds(one, named, maxStates, json)),
  );
  if (codes.length === 0) {
    throw new UsageError(`${options.scenario} is about no proposal with a VM that the model has: name one`);
  }
  return Math.max(...codes);
}
