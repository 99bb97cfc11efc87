/** The part of the catalogue that a command line selects. Everything is checked here, before anything runs. */

import { accessSync, constants, statSync } from "node:fs";
import { resolve } from "node:path";
import {
  type EngineName,
  KindsError,
  type KvmPart,
  matchesGlob,
  ScenarioError,
} from "../../../language/src/index.ts";
import {
  defaultNames,
  engineNames,
  engineRow,
  engineRows,
  kernelEngines,
  LINUX,
  linuxEngineIn,
  vmmNames,
} from "../engines/registry.ts";
import { errorText } from "../error-text.ts";
import { parseConfig, smallFragment } from "../kernel/build/config.ts";
import { KernelError } from "../kernel/error.ts";
import { guestLacks, qemuNeeds } from "../kernel/needs.ts";
import { builtInKvm } from "../kernel/patches.ts";
import { type KernelSpec, kernelOfName, parseKernelSpec } from "../kernel/spec.ts";
import { isFolder, treeProblem } from "../kernel/tree.ts";
import { supportOf, thisMachine } from "../machine.ts";
import { visible } from "../report/encode.ts";
import { type Catalogue, CatalogueError, isScenarioFile, loadCatalogue } from "../run/catalogue.ts";
import { isAboutProposal, isMeant, type NamedProposal, type NamedScenario, type Shard } from "../run/plan.ts";
import { declareInputs } from "./open-outputs.ts";
import { kernelHeadlines, type Part, qemuHeadlines, scenes } from "./parts.ts";
import { checkedKvm, parseCount, select, UsageError } from "./usage.ts";

/** The options that name the user's own folders. */
export type SourceOptions = {
  readonly scenarios?: readonly string[];
  readonly proposals?: readonly string[];
};

export type SelectionOptions = SourceOptions & {
  readonly proposal?: readonly string[];
  readonly engine?: readonly string[];
  readonly kernel?: readonly string[];
  readonly modules?: string;
  readonly guestKernel?: string;
  /** The VMMs of the Linux guest. */
  readonly vmm?: readonly string[];
  /** A QEMU with a DAX window. */
  readonly qemu?: string;
  /** The proposal that the kernels' KVM has built in. */
  readonly kvm?: string;
};

export type Selection = {
  readonly catalogue: Catalogue;
  readonly scenarios: readonly NamedScenario[];
  readonly proposals: readonly NamedProposal[];
  readonly engines: readonly EngineName[];
  readonly kernels: readonly KernelSpec[];
  /** Inside kernels; null: the usual ones. */
  readonly enginesInside: readonly EngineName[] | null;
  /** The kernel of Linux guests; null: the usual one. */
  readonly guestKernel: KernelSpec | null;
  /** The user's QEMU with a DAX window; null: one that is found. */
  readonly qemu: string | null;
  /** Kernels, or QEMU's emulator, were asked for and nothing else: `kernelHeadlines`, `qemuHeadlines`. */
  readonly isHeadlines: boolean;
  /** Where the modules of kernels in files are. */
  readonly modulesDirectory: string | null;
  /** The proposal that the kernels' KVM has built in, by the user's word; null: what their patches say. */
  readonly kvm: KvmPart | null;
};

