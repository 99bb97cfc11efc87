/**
 * Fuzzes everything that the program reads: scenarios, proposals, expectations, data of the package, records, tracepoints,
 * guards' measurements, bundles, options of servers, kernels and modules, tokens, command lines. Begins from the files of
 * the repository and changes them by their grammar; most inputs go through the program's entry in a worker process, a
 * sample and all that runs a case through processes of their own.
 *
 * Held against every input: exit 0, 1, 2, 3 or 64; no stack; no 5 s of CPU time; nothing written but named outputs, and
 * nothing where it was refused; every output keeps what `fuzz/outputs.ts` says of its format. The same seed makes the same
 * inputs. What breaks a promise is made smaller and kept, with the command that shows it.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { FuzzInput, FuzzResult } from "./fuzz/input.ts";
import { kindNames } from "./fuzz/kinds.ts";
import { collectSeeds } from "./fuzz/seeds.ts";
import { shrink, signatureOf } from "./fuzz/shrink.ts";
import { type Finding, Worker } from "./fuzz/worker.ts";

const DEFAULT_INPUTS = 100_000;
const INPUTS_MAX = 100_000_000;
const FINDINGS_MAX = 25;
const PROGRESS_INPUTS = 5000;
const WORKERS_MAX = 2;
/** That a worker is asked for at once. */
const RANGE_INPUTS = 500;
const USAGE = `usage: scripts/fuzz-inputs [INPUTS] [--seed N] [--kind KIND] [--index I] [--keep DIR]
  INPUTS  default ${DEFAULT_INPUTS}
  --seed  default: from the clock; printed
  --kind  only inputs of this kind: ${kindNames.join(", ")}
  --index only this one input
  --keep  where inputs that break a promise are kept; default: a folder of the temporary one`;

type Options = {
  readonly inputs: number;
  readonly seed: number;
  readonly kind: string | null;
  readonly index: number | null;
  readonly keep: string | null;
};

function parseOptions(args: readonly string[]): Options | string {
  const number = (text: string, most: number): number =>
    /^\d{1,10}$/.test(text) && Number(text) <= most ? Number(text) : NaN;
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        seed: { type: "string" },
        kind: { type: "string" },
        index: { type: "string" },
        keep: { type: "string" },
      },
    });
    const inputs = number(positionals[0] ?? String(DEFAULT_INPUTS), INPUTS_MAX);
    const seed = number(values.seed ?? String(Date.now() % 2 ** 31), 2 ** 32 - 1);
    const index = values.index === undefined ? null : number(values.index, INPUTS_MAX);
    const kind = values.kind ?? null;
    if (positionals.length > 1 || [inputs, seed, index].includes(NaN) || inputs < 1) return USAGE;
    if (kind !== null && !kindNames.includes(kind)) return USAGE;
    return { inputs, seed, kind, index, keep: values.keep ?? null };
  } catch (error) {
    return `${(error as Error).message}\n${USAGE}`;
  }
}

/** Thousands of small files: in memory, where there is such a place. */
function folderForInputs(): string {
  try {
    return mkdtempSync("/dev/shm/daxfault-fuzz-");
  } catch {
    return mkdtempSync(join(tmpdir(), "daxfault-fuzz-"));
  }
}

/** How many inputs of each kind ended with each code. */
class Figures {
  readonly #codes = new Map<string, Map<string, number>>();
  total = 0;

  add({ kind, code }: FuzzResult): void {
    const codes = this.#codes.get(kind) ?? new Map<string, number>();
    this.#codes.set(kind, codes);
    const name = String(code ?? "none");
    codes.set(name, (codes.get(name) ?? 0) + 1);
    this.total += 1;
  }

