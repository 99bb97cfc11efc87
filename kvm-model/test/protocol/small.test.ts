import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  checkDeterminism,
  explore,
  findLivelock,
  findState,
  runSpin,
  type SmallProtocol,
  smallProtocol,
  spinAvailable,
} from "../../src/index.ts";

const PROMELA = "fixtures/spin/apf.pml";
const small: SmallProtocol = { pages: 2, tasks: 2, steps: 2, hops: 2, fix: 0 };
const fixed: SmallProtocol = { ...small, fix: 1 };

/** Distinct states and transitions, pinned: SPIN finds the same (below). */
const pinned: readonly (readonly [SmallProtocol, number, number])[] = [
  [small, 29_084, 73_865],
  [fixed, 92_235, 217_023],
  [{ ...fixed, steps: 3, hops: 3 }, 525_922, 1_300_460],
];

describe("the small protocol", () => {
  it.each(pinned)("%o", (protocol, states, transitions) => {
    const graph = explore(smallProtocol(protocol).model);
    expect(graph.exhaustiveness).toEqual({ kind: "exhaustive", states });
    expect(graph.transitions).toBe(transitions);
    expect(graph.overheadBytesPerState).toBeLessThan(64);
  });

  it("never maps a page beyond the end, unless is_page_fault_stale() is left out", () => {
    const { model, unsafe } = smallProtocol(fixed);
    expect(findState(explore(model), unsafe)).toBeNull();
    const broken = smallProtocol({ ...fixed, withoutStaleCheck: true });
    expect(findState(explore(broken.model), broken.unsafe)?.token).toMatchInlineSnapshot(
      `"8/6/10/11/12/9/6/10/18/11/0/3/4/5/13"`,
    );
  });

  it("goes round for ever while the failure is dropped, and does not once it is recorded", () => {
    for (const [protocol, lasso] of [
      [small, true],
      [fixed, false],
    ] as const) {
      const { model, finished } = smallProtocol(protocol);
      const graph = explore(model, { edges: true });
      expect(findLivelock(graph, { states: (s) => !finished(s) }) !== null).toBe(lasso);
    }
  });

  it("is deterministic", () => {
    checkDeterminism(smallProtocol(fixed).model, 3, 20, 200);
  });
});

const spin = spinAvailable();
describe.runIf(spin.yes)("SPIN agrees", () => {
  // Not while tests are collected: then it would stay where they are skipped.
  let directory = "";
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "daxfault-spin-test-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));
  const run = (
    protocol: SmallProtocol,
    question: "safety" | "liveness",
  ): { states: number; errors: number } => {
    const result = runSpin(PROMELA, protocol, question, { directory, environment: {} });
    if (result.kind !== "ran") throw new Error(result.reason);
    return result.run;
  };

  it.each(pinned.slice(1))("on distinct states: %o", (protocol, states, transitions) => {
    // SPIN counts the entry into the initial state as a transition.
    expect(run(protocol, "safety")).toMatchObject({ states, transitions: transitions + 1, errors: 0 });
  });

  it("on the stale mapping", () => {
    expect(run({ ...fixed, withoutStaleCheck: true }, "safety").errors).toBe(1);
  });

  it("on the livelock", () => {
    const tiny = { ...small, steps: 1, hops: 1 };
    expect(run(tiny, "liveness").errors).toBe(1);
    expect(run({ ...tiny, fix: 1 }, "liveness").errors).toBe(0);
  });
});
