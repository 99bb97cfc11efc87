/**
 * Is the main job the same every time? Runs `daxfault run --engine kvm --engine process` N times and compares the outcomes
 * of every case with those of the first run: verdict, what each access and host step saw, the VMM's states, the guest
 * kernel, the bystanders. Times, rates and addresses differ and are left out. Exit 1 on any difference.
 * Beside each run stand its time and the most memory that its processes had at once.
 *
 * With `--busy K` beside K processes that never sleep (`daxfault run --busy`), whose memory counts. A verdict may then become inconclusive, if it says why; more than
 * one in a thousand of them, or any other difference, and the exit code is 1.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const DEFAULT_RUNS = 20;
const RUNS_MAX = 1000;
const BUSY_MAX = 64;
/** Of so many verdicts one may be inconclusive beside busy processes. */
const VERDICTS_PER_INCONCLUSIVE = 1000;
/** Of one run: several times what it takes on a slow machine. */
const RUN_BOUND_MS = 15 * 60_000;
const SAMPLE_MS = 250;

type CaseLine = {
  readonly type: string;
  readonly scenario: string;
  readonly proposal: string;
  readonly engine: string;
  readonly verdict: { readonly kind: string; readonly reason?: string };
  readonly expectation?: { readonly outcome: { readonly accesses: Readonly<Record<string, string>> } } | null;
  readonly observations: {
    readonly accesses: unknown;
    readonly host: Readonly<Record<string, Readonly<Record<string, string>>>>;
    readonly vmm: readonly { readonly state: string }[] | null;
    readonly guestKernel: string | null;
    readonly bystanders: unknown;
  } | null;
};

/** `delayed(1203.4)` is `delayed`: how long is not the outcome. */
function withoutFigures(host: NonNullable<CaseLine["observations"]>["host"]): unknown {
  return JSON.parse(JSON.stringify(host), (_key, value: unknown) =>
    typeof value === "string" ? value.replace(/^delayed\(.*\)$/, "delayed") : value,
  );
}

/** Two vCPUs race for the page: which of the two is in time is expected to differ, and the rule says so (`killed|not-reached`). */
function isExpectedToDiffer({ verdict, expectation }: CaseLine): boolean {
  const words = Object.values(expectation?.outcome.accesses ?? {});
  return verdict.kind === "pass" && words.some((word) => word.includes("|"));
}

function outcomeOf(line: CaseLine): string {
  const { verdict, observations } = line;
  if (observations === null || isExpectedToDiffer(line)) return JSON.stringify({ verdict: verdict.kind });
  const { accesses, host, vmm, guestKernel, bystanders } = observations;
  return JSON.stringify({
    verdict: verdict.kind,
    accesses,
    host: withoutFigures(host),
    vmm: vmm?.map(({ state }) => state) ?? null,
    guestKernel,
    bystanders,
  });
}

/** The outcome of a case in one run. */
export type Seen = {
  readonly text: string;
  readonly verdict: string;
  readonly reason: string;
};

/** By case, from the lines of `daxfault run --json`. */
export function outcomesOf(jsonLines: string): ReadonlyMap<string, Seen> {
  const outcomes = new Map<string, Seen>();
  for (const line of jsonLines.split("\n")) {
    if (line === "") continue;
    const record = JSON.parse(line) as CaseLine;
    if (record.type !== "case") continue;
    const { kind, reason = "" } = record.verdict;
    const seen = { text: outcomeOf(record), verdict: kind, reason };
    outcomes.set(`${record.scenario} x ${record.proposal} (${record.engine})`, seen);
  }
  return outcomes;
}

const isInconclusive = (seen: Seen | undefined): boolean => seen?.verdict === "inconclusive";

/** What several runs had otherwise than the first, which need not be a proof itself. */
export class Comparison {
  readonly #isBusy: boolean;
  /** By case: the first outcome that is none of a busy machine. */
  readonly #known = new Map<string, Seen>();
  /** By case: so many runs before `#known` were inconclusive, alike. */
  readonly #before = new Map<string, number>();
  #runs = 0;
  /** Verdicts that differ. */
  differences = 0;
  /** Verdicts that are inconclusive where another run has proof. */
  inconclusive = 0;
  verdicts = 0;

  /** @param isBusy beside busy processes: a verdict may be inconclusive, and is counted */
  constructor(isBusy: boolean) {
    this.#isBusy = isBusy;
  }

  get cases(): number {
    return this.#known.size;
  }

  /** Takes a run; returns what it has otherwise, as lines of a diff. */
  add(run: ReadonlyMap<string, Seen>): readonly string[] {
    const names = this.#runs === 0 ? run.keys() : new Set([...this.#known.keys(), ...run.keys()]);
    const lines = [...names].flatMap((name) => this.#addCase(name, run.get(name)));
    this.#runs += 1;
    return lines;
  }

  #addCase(name: string, now: Seen | undefined): readonly string[] {
    if (now !== undefined && now.verdict !== "skip") this.verdicts += 1;
    const known = this.#known.get(name);
    if (known === undefined && this.#runs === 0 && now !== undefined) {
      this.#known.set(name, now);
      if (isInconclusive(now)) this.#before.set(name, 1);
      return [];
    }
    if (known?.text === now?.text) {
      if (isInconclusive(now)) this.#before.set(name, (this.#before.get(name) ?? 0) + 1);
      return [];
    }
    const isExcused = this.#isBusy && known !== undefined && now !== undefined;
    if (isExcused && isInconclusive(now)) {
      this.inconclusive += 1;
      return [`  ${name}`, `    ? ${now.reason}`];
    }
    if (isExcused && isInconclusive(known)) {
      this.#known.set(name, now);
      this.inconclusive += this.#before.get(name) ?? 1;
      return [`  ${name}`, `    ? ${known.reason} (an earlier run)`];
    }
    this.differences += 1;
    return [`  ${name}`, `    - ${known?.text ?? "not run"}`, `    + ${now?.text ?? "not run"}`];
  }

