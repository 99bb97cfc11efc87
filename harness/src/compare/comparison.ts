/**
 * The ways out side by side, on Linux guests alone: one table for README and docs/linux-guest.md, a row a proposal, from the
 * recordings of fixtures/linux-guest. What is not recorded has no row.
 */
import {
  type KvmPart,
  type OutcomeWords,
  parseOutcomeWords,
  proposals,
  type Scenario,
} from "../../../language/src/index.ts";
import { cellText, type LinuxGuestFile, tableLines } from "./linux-guest.ts";

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
type Question = { readonly title: string; readonly scenarios: readonly string[] };

const questions: readonly Question[] = [
  {
    title: "a process loads",
    scenarios: ["load-after-guarded-truncate-by-mount", "load-after-guarded-truncate", "load-after-truncate"],
  },
  { title: "stores", scenarios: ["store-after-guarded-truncate", "store-after-truncate"] },
  { title: "write(2) from the page", scenarios: ["kernel-read-after-truncate"] },
  { title: "read(2) into the page", scenarios: ["kernel-write-after-truncate"] },
];

/** A recording whose KVM is the one that the proposal is about. */
function isOf({ kvm = "today" }: Pick<LinuxGuestFile, "kvm">, proposed: KvmPart | "none"): boolean {
  return kvm === proposed || (proposed === "none" && kvm === "today");
}

function wordsIn(
  { cases }: LinuxGuestFile,
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

function cellsIn(
  file: LinuxGuestFile,
  { proposal, isServers }: Asked,
  scenarios: readonly Scenario[],
): ReadonlyMap<string, string> {
  const cells = new Map<string, string>();
  for (const question of questions) {
    const own = isServers
      ? question.scenarios.filter((name) => name.includes("-guarded-"))
      : question.scenarios;
    const found = wordsIn(file, proposal, { ...question, scenarios: own });
    const scenario = scenarios.find(({ id, hash }) => id === found?.scenario && hash === found.hash);
    const outcome =
      found === null || scenario === undefined ? null : parseOutcomeWords(found.words, scenario);
    if (outcome !== null && scenario !== undefined) cells.set(question.title, cellText(outcome, scenario));
  }
  return cells;
}

const isAlike = ({ host, guest }: LinuxGuestFile): boolean => host === guest;

/** The recording that answers most of it; on equal terms the one whose guest has the host's kernel. */
function rowOf(
  asked: Asked,
  files: readonly LinuxGuestFile[],
  scenarios: readonly Scenario[],
): { readonly file: LinuxGuestFile; readonly cells: ReadonlyMap<string, string> } | null {
  const kvm = proposals.find(({ id }) => id === asked.proposal)?.kvm ?? "none";
  const [best] = files
    .filter((file) => isOf(file, kvm))
    .map((file) => ({ file, cells: cellsIn(file, asked, scenarios) }))
    .filter(({ cells }) => cells.size > 0)
    .toSorted((a, b) => b.cells.size - a.cells.size || Number(isAlike(b.file)) - Number(isAlike(a.file)));
  return best ?? null;
}

const kernelText = ({ host, guest, kvm, guestPatches = [] }: LinuxGuestFile): string => {
  const series = (release: string): string => release.split(".").slice(0, 2).join(".");
  const on = kvm === undefined ? series(host) : `${series(host)} with its patch`;
  return guestPatches.length === 0 ? `${series(guest)} on ${on}` : `${series(guest)} with its patch on ${on}`;
};

/** A Markdown table, and what it is of. */
export function comparisonText(files: readonly LinuxGuestFile[], scenarios: readonly Scenario[]): string {
  const rows = answers.flatMap(({ title, proposals: ids, isServers = false }) =>
    ids.flatMap((id) => {
      const row = rowOf({ proposal: id, isServers }, files, scenarios);
      if (row === null) return [];
      const cells = new Map([["Linux", kernelText(row.file)], ...row.cells]);
      return [{ name: `${title} (\`${id}\`)`, cells }];
    }),
  );
  return tableLines(rows, ["Linux", ...questions.map(({ title }) => title)]).join("\n");
}
