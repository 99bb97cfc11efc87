/**
 * The console of a kernel under test: kept, with a bound, and read for what kernels say when they die. Pure.
 */

/** What the console says of the kernel's health. */
export type Crash = {
  readonly kind: "panic" | "oops" | "halted";
  /** The line that says so, without its time. */
  readonly text: string;
};

const MAX_LINES = 4000;
const MAX_LINE_CHARACTERS = 500;

/** In the order of gravity: a panic that an oops led to is a panic. */
const signs: readonly { readonly kind: Crash["kind"]; readonly pattern: RegExp }[] = [
  { kind: "panic", pattern: /Kernel panic - not syncing: .*/ },
  {
    kind: "oops",
    pattern:
      /(?:BUG: (?:unable to handle|kernel NULL pointer|soft lockup|KASAN|scheduling while atomic).*|kernel BUG at .*|Oops: .*|general protection fault, .*|invalid opcode: .*|Unable to handle kernel .*|watchdog: BUG: soft lockup.*)/,
  },
  {
    kind: "halted",
    pattern: /(?:-- System halted|.* compressed data is corrupt.*|No setup signature found.*)/,
  },
];

const time = /^(?:<[0-9]+>)?\[\s*[0-9]+\.[0-9]+\](?:\[\s*[TC][0-9]+\])?\s*/;

/** The gravest thing that the lines say; of equally grave ones the first. null if all is well. */
export function crashIn(lines: readonly string[]): Crash | null {
  for (const { kind, pattern } of signs) {
    for (const line of lines) {
      const match = pattern.exec(line.replace(time, ""));
      if (match !== null) return { kind, text: match[0].trim() };
    }
  }
  return null;
}

/** Lines as they come. */
export class Console {
  readonly #lines: string[] = [];
  #rest = "";
  #dropped = 0;

  take(text: string): void {
    const parts = (this.#rest + text).split(/\r?\n/);
    this.#rest = (parts.pop() ?? "").slice(0, MAX_LINE_CHARACTERS);
    for (const part of parts) this.#lines.push(part.replaceAll("\r", "").slice(0, MAX_LINE_CHARACTERS));
    const excess = this.#lines.length - MAX_LINES;
    if (excess <= 0) return;
    // The beginning tells what was booted, the end what became of it: the middle goes.
    this.#lines.splice(MAX_LINES / 2, excess);
    this.#dropped += excess;
  }

  /** Everything that was kept. */
  get lines(): readonly string[] {
    const all = this.#rest === "" ? [...this.#lines] : [...this.#lines, this.#rest];
    if (this.#dropped > 0) all.splice(MAX_LINES / 2, 0, `... ${this.#dropped} lines left out ...`);
    return all;
  }

  get crash(): Crash | null {
    return crashIn(this.lines);
  }

  /** What our init complained about, if it did. */
  get initComplaint(): string | null {
    return this.lines.filter((line) => line.startsWith("daxfault-init: ")).at(-1) ?? null;
  }

  /** The last line that says something. */
  get lastLine(): string | null {
    return this.lines.filter((line) => line.trim() !== "").at(-1) ?? null;
  }
}
