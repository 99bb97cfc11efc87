/**
 * The text of steps, `load 0x1000 8`: read and written by the rows of `guest-verbs.ts` and `host-verbs.ts`.
 * Checks a step by itself; what needs the rest of the scenario (window, signals) is checked in `check.ts`.
 */
import { type GuestStep, guestVerbs } from "./guest-verbs.ts";
import { type HostStep, hostVerbs, type VmmStep, vmmVerbs } from "./host-verbs.ts";
import type { Problems } from "./problem.ts";
import { Words } from "./words.ts";

const TEXT_LENGTH_MAX = 120;

/** A verb's grammar without the type of its step, which the tables have checked. */
type AnyGrammar = {
  readonly operands: Readonly<
    Record<
      string,
      {
        readonly read: (words: Words, sizeBytes: number) => unknown;
        readonly text: (value: never) => readonly string[];
      }
    >
  >;
  readonly check?: (step: never) => string | null;
};
type Verbs = Readonly<Record<string, AnyGrammar>>;

/** By its verb's row. Problems are reported to `words`. */
function readStep(verb: string, { operands, check }: AnyGrammar, words: Words): Record<string, unknown> {
  const step: Record<string, unknown> = { verb };
  for (const [name, operand] of Object.entries(operands)) {
    // What comes behind a wrong operand may depend on it.
    if (words.failed) break;
    const value = operand.read(words, typeof step.size === "number" ? step.size : 0);
    if (value !== undefined) step[name] = value;
  }
  const problem = words.failed ? null : (check?.(step as never) ?? null);
  if (problem !== null) words.fail(problem);
  words.end();
  return step;
}

function parseStep<Step>(verbs: Verbs, text: string, at: string, problems: Problems): Step | null {
  if (text.length > TEXT_LENGTH_MAX) {
    problems.add(at, `a step of ${text.length} characters is longer than the limit ${TEXT_LENGTH_MAX}`);
    return null;
  }
  const list = text.trim().split(/\s+/);
  const verb = list[0] ?? "";
  const row = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined;
  if (row === undefined) {
    const known = Object.keys(verbs).join(", ");
    problems.add(at, `unknown verb ${JSON.stringify(verb)}; this actor knows ${known}`);
    return null;
  }
  const words = new Words(list, at, problems);
  const step = readStep(verb, row, words);
  return words.failed ? null : (step as Step);
}

export function parseGuestStep(text: string, at: string, problems: Problems): GuestStep | null {
  return parseStep<GuestStep>(guestVerbs, text, at, problems);
}

export function parseHostStep(text: string, at: string, problems: Problems): HostStep | null {
  return parseStep<HostStep>(hostVerbs, text, at, problems);
}

export function parseVmmStep(text: string, at: string, problems: Problems): VmmStep | null {
  return parseStep<VmmStep>(vmmVerbs, text, at, problems);
}

/** Two actors' verbs of one name have the same operands. */
const allVerbs: Verbs = { ...guestVerbs, ...hostVerbs, ...vmmVerbs };

/** `load 0x1000 8`. */
export function stepText(step: GuestStep | HostStep | VmmStep): string {
  const values: Readonly<Record<string, unknown>> = step;
  const words = Object.entries(allVerbs[step.verb]?.operands ?? {}).flatMap(([name, { text }]) =>
    values[name] === undefined ? [] : text(values[name] as never),
  );
  return [step.verb, ...words].join(" ");
}
