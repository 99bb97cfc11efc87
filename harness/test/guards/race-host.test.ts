/** The truncater of a race as a process, on a real file: every way makes it shorter, and it grows again. */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { LOAD_OFFSET, RACE_FILE_BYTES, raceWays, STORE_OFFSET } from "../../src/guards/race.ts";
import { writeRaceFile } from "../../src/guards/race-place.ts";
import { contentOf, HostTruncater } from "../../src/guards/race-rounds.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { caseFolder } from "../support/folders.ts";

const support = supportOf(thisMachine(), ["root"]);
const note = support.kind === "no" ? ` (skipped: ${support.reason})` : "";

describe.skipIf(support.kind === "no")(`the truncater${note}`, () => {
  it("cuts in every way, by turns, and regrows with the round's content", async () => {
    const directory = caseFolder();
    writeRaceFile(directory);
    const path = join(directory, "file");
    const truncater = new HostTruncater(directory, { path, mounted: path, opensNow: true });
    try {
      const ways = raceWays.filter((way) => way !== "by-guest");
      for (const [round, way] of [...ways, ...ways].entries()) {
        const cut = await truncater.cut(way);
        // Not every file system can take out a range.
        expect(cut.isDenied).toBe(way === "collapse-range" && statSync(path).size === RACE_FILE_BYTES);
        if (!cut.isDenied) expect(statSync(path).size).toBeLessThanOrEqual(LOAD_OFFSET);
        expect(cut.returnUs).toBeGreaterThanOrEqual(cut.callUs);
        const whole = await truncater.regrow(contentOf(round));
        const file = readFileSync(path);
        expect([way, file.length, file.readBigUInt64LE(LOAD_OFFSET)]).toEqual([
          way,
          RACE_FILE_BYTES,
          contentOf(round),
        ]);
        expect(whole.isDirty).toBe(cut.isDenied && file.readBigUInt64LE(STORE_OFFSET) !== 0n);
      }
    } finally {
      await truncater.close();
    }
  });

  it("is refused by a file that is not there, and says so", async () => {
    const directory = caseFolder();
    const truncater = new HostTruncater(directory, {
      path: join(directory, "none"),
      mounted: null,
      opensNow: false,
    });
    await expect(truncater.cut("truncate")).rejects.toThrow(/the truncater: exit 1: .*ENOENT/);
    await truncater.close();
  });
});
