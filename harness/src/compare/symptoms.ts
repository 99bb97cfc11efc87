/**
 * Which causes of lost memory look alike: recorded outcomes of real kernels by what a user sees, for docs/symptoms.md. What
 * tells the causes apart is written here; what they look like is not. Pure but for the recordings that it is given.
 */
import type { OutcomeWords, Scenario } from "../../../language/src/index.ts";
import type { ObservedFile } from "./observed.ts";

type Cause = {
  readonly scenario: string;
  readonly cause: string;
  /** What shows it on the host. FILE: what is mapped, in /proc/PID/maps; PID and TID: the VMM's. */
  readonly command: string;
};

export const causes: readonly Cause[] = [
  {
    scenario: "load-after-truncate",
    cause: "the file was truncated",
    command: "`sudo scripts/daxfault diagnose`; `stat -c %s FILE` is less than /proc/PID/maps has of it",
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
    command: '`stat FILE`: "Transport endpoint is not connected"',
  },
  {
    scenario: "load-while-server-stopped",
    cause: "the file server is stopped, or silent",
    command: "`cat /sys/fs/fuse/connections/*/waiting` stays above 0; `ps -o stat,cmd` of the server has T",
  },
  {
    scenario: "load-of-failing-page",
    cause: "the page cannot be read (EIO)",
    command: "`dd if=FILE of=/dev/null bs=4096 skip=PAGE count=1` fails; `dmesg`",
  },
  {
    scenario: "load-from-full-tmpfs",
    cause: "a tmpfs is full, the page was never allocated",
    command: "`df FILE` has nothing left; `stat -c %b FILE` is less than its size",
  },
  {
    scenario: "load-from-dry-hugetlb-pool",
    cause: "the pool of huge pages is empty",
    command: "`grep HugePages_Free /proc/meminfo` is 0, or `df` of the hugetlbfs",
  },
  {
    scenario: "load-of-page-for-user-faults",
    cause: "a userfaultfd that may serve faults of user mode only",
    command: '`dmesg`: "Set unprivileged_userfaultfd sysctl knob to 1"',
  },
  {
    scenario: "load-of-page-never-filled",
    cause: "the handler of a userfaultfd is silent, or dead",
    command: "`sudo cat /proc/PID/task/TID/stack` or that of a kworker has handle_userfault",
  },
  {
    scenario: "load-after-handler-closed",
    cause: "the handler of a userfaultfd has closed its descriptor",
    command: "no `anon_inode:[userfaultfd]` in `ls -l /proc/PID/fd`",
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
    command: "no line, or `---p`, in /proc/PID/maps at the address",
  },
  {
    scenario: "device-read-after-truncate",
    cause: "a device of the VMM has copied from a page that is lost",
    command: "the VMM's core: si_code 2 (BUS_ADRERR), the address is in the window, the thread is no vCPU's",
  },
  {
    scenario: "backend-read-after-truncate",
    cause: "a device's back-end, a process of its own, has copied from a page that is lost",
    command: "the back-end's core: si_code 2 (BUS_ADRERR), the address is in a mapping of the file",
  },
];

/** Where the APIC is, and so whether a fault may be asynchronous; by the proposal that stands for it, the best one first. */
const places = [
  { id: "L0", what: "no APIC in the kernel", proposals: ["efault-exit"] },
  { id: "L1", what: "an APIC in the kernel, as in every Linux guest", proposals: ["apf-guest", "apf-loop"] },
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

type Row = { readonly symptom: string; readonly cause: Cause; readonly kernels: readonly string[] };

type Recordings = ReadonlyMap<string, ObservedFile>;

/** What the cause looks like there, with the recordings that say so. Several: kernels differ. */
function rowsOf(cause: Cause, proposals: readonly string[], recordings: Recordings): readonly Row[] {
  for (const proposal of proposals) {
    const kernels = new Map<string, string[]>();
    for (const [file, { cases, kernels: recorded = [] }] of recordings) {
      // A KVM that has a proposal built in is nobody's.
      if (recorded.some(({ patches }) => patches !== undefined)) continue;
      for (const one of cases) {
        if (one.scenario !== cause.scenario || one.proposal !== proposal || one.verdict !== "pass") continue;
        const symptom = symptomOf(one.facts?.history, one.words);
        const names = kernels.get(symptom) ?? [];
        if (!names.includes(file)) names.push(file);
        kernels.set(symptom, names);
      }
    }
    if (kernels.size > 0) return [...kernels].map(([symptom, names]) => ({ symptom, cause, kernels: names }));
  }
  return [];
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

function placeText({ id, what, proposals }: (typeof places)[number], recordings: Recordings): string {
  const rows = causes.flatMap((cause) => rowsOf(cause, proposals, recordings));
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
  const missing = places.flatMap(({ id, proposals }) =>
    causes
      .filter((cause) => rowsOf(cause, proposals, recordings).length === 0)
      .map(({ scenario }) => `\`${scenario}\` (${id})`),
  );
  const open = missing.length === 0 ? [] : [`Not recorded so far: ${missing.join(", ")}.`];
  return [...places.map((place) => placeText(place, recordings)), ...open].join("\n\n");
}
