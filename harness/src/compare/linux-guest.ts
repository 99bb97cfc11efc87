/**
 * fixtures/linux-guest: what Linux guests showed, case by case, and what became of their kernels. Beside it the micro-guest's
 * outcome of the same case (fixtures/observed): where the two differ, the guest's kernel decides, not KVM. Written by
 * scripts/linux-record, a file a pair of kernels; docs/linux-guest.md has its tables from here.
 */
import { z } from "zod";
import {
  accessesOf,
  guestActors,
  kvmParts,
  type Outcome,
  outcomeWords,
  parseOutcomeWords,
  proposals,
  recordedStyle,
  type Scenario,
  type VmmPart,
} from "../../../language/src/index.ts";
import type { LinuxCase, LinuxRun } from "./linux-runs.ts";
import { loadObserved, readRecording, recordingsIn, wordsShape } from "./observed.ts";

export type LinuxGuestFile = LinuxRun & {
  readonly about: string;
  /** Day of the recording, YYYY-MM-DD. */
  readonly recorded: string;
  /** Name of the file in fixtures/observed with the micro-guest's outcomes on the same kernel. */
  readonly microGuest: string;
};

const fileShape: z.ZodType<LinuxGuestFile> = z.strictObject({
  about: z.string(),
  recorded: z.iso.date(),
  host: z.string(),
  guest: z.string(),
  kvm: z.enum(kvmParts).exactOptional(),
  guestPatches: z.array(z.string()).exactOptional(),
  microGuest: z.string(),
  cases: z.array(
    z.strictObject({
      scenario: z.string(),
      scenarioHash: z.string(),
      proposal: z.string(),
      words: wordsShape,
      lastWords: z.string().nullable(),
    }),
  ),
});

const FILE_BYTES_MAX = 1024 * 1024;

/** Throws an ObservedError. */
export const readLinuxGuests = (path: string): LinuxGuestFile =>
  readRecording(path, fileShape, FILE_BYTES_MAX);

/**
 * The last access of the first guest actor, `sigsegv(SEGV_ACCERR)`, and what became of VMM and guest kernel where that is
 * more: `killed`, `VMM stopped(efault)`.
 */
export function cellWords(outcome: Outcome, scenario: Scenario): readonly string[] {
  const { steps, vmm, guestKernel } = outcomeWords(outcome, recordedStyle);
  const last = guestActors(scenario)
    .slice(0, 1)
    .map(([name, actor]) => steps[`${name}.${accessesOf(actor).at(-1)?.label}`] ?? "");
  return [
    ...last,
    ...(vmm === null || vmm === "running" ? [] : [`VMM ${vmm}`]),
    ...(guestKernel === null || guestKernel === "alive" ? [] : [`kernel ${guestKernel}`]),
  ];
}

export const cellText = (outcome: Outcome, scenario: Scenario): string =>
  cellWords(outcome, scenario).join(", ");

/** Why Linux shows something else than a guest that plays the proposal's protocol, by the VMM's policy. */
const reasons: Readonly<Partial<Record<VmmPart, string>>> = {
  "inject-pf":
    "the page tables do not explain the #PF, and its error code says a protection violation: an access error (`access_error()`, `bad_area_access_error()`, arch/x86/mm/fault.c); in the kernel's own copy the exception table's -EFAULT. No Linux has a driver that takes it for the loss of a page",
  "inject-mce":
    "`do_machine_check()` asks `mce_usable_address()` first; on AMD `amd_mce_usable_address()` (arch/x86/kernel/cpu/mce/amd.c, which 6.1 does not have) finds none in bank 9, and `kill_me_now()` (core.c) sends SIGBUS without one. A copy to user space has no machine-check-safe fix-up: `mce_severity()` says panic",
  poison: "as a machine check from the VMM: KVM's BUS_MCEERR_AR goes to the VMM, which injects the same #MC",
  nmi: "`unknown_nmi_error()` (arch/x86/kernel/nmi.c): the NMI is nobody's, the access is tried again, until the VMM sees no progress",
};

type Row = {
  readonly proposal: string;
  readonly vmm: VmmPart | "none";
  readonly cells: ReadonlyMap<string, string>;
};

/** A table: scenarios that differ in one access, each a column under the access's name. */
type Group = {
  /** null: it goes without. */
  readonly title: string | null;
  readonly scenarios: readonly { readonly id: string; readonly column: string }[];
};

