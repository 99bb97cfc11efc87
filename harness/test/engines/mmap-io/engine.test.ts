import { describe, expect, it } from "vitest";
import type { Actor, GuestStep } from "../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { mmapIoEngine } from "../../../src/engines/mmap-io/engine.ts";
import { processEngine } from "../../../src/engines/process/engine.ts";

describe("what JavaScript cannot", () => {
  const task = (step: GuestStep, more: Partial<Extract<Actor, { in: "guest-task" }>> = {}) =>
    scenarioWith({
      actors: {
        victim: { in: "guest-task", steps: [step], ...more },
        other: { in: "guest-task", steps: [] },
      },
    });
  const load: GuestStep = { verb: "load", offset: 0n, size: 8 };

  it.each([
    ["a fetch", task({ verb: "fetch", offset: 0n }), "executes code from the file"],
    ["a push", task({ verb: "push", offset: 0n, value: 0n }), "has its stack in the file"],
    ["a kill", task({ verb: "kill", actor: "other" }), "kills another task"],
    [
      "a system call on the file",
      task({ verb: "fsync", offset: 0n }),
      "makes a system call on the file, fsync",
    ],
    ["a handler", task(load, { onSigbus: "next-step" }), "handles SIGBUS"],
  ])("%s is refused by name, and is no reason for the engine process", (_what, scenario, text) => {
    const native = proposalOf("native");
    expect(mmapIoEngine.supports(scenario, native)).toMatchObject({
      kind: "no",
      reason: expect.stringContaining(text),
    });
    expect(processEngine.supports(scenario, native)).toEqual({ kind: "yes" });
  });
});
