/**
 * The outcome of a case: the result of each access, each host step, the VMM, the guest kernel and the bystanders, in
 * words without figures. Engines return `Observations`, which are an outcome with figures; the model returns outcomes.
 * Here is the one comparison, the one text and the one parser. Not here: what is expected (`judge/`).
 */
import { accessesOf, actionsOf, guestActors, hostActors, isBystander } from "./scenario/labels.ts";
import type { Scenario } from "./scenario/scenario.ts";
import {
  type AccessWord,
  accessWordText,
  type Bystander,
  bystanderStates,
  type GuestKernel,
  guestKernelStates,
  type HostWord,
  hostWordText,
  parseAccessWord,
  parseHostWord,
  parseVmmWord,
  UNOBSERVED,
  type UnobservedStyle,
  type VmmWord,
  vmmText,
} from "./vocabulary.ts";

/** By actor, then by step label. */
export type ByStep<Word> = Readonly<Record<string, Readonly<Record<string, Word>>>>;

export type Outcome = {
  /** `victim`, `load#2`. */
  readonly accesses: ByStep<AccessWord>;
  /** `host`, `truncate#1`. */
  readonly host: ByStep<HostWord>;
  /** History, never empty; null for engines without a VMM. */
  readonly vmm: readonly VmmWord[] | null;
  /** null where the VMM is. */
  readonly guestKernel: GuestKernel | null;
  readonly bystanders: Readonly<Record<string, Bystander>>;
};

/** The parts that a comparison leaves out of both outcomes. */
export type Coarsening = {
  /** A wait status has no si_code: `sigbus(BUS_ADRERR)` is `sigbus(unobserved)`. */
  readonly siCode: boolean;
  /** SIGSEGV is one of the ways to be killed. */
  readonly sigsegv: boolean;
  readonly errno: boolean;
  /** All states of the VMM but the last. */
  readonly history: boolean;
};

export const exact: Coarsening = { siCode: false, sigsegv: false, errno: false, history: false };

/**
 * Between a real engine and the model: `mmap-io` sees a wait status; the model has one word for a task that SIGSEGV or
 * SIGKILL ends, one errno for every refusal, and of the VMM the last state.
 */
export const modelledOnly: Coarsening = { siCode: true, sigsegv: true, errno: true, history: true };

export function mapSteps<From, To>(steps: ByStep<From>, map: (word: From) => To): ByStep<To> {
  return Object.fromEntries(
    Object.entries(steps).map(([actor, labels]) => [
      actor,
      Object.fromEntries(Object.entries(labels).map(([label, word]) => [label, map(word)])),
    ]),
  );
}

function coarseAccess(word: AccessWord, { siCode, sigsegv }: Coarsening): AccessWord {
  switch (word.kind) {
    case "sigbus":
      return siCode ? { kind: word.kind, code: UNOBSERVED } : word;
    case "sigsegv":
      if (sigsegv) return { kind: "killed" };
      return siCode ? { kind: word.kind, code: UNOBSERVED } : word;
    default:
      return word;
  }
}

export function coarsen(outcome: Outcome, coarsening: Coarsening): Outcome {
  const { errno, history } = coarsening;
  const { accesses, host, vmm } = outcome;
  const last = vmm?.at(-1);
  return {
    ...outcome,
    accesses: mapSteps(accesses, (word) => coarseAccess(word, coarsening)),
    host: errno
      ? mapSteps(host, (word) => (word.kind === "denied" ? { kind: word.kind, errno: UNOBSERVED } : word))
      : host,
    vmm: history && last !== undefined ? [last] : vmm,
  };
}

/** How an outcome is written on one line. */
export type OutcomeStyle = {
  /** Actors and labels sorted, or as the outcome has them. */
  readonly order: "by-name" | "as-given";
  readonly unobserved: UnobservedStyle;
  readonly betweenSteps: "; " | ", ";
  readonly guestKernel: "guest kernel" | "guest";
  readonly bystanders: "before-vmm" | "last";
};