/** The catalogue with the user's folders; what is wrong with them is a usage error. */
export function openCatalogue(options: SourceOptions, files: readonly string[] = []): Catalogue {
  declareInputs([...(options.proposals ?? []), ...files.map((file) => file.replace(/#[^#/]*$/, ""))]);
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
    if (error instanceof Error && "path" in error) {
      // One line, whatever the user calls a folder.
      throw new UsageError(visible(`${error.path}: ${error.message}`));
    }
    throw error;
  }
}

/** The scenarios of a part, in the order of the catalogue. */
function scenariosOf(part: Part, { scenarios }: Catalogue): readonly NamedScenario[] {
  return scenarios.flatMap((named) => {
    const only = part[named.scenario.id];
    return only === undefined ? [] : [only === null ? named : { ...named, only }];
  });
}

/** Ids, patterns and scenes from the catalogue, files as they are; all of the catalogue if nothing is named. */
function selectScenarios(catalogue: Catalogue, names: readonly string[]): readonly NamedScenario[] {
  const isScene = (name: string): boolean => Object.hasOwn(scenes, name);
  const patterns = names.filter((name) => !isScenarioFile(name) && !isScene(name));
  const folder = patterns.find((name) => name.includes("/") && isFolder(name));
  if (folder !== undefined)
    throw new UsageError(`${folder} is a folder: --scenarios ${folder} has its scenarios`);
  const chosen: NamedScenario[] = names.flatMap((name) => scenariosOf(scenes[name] ?? {}, catalogue));
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

/** Why this cannot be read as a file, or as a folder where that is wanted; null: it can. */
function pathProblem(path: string, wanted: "file" | "folder"): string | null {
  try {
    accessSync(path, constants.R_OK);
    const status = statSync(path);
    if (wanted === "file") return status.isFile() ? null : "it is no file";
    return status.isDirectory() ? null : "it is no folder";
  } catch (error) {
    return errorText(error);
  }
}

type NamedKernel = { readonly option: "--kernel" | "--guest-kernel"; readonly spec: KernelSpec };

/** The path of a kernel has to be a file, and `--modules DIR` a folder that one of them can use. */
function checkPaths(kernels: readonly NamedKernel[], modules: string | undefined): void {
  const files = kernels.flatMap(({ option, spec }) =>
    spec.kind === "file" ? [{ option, path: spec.path }] : [],
  );
  for (const { option, path } of files) {
    const problem = isFolder(path) ? treeProblem(path) : pathProblem(path, "file");
    if (problem !== null) throw new UsageError(`${option} ${path}: ${problem}`);
  }
  if (modules === undefined) return;
  if (files.length === 0) {
    throw new UsageError(
      `--modules ${modules}: the modules of a kernel given as a path: no --kernel names one`,
    );
  }
  const problem = pathProblem(modules, "folder");
  if (problem !== null) throw new UsageError(`--modules ${modules}: ${problem}`);
}

/** The kernels asked for, by `--kernel SPEC` or `--engine kernel:SPEC`, each once. */
function selectKernels(options: SelectionOptions): readonly KernelSpec[] {
  const named = (options.engine ?? []).flatMap((name) => kernelOfName(name) ?? []);
  const texts = [...(options.kernel ?? []), ...named];
  return [...new Set(texts)].map(kernelSpec).map(refuseSmall);
}

/** It has what a guest of our VMM needs, and nothing for QEMU's machine. */
function refuseSmall(spec: KernelSpec): KernelSpec {
  if (spec.kind !== "small") return spec;
  throw new UsageError(
    `--kernel ${spec.text}: it is the kernel of Linux guests (--guest-kernel ${spec.text})`,
  );
}

function kernelSpec(text: string): KernelSpec {
  const spec = parseKernelSpec(text);
  if (spec.kind === "problem") throw new UsageError(spec.message);
  return spec;
}

type SelectedEngines = {
  /** On this machine. */
  readonly here: readonly EngineName[];
  /** Inside kernels; null: the usual ones. */
  readonly inside: readonly EngineName[] | null;
};

/**
 * Those named: with `--kernel` the ones that run inside kernels do so, all others here. None: the usual ones, inside kernels
 * if any was asked for.
 */
function selectEngines(options: SelectionOptions): SelectedEngines {
  const names = inVmms(options).filter((name) => kernelOfName(name) === null);
  const hasKernels = (options.kernel ?? []).length > 0;
  const isInside = (id: EngineName): boolean => hasKernels && kernelEngines.some(({ name }) => name === id);
  if (names.length === 0) {
    const hasNamed = hasKernels || (options.engine ?? []).length > 0;
    return { here: hasNamed ? [] : defaultNames, inside: null };
  }
  const known = engineNames.map((id) => ({ id }));
  const chosen = select("engine", names, known).map(({ id }) => id);
  const inside = chosen.filter(isInside);
  return { here: chosen.filter((id) => !isInside(id)), inside: inside.length === 0 ? null : inside };
}

/** Has this machine a KVM that runs Linux as a guest? */
function runsLinux(): boolean {
  return supportOf(thisMachine(), ["linux-guest", "kvm"]).kind === "yes";
}

/** The engines named, with those of `--vmm` in place of `linux`: under TCG where neither a kernel nor this machine has KVM for it. */
function inVmms({ engine = [], vmm, kernel = [] }: SelectionOptions): readonly string[] {
  if (vmm === undefined) return engine;
  const vmms = select(
    "VMM",
    vmm,
    vmmNames.map((id) => ({ id })),
  ).map(({ id }) => id);
  if (!engine.includes(LINUX)) {
    throw new UsageError(`--vmm ${vmm.join(" ")}: of the engine with a Linux guest (--engine ${LINUX})`);
  }
  const own = vmms.map((one) => linuxEngineIn(one, one === "own" || kernel.length > 0 || runsLinux()));
  return engine.flatMap((name) => (name === LINUX ? own : [name]));
}

/** `--qemu`, of engines with a guest in QEMU alone. */
function selectQemu({ qemu }: SelectionOptions, { here, inside }: SelectedEngines): string | null {
  if (qemu === undefined) return null;
  if (![...here, ...(inside ?? [])].some((name) => engineRow(name).nature.vmm === "qemu")) {
    throw new UsageError(
      `--qemu ${qemu}: no engine asked for has a guest in QEMU (--engine ${LINUX} --vmm qemu)`,
    );
  }
  const problem = pathProblem(qemu, "file");
  if (problem !== null) throw new UsageError(`--qemu ${qemu}: ${problem}`);
  return resolve(qemu);
}

/** `--guest-kernel`, of engines with a Linux guest alone. */
function selectGuestKernel(
  { guestKernel }: SelectionOptions,
  { here, inside }: SelectedEngines,
): KernelSpec | null {
  if (guestKernel === undefined) return null;
  if (![...here, ...(inside ?? [])].some((name) => engineRow(name).nature.isLinuxGuest)) {
    const names = engineRows.filter(({ nature }) => nature.isLinuxGuest).map(({ name }) => name);
    throw new UsageError(
      `--guest-kernel ${guestKernel}: no engine asked for has a Linux guest (--engine ${names.join(", ")})`,
    );
  }
  const spec = kernelSpec(guestKernel);
  if (spec.kind === "small") refuseSmallInQemu(spec, [...here, ...(inside ?? [])]);
  return spec;
}

/** Before it is compiled, which takes minutes. */
function refuseSmallInQemu({ text }: KernelSpec, engines: readonly EngineName[]): void {
  if (!engines.some((name) => engineRow(name).nature.vmm === "qemu")) return;
  const lacks = guestLacks(parseConfig(smallFragment), false, qemuNeeds);
  if (lacks.length === 0) return;
  throw new UsageError(`--guest-kernel ${text}: it cannot be a guest in QEMU: ${lacks.join("; ")}`);
}

/** `--kvm`, of kernels alone. The patches that SPECs name have to be there, and to be of one proposal. */
function selectKvm(
  { kvm: named }: SelectionOptions,
  kernels: readonly KernelSpec[],
  guestKernel: KernelSpec | null,
): KvmPart | null {
  const kvm = named === undefined ? null : checkedKvm(named);
  if (kvm !== null && kernels.length === 0) {
    throw new UsageError(`--kvm ${kvm}: what the KVM of a kernel has built in: no --kernel names one`);
  }
  const check = (option: string, spec: KernelSpec, part: KvmPart | null): void => {
    try {
      builtInKvm(spec, part);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      throw new UsageError(`${option} ${spec.text}: ${error.message}`);
    }
  };
  for (const spec of kernels) check("--kernel", spec, kvm);
  if (guestKernel !== null) check("--guest-kernel", guestKernel, null);
  return kvm;
}

/** `--engine` and `--proposal` take every word up to the next option: a scenario behind them is theirs. */
function refuseSwallowed({ scenarios, proposals }: Catalogue, options: SelectionOptions): void {
  const own = { engine: engineNames, proposal: proposals.map(({ proposal }) => proposal.id) };
  for (const option of ["engine", "proposal"] as const) {
    for (const name of options[option] ?? []) {
      const matches = (id: string): boolean => matchesGlob(name, id);
      const isScenario =
        Object.hasOwn(scenes, name) || scenarios.some(({ scenario }) => matches(scenario.id));
      if (own[option].some(matches) || !isScenario) continue;
      throw new UsageError(
        `--${option} ${JSON.stringify(name)} is a scenario: scenarios stand before the options`,
      );
    }
  }
}

/** The default cases where neither scenarios nor proposals are named; null: all. */
function headlinesOf(kernels: readonly KernelSpec[], { here }: SelectedEngines): Part | null {
  if (here.length === 0) return kernels.length > 0 ? kernelHeadlines : null;
  const areEmulated = here.every((name) => {
    const { vmm, runsKvm } = engineRow(name).nature;
    return vmm === "qemu" && !runsKvm;
  });
  return areEmulated && kernels.length === 0 ? qemuHeadlines : null;
}

/** Throws a UsageError for names that mean nothing, and for filters that leave nothing. */
export function makeSelection(names: readonly string[], options: SelectionOptions): Selection {
  const catalogue = openCatalogue(options, names.filter(isScenarioFile));
  refuseSwallowed(catalogue, options);
  const kernels = selectKernels(options);
  const engines = selectEngines(options);
  const guestKernel = selectGuestKernel(options, engines);
  const qemu = selectQemu(options, engines);
  checkPaths(
    [
      ...kernels.map((spec) => ({ option: "--kernel", spec }) as const),
      ...(guestKernel === null ? [] : [{ option: "--guest-kernel", spec: guestKernel } as const]),
    ],
    options.modules,
  );
  const kvm = selectKvm(options, kernels, guestKernel);
  const headlines =
    names.length === 0 && options.proposal === undefined ? headlinesOf(kernels, engines) : null;
  const isHeadlines = headlines !== null;
  const scenarios =
    headlines === null ? selectScenarios(catalogue, names) : scenariosOf(headlines, catalogue);
  const proposals = select(
    "proposal",
    options.proposal ?? [],
    catalogue.proposals.map((named) => ({ id: named.proposal.id, named })),
  )
    .map(({ named }) => named)
    // A process of the host's that maps the file is no news of KVM.
    .filter(({ proposal }) => headlines !== kernelHeadlines || proposal.kvm !== "none");
  const isAbout = (named: NamedScenario): boolean =>
    proposals.some(({ proposal }) => isMeant(named, proposal) && isAboutProposal(named.scenario, proposal));
  if (!scenarios.some(isAbout)) {
    throw new UsageError(
      `none of these scenarios is about ${proposals.map(({ proposal }) => proposal.id).join(" or ")}: ` +
        scenarios
          .map(({ scenario: { id, proposals: about } }) => `${id} is about ${about?.join(", ")}`)
          .join("; "),
    );
  }
  return {
    catalogue,
    scenarios,
    proposals,
    engines: engines.here,
    kernels,
    enginesInside: engines.inside,
    guestKernel,
    qemu,
    isHeadlines,
    modulesDirectory: options.modules ?? null,
    kvm,
  };
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
