/**
 * Which causes of lost memory look alike: recorded outcomes of real kernels by what a user sees, for docs/symptoms.md. What
 * tells the causes apart is written here; what they look like is not. Pure but for the recordings that it is given.
 */
import type { OutcomeWords, Scenario } from "../../../language/src/index.ts";
import type { ObservedFile } from "./observed.ts";

type Cause = {
  readonly scenario: string;
  /** Where it is a cause of its own; left out: in both places. */
  readonly only?: "L1";
  readonly cause: string;
  /** What shows it on the host. FILE: what is mapped, in /proc/PID/maps; PID: the VMM's; FDINFO: of its userfaultfd. */
  readonly command: string;
};

export const causes: readonly Cause[] = [
  {
    scenario: "load-after-truncate",
    cause: "the file was truncated",
    command: "`sudo scripts/daxfault diagnose`; `stat -c %s FILE` is less than /proc/PID/maps has of it",
  },
  {
    scenario: "load-after-truncate-interrupts-off",
    only: "L1",
    cause: "the file was truncated, and the guest touches it with interrupts off",
    command: "`stat -c %s FILE` is less than /proc/PID/maps has of it",
  },
  {
    scenario: "load-of-private-page-after-truncate",
    cause: "a snapshot's file, mapped MAP_PRIVATE, was truncated",
    command: "the same; the mapping is `rw-p` in /proc/PID/maps",
  },
  {
    scenario: "load-of-huge-page-after-truncate",
    cause: "the file was truncated, a huge page was under the window",
    command: "the same; before, `grep ShmemPmdMapped /proc/PID/smaps` was not 0",
  },
  {
    scenario: "load-after-server-killed",
    cause: "the file server has died",
    command: '`timeout 5 head -c 1 FILE`: "Transport endpoint is not connected"',
  },
  {
    scenario: "load-while-server-stopped",
    cause: "the file server is stopped, or silent",
    command:
      "`cat /sys/fs/fuse/connections/*/waiting` stays above 0; `ps -o stat,cmd PID` of the server has T",
  },
  {
    scenario: "load-of-page-never-read-of-readonly-mapping",
    only: "L1",
    cause: "the file server is silent, and the VMM has mapped the range for reading only",
    command: "`r--s` in /proc/PID/maps; `/proc/PID/task/TID/wchan` is `folio_wait_bit_common`",
  },
  {
    scenario: "load-of-failing-page",
    cause: "the page cannot be read (EIO)",
    command: "`dd if=FILE of=/dev/null bs=4096 skip=PAGE count=1` fails; `dmesg`",
  },
  {
    scenario: "load-from-full-tmpfs",
    cause: "a tmpfs is full, the page was never allocated",
    command: "`df FILE` has nothing left; `du FILE` is less than `du --apparent-size FILE`",
  },
  {
    scenario: "load-from-dry-hugetlb-pool",
    cause: "the pool of huge pages is empty",
    command: "`grep HugePages_Free /proc/meminfo` is 0, or `df` of the hugetlbfs",
  },
  {
    scenario: "load-of-page-for-user-faults",
    cause: "a userfaultfd that may serve faults of user mode only",
    command: "`um` is in VmFlags of /proc/PID/smaps; `total` in FDINFO is 0",
  },
  {
    scenario: "load-of-page-never-filled",
    cause: "the handler of a userfaultfd is silent, or dead",
    command: "`um` is in VmFlags of /proc/PID/smaps; `total` in FDINFO is not 0",
  },
  {
    scenario: "load-after-handler-closed",
    cause: "the handler of a userfaultfd has closed its descriptor",
    command: "the mapping has no `um` in VmFlags of /proc/PID/smaps, and should",
  },
  {
    scenario: "load-of-page-filled-with-poison",
    cause: "the handler of a userfaultfd has answered with UFFDIO_POISON",
    command: 'the VMM\'s core: si_code 4 (BUS_MCEERR_AR); no "Memory failure" in `dmesg`',
  },
  {
    scenario: "load-after-memory-failure",
    cause: "the host has found a memory error in the page",
    command: '`dmesg` has "Memory failure"; `grep HardwareCorrupted /proc/meminfo` is not 0',
  },
  {
    scenario: "store-to-readonly-mapping",
    cause: "the VMM has mapped the file for reading only, the memslot is writable",
    command: "the mapping is `r--s` in /proc/PID/maps; KVM's failed access is a store",
  },
  {
    scenario: "load-after-unmap",
    cause: "the VMM has taken its mapping away",
    command: "no line, or `---s`, in /proc/PID/maps at the address",
  },
  {
    scenario: "device-read-after-truncate",
    cause: "a device of the VMM has copied from a page that is lost",
    command: "the VMM's core: si_code 2 (BUS_ADRERR), in a thread that is no vCPU's",
  },
  {
    scenario: "backend-read-after-truncate",
    cause: "a device's back-end, a process of its own, has copied from a page that is lost",
    command: "the back-end's core: si_code 2 (BUS_ADRERR), in a mapping of the file",
  },
];

/** Where the APIC is, and so whether a fault may be asynchronous; by the proposal that stands for it. */
const places = [
  { id: "L0", what: "no APIC in the kernel", proposal: "efault-exit", without: null },
  // A guest that takes no events is another kind of guest, and a row of its own where that looks different.
  {
    id: "L1",
    what: "an APIC in the kernel, as nearly every VMM has it",
    proposal: "apf-guest",
    without: {
      proposal: "apf-loop",
      note: "; guest has no async page faults",
    },
  },
] as const;