  /** Nothing ran, something differs, or too much is inconclusive. */
  get isBad(): boolean {
    const isTooMany = this.inconclusive * VERDICTS_PER_INCONCLUSIVE > this.verdicts;
    return this.verdicts === 0 || this.differences > 0 || isTooMany;
  }
}

/** `/proc/PID/stat` up to the parent's id; the name in brackets may hold anything. */
function parentOf(pid: string): string | null {
  try {
    return /^\d+ \(.*\) \S (\d+) /s.exec(readFileSync(`/proc/${pid}/stat`, "latin1"))?.[1] ?? null;
  } catch {
    return null;
  }
}

/** Memory of a process and its descendants in bytes, pages that several share counted once (PSS). */
function memoryBytes(root: number): number {
  const parents = new Map<string, string | null>();
  for (const pid of readdirSync("/proc")) if (/^\d+$/.test(pid)) parents.set(pid, parentOf(pid));
  const belongs = (pid: string | null | undefined): boolean => {
    for (let one = pid, depth = 0; one != null && depth < 64; one = parents.get(one), depth++) {
      if (one === String(root)) return true;
    }
    return false;
  };
  let kib = 0;
  for (const pid of parents.keys()) {
    if (!belongs(pid)) continue;
    try {
      kib += Number(/^Pss: +(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"))?.[1] ?? 0);
    } catch {
      // Gone since, or without memory of its own by now.
    }
  }
  return kib * 1024;
}

type Run = { readonly jsonLines: string; readonly seconds: number; readonly peakBytes: number };

const daxfault = fileURLToPath(new URL("../harness/src/cli/main.js", import.meta.url));

/** The engines of which two runs may differ: those that are no model. Without QEMU, of which each case boots one. */
function realEngines(): readonly string[] {
  const lines = execFileSync(process.execPath, [daxfault, "list", "engines", "--json", "-"], {
    encoding: "utf8",
  });
  return lines
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { readonly id: string; readonly real: boolean })
    .flatMap(({ id, real }) => (real && !id.startsWith("linux-qemu") ? [id] : []));
}

async function runOnce(file: string, busy: number): Promise<Run> {
  const args = [daxfault, "run", "--engine", ...realEngines(), "--busy", String(busy), "--json", file];
  const startMs = performance.now();
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "ignore", "inherit"],
    timeout: RUN_BOUND_MS,
  });
  let peakBytes = 0;
  const sampling = setInterval(() => {
    peakBytes = Math.max(peakBytes, memoryBytes(child.pid ?? 0));
  }, SAMPLE_MS);
  const status = await new Promise<number | string | null>((resolve) => {
    child.on("close", (code, signal) => resolve(code ?? signal));
    child.on("error", (error) => resolve(error.message));
  });
  clearInterval(sampling);
  // 1 and 2 are results, to be compared; from usage errors on there is nothing to compare.
  if (typeof status !== "number" || status > 2) throw new Error(`daxfault run ended with ${status}`);
  return {
    jsonLines: readFileSync(file, "utf8"),
    seconds: (performance.now() - startMs) / 1000,
    peakBytes,
  };
}

const costText = ({ seconds, peakBytes }: Run): string =>
  `${seconds.toFixed(1)} s, at most ${Math.round(peakBytes / 1e6)} MB`;

type Options = { readonly runs: number; readonly busy: number };

/** null: not understood. */
export function optionsOf(args: readonly string[]): Options | null {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { busy: { type: "string" } },
    });
    const [runs, busy] = [Number(positionals[0] ?? DEFAULT_RUNS), Number(values.busy ?? 0)];
    const isRange = (value: number, least: number, most: number): boolean =>
      Number.isInteger(value) && value >= least && value <= most;
    const isKnown = positionals.length <= 1 && isRange(runs, 2, RUNS_MAX) && isRange(busy, 0, BUSY_MAX);
    return isKnown ? { runs, busy } : null;
  } catch {
    return null;
  }
}

async function compareRuns({ runs, busy }: Options, comparison: Comparison): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "daxfault-flakes-"));
  try {
    for (let run = 1; run <= runs; run++) {
      const before = comparison.differences + comparison.inconclusive;
      const one = await runOnce(join(directory, `${run}.jsonl`), busy);
      const lines = comparison.add(outcomesOf(one.jsonLines));
      const differing = comparison.differences + comparison.inconclusive - before;
      const what = run === 1 ? `${comparison.cases} cases` : `${differing} differ from run 1`;
      console.log(`run ${run}: ${what} (${costText(one)})`);
      for (const line of lines) console.log(line);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function main(args: readonly string[]): Promise<number> {
  const options = optionsOf(args);
  if (options === null) {
    console.error(
      `usage: scripts/check-flakes [N] [--busy K], N from 2 to ${RUNS_MAX}, K from 0 to ${BUSY_MAX}`,
    );
    return 64;
  }
  const { runs, busy } = options;
  const comparison = new Comparison(busy > 0);
  await compareRuns(options, comparison);
  const { cases, differences, inconclusive, verdicts } = comparison;
  const beside = busy === 0 ? "" : ` beside ${busy} busy processes`;
  const share = busy === 0 ? "" : `, ${inconclusive} of ${verdicts} verdicts inconclusive`;
  console.log(`${runs} runs of ${cases} cases${beside}: ${differences} differences${share}`);
  return comparison.isBad ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main(process.argv.slice(2));
