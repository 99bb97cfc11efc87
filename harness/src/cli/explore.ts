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
import {
  exitCodes,
  nearest,
  type Preset,
  presets,
  proposals,
  type Scenario,
} from "../../../language/src/index.ts";
import { allowedEnds, comparedText, comparedWords, replayText } from "../engines/model/allowed.ts";
import { hardware, translate } from "../engines/model/translate.ts";
import { loadScenarios } from "../fixtures.ts";
import type { Style } from "../report/style.ts";
import { scoreCommand } from "./explore-scorecard.ts";
import type { ExploreLine } from "./lines.ts";
import { type JsonOutput, openJson } from "./output.ts";
import { parseCount, select, UsageError } from "./usage.ts";

export type ExploreCommandOptions = {
  readonly scenario?: string;
  readonly replay?: string;
  readonly json?: string;
  readonly claims?: boolean;
  readonly mermaid?: boolean;
  readonly timer: boolean;
  readonly maxStates: string;
};

const STATES_MAX = 100_000_000;

/** A situation of the model's own, or a scenario of the fixtures. */
type Place =
  | { readonly kind: "situation"; readonly id: Situation }
  | { readonly kind: "scenario"; readonly of: Scenario };

function findPlace(id: string): Place {
  const situation = situations.find((known) => known === id);
  if (situation !== undefined) return { kind: "situation", id: situation };
  const scenarios = loadScenarios();
  const scenario = scenarios.find((known) => known.id === id);
  if (scenario !== undefined) return { kind: "scenario", of: scenario };
  const near = nearest(id, [...situations, ...scenarios.map((known) => known.id)]);
  throw new UsageError(`no scenario ${JSON.stringify(id)}; nearest: ${near.join(", ")}`);
}

function modelOf(place: Place, preset: Preset, { timer }: Pick<ExploreCommandOptions, "timer">): GuestModel {
  if (place.kind === "situation") return guestModel(caseOf(place.id, preset));
  const translation = translate(place.of, preset, { backend: hardware, timer });
  if (translation.kind === "no")
    throw new UsageError(`${place.of.id} is not for the model: ${translation.reason}`);
  // With the actions that a path of `daxfault compare` may take; they come last, so that no other token means anything else.
  return guestModel({ ...translation.case, interference: true });
}

function printPath(preset: Preset, place: Place, options: ExploreCommandOptions, token: string): number {
  const { model } = modelOf(place, preset, options);
  try {
    const parsed = parseToken(token);
    const { steps } = replay(model, parsed);
    const cycleAt = parsed.cycle.length === 0 ? null : parsed.stem.length;
    console.log(options.mermaid === true ? mermaidDiagram(steps, cycleAt) : textDiagram(steps, cycleAt));
    return exitCodes.ok;
  } catch (error) {
    if (error instanceof ReplayError) throw new UsageError(error.message);
    throw error;
  }
}

function decideClaims(maxStates: number, json: JsonOutput<ExploreLine>, style: Style): number {
  let refuted = 0;
  let open = 0;
  for (const claim of claims) {
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
  preset: Preset,
  scenario: Scenario,
  maxStates: number,
  json: JsonOutput<ExploreLine>,
): number {
  const allowed = allowedEnds(scenario, preset, hardware, { maxStates });
  if (allowed.kind === "unsupported")
    throw new UsageError(`${scenario.id} is not for the model: ${allowed.reason}`);
  const { states, boundedBy } = allowed;
  if (!json.isStdout)
    console.log(`${scenario.id} x ${preset.id}: ${allowed.ends.length} ends in ${states} states`);
  for (const end of allowed.ends) {
    const way = replayText(preset.id, scenario.id, end);
    json.write({
      type: "end",
      proposal: preset.id,
      scenario: scenario.id,
      words: comparedWords(end.outcome),
      states,
      boundedBy,
      replay: way,
    });
    if (!json.isStdout) console.log(`  ${comparedText(end.outcome)}\n    ${way}`);
  }
  return boundedBy === null ? exitCodes.ok : exitCodes.inconclusive;
}

export function exploreCommand(
  names: readonly string[],
  options: ExploreCommandOptions,
  style: Style,
): number {
  const maxStates = parseCount("--max-states", options.maxStates, 1, STATES_MAX);
  const place = options.scenario === undefined ? null : findPlace(options.scenario);
  if (place === null && options.replay === undefined && options.claims !== true) {
    return scoreCommand(select("proposal", names, proposals), { maxStates, json: options.json }, style);
  }
  const chosen = select("proposal", names, presets);
  const [only] = chosen;
  if (options.replay !== undefined) {
    if (place === null || only === undefined || chosen.length !== 1) {
      throw new UsageError(
        "--replay needs one PROPOSAL and --scenario: a token means something for one case only",
      );
    }
    return printPath(only, place, options, options.replay);
  }
  const json = openJson<ExploreLine>(options.json);
  try {
    if (options.claims === true || place === null) return decideClaims(maxStates, json, style);
    if (place.kind === "situation") {
      throw new UsageError(`${place.id} is a situation of claims: run daxfault explore --claims`);
    }
    return Math.max(...chosen.map((preset) => showEnds(preset, place.of, maxStates, json)));
  } finally {
    json.close();
  }
}
