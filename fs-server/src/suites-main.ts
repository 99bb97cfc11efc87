/**
 * `suites-main [--transport T]... [--folder DIR] [--pjdfstest CHECKOUT] [--suite NAME]...`: runs every outside suite in
 * a folder and on mounts of folders beside it, and prints the differences.
 * Exit codes: 0 none that are not known; 1 some, or a known one that has gone; 2 nothing could be compared, or
 * it was stopped; 64 usage.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { type Transport, transports } from "../../language/src/words.ts";
import { compiledEntry, mountOf } from "../../sys/src/index.ts";
import { detach } from "./serve/mount-point.ts";
import { type Comparison, compare, type Erratum, unmatched } from "./suites/compare.ts";
import { lackOf, runSuite, type Suite, suites } from "./suites/suites.ts";

const ERRATA = new URL("../../../fixtures/fs-errata.json", import.meta.url);

type Mounted = { readonly folder: string; stop(): Promise<void> };

/** A mount of `base`/T-source, or why there is none. */
async function mounted(base: string, transport: Transport): Promise<Mounted | string> {
  const [source, folder] = [join(base, `${transport}-source`), join(base, `${transport}-mount`)];
  mkdirSync(source);
  mkdirSync(folder);
  const main = compiledEntry(import.meta.url, "./serve-main.ts").pathname;
  const args = ["--source", source, "--mountpoint", folder, "--transport", transport];
  const child = spawn(process.execPath, [main, ...args, "--parent-pid", String(process.pid)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (data: Buffer) => {
    said = (said + data.toString()).slice(-2000);
  });
  const ended = new Promise<null>((done) => child.on("close", () => done(null)));
  const line = new Promise<string>((done) => createInterface({ input: child.stdout }).once("line", done));
  if ((await Promise.race([line, ended])) === null) return said.trim();
  const stop = async (): Promise<void> => {
    detach(folder);
    child.kill("SIGTERM");
    await ended;
  };
  return { folder, stop };
}

function printed(comparison: Comparison): void {
  const { suite, transport, underneath, known, differences } = comparison;
  const counts = `${differences.length} differences, ${known.length} known, ${underneath.length} underneath, too`;
  console.log(`${transport.padEnd(8)} ${suite}: ${counts}`);
  for (const difference of differences) console.log(`  DIFFERENT ${difference}`);
  for (const id of new Set(known.map(({ erratum }) => erratum))) {
    console.log(`  known: ${id}, ${known.filter(({ erratum }) => erratum === id).length} times`);
  }
}

type Job = {
  readonly base: string;
  readonly wanted: readonly Transport[];
  readonly chosen: readonly Suite[];
  readonly errata: readonly Erratum[];
  readonly signal: AbortSignal;
};

async function compareAll({ base, wanted, chosen, errata, signal }: Job): Promise<readonly Comparison[]> {
  const plain = join(base, "folder");
  mkdirSync(plain);
  const servers = new Map<Transport, Mounted>();
  const comparisons: Comparison[] = [];
  try {
    for (const transport of wanted) {
      const server = await mounted(base, transport);
      if (typeof server === "string") console.log(`${transport} skipped: ${server}`);
      else servers.set(transport, server);
    }
    for (const suite of chosen) {
      const lacking = lackOf(suite);
      if (lacking.length > 0) {
        console.log(`${suite.name} skipped: not installed: ${lacking.join(", ")}`);
        continue;
      }
      const run = async (where: string, folder: string): Promise<readonly string[]> => {
        const beside = join(base, `${where}-beside`);
        mkdirSync(beside, { recursive: true });
        return await runSuite(suite, { folder, beside, effort: "whole", signal });
      };
      const underneath = await run("folder", plain);
      for (const [transport, { folder }] of servers) {
        const complaints = await run(transport, folder);
        const comparison = compare({ suite: suite.name, transport }, underneath, complaints, errata);
        printed(comparison);
        comparisons.push(comparison);
      }
    }
  } finally {
    for (const server of servers.values()) await server.stop();
  }
  return comparisons;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      transport: { type: "string", multiple: true },
      suite: { type: "string", multiple: true },
      folder: { type: "string", default: tmpdir() },
      pjdfstest: { type: "string" },
    },
  });
  const wanted = transports.filter((name) => values.transport?.includes(name) ?? true);
  const all = suites(values.pjdfstest ?? null);
  const chosen = all.filter(({ name }) => values.suite?.includes(name) ?? true);
  if (wanted.length === 0 || chosen.length === 0) {
    console.error(`transports: ${transports.join(", ")}; suites: ${all.map(({ name }) => name).join(", ")}`);
    return 64;
  }
  const { errata } = JSON.parse(readFileSync(ERRATA, "utf8")) as { errata: readonly Erratum[] };
  const abort = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => abort.abort());
  const base = mkdtempSync(join(values.folder, "daxfault-suites-"));
  console.log(`sources on ${mountOf(base)?.type ?? "unknown"}`);
  try {
    const comparisons = await compareAll({ base, wanted, chosen, errata, signal: abort.signal });
    const gone = unmatched(comparisons, errata);
    for (const id of gone) console.log(`NO LONGER SEEN: ${id}; take it out of fixtures/fs-errata.json`);
    if (comparisons.length === 0) return 2;
    return gone.length > 0 || comparisons.some(({ differences }) => differences.length > 0) ? 1 : 0;
  } catch (error) {
    if (!abort.signal.aborted) throw error;
    console.log("stopped; nothing was left mounted");
    return 2;
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

process.exitCode = await main();
