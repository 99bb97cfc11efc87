/**
 * Cells: what a case is expected to show, as one line of text. One parser, one printer.
 *
 *     looping; first.last second.last hung
 *     stopped(efault) > running; victim.last zero
 *     victim.load#2 lost; counter progress; apf-not-present apf-ready seen; host.last denied(EPERM)
 *     stopped(efault); crowd-*.last killed|not-reached; better: none; defect: memory-fault-cap-untrue
 *     as @loops
 *
 * - First the VMM's history: states with ` > ` between them, `|` between alternatives. Left out: `running`, or after a
 *   `lost` the last state that goes with the proposal's answer. A proposal without a VM has none. `looping|stopped(efault)`
 *   at the end is also a loop that was seen and ended by chance: `looping > stopped(efault)`.
 * - Labels and a word: an access or a host step. `last` is the actor's last one, `crowd-*` each copy. `lost`: what an
 *   access to a lost page sees under the proposal's answer (`answers.ts`).
 * - Bystanders and `progress` or `starved`; kinds of events and `seen` or `none`.
 * - `better:` last states of the VMM that are an improvement (xpass), `defect:` the defect of the kernel that this is;
 *   both follow from the history where they are not written.
 * - `as @loops`: read as the cell that this row has for the answer.
 *
 * Not listed: `value` for accesses (`done` for calls that observe nothing, such as fsync), `done` for host steps, ignored for bystanders and events.
 */
import { type Answer, answers } from "../answers.ts";
import { nearest } from "../nearest.ts";
import {
  accessKinds,
  bystanderStates,
  type EventKind,
  eventKinds,
  hostResultKinds,
  parseAccessText,
  parseHostResultText,
  parseVmmText,
  vmmText,
} from "../vocabulary.ts";

export type StepWord = { readonly label: string; readonly word: string };
export type EventWord = "seen" | "none";

export type OutcomeCell = {
  readonly kind: "outcome";
  /** null: not written. */
  readonly vmm: readonly string[] | null;
  readonly steps: readonly StepWord[];
  readonly bystanders: Readonly<Record<string, string>>;
  readonly events: Readonly<Partial<Record<EventKind, EventWord>>>;
  readonly better: readonly string[] | null;
  /** An id, or `none`. */
  readonly defect: string | null;
};

export type Cell = OutcomeCell | { readonly kind: "as"; readonly answer: Answer };

export const LOST = "lost";

const stepWords: readonly string[] = [...new Set([LOST, ...accessKinds, ...hostResultKinds])];
const eventWords: readonly string[] = ["seen", "none"];
const states: readonly string[] = [
  "running",
  "looping",
  "waiting",
  "stopped(efault)",
  "stopped(memory-fault)",
  "stopped(mmio)",
  "stopped(internal-error)",
  "stopped(triple-fault)",
  "killed(SIGBUS)",
];

