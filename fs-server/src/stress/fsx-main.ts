/**
 * `fsx-main [OPERATIONS] [SEED] [--mode NAME]... [--folder DIR] [--replay FILE]`: random operations on a file of a mount, with
 * changes by the host (fsx.ts), 1,000,000 by default, shared out among the modes. A failure is made shorter and written to a
 * file, which `--replay` runs again. Exit codes: 0 no difference, 1 one, 2 nothing could be served, 64 usage.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Operation, replay, seeded, shrunk } from "./fsx.ts";
import { type FsxMode, fsxModes, fsxPlace } from "./fsx-modes.ts";
import { type Mounted, mounted } from "./mounted.ts";

const SHRINK_MS = 60_000;

type Job = {
  readonly mode: FsxMode;
  readonly server: Mounted;
  readonly seed: number;
  readonly count: number;
};

/** Makes a failing list shorter, and says where it is. */
function reported({ mode, server, seed }: Job, failing: readonly Operation[]): void {
  let tries = 0;
  const fails = (operations: readonly Operation[]): boolean => {
    tries += 1;
    return replay(fsxPlace(mode, server, `try-${tries}`), operations).wrong !== null;
  };
  // Not all differences come again: those that depend on the moment stay as long as they are.
  const isSteady = fails(failing);
  const short = isSteady ? shrunk(failing, fails, performance.now() + SHRINK_MS) : failing;
  const path = join(tmpdir(), `daxfault-fsx-${mode.name}-${seed}.json`);
  writeFileSync(path, JSON.stringify({ mode: mode.name, operations: short }));
  console.log(`  ${isSteady ? "" : "does not come again; "}${short.length} operations: --replay ${path}`);
}

/** Whether all was right. */
function ran(job: Job): boolean {
  const { mode, server, seed, count } = job;
  const begun = performance.now();
  const place = fsxPlace(mode, server, "file");
  const { operations, unsupported, wrong } = replay(place, seeded(place, seed, count));
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  console.log(`${mode.name}: ${operations} operations, ${unsupported} not supported, ${seconds} s`);
  if (wrong === null) return true;
  console.log(`  WRONG seed ${seed}, ${wrong}`);
  reported(job, [...seeded(place, seed, operations + 1)]);
  return false;
}

type Recorded = { readonly mode: string; readonly operations: readonly Operation[] };

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      mode: { type: "string", multiple: true },
      folder: { type: "string", default: tmpdir() },
      replay: { type: "string" },
    },
    allowPositionals: true,
  });
  const [total = 1_000_000, seed = Date.now() % 1_000_000] = positionals.map(Number);
  const recorded =
    values.replay === undefined ? null : (JSON.parse(readFileSync(values.replay, "utf8")) as Recorded);
  const names = recorded === null ? values.mode : [recorded.mode];
  const chosen = fsxModes.filter(({ name }) => names?.includes(name) ?? true);
  if (chosen.length === 0 || !(total > 0) || !Number.isInteger(seed)) {
    console.error(
      `usage: fsx-main [OPERATIONS] [SEED]; modes: ${fsxModes.map(({ name }) => name).join(", ")}`,
    );
    return 64;
  }
  console.log(`${recorded?.operations.length ?? total} operations, seed ${seed}`);
  const base = mkdtempSync(join(values.folder, "daxfault-fsx-"));
  let [served, isRight] = [0, true];
  try {
    for (const mode of chosen) {
      const server = await mounted(join(base, mode.name), mode.args);
      if (typeof server === "string") {
        console.log(`${mode.name} skipped: ${server}`);
        continue;
      }
      served += 1;
      try {
        if (recorded !== null) {
          const { wrong } = replay(fsxPlace(mode, server, "file"), recorded.operations);
          console.log(wrong === null ? "no difference" : `WRONG ${wrong}`);
          isRight &&= wrong === null;
        } else {
          const count = Math.ceil(total / chosen.length);
          isRight = ran({ mode, server, seed, count }) && isRight;
        }
      } finally {
        await server.stop();
      }
    }
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
  if (served === 0) return 2;
  return isRight ? 0 : 1;
}

process.exitCode = await main();
