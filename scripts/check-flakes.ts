/**
 * Is the main job the same every time? Runs `daxfault run --engine kvm --engine process` N times and compares the outcomes
 * of every case with those of the first run: verdict, what each access and host step saw, the VMM's states, the guest
 * kernel, the bystanders. Times, rates and addresses differ and are left out. Exit 1 on any difference.
 * Beside each run stand its time and the most memory that its processes had at once.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const DEFAULT_RUNS = 20;
const RUNS_MAX = 1000;
/** Of one run: several times what it takes on a slow machine. */
const RUN_BOUND_MS = 15 * 60_000;
const SAMPLE_MS = 250;

type CaseLine = {
  readonly type: string;
  readonly scenario: string;
  readonly proposal: string;
  readonly engine: string;
  readonly verdict: { readonly kind: string };
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

/** By case, from the lines of `daxfault run --json`. */
export function outcomesOf(jsonLines: string): ReadonlyMap<string, string> {
  const outcomes = new Map<string, string>();
  for (const line of jsonLines.split("\n")) {
    if (line === "") continue;
    const record = JSON.parse(line) as CaseLine;
    if (record.type !== "case") continue;
    outcomes.set(`${record.scenario} x ${record.proposal} (${record.engine})`, outcomeOf(record));
  }
  return outcomes;
}

/** What a run has otherwise than the first one, as lines of a diff. */
export function differences(
  first: ReadonlyMap<string, string>,
  other: ReadonlyMap<string, string>,
): readonly string[] {
  return [...new Set([...first.keys(), ...other.keys()])].flatMap((name) => {
    const [before, after] = [first.get(name) ?? "not run", other.get(name) ?? "not run"];
    return before === after ? [] : [`  ${name}`, `    - ${before}`, `    + ${after}`];
  });
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

/** The engines of which two runs may differ: those that are no model. */
function realEngines(): readonly string[] {
  const lines = execFileSync(process.execPath, [daxfault, "list", "engines", "--json", "-"], {
    encoding: "utf8",
  });
  return lines
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { readonly id: string; readonly real: boolean })
    .flatMap(({ id, real }) => (real ? [id] : []));
}

async function runOnce(file: string): Promise<Run> {
  const args = [daxfault, "run", "--engine", ...realEngines(), "--json", file];
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

async function main(args: readonly string[]): Promise<number> {
  const runs = Number(args[0] ?? DEFAULT_RUNS);
  if (args.length > 1 || !Number.isInteger(runs) || runs < 2 || runs > RUNS_MAX) {
    console.error(`usage: scripts/check-flakes [N], N from 2 to ${RUNS_MAX}`);
    return 64;
  }
  const directory = mkdtempSync(join(tmpdir(), "daxfault-flakes-"));
  try {
    const one = await runOnce(join(directory, "1.jsonl"));
    const first = outcomesOf(one.jsonLines);
    console.log(`run 1: ${first.size} cases (${costText(one)})`);
    let different = 0;
    for (let run = 2; run <= runs; run++) {
      const other = await runOnce(join(directory, `${run}.jsonl`));
      const found = differences(first, outcomesOf(other.jsonLines));
      console.log(`run ${run}: ${found.length / 3} differ from run 1 (${costText(other)})`);
      for (const line of found) console.log(line);
      different += found.length / 3;
    }
    console.log(`${runs} runs of ${first.size} cases: ${different} differences`);
    return different > 0 || first.size === 0 ? 1 : 0;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main(process.argv.slice(2));
