/**
 * The step grammar: `load 0x1000 8`. One table per kind of actor, a row a verb; a step's words follow its row.
 * Checks what a step alone can tell; what needs the rest of the scenario (window, signals) is checked in `parse.ts`.
 */
import { accessSizes, atomicSizes, COPY_BYTES_MAX, FILE_BYTES_MAX, PAGE_BYTES } from "./limits.ts";
import { hex, parseNumber, sizeText } from "./number.ts";
import type { Problems } from "./problem.ts";
import {
  type GuestStep,
  type HostStep,
  kernelCopyOptions,
  truncateOptions,
  type VmmStep,
} from "./scenario.ts";

const U64_MAX = 2n ** 64n - 1n;
const NAME = /^[a-z][a-z0-9-]{0,23}$/;
/** Of an actor. */
export const ACTOR_NAME: RegExp = /^[a-z][a-z0-9-]{0,15}$/;
const TEXT_LENGTH_MAX = 120;

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

type Reader<Step> = (words: Words) => Step;

const signal = (words: Words): { verb: "signal"; name: string } => ({ verb: "signal", name: words.name() });
const awaited = (words: Words): { verb: "await"; name: string } => ({ verb: "await", name: words.name() });

const guestVerbs: Readonly<Record<GuestStep["verb"], Reader<GuestStep>>> = {
  load: (words) => ({
    verb: "load",
    offset: words.number("offset", U64_MAX),
    size: words.width(accessSizes),
    ...words.until(),
  }),
  store: (words) => {
    const offset = words.number("offset", U64_MAX);
    const size = words.width(accessSizes);
    return { verb: "store", offset, size, value: words.value(size), ...words.until() };
  },
  atomic: (words) => {
    const offset = words.number("offset", U64_MAX);
    const size = words.width(atomicSizes);
    if (size > 0 && offset % BigInt(size) !== 0n) {
      words.fail(`offset ${hex(offset)} is not a multiple of the size ${size}, which LOCK instructions need`);
    }
    return { verb: "atomic", offset, size };
  },
  fetch: (words) => {
    const offset = words.number("offset", U64_MAX);
    if (offset % PAGE_BYTES !== 0n) {
      words.fail(
        `offset ${hex(offset)} is not a multiple of ${PAGE_BYTES}: code stands at the start of pages only`,
      );
    }
    return { verb: "fetch", offset };
  },
  "copy-from": (words) => ({
    verb: "copy-from",
    offset: words.number("offset", U64_MAX),
    size: Number(words.number("size", BigInt(COPY_BYTES_MAX), 1n)),
  }),
  "copy-to": (words) => {
    const offset = words.number("offset", U64_MAX);
    const size = Number(words.number("size", BigInt(COPY_BYTES_MAX), 1n));
    return { verb: "copy-to", offset, size, value: words.value(words.failed ? 0 : size) };
  },
  "kernel-read": (words) => ({
    verb: "kernel-read",
    offset: words.number("offset", U64_MAX),
    size: Number(words.number("size", BigInt(COPY_BYTES_MAX), 1n)),
    options: words.options(kernelCopyOptions),
  }),
  "kernel-write": (words) => {
    const offset = words.number("offset", U64_MAX);
    const size = Number(words.number("size", BigInt(COPY_BYTES_MAX), 1n));
    const value = words.value(words.failed ? 0 : size);
    return { verb: "kernel-write", offset, size, value, options: words.options(kernelCopyOptions) };
  },
  push: (words) => {
    const offset = words.number("offset", U64_MAX);
    return { verb: "push", offset, value: words.value(8) };
  },
  signal,
  await: awaited,
  kill: (words) => ({ verb: "kill", actor: words.actor() }),
  count: () => ({ verb: "count" }),
};

function fileRange(words: Words): { offset: bigint; length: bigint } {
  const offset = words.number("offset", FILE_BYTES_MAX);
  const length = words.number("length", FILE_BYTES_MAX, 1n);
  if (offset + length > FILE_BYTES_MAX) {
    words.fail(
      `offset ${hex(offset)} + length ${hex(length)} is beyond the limit ${sizeText(FILE_BYTES_MAX)}`,
    );
  }
  return { offset, length };
}

const hostVerbs: Readonly<Record<HostStep["verb"], Reader<HostStep>>> = {
  truncate: (words) => {
    const size = words.number("size", FILE_BYTES_MAX);
    const options = words.options(truncateOptions);
    return { verb: "truncate", size, ...(options.length === 0 ? {} : { options }) };
  },
  "open-truncate": (words) => ({ verb: "open-truncate", size: words.number("size", FILE_BYTES_MAX) }),
  open: () => ({ verb: "open" }),
  ftruncate: (words) => ({ verb: "ftruncate", size: words.number("size", FILE_BYTES_MAX) }),
  "open-trunc": () => ({ verb: "open-trunc" }),
  "open-read": () => ({ verb: "open-read" }),
  punch: (words) => ({ verb: "punch", ...fileRange(words) }),
  collapse: (words) => ({ verb: "collapse", ...fileRange(words) }),
  "map-store": (words) => ({
    verb: "map-store",
    offset: words.number("offset", FILE_BYTES_MAX - 8n),
    value: words.value(8),
  }),
  "rename-over": () => ({ verb: "rename-over" }),
  unlink: () => ({ verb: "unlink" }),
  signal,
  await: awaited,
};

const vmmVerbs: Readonly<Record<VmmStep["verb"], Reader<VmmStep>>> = {
  resume: () => ({ verb: "resume" }),
  signal,
  await: awaited,
};

function parseStep<Step extends { readonly verb: string }>(
  verbs: Readonly<Record<Step["verb"], Reader<Step>>>,
  text: string,
  at: string,
  problems: Problems,
): Step | null {
  if (text.length > TEXT_LENGTH_MAX) {
    problems.add(at, `a step of ${text.length} characters is longer than the limit ${TEXT_LENGTH_MAX}`);
    return null;
  }
  const list = text.trim().split(/\s+/);
  const verb = list[0] ?? "";
  const readers = new Map<string, Reader<Step>>(Object.entries(verbs));
  const reader = readers.get(verb);
  if (reader === undefined) {
    problems.add(
      at,
      `unknown verb ${JSON.stringify(verb)}; this actor knows ${[...readers.keys()].join(", ")}`,
    );
    return null;
  }
  const words = new Words(list, at, problems);
  const step = reader(words);
  words.end();
  return words.failed ? null : step;
}

export function parseGuestStep(text: string, at: string, problems: Problems): GuestStep | null {
  return parseStep(guestVerbs, text, at, problems);
}

export function parseHostStep(text: string, at: string, problems: Problems): HostStep | null {
  return parseStep(hostVerbs, text, at, problems);
}

export function parseVmmStep(text: string, at: string, problems: Problems): VmmStep | null {
  return parseStep(vmmVerbs, text, at, problems);
}
