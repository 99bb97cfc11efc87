/**
 * Does it end well? Interrupts every command at random moments, kills and stops their children, closes their standard
 * input and output, gives them surroundings that lack something, part by part; each finding comes with the command that does it again. Exit 1 if there is one.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { children } from "./ends/children.ts";
import type { Finding, PartOptions, PartResult } from "./ends/finding.ts";
import { kills } from "./ends/kills.ts";
import { stdio } from "./ends/stdio.ts";
import { checkSurroundings, trialCount } from "./ends/surroundings.ts";

const DEFAULT_KILLS = 400;
const KILLS_MAX = 100_000;

/** Every surrounding with every command, or those that tell most where fewer kills than by default are asked for. */
async function surroundings({ kills, log }: PartOptions): Promise<PartResult> {
  const isShort = kills < DEFAULT_KILLS;
  const findings = await checkSurroundings({ isShort, pattern: null, log });
  return { findings, summary: `${trialCount(isShort, null)} trials` };
}

/** By name, in their order. */
const parts: Readonly<Record<string, (options: PartOptions) => Promise<PartResult>>> = {
  kills,
  children,
  stdio,
  surroundings,
};

const usage = `usage: scripts/check-ends [KILLS] [--seed N] [--only INDEX] [PART...]
  KILLS: ${DEFAULT_KILLS} if left out; PART: ${Object.keys(parts).join(", ")}; all if none is given`;

type Asked = Omit<PartOptions, "log"> & { readonly names: readonly string[] };

const isNumber = (text: string): boolean => /^\d{1,9}$/.test(text);

/** null: the arguments are wrong. */
export function parseAsked(args: readonly string[], randomSeed: number): Asked | null {
  const options = { seed: { type: "string" }, only: { type: "string" } } as const;
  let parsed: ReturnType<typeof parseArgs<{ options: typeof options; allowPositionals: true }>>;
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true });
  } catch {
    return null;
  }
  const { values, positionals } = parsed;
  const [first = ""] = positionals;
  const names = isNumber(first) ? positionals.slice(1) : positionals;
  const kills = isNumber(first) ? Number(first) : DEFAULT_KILLS;
  const { seed = String(randomSeed), only } = values;
  if (kills < 1 || kills > KILLS_MAX || !isNumber(seed) || (only !== undefined && !isNumber(only)))
    return null;
  if (names.some((name) => !Object.hasOwn(parts, name)) || (only !== undefined && names.length !== 1))
    return null;
  return {
    kills,
    seed: Number(seed),
    only: only === undefined ? null : Number(only),
    names: names.length === 0 ? Object.keys(parts) : names,
  };
}

async function main(args: readonly string[]): Promise<number> {
  const asked = parseAsked(args, Math.floor(Math.random() * 1e9));
  if (asked === null) {
    console.error(usage);
    return 64;
  }
  const { names, ...options } = asked;
  console.log(`check-ends: --seed ${options.seed}`);
  const findings: Finding[] = [];
  for (const name of names) {
    const startMs = performance.now();
    const part = await parts[name]?.({ ...options, log: (line) => console.log(line) });
    if (part === undefined) continue;
    const seconds = Math.round((performance.now() - startMs) / 1000);
    console.log(`${name}: ${part.summary}; ${part.findings.length} findings, ${seconds} s`);
    findings.push(...part.findings);
  }
  for (const { what, command } of findings) console.log(`\n${what}\n  again: ${command}`);
  return findings.length > 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main(process.argv.slice(2));
