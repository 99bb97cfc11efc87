/**
 * Carries inputs out one after the other, as the parent asks by IPC: `worker-main ROOT SEEDS SEED ONLY`. Standard output and
 * error are files in ROOT, which are read back after each input.
 */
import { readFileSync, realpathSync } from "node:fs";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { carryOut, type Surroundings } from "./carry-out.ts";
import type { FuzzInput, FuzzResult } from "./input.ts";
import { Kitchen, makeInput } from "./kinds.ts";
import { Place } from "./place.ts";
import { Random } from "./random.ts";
import type { Seeds } from "./seeds.ts";
import { watchWrites } from "./write-watch.ts";

/** An input by its number, or as it is (while it is made smaller). */
export type WorkerRequest =
  | { readonly kind: "index"; readonly index: number }
  | { readonly kind: "input"; readonly input: FuzzInput };

export type WorkerReply = { readonly input: FuzzInput | null; readonly result: FuzzResult };

function main([root = "", seedsPath = "", seed = "1", only = ""]: readonly string[]): void {
  const kitchen = new Kitchen(JSON.parse(readFileSync(seedsPath, "utf8")) as Seeds);
  const place = new Place(realpathSync(root));
  let reports: string[] = [];
  const around: Surroundings = {
    dist: fileURLToPath(new URL("../..", import.meta.url)),
    place,
    stdoutPath: join(root, "stdout"),
    stderrPath: join(root, "stderr"),
    takeReports() {
      const taken = reports;
      reports = [];
      return taken;
    },
  };
  const inside = [place.folder, place.temporary].map((folder) => folder + sep);
  let isWatching = false;
  watchWrites(
    (path) => !isWatching || inside.some((folder) => path.startsWith(folder)) || path.startsWith("/dev/"),
    (what) => reports.push(what),
  );
  const answer = async (request: WorkerRequest): Promise<WorkerReply> => {
    const input =
      request.kind === "input"
        ? request.input
        : makeInput(Random.of(Number(seed), request.index), kitchen, only === "" ? null : only);
    isWatching = true;
    const result = await carryOut(around, input);
    isWatching = false;
    return { input: result.problems.length > 0 ? input : null, result };
  };
  process.on("message", (request: WorkerRequest) => {
    answer(request).then(
      (reply) => process.send?.(reply),
      (error: unknown) => {
        throw error;
      },
    );
  });
  process.on("disconnect", () => process.exit(0));
}

main(process.argv.slice(2));
