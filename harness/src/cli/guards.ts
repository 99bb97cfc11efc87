/**
 * `daxfault guards`: every guard against every way of making a file shorter, on /dev/kvm, each cell held against the model.
 */

import { type Evidence, exitCodes, type Proposal } from "../../../language/src/index.ts";
import { engineRow, loadEngine } from "../engines/registry.ts";
import {
  type Cell,
  cellOf,
  cellText,
  guardProposals,
  type MatrixScenario,
  type ModelsWord,
  matrixScenarios,
  modelsWord,
} from "../guards/matrix.ts";
import { usualGuest } from "../kernel/spec.ts";
import { supportOf, thisMachine } from "../machine.ts";
import { hereMachine } from "../machines/here.ts";
import { visible, visibleData } from "../report/encode.ts";
import { renderGrid } from "../report/grid.ts";
import { styleFor } from "../report/style.ts";
import type { PlannedCase } from "../run/plan.ts";
import { runCases } from "../run/runner.ts";
import { printDefects } from "./defects.ts";
import { type Life, liveInFolder } from "./life.ts";
import type { GuardsLine } from "./lines/guards.ts";
import { type JsonOutput, openJson, openProgress } from "./output.ts";
import { openCatalogue } from "./selection.ts";
import { parseCount, select } from "./usage.ts";

export type GuardsCommandOptions = {
  readonly guard?: readonly string[];
  readonly proposals?: readonly string[];
  readonly way?: readonly string[];
  readonly json?: string;
  readonly jobs: string;
};

const JOBS_MAX = 64;
const CASE_TIMEOUT_MS = 20_000;

type Result = {
  readonly place: MatrixScenario;
  readonly proposal: Proposal;
  readonly cell: Cell;
  readonly model: ModelsWord;
  /** Why there is no cell: the engine's words. */
  readonly failure: string | null;
};

function judged(place: MatrixScenario, proposal: Proposal, evidence: Evidence): Result {
  const cell = cellOf(place.scenario, evidence, proposal.server);
  return { place, proposal, cell, model: modelsWord(place.scenario, proposal, evidence), failure: null };
}

const nameOf = ({ scenario, proposal }: PlannedCase): string => `${scenario.id} x ${proposal.id}`;

type MatrixOptions = { readonly jobs: number; readonly life: Life };

async function runMatrix(
  places: readonly MatrixScenario[],
  guards: readonly Proposal[],
  { jobs, life: { directory, signal } }: MatrixOptions,
): Promise<{ readonly results: readonly Result[]; readonly defects: readonly string[] }> {
  const { name, nature } = engineRow("kvm");
  const machine = hereMachine([await loadEngine(name)], usualGuest);
  const cases = places.flatMap((place) =>
    guards.map((proposal) => {
      const { scenario } = place;
      const support = machine.supports(name, scenario, proposal);
      return {
        place,
        planned: {
          scenario,
          argument: scenario.id,
          proposal,
          engine: name,
          nature,
          machine: machine.name,
          support,
        },
      };
    }),
  );
  const progress = openProgress(cases.length);
  const outcome = await runCases(
    cases.map(({ planned }) => planned),
    {
      machine,
      directory,
      jobs,
      timeoutMs: CASE_TIMEOUT_MS,
      repeat: 1,
      signal,
      expectationOf: () => null,
      errata: [],
      onStart: (planned) => progress.start(nameOf(planned)),
      onEnd: ({ planned }) => progress.end(nameOf(planned)),
    },
  );
  progress.clear();
  const results = outcome.results.map(({ planned, result, verdict }): Result => {
    const place = cases.find((one) => one.planned === planned)?.place;
    if (place === undefined) throw new Error(`no place for ${planned.scenario.id}`);
    if (result?.kind === "evidence") return judged(place, planned.proposal, result.evidence);
    const reason = result?.message ?? (verdict.kind === "skip" ? verdict.reason : verdict.kind);
    return {
      place,
      proposal: planned.proposal,
      cell: { kind: "not-for", reason },
      model: { kind: "no-answer", reason },
      failure: result === null ? null : reason,
    };
  });
  return { results, defects: outcome.defects };
}