/** As a run records it: `host.truncate#1 done; counter starved; VMM looping; guest kernel alive`. */
export const recordedStyle: OutcomeStyle = {
  order: "by-name",
  unobserved: "written",
  betweenSteps: "; ",
  guestKernel: "guest kernel",
  bystanders: "before-vmm",
};

/** As `explore`, `compare` and `guards` print it: `victim.load#1 value, host.truncate#1 done; VMM looping; guest alive; counter starved`. */
export const comparedStyle: OutcomeStyle = {
  order: "as-given",
  unobserved: "omitted",
  betweenSteps: ", ",
  guestKernel: "guest",
  bystanders: "last",
};

/** An outcome as JSON lines and fixtures/observed have it: texts of words, not yet read. */
export type OutcomeWords = {
  /** `victim.load#2` and `host.truncate#1`. */
  readonly steps: Readonly<Record<string, string>>;
  readonly bystanders: Readonly<Record<string, string>>;
  /** The history, separated by `, `. */
  readonly vmm: string | null;
  readonly guestKernel: string | null;
};

function entriesOf<Value>(
  record: Readonly<Record<string, Value>>,
  order: OutcomeStyle["order"],
): readonly (readonly [string, Value])[] {
  const entries = Object.entries(record);
  return order === "as-given" ? entries : entries.sort(([a], [b]) => (a < b ? -1 : 1));
}

function stepTexts<Word>(
  steps: ByStep<Word>,
  order: OutcomeStyle["order"],
  text: (word: Word) => string,
): readonly (readonly [string, string])[] {
  return entriesOf(steps, order).flatMap(([actor, labels]) =>
    entriesOf(labels, order).map(([label, word]) => [`${actor}.${label}`, text(word)] as const),
  );
}

export function outcomeWords(outcome: Outcome, style: OutcomeStyle): OutcomeWords {
  const { order, unobserved } = style;
  return {
    steps: Object.fromEntries([
      ...stepTexts(outcome.accesses, order, (word) => accessWordText(word, unobserved)),
      ...stepTexts(outcome.host, order, (word) => hostWordText(word, unobserved)),
    ]),
    bystanders: Object.fromEntries(entriesOf(outcome.bystanders, order)),
    vmm: outcome.vmm?.map(vmmText).join(BETWEEN_STATES) ?? null,
    guestKernel: outcome.guestKernel,
  };
}

const BETWEEN_PARTS = "; ";
const BETWEEN_STATES = ", ";

/** One line. */
export function outcomeText(outcome: Outcome, style: OutcomeStyle): string {
  const { steps, bystanders, vmm, guestKernel } = outcomeWords(outcome, style);
  const texts = (words: Readonly<Record<string, string>>): readonly string[] =>
    Object.entries(words).map(([name, word]) => `${name} ${word}`);
  const machine = [
    ...(vmm === null ? [] : [`VMM ${vmm}`]),
    ...(guestKernel === null ? [] : [`${style.guestKernel} ${guestKernel}`]),
  ];
  const counting = texts(bystanders);
  return [
    texts(steps).join(style.betweenSteps),
    ...(style.bystanders === "last" ? [...machine, ...counting] : [...counting, ...machine]),
  ]
    .filter((part) => part !== "")
    .join(BETWEEN_PARTS);
}

/** Two outcomes are the same if their texts are, once both are as coarse. The order of actors and steps is no difference. */
export function sameOutcome(a: Outcome, b: Outcome, coarsening: Coarsening = exact): boolean {
  const text = (outcome: Outcome): string => outcomeText(coarsen(outcome, coarsening), recordedStyle);
  return text(a) === text(b);
}

/** The words of all steps that an actor has, and no others; null if one is missing, too many, or no word. */
function parseSteps<Word>(
  labels: readonly string[],
  words: ReadonlyMap<string, string>,
  parse: (text: string) => Word | null,
): Readonly<Record<string, Word>> | null {
  if (labels.length !== words.size) return null;
  const found: Record<string, Word> = {};
  for (const label of labels) {
    const text = words.get(label);
    const word = text === undefined ? null : parse(text);
    if (word === null) return null;
    found[label] = word;
  }
  return found;
}

