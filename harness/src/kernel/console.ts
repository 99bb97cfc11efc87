/**
 * The console of a kernel under test: kept, with a bound, and searched for the messages of a dying kernel. Pure.
 */

/** The kernel's health, from its console. */
export type Crash = {
  readonly kind: "panic" | "oops" | "halted" | "reset";
  /** The line that shows it, without its time; for a reset, which leaves none, its description. */
  readonly text: string;
};

const MAX_LINES = 4000;
const MAX_LINE_CHARACTERS = 500;

const oopsPattern: RegExp =
  /(?:BUG: (?:unable to handle|kernel NULL pointer|soft lockup|KASAN|scheduling while atomic).*|kernel BUG at .*|Oops: .*|general protection fault, .*|invalid opcode: .*|Unable to handle kernel .*|watchdog: BUG: soft lockup.*)/;
/** `RIP: 0010:kvm_arch_async_page_ready+0x4e/0x160` of an oops's registers. */
const codePlace = /^RIP: [0-9a-f]+:(\S+)/;

/** In the order of gravity: a panic that an oops led to is a panic. */
const signs: readonly { readonly kind: Exclude<Crash["kind"], "reset">; readonly pattern: RegExp }[] = [
  { kind: "panic", pattern: /Kernel panic - not syncing: .*/ },
  {
    kind: "oops",
    pattern: oopsPattern,
  },
  {
    kind: "halted",
    pattern:
      /(?:.*compressed data is corrupt.*|invalid compressed format.*|No setup signature found.*|-- System halted)/,
  },
];

const time = /^(?:<[0-9]+>)?\[\s*[0-9]+\.[0-9]+\](?:\[\s*[TC][0-9]+\])?\s*/;

function firstMatch(lines: readonly string[], pattern: RegExp): string | null {
  for (const line of lines) {
    const match = pattern.exec(line.replace(time, ""));
    if (match !== null) return (match[1] ?? match[0]).trim();
  }
  return null;
}

/**
 * The gravest message of the lines; of equally grave ones the first, and where it was in the kernel's code. A panic's
 * own message often does not show its cause: the oops before it does. null if all is well.
 */
export function crashIn(lines: readonly string[]): Crash | null {
  for (const { kind, pattern } of signs) {
    const text = firstMatch(lines, pattern);
    if (text === null) continue;
    const place = firstMatch(lines, codePlace);
    const oops = kind === "panic" ? firstMatch(lines, oopsPattern) : null;
    const particulars = [oops, place === null ? null : `at ${place}`].filter((one) => one !== null);
    return { kind, text: particulars.length === 0 ? text : `${text} (${particulars.join(", ")})` };
  }
  return null;
}

/** ENODEV: no such file system. */
const noRoot = /^daxfault-init: mount \S+ \S+ 9p .*errno 19$/;
const NO_ROOT_HINT =
  "this kernel has no 9p file system: NET_9P_VIRTIO and 9P_FS are neither built in nor among its modules; --modules DIR names them";

/** The line with which a first process of ours, in a VM of QEMU's or as the guest of our VMM, has given up; null: it has not. */
export function complaintIn(lines: readonly string[]): string | null {
  return lines.findLast((line) => line.startsWith("daxfault-init: ")) ?? null;
}

/** Lines as they come. */
export class Console {
  readonly #lines: string[] = [];
  #rest = "";
  #dropped = 0;

  feed(text: string): void {
    const parts = (this.#rest + text).split(/\r?\n/);
    this.#rest = (parts.pop() ?? "").slice(0, MAX_LINE_CHARACTERS);
    for (const part of parts) this.#lines.push(part.replaceAll("\r", "").slice(0, MAX_LINE_CHARACTERS));
    const excess = this.#lines.length - MAX_LINES;
    if (excess <= 0) return;
    // The beginning shows what was booted, the end how it ended: the middle is dropped.
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

  /** It stopped before it could panic, which resets a machine: nothing more will come. */
  get isHalted(): boolean {
    return [...this.#lines.slice(-2), this.#rest].some((line) => line.includes("-- System halted"));
  }

  /** Why our init gave up, if it did, and the meaning where it is known. */
  get initComplaint(): string | null {
    const line = complaintIn(this.lines);
    return line !== null && noRoot.test(line) ? `${line} (${NO_ROOT_HINT})` : line;
  }

  /** The last line that is not empty. */
  get lastLine(): string | null {
    return this.lines.filter((line) => line.trim() !== "").at(-1) ?? null;
  }
}