function group(title: string | null, columns: string, id: (column: string) => string): Group {
  return { title, scenarios: columns.split(" ").map((column) => ({ column, id: id(column) })) };
}

/** In the order of the tables. */
const groups: readonly Group[] = [
  group(
    null,
    "load store atomic fetch copy-from copy-to kernel-read kernel-write",
    (access) => `${access}-after-truncate`,
  ),
  group(
    "A file on an NVDIMM: virtio-pmem, ext4 with `-o dax`",
    "load store atomic fetch kernel-read kernel-write file-read file-write file-size",
    (access) => `nvdimm/${access}-after-truncate`,
  ),
  group(
    "virtio-fs without DAX, the page in the guest's page cache",
    "load store atomic fetch kernel-read kernel-write file-read file-write file-size",
    (access) => `virtio-fs/${access}-of-cached-page`,
  ),
  group(
    "virtio-fs without DAX, the page not in the guest's page cache",
    "load store kernel-read file-read",
    (access) => `virtio-fs/${access}-of-uncached-page`,
  ),
  group(
    "A page in which the host has found a memory error",
    "load",
    (access) => `${access}-after-memory-failure`,
  ),
];

type Words = Pick<LinuxCase, "scenario" | "scenarioHash" | "proposal" | "words">;

/** A row for each proposal that has a case; its cells by column. */
function rowsOf(
  { scenarios: own }: Group,
  cases: readonly Words[],
  scenarios: readonly Scenario[],
): readonly Row[] {
  return proposals.flatMap(({ id, vmm }) => {
    const cells = new Map<string, string>();
    for (const { id: name, column } of own) {
      const one = cases.find(({ scenario, proposal }) => scenario === name && proposal === id);
      const scenario = scenarios.find((known) => known.id === name && known.hash === one?.scenarioHash);
      const outcome =
        one === undefined || scenario === undefined ? null : parseOutcomeWords(one.words, scenario);
      if (outcome !== null && scenario !== undefined) cells.set(column, cellText(outcome, scenario));
    }
    return cells.size === 0 ? [] : [{ proposal: id, vmm, cells }];
  });
}

type TableRow = { readonly name: string; readonly cells: ReadonlyMap<string, string> };

/** Aligned, as the formatter of this repository has tables. */
export function tableLines(rows: readonly TableRow[], used: readonly string[]): readonly string[] {
  const cells = [
    ["", ...used],
    ...rows.map((row) => [row.name, ...used.map((name) => row.cells.get(name) ?? "")]),
  ];
  const widths = ["", ...used].map((_, column) =>
    Math.max(3, ...cells.map((line) => line[column]?.length ?? 0)),
  );
  const line = (texts: readonly string[]): string =>
    `| ${texts.map((text, column) => text.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  const [first = [], ...rest] = cells;
  return [line(first), line(widths.map((width) => "-".repeat(width))), ...rest.map(line)];
}

/** fixtures/observed has no si_code: a signal without one is no other signal, but for SI_KERNEL, which has no address. */
function differ(linux: string, micro: string): boolean {
  const plain = (cell: string): string => cell.replace(/\((?:unobserved|(?:BUS|SEGV)_[A-Z_]+)\)/, "");
  return plain(linux) !== plain(micro);
}

/** Texts with the names that have them, each text once: `load, store: killed`. */
function grouped(entries: readonly (readonly [name: string, text: string])[]): readonly string[] {
  const names = new Map<string, string[]>();
  for (const [name, text] of entries) names.set(text, [...(names.get(text) ?? []), name]);
  return [...names].map(([text, own]) => `${[...new Set(own)].join(", ")}: ${text}`);
}

/** Where Linux and the micro-guest differ, with the reason; empty: they agree. */
function differenceLines(linux: readonly Row[], micro: readonly Row[]): readonly string[] {
  const lines = linux.flatMap(({ proposal, vmm, cells }): readonly (readonly [string, string])[] => {
    const other = micro.find((row) => row.proposal === proposal);
    const differing = [...cells].flatMap(([name, cell]): readonly (readonly [string, string])[] => {
      const there = other?.cells.get(name);
      if (there === undefined || !differ(cell, there)) return [];
      return [[name, `${cell}, the micro-guest ${there.replace("(unobserved)", "")}`]];
    });
    if (differing.length === 0) return [];
    const reason = vmm === "none" ? undefined : reasons[vmm];
    const why = reason === undefined ? "No reason is known." : `Why: ${reason}.`;
    return [[`\`${proposal}\``, `${grouped(differing).join("; ")}. ${why}`]];
  });
  return grouped(lines).map((line) => `- ${line}`);
}

