/**
 * The operands that steps have: how each is read from a scenario's words and written back. A row of `guest-verbs.ts` or
 * `host-verbs.ts` lists those of its verb in the order of the text. Limits that concern one operand are checked here.
 */
import { COPY_BYTES_MAX, FILE_BYTES_MAX } from "./limits.ts";
import { hex } from "./number.ts";
import type { Words } from "./words.ts";

export type Operand<Value> = {
  /** @param sizeBytes the step's `size` where that is a width in bytes, else 0; undefined is returned for what is left out */
  readonly read: (words: Words, sizeBytes: number) => Value | undefined;
  readonly text: (value: Value) => readonly string[];
};

/** All operands of a step, by name, in the order of the text. */
export type OperandsOf<Step> = {
  readonly [Name in Exclude<keyof Step, "verb">]-?: Operand<NonNullable<Step[Name]>>;
};

/** The part of a verb's row that describes its text. */
export type Grammar<Step> = {
  readonly operands: OperandsOf<Step>;
  /** The problem with operands that are valid one by one, or null. */
  readonly check?: (step: Step) => string | null;
};

const U64_MAX = 2n ** 64n - 1n;

/** As people write it: `truncate 0`, not `truncate 0x0`. */
function numberText(value: bigint): readonly string[] {
  return [value < 10n ? value.toString() : hex(value)];
}

/** Of the window. Whether it is mapped is checked with the scenario. */
export const windowOffset: Operand<bigint> = {
  read: (words) => words.number("offset", U64_MAX),
  text: numberText,
};

/** Not written: the step is about the whole file. */
export const wholeFile: Operand<bigint> = { read: () => 0n, text: () => [] };

/** The width of one instruction's operand. */
export function width(sizes: readonly number[]): Operand<number> {
  return { read: (words) => words.width(sizes), text: (size) => [`${size}`] };
}

export const copySize: Operand<number> = {
  read: (words) => Number(words.number("size", BigInt(COPY_BYTES_MAX), 1n)),
  text: (size) => [`${size}`],
};

/** What is written. Must fit into `bytes`, or into the step's size. */
export function value(bytes?: number): Operand<bigint> {
  return { read: (words, sizeBytes) => words.value(bytes ?? sizeBytes), text: numberText };
}

/** `until SIGNAL`, if it is there. */
export const until: Operand<string> = {
  read: (words) => (words.takes("until") ? words.name() : undefined),
  text: (name) => ["until", name],
};

/** One of `known`. */
export function oneOf<Word extends string>(known: readonly Word[]): Operand<Word> {
  return {
    read: (words) => {
      const word = words.word(`one of ${known.join(", ")}`);
      const found = known.find((one) => one === word);
      if (found === undefined) words.fail(`${JSON.stringify(word)} is not one of ${known.join(", ")}`);
      return found;
    },
    text: (word) => [word],
  };
}

/** Any of `known`, up to the end of the line. */
export function options<Option extends string>(known: readonly Option[]): Operand<readonly Option[]> {
  return { read: (words) => words.options(known), text: (chosen) => chosen };
}

/** The same; a step without them has no such member. */
export function optionsIfAny<Option extends string>(known: readonly Option[]): Operand<readonly Option[]> {
  return {
    read: (words) => {
      const chosen = words.options(known);
      return chosen.length === 0 ? undefined : chosen;
    },
    text: (chosen) => chosen,
  };
}

export const signalName: Operand<string> = { read: (words) => words.name(), text: (name) => [name] };

export const actorName: Operand<string> = { read: (words) => words.actor(), text: (name) => [name] };

export const fileSize: Operand<bigint> = {
  read: (words) => words.number("size", FILE_BYTES_MAX),
  text: numberText,
};

/** Of the file, with room for `bytes` behind it. */
export function fileOffset(bytes = 0n): Operand<bigint> {
  return { read: (words) => words.number("offset", FILE_BYTES_MAX - bytes), text: numberText };
}

export const fileLength: Operand<bigint> = {
  read: (words) => words.number("length", FILE_BYTES_MAX, 1n),
  text: numberText,
};