const LABEL = /^[a-z*][a-z0-9*-]*\.(?:last|[a-z-]+#[1-9][0-9]*)$/;
const ACTOR = /^[a-z][a-z0-9-]*$/;
const DEFECT = /^[a-z][a-z0-9-]*$/;

type Draft = {
  vmm: readonly string[] | null;
  steps: StepWord[];
  bystanders: Record<string, string>;
  events: Partial<Record<EventKind, EventWord>>;
  better: readonly string[] | null;
  defect: string | null;
};

function unknown(what: string, word: string, known: readonly string[]): string {
  return `unknown ${what} ${JSON.stringify(word)}; nearest: ${nearest(word, known).join(", ")}`;
}

function isStepWord(word: string): boolean {
  return stepWords.includes(word) || parseAccessText(word) !== null || parseHostResultText(word) !== null;
}

function isState(text: string): boolean {
  const state = parseVmmText(text, null, null);
  return state !== null && vmmText(state) === text;
}

/** The problem with the states, or null. */
function stateProblem(list: readonly string[]): string | null {
  const wrong = list.find((state) => !isState(state));
  return wrong === undefined ? null : unknown("state of the VMM", wrong, states);
}

function readHistory(draft: Draft, part: string, index: number): string | null {
  if (index > 0) return `${JSON.stringify(part)}: only the first part can be the history of the VMM`;
  draft.vmm = part.split(" > ");
  return stateProblem(draft.vmm.flatMap((state) => state.split("|")));
}

function readSteps(draft: Draft, labels: readonly string[], word: string): string | null {
  for (const one of word.split("|")) {
    if (!isStepWord(one)) return unknown("word", one, [...stepWords, ...bystanderStates, ...eventWords]);
  }
  for (const label of labels) {
    if (!LABEL.test(label))
      return `${JSON.stringify(label)} is not a label such as victim.last or victim.load#2`;
    if (draft.steps.some((step) => step.label === label)) return `${label} twice`;
    draft.steps.push({ label, word });
  }
  return null;
}

function readBystanders(draft: Draft, names: readonly string[], word: string): string | null {
  for (const name of names) {
    if (!ACTOR.test(name)) return `${JSON.stringify(name)} is not an actor's name, which ${word} is about`;
    if (draft.bystanders[name] !== undefined) return `${name} twice`;
    draft.bystanders[name] = word;
  }
  return null;
}

function readEvents(draft: Draft, names: readonly string[], word: EventWord): string | null {
  for (const name of names) {
    const kind = eventKinds.find((known) => known === name);
    if (kind === undefined) return unknown("event", name, eventKinds);
    if (draft.events[kind] !== undefined) return `${name} twice`;
    draft.events[kind] = word;
  }
  return null;
}

function readBetter(draft: Draft, text: string): string | null {
  if (draft.better !== null) return '"better" twice';
  draft.better = text === "none" ? [] : text.split(" ");
  return stateProblem(draft.better);
}

function readDefect(draft: Draft, id: string): string | null {
  if (draft.defect !== null) return '"defect" twice';
  draft.defect = id;
  return DEFECT.test(id) ? null : `${JSON.stringify(id)} is not the id of a defect`;
}

/** The problem with the part, or null. */
function readPart(draft: Draft, part: string, index: number): string | null {
  if (part.startsWith("better: ")) return readBetter(draft, part.slice("better: ".length));
  if (part.startsWith("defect: ")) return readDefect(draft, part.slice("defect: ".length));
  const words = part.split(" ");
  const word = words.pop() ?? "";
  if (words.length === 0 || words.includes(">")) return readHistory(draft, part, index);
  if (bystanderStates.some((state) => state === word)) return readBystanders(draft, words, word);
  if (word === "seen" || word === "none") return readEvents(draft, words, word);
  return readSteps(draft, words, word);
}

/** The cell, or what is wrong with the text. */
export function parseCell(text: string): Cell | string {
  if (text === "") return 'says nothing; where all is as ever, write "running"';
  if (text.startsWith("as @")) {
    const name = text.slice("as @".length);
    const answer = answers.find((known) => known === name);
    return answer === undefined ? unknown("answer", name, answers) : { kind: "as", answer };
  }
  const draft: Draft = { vmm: null, steps: [], bystanders: {}, events: {}, better: null, defect: null };
  for (const [index, part] of text.split("; ").entries()) {
    const problem = readPart(draft, part, index);
    if (problem !== null) return problem;
  }
  return { kind: "outcome", ...draft };
}

/** Neighbours of one word share it: `first.last second.last hung`. */
function grouped(entries: readonly (readonly [string, string])[]): readonly string[] {
  const groups: { names: string[]; word: string }[] = [];
  for (const [name, word] of entries) {
    const last = groups.at(-1);
    if (last?.word === word) last.names.push(name);
    else groups.push({ names: [name], word });
  }
  return groups.map(({ names, word }) => [...names, word].join(" "));
}

/** The reverse of `parseCell`. */
export function cellText(cell: Cell): string {
  if (cell.kind === "as") return `as @${cell.answer}`;
  const parts = [
    ...(cell.vmm === null ? [] : [cell.vmm.join(" > ")]),
    ...grouped(cell.steps.map(({ label, word }) => [label, word])),
    ...grouped(Object.entries(cell.bystanders)),
    ...grouped(Object.entries(cell.events)),
    ...(cell.better === null ? [] : [`better: ${cell.better.length === 0 ? "none" : cell.better.join(" ")}`]),
    ...(cell.defect === null ? [] : [`defect: ${cell.defect}`]),
  ];
  return parts.length === 0 ? "running" : parts.join("; ");
}
