import { expect, it } from "vitest";
import { kept } from "../../src/cli/linux-record-main.ts";
import type { LinuxCase } from "../../src/compare/linux-runs.ts";

const recorded = (scenario: string, proposal: string, lastWords: string | null = null): LinuxCase => ({
  scenario,
  scenarioHash: "0123456789ab",
  proposal,
  words: { steps: {}, bystanders: {}, vmm: "running", guestKernel: "alive" },
  lastWords,
});

it("what was recorded before stays, but for cases that have been run again", () => {
  const before = [recorded("load-a", "p"), recorded("load-a", "q"), recorded("load-b", "p")];
  expect(kept(before, [recorded("load-a", "p", "panic")])).toEqual(before.slice(1));
});
