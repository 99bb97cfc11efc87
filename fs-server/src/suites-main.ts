/**
 * `suites-main [--transport T]... [--folder DIR] [--pjdfstest CHECKOUT] [--suite NAME]... [--long]`: runs every outside
 * suite in a folder and on mounts of folders beside it, in each mode of `serve`, and prints the differences. Without
 * `--long`, --writeback and --passthrough get the suites that are about content, and those that take a minute are left out.
 * Exit codes: 0 none that are not known; 1 some, or a known one that has gone; 2 nothing could be compared, or
 * it was stopped; 64 usage.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { transports } from "../../language/src/words.ts";
import { fileSystemOf } from "../../sys/src/index.ts";
import { type Mounted, mounted } from "./stress/mounted.ts";
import { type Comparison, compare, type Erratum, unmatched } from "./suites/compare.ts";
import { type ModeRow, serveModes } from "./suites/modes.ts";
import { longRivals, rivals } from "./suites/rivals.ts";
import { lackOf, runSuite, type Suite } from "./suites/suite.ts";
import { suites } from "./suites/suites.ts";

/** Complaints about the folder itself that are printed, of each suite: many mean that the suite does not run here. */
const SHOWN = 5;
const ERRATA = new URL("../../../fixtures/fs-errata.json", import.meta.url);

function printed(comparison: Comparison): void {
  const { suite, transport, underneath, known, differences } = comparison;
  const counts = `${differences.length} differences, ${known.length} known, ${underneath.length} underneath, too`;
  console.log(`${transport.padEnd(21)} ${suite}: ${counts}`);
  for (const difference of differences) console.log(`  DIFFERENT ${difference}`);
  for (const id of new Set(known.map(({ erratum }) => erratum))) {
    console.log(`  known: ${id}, ${known.filter(({ erratum }) => erratum === id).length} times`);
  }
}

type Job = {
  readonly base: string;
  readonly wanted: readonly ModeRow[];
  readonly chosen: readonly Suite[];
  readonly errata: readonly Erratum[];
  /** Every suite in every mode. */
  readonly isLong: boolean;
  readonly signal: AbortSignal;
};

async function compareAll(job: Job): Promise<readonly Comparison[]> {
  const { base, wanted, chosen, signal } = job;
  const plain = join(base, "folder");
  mkdirSync(plain);
  const servers = new Map<ModeRow, Mounted>();
  const comparisons: Comparison[] = [];
  try {
    for (const mode of wanted) {
      const server = await mounted(join(base, label(mode)), mode.args);
      if (typeof server === "string") console.log(`${mode.name} skipped: ${server}`);
      else servers.set(mode, server);
    }
    for (const suite of chosen) {
      const lacking = lackOf(suite);
      if (lacking !== null) {
        console.log(`${suite.name} skipped: ${lacking}`);
        continue;
      }
      const run = async (where: string, folder: string): Promise<readonly string[]> => {
        const beside = join(base, `${where}-beside`);
        mkdirSync(beside, { recursive: true });
        return await runSuite(suite, { folder, beside, effort: "whole", signal });
      };
      const begun = performance.now();
      const underneath = await run("folder", plain);
      for (const complaint of underneath.slice(0, SHOWN)) console.log(`  of the folder itself: ${complaint}`);
      for (const [mode, { folder }] of servers) {
        if (mode.suites === "content" && !suite.isAboutContent && !job.isLong) continue;
        if (mode.transport === suite.notOn) continue;
        const complaints = await run(label(mode), folder);
        const about = { suite: suite.name, transport: mode.name };
        const comparison = compare(about, underneath, complaints, job.errata);
        printed(comparison);
        comparisons.push(comparison);
      }
      console.log(`${suite.name}: ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    }
  } finally {
    for (const server of servers.values()) await server.stop();
  }
  return comparisons;
}

function label({ name }: ModeRow): string {
  return name.replaceAll(/\W+/g, "-");
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      transport: { type: "string", multiple: true },
      suite: { type: "string", multiple: true },
      folder: { type: "string", default: tmpdir() },
      pjdfstest: { type: "string" },
      long: { type: "boolean", default: false },
    },
  });
  const wanted = serveModes.filter(({ transport }) => values.transport?.includes(transport) ?? true);
  const all = [...suites(values.pjdfstest ?? null), rivals, longRivals];
  const chosen = all.filter(
    (suite) => values.suite?.includes(suite.name) ?? (values.long || suite !== longRivals),
  );
  if (wanted.length === 0 || chosen.length === 0) {
    console.error(`transports: ${transports.join(", ")}; suites: ${all.map(({ name }) => name).join(", ")}`);
    return 64;
  }
  const { errata } = JSON.parse(readFileSync(ERRATA, "utf8")) as { errata: readonly Erratum[] };
  const abort = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => abort.abort());
  const base = mkdtempSync(join(values.folder, "daxfault-suites-"));
  console.log(`sources on ${fileSystemOf(base)}`);
  try {
    const comparisons = await compareAll({
      base,
      wanted,
      chosen,
      errata,
      isLong: values.long,
      signal: abort.signal,
    });
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