  lines(): readonly string[] {
    const names = [...new Set([...this.#codes.values()].flatMap((codes) => [...codes.keys()]))].sort(
      (a, b) => Number(a) - Number(b),
    );
    const row = (cells: readonly string[]): string =>
      cells.map((cell, at) => (at === 0 ? cell.padEnd(16) : cell.padStart(8))).join("");
    return [
      row(["kind", "inputs", ...names.map((name) => `exit ${name}`)]),
      ...[...this.#codes].sort().map(([kind, codes]) => {
        const sum = [...codes.values()].reduce((total, count) => total + count, 0);
        return row([kind, String(sum), ...names.map((name) => String(codes.get(name) ?? 0))]);
      }),
    ];
  }
}

function quoted(word: string): string {
  return /^[\w./=@:,-]+$/.test(word) ? word : `$'${[...word].map((sign) => escaped(sign)).join("")}'`;
}

function escaped(sign: string): string {
  const code = sign.codePointAt(0) ?? 0;
  if (sign === "'" || sign === "\\") return `\\${sign}`;
  if (code >= 0x20 && code < 0x7f) return sign;
  return [...Buffer.from(sign)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
}

/** Puts the input's files into a folder and says what is to be called there. */
function keep(folder: string, { entries, call }: FuzzInput): string {
  for (const entry of entries) {
    const path = join(folder, entry.path);
    mkdirSync(dirname(path), { recursive: true });
    if (entry.kind === "file") writeFileSync(path, Buffer.from(entry.base64, "base64"));
    else writeFileSync(`${path}.${entry.kind}`, entry.kind === "link" ? entry.to : "");
  }
  const program = call.kind === "command" ? "daxfault" : `(reader ${call.reader})`;
  return `cd ${quoted(folder)} && ${[program, ...call.argv.map(quoted)].join(" ")}`;
}

class Findings {
  readonly #folder: string;
  readonly #worker: Worker;
  readonly #counts = new Map<string, number>();

  constructor(folder: string, worker: Worker) {
    this.#folder = folder;
    this.#worker = worker;
  }

  get kinds(): number {
    return this.#counts.size;
  }

  async add(index: number, { input, result }: Finding): Promise<void> {
    const [problem = ""] = result.problems;
    const isSlow = problem.startsWith("hangs");
    // CPU time on a machine that is not ours alone: only what is slow twice is slow.
    if (isSlow) {
      const again = await this.#worker.carryOut(input);
      if (!again.problems.some((one) => one.startsWith("hangs"))) return;
    }
    const signature = signatureOf(problem);
    const earlier = this.#counts.get(signature) ?? 0;
    this.#counts.set(signature, earlier + 1);
    if (earlier > 0) return;
    const breaks = async (smaller: FuzzInput): Promise<boolean> => {
      const { problems } = await this.#worker.carryOut(smaller);
      return problems.some((one) => signatureOf(one) === signature);
    };
    const smaller = isSlow || input.isProcess ? input : await shrink(input, breaks);
    const folder = join(this.#folder, String(index));
    mkdirSync(folder, { recursive: true });
    const command = keep(folder, smaller);
    writeFileSync(join(folder, "input.json"), JSON.stringify(smaller, null, 2));
    console.log(`FAILED input ${index} (${result.kind}): ${result.problems.join("\n  ")}\n  ${command}`);
  }

  lines(): readonly string[] {
    return [...this.#counts].map(([signature, count]) => `  ${count} x ${signature}`);
  }
}

async function fuzz(options: Options, root: string): Promise<number> {
  const { inputs, seed, kind, index } = options;
  const daxfault = fileURLToPath(new URL("../harness/src/cli/main.js", import.meta.url));
  const seedsPath = join(root, "seeds.json");
  const repository = fileURLToPath(new URL("../..", import.meta.url));
  writeFileSync(seedsPath, JSON.stringify(collectSeeds(repository, join(root, "seeds"), daxfault)));
  const common = { seedsPath, seed, only: kind };
  const workers = Array.from(
    { length: index === null ? Math.min(WORKERS_MAX, availableParallelism()) : 1 },
    (_, number) => new Worker({ ...common, root: join(root, `worker-${number}`) }),
  );
  const shrinker = new Worker({ ...common, root: join(root, "shrinker") });
  const findings = new Findings(options.keep ?? join(root, "found"), shrinker);
  const figures = new Figures();
  const beganMs = performance.now();
  let next = index ?? 0;
  const end = index === null ? inputs : index + 1;
  await Promise.all(
    workers.map(async (worker) => {
      while (next < end && findings.kinds < FINDINGS_MAX) {
        const from = next;
        next = Math.min(end, from + RANGE_INPUTS);
        const found: (Finding & { readonly index: number })[] = [];
        await worker.range(from, next, ({ index: at, input, result }) => {
          figures.add(result);
          if (figures.total % PROGRESS_INPUTS === 0) {
            console.log(`${figures.total} inputs in ${((performance.now() - beganMs) / 1000).toFixed(0)} s`);
          }
          if (input !== null) found.push({ index: at, input, result });
        });
        for (const { index: at, ...finding } of found) await findings.add(at, finding);
      }
      worker.end();
    }),
  );
  shrinker.end();
  const seconds = (performance.now() - beganMs) / 1000;
  for (const line of [...figures.lines(), ...findings.lines()]) console.log(line);
  console.log(
    `${figures.total} inputs in ${seconds.toFixed(0)} s, ${Math.round(figures.total / seconds)} a second; ${findings.kinds} kinds of failures`,
  );
  return findings.kinds;
}

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (typeof options === "string") {
    console.error(options);
    return 64;
  }
  console.log(`fuzz-inputs: ${options.index === null ? options.inputs : 1} inputs, seed ${options.seed}`);
  const root = folderForInputs();
  let found = 1;
  try {
    found = await fuzz(options, root);
  } finally {
    // What was found stays.
    if (found === 0 || options.keep !== null) rmSync(root, { recursive: true, force: true });
    else console.log(`kept in ${root}`);
  }
  return found === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main(process.argv.slice(2));