/** What a user sees. */
function symptomOf(history: string | null | undefined, { vmm, steps }: OutcomeWords): string {
  const isKilled = (label: string, word: string): boolean =>
    !label.startsWith("victim.") && word.startsWith("killed(");
  if (Object.entries(steps).some(([label, word]) => isKilled(label, word))) {
    return "the VM lives, a device's back-end is gone, killed by SIGBUS";
  }
  const last = Object.entries(steps).findLast(([label]) => label.startsWith("victim."))?.[1] ?? "nothing";
  switch (history ?? vmm) {
    case "looping":
      return "a vCPU burns a core and does not come back; nothing is in the VMM's log";
    case "waiting":
      return "a vCPU sleeps and does not come back";
    case "stopped(efault)":
      return "the VM stops: `kvm run failed: Bad address` (-EFAULT)";
    case "killed(SIGBUS)":
      return "the VMM is gone, killed by SIGBUS";
    default:
      if (last === "hung") return "the VM lives, one task of the guest sleeps for ever";
      if (last === "zero") return "nothing: the guest reads zeros in place of its data";
      return `the guest's access is ${last}, the VMM ${vmm ?? "none"}`;
  }
}

type Place = (typeof places)[number];

type Row = { readonly symptom: string; readonly cause: Cause; readonly kernels: readonly string[] };

type Recordings = ReadonlyMap<string, ObservedFile>;

/** `kvm_amd-6.12` of `kvm_amd-6.12-ways`: a recording of a kernel, or a part of one. */
function kernelOf(file: string): string {
  return /^[a-z_]+-[0-9.]+/.exec(file)?.[0] ?? file;
}

/** What the cause looks like under a proposal, with the recordings that say so. Several: kernels differ. */
function rowsUnder(cause: Cause, proposal: string, recordings: Recordings): readonly Row[] {
  const kernels = new Map<string, string[]>();
  for (const [file, { cases, kernels: recorded = [] }] of recordings) {
    // A KVM that has a proposal built in is nobody's.
    if (recorded.some(({ patches }) => patches !== undefined)) continue;
    for (const one of cases) {
      if (one.scenario !== cause.scenario || one.proposal !== proposal || one.verdict !== "pass") continue;
      const symptom = symptomOf(one.facts?.history, one.words);
      const names = kernels.get(symptom) ?? [];
      const kernel = kernelOf(file);
      if (!names.includes(kernel)) names.push(kernel);
      kernels.set(symptom, names);
    }
  }
  return [...kernels].map(([symptom, names]) => ({ symptom, cause, kernels: names }));
}

/** What the cause looks like there. */
function rowsOf(cause: Cause, { proposal, without }: Place, recordings: Recordings): readonly Row[] {
  const rows = rowsUnder(cause, proposal, recordings);
  if (without === null) return rows;
  const others = rowsUnder(
    { ...cause, cause: `${cause.cause}${rows.length === 0 ? "" : without.note}` },
    without.proposal,
    recordings,
  );
  return [...rows, ...others.filter(({ symptom }) => rows.every((row) => row.symptom !== symptom))];
}

function causesAt({ id }: Place): readonly Cause[] {
  return causes.filter(({ only = id }) => only === id);
}

const head: readonly string[] = ["symptom", "cause", "what tells it from the others", "recorded"];

/** Aligned, as the formatter of this repository has tables. */
function tableText(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((text) => text.replaceAll("|", "\\|")));
  const widths = head.map((_, column) =>
    Math.max(...[head, ...cells].map((row) => row[column]?.length ?? 0)),
  );
  const line = (texts: readonly string[]): string =>
    `| ${texts.map((text, column) => text.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...cells.map(line)].join("\n");
}

function placeText(place: Place, recordings: Recordings): string {
  const { id, what } = place;
  const rows = causesAt(place).flatMap((cause) => rowsOf(cause, place, recordings));
  const symptoms = [...new Set(rows.map(({ symptom }) => symptom))];
  const cells = symptoms.flatMap((symptom) =>
    rows
      .filter((row) => row.symptom === symptom)
      .map(({ cause, kernels }, index) => [
        index === 0 ? symptom : "",
        cause.cause,
        cause.command,
        `\`${cause.scenario}\` on ${kernels.join(", ")}`,
      ]),
  );
  return [`### ${id}: ${what}`, "", tableText(cells)].join("\n");
}

/** The tables, and which causes no recording has. */
export function symptomsText(scenarios: readonly Scenario[], recordings: Recordings): string {
  const unknown = causes.find(({ scenario }) => !scenarios.some(({ id }) => id === scenario));
  if (unknown !== undefined) throw new Error(`there is no scenario ${unknown.scenario}`);
  const missing = places.flatMap((place) =>
    causesAt(place)
      .filter((cause) => rowsOf(cause, place, recordings).length === 0)
      .map(({ scenario }) => `\`${scenario}\` (${place.id})`),
  );
  const open = missing.length === 0 ? [] : [`Not recorded so far: ${missing.join(", ")}.`];
  return [...places.map((place) => placeText(place, recordings)), ...open].join("\n\n");
}
