/** The figures of `daxfault bench fence`, and some rounds of it on a real VM. */
import { describe, expect, it } from "vitest";
import { benchFence, type FenceResult, spreadOf } from "../../src/bench/fence.ts";
import { fenceText } from "../../src/cli/bench-fence.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { styleFor } from "../../src/report/style.ts";
import { openRunDirectory } from "../../src/run/directory.ts";

const support = supportOf(thisMachine(), ["kvm", "micro-guest"]);
const note = support.kind === "no" ? ` (skipped: ${support.reason})` : "";

describe("spreadOf", () => {
  it("is the median, the 99th percentile and the maximum, whatever the order", () => {
    const values = Array.from({ length: 200 }, (_, index) => (index * 7) % 200);
    expect(spreadOf(values)).toEqual({ median: 100, p99: 198, max: 199 });
    expect(spreadOf([3])).toEqual({ median: 3, p99: 3, max: 3 });
  });
});

describe("fenceText", () => {
  const spread = { median: 0.5, p99: 1.25, max: 2 };
  const result: FenceResult = {
    rows: [{ vcpus: 1, rounds: 10, exitMs: spread, toldMs: spread, cpuMs: spread, losses: ["it hung"] }],
    unfenced: {
      watchedMs: 3000,
      isLooping: true,
      wasTold: false,
      faultsPerSecond: 21_000,
      processCpu: 0.8,
      machineCpu: 1.25,
    },
  };
  const style = styleFor({ isTTY: false } as NodeJS.WriteStream);

  it("tells every VM that was lost, and what happens without the fence", () => {
    const text = fenceText(result, style);
    expect(text).toContain("0.50 / 1.25 / 2.00");
    expect(text).toContain("lost: it hung");
    expect(text).toContain("still looping after 3.0 s, the task never told: 21,000 faults/s");
  });

  it("does not say that it loops where that was not seen", () => {
    const told = fenceText({ ...result, unfenced: { ...result.unfenced, wasTold: true } }, style);
    expect(told).toContain("the task was told all the same");
    const still = fenceText({ ...result, unfenced: { ...result.unfenced, isLooping: false } }, style);
    expect(still).toContain("no loop was proven");
  });
});

describe.skipIf(support.kind === "no")(`benchFence${note}`, () => {
  it("gets one vCPU, and two that race, out of the loop round after round, and sees them loop without it", async () => {
    const directory = openRunDirectory();
    const { signal } = new AbortController();
    const result = await benchFence({ rounds: 10, races: 10, directory, signal, progress: () => {} });
    expect(await directory.close()).toEqual([]);
    for (const { rounds, losses, exitMs, toldMs } of result.rows) {
      expect([rounds, losses]).toEqual([10, []]);
      expect(toldMs.median).toBeGreaterThan(exitMs.median);
    }
    expect(result.unfenced).toMatchObject({ isLooping: true, wasTold: false });
  });
});
