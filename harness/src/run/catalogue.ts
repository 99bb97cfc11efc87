/**
 * The cases to choose from: the project's scenarios, proposals and expectations, and those of the user's own folders.
 * A folder of the user's is laid out like `fixtures/`: scenarios in it, expectations in its folder `kinds`.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  answerOf,
  checkNames,
  type Expectation,
  ExpectationTable,
  isOnPatchedKvm,
  nearest,
  type Proposal,
  proposals as presets,
} from "../../../language/src/index.ts";
import {
  FOLDER_FILES_MAX,
  loadProposals,
  loadScenarioFile,
  loadScenarioFolder,
  PROPOSALS_MAX,
  loadExpectations as readExpectations,
  SCENARIOS_MAX,
} from "../../../language/src/read.ts";
import { loadExpectations, loadLinuxExceptions, loadQemuExceptions, loadScenarios } from "../fixtures.ts";
import { type NamedProposal, type NamedScenario, type PlannedCase, shellWord } from "./plan.ts";

export type Sources = {
  /** Folders of scenarios. */
  readonly scenarios: readonly string[];
  /** Files of proposals, or folders of such files. */
  readonly proposals: readonly string[];
  /** Single scenario files: `mine/family.json`, or one scenario of a family, `mine/family.json#load-a`. */
  readonly files: readonly string[];
};

export const noSources: Sources = { scenarios: [], proposals: [], files: [] };

/** Two things of one name, or a source that is not there. */
export class CatalogueError extends Error {
  override readonly name = "CatalogueError";
}

export type Catalogue = {
  /** The project's, then those of the folders, in the order given. */
  readonly scenarios: readonly NamedScenario[];
  /** Those of single files, in the order given. */
  readonly fileScenarios: readonly NamedScenario[];
  readonly proposals: readonly NamedProposal[];
  readonly expectationOf: (
    of: Pick<PlannedCase, "scenario" | "proposal"> & Partial<Pick<PlannedCase, "nature">>,
  ) => Expectation | null;
};

function checkUnique(what: string, ids: readonly string[]): void {
  const seen = new Set<string>();
  for (const id of ids) {
    if (seen.has(id)) throw new CatalogueError(`two ${what}s are called ${JSON.stringify(id)}`);
    seen.add(id);
  }
}

function loadNamedProposals(paths: readonly string[]): readonly NamedProposal[] {
  const own = paths.flatMap((path) =>
    loadProposals(path).map((proposal) => ({ proposal, option: `--proposals ${shellWord(path)}` })),
  );
  const all = [...presets.map((proposal) => ({ proposal, option: "" })), ...own];
  if (all.length > PROPOSALS_MAX) {
    throw new CatalogueError(`${all.length} proposals are more than the limit ${PROPOSALS_MAX}`);
  }
  checkUnique(
    "proposal",
    all.map(({ proposal }) => proposal.id),
  );
  return all;
}

/** `mine/family.json#load-a` -> the file and the id; without an id all of the file is meant. */
function splitFile(argument: string): { readonly file: string; readonly id: string | null } {
  const at = argument.lastIndexOf("#");
  if (at < 0 || existsSync(argument)) return { file: argument, id: null };
  return { file: argument.slice(0, at), id: argument.slice(at + 1) };
}

/** The scenarios that a file argument stands for. Each is named by the file, and in a family by its id as well. */
function loadNamedFile(argument: string, known: readonly string[]): readonly NamedScenario[] {
  const { file, id } = splitFile(argument);
  const scenarios = loadScenarioFile(file, known);
  const ids = scenarios.map((scenario) => scenario.id);
  if (id !== null && !ids.includes(id)) {
    throw new CatalogueError(
      `${file}: no scenario ${JSON.stringify(id)} in it; nearest: ${nearest(id, ids).join(", ")}`,
    );
  }
  return scenarios
    .filter((scenario) => id === null || scenario.id === id)
    .map((scenario) => ({
      scenario,
      argument: shellWord(scenarios.length === 1 ? file : `${file}#${scenario.id}`),
    }));
}

/** The expectations that lie beside the user's scenarios. */
function userExpectations(folders: ReadonlySet<string>): ExpectationTable {
  const rows = [...folders]
    .map((folder) => join(folder, "kinds"))
    .filter(existsSync)
    .flatMap((folder) => readExpectations(folder).rows);
  return new ExpectationTable(rows);
}

