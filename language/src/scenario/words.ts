/**
 * The words of one line of a scenario, read one after the other: `load 0x1000 8`. What follows which word is said in
 * `guest-verbs.ts`, `host-verbs.ts` and `faults.ts`.
 */
import { hex, parseNumber } from "./number.ts";
import type { Problems } from "./problem.ts";

const U64_MAX: bigint = 2n ** 64n - 1n;
const NAME = /^[a-z][a-z0-9-]{0,23}$/;
/** Of an actor. */
export const ACTOR_NAME: RegExp = /^[a-z][a-z0-9-]{0,15}$/;

/** Reads a line's words one after the other; the first thing wrong is reported, all later reads are void. */
export class Words {
  readonly #words: readonly string[];
  readonly #at: string;
  readonly #problems: Problems;
  #next = 1;
  failed = false;

  constructor(words: readonly string[], at: string, problems: Problems) {
    this.#words = words;
    this.#at = at;
    this.#problems = problems;
  }

  fail(message: string): void {
    if (!this.failed) this.#problems.add(this.#at, `${JSON.stringify(this.#words.join(" "))}: ${message}`);
    this.failed = true;
  }

  /** Takes the next word if it is this one. */
  takes(keyword: string): boolean {
    if (this.#words[this.#next] !== keyword) return false;
    this.#next += 1;
    return true;
  }

  /** The next word, whatever it is; `what` it stands for is said if there is none. */
  word(what: string): string {
    const word = this.#words[this.#next];
    this.#next += 1;
    if (word === undefined) this.fail(`${what} is missing`);
    return word ?? "";
  }

  /** A number from `min` to `max`. */
  number(what: string, max: bigint, min = 0n): bigint {
    const word = this.word(what);
    if (this.failed) return 0n;
    const value = parseNumber(word);
    if (value === null) this.fail(`${what} ${JSON.stringify(word)} is not a number (4096, 0x1000 or 4KiB)`);
    else if (value > max) this.fail(`${what} ${hex(value)} is greater than the limit ${hex(max)}`);
    else if (value < min) this.fail(`${what} ${hex(value)} is less than ${hex(min)}`);
    return value ?? 0n;
  }

  /** A number of bytes out of a list of instruction widths. */
  width(sizes: readonly number[]): number {
    const size = this.number("size", U64_MAX);
    if (!this.failed && !sizes.some((width) => BigInt(width) === size)) {
      this.fail(`size ${size} is not one of ${sizes.join(", ")}`);
    }
    return this.failed ? 0 : Number(size);
  }

  /** What a store of `size` bytes writes: must fit. */
  value(size: number): bigint {
    return this.number("value", 2n ** BigInt(8 * size) - 1n);
  }

  name(): string {
    const word = this.word("signal name");
    if (!this.failed && !NAME.test(word)) {
      this.fail(
        `signal name ${JSON.stringify(word)} is not of the form a-z, 0-9 and -, at most 24 characters`,
      );
    }
    return word;
  }

  actor(): string {
    const word = this.word("actor");
    if (!this.failed && !ACTOR_NAME.test(word)) {
      this.fail(`${JSON.stringify(word)} is not the name of an actor: a-z, 0-9 and -, at most 16 characters`);
    }
    return word;
  }

  /** `until SIGNAL`, if it is there. */
  until(): { until?: string } {
    return this.takes("until") ? { until: this.name() } : {};
  }

  /** Any of `known`, each at most once, up to the end. */
  options<Option extends string>(known: readonly Option[]): readonly Option[] {
    const chosen: Option[] = [];
    for (const word of this.#words.slice(this.#next)) {
      const option = known.find((one) => one === word);
      if (option === undefined || chosen.includes(option)) {
        this.fail(`option ${JSON.stringify(word)} is not one of ${known.join(", ")}, each at most once`);
        break;
      }
      chosen.push(option);
    }
    this.#next = this.#words.length;
    return chosen;
  }

  end(): void {
    const extra = this.#words[this.#next];
    if (extra !== undefined) this.fail(`unexpected ${JSON.stringify(extra)} after the step`);
  }
}
