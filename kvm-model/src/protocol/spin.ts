/**
 * SPIN as the independent oracle and the peer of the explorer's speed: compiles fixtures/spin/apf.pml and reads what
 * `pan` prints. Needs Debian's `spin` and a C compiler; where they are missing it says so, and nothing is compared.
 */
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import type { SmallProtocol } from "./small.ts";

export type SpinRun = {
  readonly states: number;
  readonly transitions: number;
  readonly errors: number;
  /** pan's own "elapsed time", which it prints with two digits after the point. */
  readonly seconds: number;
  readonly statesPerSecond: number;
};

export type SpinResult =
  | { readonly kind: "ran"; readonly run: SpinRun }
  | { readonly kind: "missing"; readonly reason: string };

export type SpinQuestion =
  /** Distinct states and the assertion: no reduction, -O2. */
  | "safety"
  /** Do all fair runs finish? Acceptance cycles under weak fairness. */
  | "liveness";

export function spinAvailable(): { readonly yes: boolean; readonly reason: string } {
  for (const [tool, flag] of [
    ["spin", "-V"],
    ["gcc", "--version"],
  ] as const) {
    if (spawnSync(tool, [flag]).status !== 0)
      return { yes: false, reason: `${tool} is not installed (apt-get install ${tool})` };
  }
  return { yes: true, reason: "" };
}

function defines(p: SmallProtocol): string[] {
  const mutated = p.withoutStaleCheck === true ? 1 : 0;
  return [
    `NP=${p.pages}`,
    `NT=${p.tasks}`,
    `STEPS=${p.steps}`,
    `HOPS=${p.hops}`,
    `FIX=${p.fix}`,
    `MUT=${mutated}`,
  ].map((define) => `-D${define}`);
}

/** Bits of pan's hash table: large enough that SPIN is not slowed by its own collisions. */
const HASH_BITS = 24;

/** Where SPIN works: an empty folder that the caller removes, and what its programs have in their environment. */
export type SpinPlace = {
  readonly directory: string;
  readonly environment: Readonly<Record<string, string>>;
};

export function runSpin(
  promela: string,
  protocol: SmallProtocol,
  question: SpinQuestion,
  place: SpinPlace,
): SpinResult {
  const available = spinAvailable();
  if (!available.yes) return { kind: "missing", reason: available.reason };
  const live = question === "liveness";
  const source = resolve(promela);
  command(place, "spin", [...defines(protocol), ...(live ? ["-DLIVE"] : []), "-a", source]);
  const flags = live ? ["-DNFAIR=3"] : ["-DSAFETY", "-DNOREDUCE"];
  command(place, "gcc", ["-O2", ...flags, "-DMEMLIM=8000", "-w", "-o", "pan", "pan.c"]);
  const text = command(place, "./pan", [
    ...(live ? ["-a", "-f"] : ["-E"]),
    "-m2000000",
    `-w${live ? HASH_BITS - 2 : HASH_BITS}`,
  ]);
  return { kind: "ran", run: parsePan(text) };
}

function command({ directory, environment }: SpinPlace, name: string, args: readonly string[]): string {
  const env = { ...process.env, ...environment };
  const done = spawnSync(name, args, { cwd: directory, env, encoding: "utf8", maxBuffer: 2 ** 26 });
  if (done.status !== 0) {
    const how = done.signal ?? done.status;
    throw new Error(`${name} ${args.join(" ")} ended with ${how}: ${done.stderr}${done.stdout}`);
  }
  return done.stdout;
}

function parsePan(text: string): SpinRun {
  const number = (pattern: RegExp): number => {
    const found = pattern.exec(text)?.[1];
    if (found === undefined) throw new Error(`pan printed no ${pattern.source}:\n${text}`);
    return Number(found);
  };
  const states = number(/(\d+) states, stored/);
  const seconds = Number(/elapsed time ([\d.e+-]+) seconds/.exec(text)?.[1] ?? 0);
  return {
    states,
    transitions: number(/(\d+) transitions/),
    errors: number(/errors: (\d+)/),
    seconds,
    statesPerSecond: Number(/rate\s+([\d.e+]+) states\/second/.exec(text)?.[1] ?? 0),
  };
}