function parseHistory(text: string | null): readonly VmmWord[] | null | "no word" {
  if (text === null) return null;
  const states = text.split(BETWEEN_STATES).map(parseVmmWord);
  const known = states.filter((state) => state !== null);
  return known.length === states.length ? known : "no word";
}

function parseBystanders(
  words: OutcomeWords["bystanders"],
  scenario: Pick<Scenario, "actors">,
): Outcome["bystanders"] | null {
  const names = guestActors(scenario).flatMap(([name, actor]) => (isBystander(actor) ? [name] : []));
  return parseSteps(
    names,
    new Map(Object.entries(words)),
    (text) => bystanderStates.find((known) => known === text) ?? null,
  );
}

/** The reverse of `outcomeWords`; null for words that are no outcome of this scenario. */
export function parseOutcomeWords(words: OutcomeWords, scenario: Pick<Scenario, "actors">): Outcome | null {
  const byActor = new Map<string, Map<string, string>>();
  for (const [name, word] of Object.entries(words.steps)) {
    const [actor = "", ...label] = name.split(".");
    const labels = byActor.get(actor) ?? new Map<string, string>();
    byActor.set(actor, labels.set(label.join("."), word));
  }
  const take = (name: string): ReadonlyMap<string, string> => {
    const labels = byActor.get(name) ?? new Map<string, string>();
    byActor.delete(name);
    return labels;
  };
  const accesses: Record<string, Readonly<Record<string, AccessWord>>> = {};
  for (const [name, actor] of guestActors(scenario)) {
    const labels = accessesOf(actor).map(({ label }) => label);
    const steps = parseSteps(labels, take(name), parseAccessWord);
    if (steps === null) return null;
    accesses[name] = steps;
  }
  const host: Record<string, Readonly<Record<string, HostWord>>> = {};
  for (const [name, actor] of hostActors(scenario)) {
    const labels = actionsOf(actor).map(({ label }) => label);
    const steps = parseSteps(labels, take(name), parseHostWord);
    if (steps === null) return null;
    host[name] = steps;
  }
  const vmm = parseHistory(words.vmm);
  const bystanders = parseBystanders(words.bystanders, scenario);
  const guestKernel = guestKernelStates.find((known) => known === words.guestKernel) ?? null;
  if (byActor.size > 0 || vmm === "no word" || bystanders === null) return null;
  if (guestKernel !== words.guestKernel || (vmm === null) !== (guestKernel === null)) return null;
  return { accesses, host, vmm, guestKernel, bystanders };
}

/** The reverse of `outcomeText`, in whichever style; null for a text that is no outcome of this scenario. */
export function parseOutcome(text: string, scenario: Pick<Scenario, "actors">): Outcome | null {
  const steps = new Map<string, string>();
  const bystanders = new Map<string, string>();
  let vmm: string | null = null;
  let guestKernel: string | null = null;
  for (const part of text === "" ? [] : text.split(BETWEEN_PARTS)) {
    const history = /^VMM (.+)$/.exec(part)?.[1];
    const kernel = /^guest(?: kernel)? (\S+)$/.exec(part)?.[1];
    if (history !== undefined) vmm = history;
    // An actor may be called `guest`, but no bystander is alive.
    else if (guestKernelStates.some((known) => known === kernel)) guestKernel = kernel ?? null;
    else {
      for (const item of part.split(", ")) {
        const [, name, word] = /^(\S+) (\S+)$/.exec(item) ?? [];
        if (name === undefined || word === undefined) return null;
        const words = name.includes(".") ? steps : bystanders;
        if (words.has(name)) return null;
        words.set(name, word);
      }
    }
  }
  const words = { steps: Object.fromEntries(steps), bystanders: Object.fromEntries(bystanders) };
  return parseOutcomeWords({ ...words, vmm, guestKernel }, scenario);
}
