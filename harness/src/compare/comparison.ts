/**
 * The ways out side by side, on Linux guests alone: a row a proposal, a column an access. For README and docs from the
 * recordings of fixtures/linux-guest; for a report from its own runs, and from the recordings where those have no case.
 */
import {
  type KvmPart,
  needsOf,
  type OutcomeWords,
  parseOutcomeWords,
  proposals,
  type Scenario,
} from "../../../language/src/index.ts";
import { cellWords, type LinuxGuestFile, tableLines } from "./linux-guest.ts";
import type { LinuxRun } from "./linux-runs.ts";

type Answer = {
  readonly title: string;
  readonly proposals: readonly string[];
  /** It sees what goes through the file server alone: only scenarios that truncate there say what it is worth. */
  readonly isServers?: true;
};

/** In the order of the talk; today's behaviour first. */
const answers: readonly Answer[] = [
  { title: "today", proposals: ["apf-guest"] },
  { title: "-EFAULT exit", proposals: ["final-efault", "uniform-efault"] },
  { title: "SIGBUS injection", proposals: ["sigbus-injection"] },
  { title: "machine check by KVM", proposals: ["kvm-mce-injection"] },
  { title: "machine check by the VMM", proposals: ["mce-injection"] },
  { title: "#VE by KVM", proposals: ["kvm-ve-injection"] },
  { title: "kernel lease", proposals: ["lease-kernel"] },
  { title: "lease of the file server", proposals: ["lease-fuse"], isServers: true },
];

/** `scenarios`: the first one that is recorded. A guard has scenarios of its own where what it guards against is the point. */
type Question = {
  readonly title: string;
  /** For a terminal, under "a lost page: a process ..". */
  readonly brief: string;
  readonly scenarios: readonly string[];
};

const questions: readonly Question[] = [
  {
    title: "a process loads",
    brief: "loads",
    scenarios: ["load-after-guarded-truncate-by-mount", "load-after-guarded-truncate", "load-after-truncate"],
  },
  { title: "stores", brief: "stores", scenarios: ["store-after-guarded-truncate", "store-after-truncate"] },
  { title: "write(2) from the page", brief: "write(2) from it", scenarios: ["kernel-read-after-truncate"] },
  { title: "read(2) into the page", brief: "read(2) into it", scenarios: ["kernel-write-after-truncate"] },
];

/** A recording whose KVM is the one that the proposal is about. */
function isOf({ kvm = "today" }: Pick<LinuxRun, "kvm">, proposed: KvmPart | "none"): boolean {
  return kvm === proposed || (proposed === "none" && kvm === "today");
}

function wordsIn(
  { cases }: LinuxRun,
  proposal: string,
  { scenarios: names }: Question,
): { readonly scenario: string; readonly hash: string; readonly words: OutcomeWords } | null {
  for (const name of names) {
    const one = cases.find((known) => known.scenario === name && known.proposal === proposal);
    if (one !== undefined) return { scenario: name, hash: one.scenarioHash, words: one.words };
  }
  return null;
}

type Asked = { readonly proposal: string; readonly isServers: boolean };

/** By title of the question: what `cellWords` says of the case that answers it. */
type Cells = ReadonlyMap<string, readonly string[]>;

function cellsIn(run: LinuxRun, { proposal, isServers }: Asked, scenarios: readonly Scenario[]): Cells {
  const cells = new Map<string, readonly string[]>();
  for (const question of questions) {
    const own = isServers
      ? question.scenarios.filter((name) => name.includes("-guarded-"))
      : question.scenarios;
    const found = wordsIn(run, proposal, { ...question, scenarios: own });
    const scenario = scenarios.find(({ id, hash }) => id === found?.scenario && hash === found.hash);
    const outcome =
      found === null || scenario === undefined ? null : parseOutcomeWords(found.words, scenario);
    if (outcome !== null && scenario !== undefined) cells.set(question.title, cellWords(outcome, scenario));
  }
  return cells;
}

const isAlike = ({ host, guest }: LinuxRun): boolean => host === guest;

/** The run that answers most of it; on equal terms the one whose guest has the host's kernel. */
function bestOf<Run extends LinuxRun>(
  asked: Asked,
  runs: readonly Run[],
  scenarios: readonly Scenario[],
): { readonly run: Run; readonly cells: Cells } | null {
  const kvm = proposals.find(({ id }) => id === asked.proposal)?.kvm ?? "none";
  const [best] = runs
    .filter((run) => isOf(run, kvm))
    .map((run) => ({ run, cells: cellsIn(run, asked, scenarios) }))
    .filter(({ cells }) => cells.size > 0)
    .toSorted((a, b) => b.cells.size - a.cells.size || Number(isAlike(b.run)) - Number(isAlike(a.run)));
  return best ?? null;
}