/** Ids of the scenarios that lie beside single files: rows may be about them, too. A file that is wrong there has none. */
function siblingIds(files: readonly string[]): readonly string[] {
  const folders = new Set(files.map((argument) => dirname(splitFile(argument).file)));
  return [...folders].flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => isScenarioFile(name))
      .slice(0, FOLDER_FILES_MAX)
      .flatMap((name) => {
        try {
          return loadScenarioFile(join(folder, name)).map(({ id }) => id);
        } catch {
          return [];
        }
      }),
  );
}

/**
 * Loads everything. Throws what is wrong with a file as ScenarioError, KindsError, CatalogueError or the system's error.
 * Ids are unique among all that is loaded, except that a single file may use an id of the project's: it replaces it.
 */
export function loadCatalogue(sources: Sources = noSources): Catalogue {
  const proposals = loadNamedProposals(sources.proposals);
  const known = proposals.map(({ proposal }) => proposal.id);
  const builtIn = loadScenarios();
  const own = sources.scenarios.flatMap((folder) => {
    if (!statSync(folder).isDirectory()) throw new CatalogueError(`--scenarios ${folder}: not a folder`);
    const option = `--scenarios ${shellWord(folder)}`;
    const scenarios = loadScenarioFolder(folder, known);
    if (scenarios.length === 0) throw new CatalogueError(`--scenarios ${folder}: no *.json in it`);
    return scenarios.map((scenario) => ({ scenario, argument: `${scenario.id} ${option}` }));
  });
  const fileScenarios = sources.files.flatMap((argument) => loadNamedFile(argument, known));
  const scenarios = [...builtIn.map((scenario) => ({ scenario, argument: scenario.id })), ...own];
  checkUnique(
    "scenario",
    scenarios.map(({ scenario }) => scenario.id),
  );
  checkUnique(
    "scenario",
    fileScenarios.map(({ scenario }) => scenario.id),
  );
  const total = scenarios.length + fileScenarios.length;
  if (total > SCENARIOS_MAX) {
    throw new CatalogueError(`${total} scenarios are more than the limit ${SCENARIOS_MAX}`);
  }
  const expectations = loadExpectations();
  const linuxExceptions = loadLinuxExceptions();
  const qemuExceptions = loadQemuExceptions();
  const ownExpectations = userExpectations(
    new Set([...sources.scenarios, ...sources.files.map((argument) => dirname(splitFile(argument).file))]),
  );
  checkNames(ownExpectations.rows, {
    scenarios: [
      ...new Set([
        ...[...scenarios, ...fileScenarios].map(({ scenario }) => scenario.id),
        ...siblingIds(sources.files),
      ]),
    ],
    proposals: known,
  });
  // A mistake in them is found before anything runs.
  for (const { scenario } of [...own, ...fileScenarios]) {
    for (const { proposal } of proposals) ownExpectations.find(scenario, proposal);
  }
  const hashes = new Map(builtIn.map(({ id, hash }) => [id, hash]));
  const isPreset = (proposal: Proposal): boolean => presets.some((preset) => preset === proposal);
  return {
    scenarios,
    fileScenarios,
    proposals,
    expectationOf({ scenario, proposal, nature }) {
      // The project's expectations are about its scenarios and proposals only, whatever others are called.
      const isOurs =
        hashes.get(scenario.id) === scenario.hash && (isPreset(proposal) || isOnPatchedKvm(proposal));
      if (!nature?.isLinuxGuest) return (isOurs ? expectations : ownExpectations).find(scenario, proposal);
      const vmm = nature.vmm === "qemu" && !nature.runsKvm ? "emulated" : proposal.vmm;
      if (!isOurs) return ownExpectations.find(scenario, proposal, vmm);
      const exceptions = nature.vmm === "qemu" ? [qemuExceptions] : [];
      if (vmm !== "emulated") exceptions.push(linuxExceptions);
      for (const table of exceptions) {
        const found = table.find(scenario, proposal, vmm);
        if (found !== null) return found;
      }
      return expectations.find(scenario, vmm === "emulated" ? asEmulated(proposal) : proposal, vmm);
    },
  };
}

/**
 * The proposal whose cells say what an emulated guest shows: `native` is written for processes of the host, and QEMU's TCG
 * dies of a lost page where KVM_RUN fails of it at once.
 */
function asEmulated(proposal: Proposal): Pick<Proposal, "id" | "kvm"> {
  return answerOf(proposal.id) === "signals" ? { id: "efault-exit", kvm: proposal.kvm } : proposal;
}

/** Is this argument of a command a file, not an id? */
export function isScenarioFile(argument: string): boolean {
  return /\.jsonc?(?:#[^#]*)?$/.test(argument);
}
