/** What of the catalogue a command line asks for. Everything is checked here, before anything runs. */
import { type Catalogue, CatalogueError, isScenarioFile, loadCatalogue } from "../catalogue.ts";
import { engineNames } from "../engines/index.ts";
import type { EngineName } from "../evidence.ts";
import { KindsError } from "../kinds.ts";
import { isAboutProposal, type NamedProposal, type NamedScenario, type Shard } from "../run/plan.ts";
import { ScenarioError } from "../scenario/problem.ts";
import { parseCount, select, UsageError } from "./usage.ts";

/** The options by which a command is told about the user's own folders. */
export type SourceOptions = {
  readonly scenarios?: readonly string[];
  readonly proposals?: readonly string[];
};

export type SelectionOptions = SourceOptions & {
  readonly proposal?: readonly string[];
  readonly engine?: readonly string[];
};

export type Selection = {
  readonly catalogue: Catalogue;
  readonly scenarios: readonly NamedScenario[];
  readonly proposals: readonly NamedProposal[];
  readonly engines: readonly EngineName[];
};

/** The catalogue with the user's folders; what is wrong with them is a usage error. */
export function openCatalogue(options: SourceOptions, files: readonly string[] = []): Catalogue {
  try {
    return loadCatalogue({
      scenarios: options.scenarios ?? [],
      proposals: options.proposals ?? [],
      files,
    });
  } catch (error) {
    if (error instanceof ScenarioError || error instanceof CatalogueError || error instanceof KindsError) {
      throw new UsageError(error.message);
    }
    if (error instanceof Error && "path" in error) throw new UsageError(`${error.path}: ${error.message}`);
    throw error;
  }
}

/** Ids and patterns from the catalogue, files as they are; all of the catalogue if nothing is named. */
function selectScenarios(catalogue: Catalogue, names: readonly string[]): readonly NamedScenario[] {
  const patterns = names.filter((name) => !isScenarioFile(name));
  const chosen: NamedScenario[] = [];
  if (patterns.length > 0 || names.length === 0) {
    const items = catalogue.scenarios.map((named) => ({ id: named.scenario.id, named }));
    chosen.push(...select("scenario", patterns, items).map(({ named }) => named));
  }
  chosen.push(...catalogue.fileScenarios);
  const seen = new Set<string>();
  for (const { scenario } of chosen) {
    const { id } = scenario;
    if (seen.has(id)) throw new UsageError(`two of the scenarios asked for are called ${JSON.stringify(id)}`);
    seen.add(id);
  }
  return chosen;
}

/** Throws a UsageError for names that mean nothing, and for filters that leave nothing. */
export function makeSelection(names: readonly string[], options: SelectionOptions): Selection {
  const catalogue = openCatalogue(options, names.filter(isScenarioFile));
  const scenarios = selectScenarios(catalogue, names);
  const proposals = select(
    "proposal",
    options.proposal ?? [],
    catalogue.proposals.map((named) => ({ id: named.proposal.id, named })),
  ).map(({ named }) => named);
  const engines = select(
    "engine",
    options.engine ?? [],
    engineNames.map((id) => ({ id })),
  );
  const isAbout = ({ scenario }: NamedScenario): boolean =>
    proposals.some(({ proposal }) => isAboutProposal(scenario, proposal));
  if (!scenarios.some(isAbout)) {
    throw new UsageError(
      `none of these scenarios is about ${proposals.map(({ proposal }) => proposal.id).join(" or ")}: ` +
        scenarios
          .map(({ scenario: { id, proposals: about } }) => `${id} is about ${about?.join(", ")}`)
          .join("; "),
    );
  }
  return { catalogue, scenarios, proposals, engines: engines.map(({ id }) => id) };
}

const SHARDS_MAX = 1000;

/** `2/8`: the second of eight. */
export function parseShard(text: string | undefined): Shard | null {
  if (text === undefined) return null;
  const match = /^([0-9]{1,4})\/([0-9]{1,4})$/.exec(text);
  if (match === null) throw new UsageError(`--shard ${JSON.stringify(text)} is not of the form 2/8`);
  const count = parseCount("--shard: number of shards", match[2] ?? "", 1, SHARDS_MAX);
  return { index: parseCount("--shard: index", match[1] ?? "", 1, count), count };
}
