import { describe, expect, it } from "vitest";
import { scenarioWith } from "../../../language/test/support/cases.ts";
import { guestTasks, supportsAccesses, windowBytesOf } from "../../src/engines/guest-program.ts";

const allFeatures = { avx: true, avx512: true, cmpxchg16b: true };

describe("guestTasks", () => {
  it("has addresses in the window, numbers of signals and of tasks", () => {
    const scenario = scenarioWith({
      actors: {
        one: {
          in: "guest-task",
          onSigbus: "next-step",
          steps: [
            { verb: "store", offset: 0x1008n, size: 4, value: 5n },
            { verb: "signal", name: "stored" },
          ],
        },
        other: {
          in: "guest-kernel",
          cpu: 1,
          steps: [
            { verb: "await", name: "stored" },
            { verb: "kill", actor: "one" },
          ],
        },
      },
    });
    const nothing = { size: 0, value: 0n };
    expect(guestTasks(scenario)).toMatchObject([
      {
        actor: "one",
        program: {
          cpl: 3,
          cpu: 0,
          onSigbus: "next-step",
          steps: [
            { verb: "store", size: 4, address: 0x40001008n, value: 5n },
            { verb: "signal", address: 0n, ...nothing },
          ],
        },
      },
      {
        actor: "other",
        program: {
          cpl: 0,
          cpu: 1,
          onSigbus: "killed",
          steps: [
            { verb: "await", address: 0n, ...nothing },
            { verb: "kill", address: 0n, ...nothing },
          ],
        },
      },
    ]);
  });

  it("has a window of whole 2 MiB", () => {
    expect(windowBytesOf(scenarioWith({}))).toBe(0x200000);
    const window = [{ fileOffset: 0n, at: 0x1ff000n, length: 0x2000n }];
    expect(windowBytesOf(scenarioWith({ window }))).toBe(0x400000);
  });
});

describe("supportsAccesses", () => {
  it("refuses accesses that no instruction of this CPU does, naming the instruction set", () => {
    const load = (size: number, where: "guest-task" | "guest-kernel" = "guest-task") =>
      scenarioWith({
        actors: { victim: { in: where, steps: [{ verb: "load" as const, offset: 0n, size }] } },
      });
    expect(supportsAccesses(load(64), { ...allFeatures, avx512: false }, "this CPU")).toMatchObject({
      reason: /AVX-512/u,
    });
    expect(supportsAccesses(load(32), { ...allFeatures, avx: false }, "this CPU")).toMatchObject({
      reason: /AVX/u,
    });
    expect(supportsAccesses(load(32, "guest-kernel"), allFeatures, "this CPU")).toMatchObject({
      reason: /CPL 0/u,
    });
    expect(supportsAccesses(load(64), allFeatures, "this CPU")).toEqual({ kind: "yes" });
  });
});
