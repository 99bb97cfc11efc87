import { describe, expect, it } from "vitest";
import type { Recorded } from "../../src/cli/compare.ts";
import { distinct } from "../../src/cli/record-main.ts";

const seen = (word: string): Recorded => ({
  scenario: "load-a",
  scenarioHash: "0123456789ab",
  proposal: "p",
  engine: "kvm",
  kvmBackend: "kvm_amd",
  words: { steps: { "victim.load#1": word }, bystanders: {}, vmm: "running", guestKernel: "alive" },
  traced: null,
  goneErratum: null,
});

describe("what is kept of several runs", () => {
  it("is each different observation once, in the order seen", () => {
    const kept = distinct([seen("value"), seen("zero"), seen("value")]);
    expect(kept.every((one) => !("goneErratum" in one))).toBe(true);
    expect(kept.map(({ words }) => words.steps["victim.load#1"])).toEqual(["value", "zero"]);
  });
});