/** Without what is different each time. */
const steady = (words: string): string => words.replace(/ for unknown reason [0-9a-f]+/, "");

/** Proposals with the same words on the same accesses share a line. */
function wordsLines({ scenarios }: Group, cases: readonly LinuxCase[]): readonly string[] {
  const said = cases.flatMap(({ scenario, proposal, lastWords: words }) =>
    words === null ? [] : [{ scenario, proposal: `\`${proposal}\``, words: `\`${steady(words)}\`` }],
  );
  const lines = scenarios.flatMap(({ id, column }) => {
    const here = said.filter(({ scenario }) => scenario === id);
    return [...new Set(here.map(({ words }) => words))].map((words): readonly [string, string] => {
      const own = here.filter((one) => one.words === words).map(({ proposal }) => proposal);
      return [column, `${own.join(", ")}: ${words}`];
    });
  });
  return grouped(lines).map((line) => `- ${line}`);
}

/** How many cells both have: the others were not compared. */
function sharedCells(linux: readonly Row[], micro: readonly Row[]): number {
  return linux.reduce((sum, { proposal, cells }) => {
    const other = micro.find((row) => row.proposal === proposal);
    return sum + [...cells.keys()].filter((name) => other?.cells.has(name)).length;
  }, 0);
}

/** Where the micro-guest has run the same cases. */
function differencesText(heading: string, linux: readonly Row[], micro: readonly Row[]): readonly string[] {
  const shared = sharedCells(linux, micro);
  if (shared === 0) return [];
  const lines = differenceLines(linux, micro);
  return [
    "",
    `${heading} Where Linux and the micro-guest differ`,
    "",
    "The micro-guest plays the protocol that the proposal wishes for.",
    "",
    ...(lines.length === 0 ? [`Nowhere, in ${shared} cells that both have.`] : lines),
  ];
}

/** One table with what is to be said of it; empty where the recording has no case of it. */
function groupText(
  one: Group,
  recorded: { readonly linux: readonly LinuxCase[]; readonly micro: readonly Words[] },
  scenarios: readonly Scenario[],
): string {
  const linux = rowsOf(one, recorded.linux, scenarios);
  if (linux.length === 0) return "";
  const used = one.scenarios.filter(({ column }) => linux.some(({ cells }) => cells.has(column)));
  const columns = used.map(({ column }) => column);
  const words = wordsLines(one, recorded.linux);
  const heading = one.title === null ? "####" : "#####";
  return [
    ...(one.title === null ? [] : [`#### ${one.title}`, ""]),
    ...tableLines(
      linux.map(({ proposal, cells }) => ({ name: `\`${proposal}\``, cells })),
      columns,
    ),
    ...differencesText(heading, linux, rowsOf(one, recorded.micro, scenarios)),
    ...(words.length === 0 ? [] : ["", `${heading} What the guest's kernel says`, "", ...words]),
  ].join("\n");
}

const withPatches = (release: string, patches: readonly string[]): string =>
  [release, ...patches].join(" + ");

/** The tables of a recording, as Markdown. */
export function linuxGuestTables(
  { host, guest, kvm, guestPatches = [], recorded, cases }: Omit<LinuxGuestFile, "about" | "microGuest">,
  micro: readonly Words[],
  scenarios: readonly Scenario[],
): string {
  const texts = groups.map((one) => groupText(one, { linux: cases, micro }, scenarios));
  return [
    `### Linux ${withPatches(guest, guestPatches)} as a guest on Linux ${withPatches(host, kvm === undefined ? [] : [`kvm=${kvm}`])}`,
    `Recorded ${recorded}, ${cases.length} case${cases.length === 1 ? "" : "s"}. A cell is the last access of the victim, and the VMM or the guest's kernel where something became of them.`,
    ...texts.filter((text) => text !== ""),
  ].join("\n\n");
}

/** All recordings. */
export function recordedLinuxGuests(): readonly LinuxGuestFile[] {
  return [...recordingsIn("fixtures/linux-guest", readLinuxGuests).values()];
}

/** Of all recordings. */
export function linuxGuestText(scenarios: readonly Scenario[]): string {
  const observed = loadObserved();
  return recordedLinuxGuests()
    .map((file) => linuxGuestTables(file, observed.get(file.microGuest)?.cases ?? [], scenarios))
    .join("\n\n");
}