/** `6.12.1-amd64` -> `6.12`; what is no release stays. */
const series = (release: string): string => /^[0-9]+\.[0-9]+/.exec(release)?.[0] ?? release;

function kernelText({ host, guest, kvm, guestPatches = [] }: LinuxRun): string {
  const on = kvm === undefined ? series(host) : `${series(host)} with its patch`;
  return guestPatches.length === 0 ? `${series(guest)} on ${on}` : `${series(guest)} with its patch on ${on}`;
}

/** Who has to change for it. A guest that plays a proposal's protocol is no Linux that has it: what ran counts. */
function changesOf(proposal: string, { guestPatches = [] }: LinuxRun): readonly string[] {
  const found = proposals.find(({ id }) => id === proposal);
  if (found === undefined) return [];
  const { kernel, vmm, server } = needsOf(found);
  return [
    ...(kernel.kind === "patched" ? ["KVM"] : []),
    ...(guestPatches.length === 0 ? [] : ["guest kernel"]),
    ...(vmm.length === 0 ? [] : ["VMM"]),
    ...(server === null ? [] : ["file server"]),
  ];
}

export type ComparedRow = {
  /** `SIGBUS injection`. */
  readonly title: string;
  readonly proposal: string;
  /** Guest and host: `6.12 on 6.12 with its patch`. */
  readonly kernels: string;
  readonly source: "this run" | "recorded";
  /** Day of the recording, YYYY-MM-DD; null: it ran now. */
  readonly day: string | null;
  /** `uname -r` of the kernel whose KVM ran it. */
  readonly host: string;
  /** What differs from Linux, KVM and a VMM of today: `KVM`, `guest kernel`, `VMM`, `file server`. */
  readonly changes: readonly string[];
  /** One a question, in the order of `comparedQuestions`; empty: no case answers it. */
  readonly cells: readonly (readonly string[])[];
};

export const comparedQuestions: readonly string[] = questions.map(({ title }) => title);
export const briefQuestions: readonly string[] = questions.map(({ brief }) => brief);

/** What to compare, and the scenarios that its cases are of. */
export type Compared = {
  readonly own: readonly LinuxRun[];
  /** The same of the micro-guest, which plays the protocol that a proposal wishes for; left out: none. */
  readonly micro?: readonly LinuxRun[];
  readonly recorded: readonly LinuxGuestFile[];
  readonly scenarios: readonly Scenario[];
};

/** A proposal that neither ran nor is recorded has no row. A row is of one run: cells of two kernels are not mixed. */
export function comparedRows({ own, micro = [], recorded, scenarios }: Compared): readonly ComparedRow[] {
  const rowOf = (
    title: string,
    asked: Asked,
    { run, cells }: { readonly run: LinuxRun; readonly cells: Cells },
    day: string | null,
  ): ComparedRow => ({
    title,
    proposal: asked.proposal,
    kernels: kernelText(run),
    source: day === null ? "this run" : "recorded",
    day,
    host: run.host,
    changes: changesOf(asked.proposal, run),
    cells: comparedQuestions.map((question) => cells.get(question) ?? []),
  });
  return answers.flatMap(({ title, proposals: ids, isServers = false }) =>
    ids.flatMap((proposal): readonly ComparedRow[] => {
      const asked = { proposal, isServers };
      const ran = bestOf(asked, own, scenarios);
      const known = ran === null ? bestOf(asked, recorded, scenarios) : null;
      const beside = bestOf(asked, micro, scenarios);
      return [
        ...(ran === null ? [] : [rowOf(title, asked, ran, null)]),
        ...(known === null ? [] : [rowOf(title, asked, known, known.run.recorded)]),
        ...(beside === null ? [] : [rowOf(title, asked, beside, null)]),
      ];
    }),
  );
}

/** A Markdown table of the recordings. */
export function comparisonText(recorded: readonly LinuxGuestFile[], scenarios: readonly Scenario[]): string {
  const rows = comparedRows({ own: [], recorded, scenarios }).map(({ title, proposal, kernels, cells }) => ({
    name: `${title} (\`${proposal}\`)`,
    cells: new Map([
      ["Linux", kernels],
      ...comparedQuestions.map((question, index): [string, string] => [
        question,
        (cells[index] ?? []).join(", "),
      ]),
    ]),
  }));
  return tableLines(rows, ["Linux", ...comparedQuestions]).join("\n");
}
