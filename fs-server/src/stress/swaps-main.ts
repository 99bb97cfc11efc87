/**
 * `swaps-main [--seconds N] [--seed N] [--folder DIR]`: tries for N seconds, 600 by default, shared out among the variants,
 * to reach a file outside of the source (swaps.ts). Exit codes: 0 none was reached, 1 one was, 2 skipped, 64 usage.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { lackOf, swaps, swapsVariants } from "./swaps.ts";

/** nobody */
const OTHER_USER = 65_534;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "600" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      folder: { type: "string", default: tmpdir() },
    },
  });
  const [seconds, seed] = [Number(values.seconds), Number(values.seed)];
  if (!(seconds > 0) || !Number.isInteger(seed)) {
    console.error("usage: swaps-main [--seconds N] [--seed N] [--folder DIR]");
    return 64;
  }
  if (process.geteuid?.() !== 0) {
    console.log("skipped: acting as another user takes root");
    return 2;
  }
  console.log(`seed ${seed}, ${seconds} s`);
  let isBreached = false;
  const usable = swapsVariants.filter((variant) => lackOf(variant) === null);
  for (const variant of swapsVariants) {
    const lack = lackOf(variant);
    if (lack !== null) {
      console.log(`${variant.name} skipped: ${lack}`);
      continue;
    }
    const base = mkdtempSync(join(values.folder, "daxfault-swaps-"));
    try {
      const share = seconds / usable.length;
      const { counts, breaches, ...rest } = await swaps({
        base,
        variant,
        seconds: share,
        seed,
        uid: OTHER_USER,
      });
      const operations = Object.values(counts).reduce((sum, count) => sum + count, 0);
      console.log(`${variant.name}: ${rest.swaps} exchanges, ${operations} operations`);
      for (const breach of breaches) console.log(`  REACHED ${breach}`);
      isBreached ||= breaches.length > 0;
    } finally {
      rmSync(base, { recursive: true, force: true });
    }
  }
  return isBreached ? 1 : 0;
}

process.exitCode = await main();
