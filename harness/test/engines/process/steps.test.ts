/** The static program against a host that acts within the signal itself: nothing that it changes may come too early. */
import { closeSync, openSync, readSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { contentBytes, type GuestStep } from "../../../../language/src/index.ts";
import { scenarioWith } from "../../../../language/test/support/cases.ts";
import { processEngine } from "../../../src/engines/process/engine.ts";
import { startSteps } from "../../../src/engines/process/steps.ts";
import { fakeHostSetup } from "../../support/fake-host-setup.ts";
import { caseFolder } from "../../support/folders.ts";

const available = await processEngine.available();
const note = available.kind === "no" ? ` (skipped: ${available.reason})` : "";

/** A look that comes by itself hides what one round would show. */
const ROUNDS = 12;

describe.skipIf(available.kind === "no")(`tasks of the static program${note}`, () => {
  it("what a task has seen before its signal is taken before the signal is raised", async () => {
    const directory = caseFolder();
    const filePath = join(directory, "file");
    writeFileSync(filePath, contentBytes("pattern", 0n, 0x4000));
    const file = openSync(filePath, "r+");
    let rounds = 0n;
    const setup = fakeHostSetup({
      filePath,
      readFile: (offset, length) => {
        const bytes = new Uint8Array(length);
        readSync(file, bytes, 0, length, Number(offset));
        return bytes;
      },
      // The word counts the signals.
      raise: () => {
        rounds += 1n;
        writeSync(file, BigUint64Array.of(rounds), 0, 8, 0x1000);
      },
    });
    const scenario = scenarioWith({
      window: [{ fileOffset: 0n, at: 0n, length: 0x4000n }],
      actors: {
        victim: {
          in: "guest-task",
          steps: Array.from({ length: ROUNDS }, (_, round): readonly GuestStep[] => [
            { verb: "load", offset: 0x1000n, size: 8 },
            { verb: "signal", name: `round${round}` },
          ]).flat(),
        },
      },
    });
    const tasks = startSteps(scenario, setup, directory);
    try {
      await tasks.mapped;
      tasks.start();
      await Promise.all(tasks.tasks.map(({ ended }) => ended));
      expect(tasks.failure()).toBeNull();
      const seen = Array.from({ length: ROUNDS }, (_, round) => [
        `load#${round + 1}`,
        { kind: "value", value: round === 0 ? 0xda0000001000n : BigInt(round) },
      ]);
      expect(tasks.accesses().victim).toEqual(Object.fromEntries(seen));
    } finally {
      await tasks.kill();
      tasks.release();
      closeSync(file);
    }
  });
});
