/** `daxfault bench protect`: what the protection costs whoever opens, reads, writes and truncates. */
import { exitCodes } from "../../../language/src/index.ts";
import { measureProtect, NotProtectedError, protectPriceText } from "../protect/price.ts";
import type { ProtectPrice } from "../protect/price-rows.ts";
import { visible } from "../report/encode.ts";
import { openJson } from "./json-output.ts";
import { liveInFolder } from "./life.ts";
import type { BenchProtectLine } from "./lines/bench.ts";
import { parseCount } from "./usage.ts";

const ROUNDS_MAX = 100_000;

export async function benchProtectCommand(options: {
  readonly rounds: string;
  readonly json?: string;
}): Promise<number> {
  const rounds = parseCount("--rounds", options.rounds, 1, ROUNDS_MAX);
  const json = openJson<BenchProtectLine>(options.json);
  return liveInFolder({ command: "daxfault bench protect" }, async ({ directory, signal }) => {
    let price: ProtectPrice;
    try {
      price = await measureProtect(directory.caseDirectory("price"), rounds, signal);
    } catch (error) {
      if (!(error instanceof NotProtectedError)) throw error;
      console.error(`daxfault bench protect: ${visible(error.message)}`);
      return exitCodes.nothingRan;
    }
    json.write({ type: "bench", name: "protect", ...price });
    if (!json.isStdout) console.log(protectPriceText(price));
    return exitCodes.ok;
  });
}
