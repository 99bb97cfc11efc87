/**
 * A path of a case without a VM, in words of a process of the host. The model has no processes (`nativeParts` in
 * `translate.ts`): a guest's task stands for one, KVM's fault path for the kernel's own, the second level for its page
 * tables, an artificial halt for the sleep in a page's I/O. Only the words are other ones. Pure.
 */
import type { ModelEvent, Step } from "../../../../kvm-model/src/index.ts";

/** Lifelines; a VMM has no part in it. */
const parties: Readonly<Record<string, string>> = {
  guest: "process",
  kvm: "kernel",
  worker: "kernel",
};

type Rule = readonly [of: RegExp, words: string | null, from?: string, to?: string];

/** The first that fits; null: a process has nothing of it. What none fits is said as it is. */
const rules: readonly Rule[] = [
  [/^remembers mmu_invalidate_seq|^invalidate_range_end|^host page tables zapped/, null],
  [/^KVM_RUN returns|^#PF for page|^#PF in /, null],
  [/^vcpu(\d+) runs (.*)/, "cpu$1 runs $2"],
  [
    /^looks up (page \d+): -EFAULT, the file has no such page/,
    "looks up $1: VM_FAULT_SIGBUS, the file has no such page",
    "kernel",
    "kernel",
  ],
  [/^looks up (.*)/, "looks up $1", "kernel", "kernel"],
  [/^(page \d+) was invalidated meanwhile/, "$1 went away meanwhile"],
  [/^an invalidation is under way/, "the page goes away just now"],
  [/^token \d+: the guest cannot be told: artificial halt/, "sleeps until the page is read"],
  [/^(page \d+) is already being fetched: artificial halt/, "$1 is being read already: sleeps, too"],
  [/^(page \d+) is ready: the artificial halt ends/, "$1 is ready: the sleep ends"],
  [/^fetches (page \d+): (it fails|it is there now).*/, "reads $1: $2", "kernel", "kernel"],
  [/^invalidate_range_start: zaps the guest's mapping/, "zaps the page tables", "host", "process"],
  [/^unmaps once more/, "zaps them once more", "host", "process"],
  [/the guest's mapping goes$/, "the mapping goes", "host", "process"],
  [/^#PF: (exception table: )/, "$1", "kernel", "kernel"],
  [/^(SIGBUS .*)/, "$1", "kernel", "process"],
];

const partyOf = (name: string): string => parties[name] ?? name;

function inProcessWords(event: ModelEvent): readonly ModelEvent[] {
  const rule = rules.find(([of]) => of.test(event.detail));
  if (rule === undefined) return [{ ...event, from: partyOf(event.from), to: partyOf(event.to) }];
  const [of, words, from = partyOf(event.from), to = partyOf(event.to)] = rule;
  if (words === null) return [];
  const kind = event.kind.startsWith("apf-") ? "fault" : event.kind;
  return [{ kind, from, to, detail: event.detail.replace(of, words) }];
}

/** Without the steps that only a VM has. @param cycleAt where the path goes round from, in `steps` and in what is returned */
export function asOfProcess(
  steps: readonly Step[],
  cycleAt: number | null = null,
): { readonly steps: readonly Step[]; readonly cycleAt: number | null } {
  const told = steps.map(({ events, ...step }) => ({ ...step, events: events.flatMap(inProcessWords) }));
  // A host's step without any event is told by its name.
  const isTold = told.map(
    ({ events, actor }, index) =>
      events.length > 0 || (actor === "host" && steps[index]?.events.length === 0),
  );
  const before = isTold.slice(0, cycleAt ?? 0).filter((one) => one).length;
  return { steps: told.filter((_, index) => isTold[index]), cycleAt: cycleAt === null ? null : before };
}
