/**
 * Selectors: how expectations and scenarios say which proposals they mean, by id or by answer. `poison remap-zero`,
 * `*-user-apic`, `@reports`, `today @exits @loops -no-hlt-exits -*-no-apf`, `*`. Words in any order, spaces between them.
 */
import { type Answer, answers } from "./answers.ts";
import { isGlob, matchesGlob } from "./glob.ts";
import { nearest } from "./nearest.ts";
import { answerOf, proposals } from "./presets.ts";
import type { Proposal } from "./proposal.ts";

export type Selector = {
  /** `*`: every proposal. */
  readonly all: boolean;
  readonly answers: readonly Answer[];
  /** Ids, and patterns of ids: `*-user-apic`. */
  readonly ids: readonly string[];
  /** `-poison`, `-*-no-apf`: not this one, although its answer is named. */
  readonly except: readonly string[];
  /** Narrows the answers to presets for a KVM of today, or to those that need another KVM. */
  readonly period: "today" | "proposed" | null;
};

/** How a selector means a proposal. The narrower one wins: its id before its answer before `*`. */
export type Match = "id" | "answer" | "all" | null;

const ID = /^[a-z*][a-z*-]*$/;

function isAnswer(word: string): word is Answer {
  return (answers as readonly string[]).includes(word);
}

/** The selector, or what is wrong with the text. */
export function parseSelector(text: string): Selector | string {
  const found = { answers: [] as Answer[], ids: [] as string[], except: [] as string[] };
  let all = false;
  let period: Selector["period"] = null;
  for (const word of text.split(" ")) {
    if (word === "*") all = true;
    else if (word === "today" || word === "proposed") period = word;
    else if (word.startsWith("@")) {
      const answer = word.slice(1);
      if (!isAnswer(answer)) {
        const near = nearest(answer, answers).map((known) => `@${known}`);
        return `unknown answer ${JSON.stringify(word)}; nearest: ${near.join(", ")}`;
      }
      found.answers.push(answer);
    } else if (word.startsWith("-") && ID.test(word.slice(1))) found.except.push(word.slice(1));
    else if (ID.test(word)) found.ids.push(word);
    else return `${JSON.stringify(word)} is neither an id, an answer such as @loops, nor *`;
  }
  if (found.answers.length === 0 && period !== null)
    return `"${period}" narrows answers: name one, such as @loops`;
  if (found.answers.length === 0 && found.except.length > 0)
    return "only what an answer stands for can be left out";
  return { all, ...found, period };
}

export function selectorText({ all, answers: named, ids, except, period }: Selector): string {
  return [
    ...(all ? ["*"] : []),
    ...(period === null ? [] : [period]),
    ...named.map((answer) => `@${answer}`),
    ...except.map((id) => `-${id}`),
    ...ids,
  ].join(" ");
}

/** @param answer The proposal's, or the one it is taken for. */
export function matchOf(
  selector: Selector,
  { id, kvm }: Pick<Proposal, "id" | "kvm">,
  answer: Answer | null,
): Match {
  const isNamed = (names: readonly string[]): boolean => names.some((name) => matchesGlob(name, id));
  if (isNamed(selector.ids)) return "id";
  const inPeriod = selector.period === null || (selector.period === "today") === (kvm === "today");
  if (answer !== null && selector.answers.includes(answer) && inPeriod && !isNamed(selector.except)) {
    return "answer";
  }
  return selector.all ? "all" : null;
}

/** The ids that the selector stands for: presets in their order, then what else it names. */
export function selectedIds(selector: Selector): readonly string[] {
  const ids = proposals
    .filter((proposal) => matchOf(selector, proposal, answerOf(proposal.id)) !== null)
    .map(({ id }) => id);
  return [...ids, ...selector.ids.filter((id) => !isGlob(id) && !ids.includes(id))];
}