function tableOf(results: readonly Result[], guards: readonly Proposal[]): string {
  const style = styleFor(process.stdout);
  const rows = [...new Set(results.map(({ place }) => `${place.way} / ${place.state}`))];
  const at = new Map(results.map((one) => [`${one.place.way} / ${one.place.state}/${one.proposal.id}`, one]));
  return renderGrid(
    {
      head: ["way / guest", ...guards.map(({ id }) => (id === "apf-loop" ? "no guard" : id))],
      rows: rows.map((row) => [
        [row],
        ...guards.map(({ id }) => {
          const one = at.get(`${row}/${id}`);
          if (one === undefined) return [];
          return [`${cellText(one.cell)}${one.model.kind === "not-allowed" ? "  NOT ALLOWED" : ""}`];
        }),
      ]),
    },
    style,
  );
}

function record(json: JsonOutput<GuardsLine>, { place, proposal, cell, model, failure }: Result): void {
  const { way, state, scenario } = place;
  json.write({
    type: "guard",
    way,
    state,
    scenarioHash: scenario.hash,
    proposal: proposal.id,
    cell,
    model,
    failure,
  });
}

function printResults(results: readonly Result[], guards: readonly Proposal[]): void {
  console.log(tableOf(results, guards));
  const count = (kind: ModelsWord["kind"]): number =>
    results.filter(({ model }) => model.kind === kind).length;
  const notFor = results.filter(({ cell, failure }) => cell.kind === "not-for" && failure === null);
  console.log(
    `\nprevented: the mapping was gone before the file got shorter; the host waited that long.` +
      `\nlate: told after the fact, in time for this guest. missed: nobody was told, the VM is lost.` +
      `\nuntouched: what is mapped got no shorter; +ms: the host was held up all the same.` +
      `\n\n${results.length} cells; of the model ${count("allowed")} allowed, ` +
      `${count("not-allowed")} not, ${count("no-answer") - notFor.length} without its answer; ${notFor.length} with nothing to see.`,
  );
  for (const reason of new Set(notFor.map(({ model }) => (model.kind === "no-answer" ? model.reason : "")))) {
    console.log(`·: ${visible(reason)}`);
  }
  for (const { place, proposal, model, failure } of visibleData(results)) {
    const name = `${place.way} / ${place.state} x ${proposal.id}`;
    if (failure !== null) console.log(visible(`no result: ${name}: ${failure}`));
    if (model.kind === "not-allowed") {
      console.log(
        `the model does not allow ${name}: ${model.observed}\n  allowed: ${model.allowed.join("\n  ")}`,
      );
    }
  }
}

/** The built-in guards, and of the user's own proposals those that have one. */
function guardColumns(sources: readonly string[]): readonly Proposal[] {
  const { proposals } = openCatalogue({ proposals: sources });
  const builtIn = guardProposals.flatMap((name) => proposals.filter(({ proposal }) => proposal.id === name));
  const own = proposals.filter(({ option, proposal }) => option !== "" && proposal.server !== "none");
  return [...builtIn, ...own].map(({ proposal }) => proposal);
}

/** Returns the exit code: 1 where the model does not allow what was seen, 2 where a case has no result, 3 if nothing ran. */
export async function guardsCommand(options: GuardsCommandOptions): Promise<number> {
  const all = matrixScenarios();
  const known = [...new Set(all.map(({ way }) => way))].map((id) => ({ id }));
  const ways = select("way", options.way ?? [], known).map(({ id }) => id);
  const columns = guardColumns(options.proposals ?? []);
  // By the proposal's name, or as `serve --guard` names it.
  const named = (options.guard ?? []).map(
    (name) => columns.find(({ server }) => server === name)?.id ?? name,
  );
  const guards = select("guard", named, columns);
  const jobs = parseCount("--jobs", options.jobs, 1, JOBS_MAX);
  const json = openJson<GuardsLine>(options.json);
  const support = supportOf(thisMachine(), ["kvm", "micro-guest"]);
  if (support.kind === "no") {
    console.error(`daxfault guards: ${support.reason}`);
    return exitCodes.nothingRan;
  }
  const places = all.filter(({ way }) => ways.includes(way));
  const planned = places.length * guards.length;
  let ended = 0;
  const soFar = (): string => `${ended} of ${planned} cells`;
  return liveInFolder({ command: "daxfault guards", soFar }, async (life) => {
    const { results, defects } = await runMatrix(places, guards, { jobs, life });
    ended = results.length;
    for (const one of results) record(json, one);
    if (!json.isStdout) printResults(results, guards);
    printDefects("daxfault guards", defects);
    if (defects.length > 0) return exitCodes.defect;
    if (results.some(({ model }) => model.kind === "not-allowed")) return exitCodes.unexpected;
    return results.some(({ failure }) => failure !== null) ? exitCodes.inconclusive : exitCodes.ok;
  });
}
