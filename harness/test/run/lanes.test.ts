import { describe, expect, it } from "vitest";
import type { MachineName } from "../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../language/test/support/cases.ts";
import { evidenceResult } from "../../../language/test/support/evidence.ts";
import type { Machine } from "../../src/engine.ts";
import { openRunDirectory } from "../../src/run/directory.ts";
import { jobsOf, type Lane, lanesOf, runLane } from "../../src/run/lanes.ts";
import type { PlannedCase } from "../../src/run/plan.ts";
import { scriptedMachine } from "../support/engine.ts";
import { executionOf } from "../support/results.ts";

const here = scriptedMachine(async () => evidenceResult());
const booted = scriptedMachine(async () => evidenceResult(), { name: "kernel:x", isAlone: true });

const caseOn = (machine: MachineName, support: PlannedCase["support"]): PlannedCase => ({
  scenario: scenarioWith({}),
  proposal: proposalOf("apf-loop"),
  ...executionOf("kvm"),
  machine,
  support,
  argument: "x",
});
const yes = { kind: "yes" } as const;
const no = { kind: "no", reason: "it cannot", fix: null } as const;

describe("lanes", () => {
  it("are this machine first, then each kernel", () => {
    const lanes = lanesOf([caseOn("kernel:x", yes), caseOn("here", yes)], [booted, here, here]);
    expect(lanes.map(({ machine }) => machine.name)).toEqual(["here", "kernel:x"]);
    expect(lanes.map(({ engines }) => engines)).toEqual([["kvm"], ["kvm"]]);
  });

  it("have no engine that has nothing to run", () => {
    const [lane] = lanesOf([caseOn("kernel:x", no)], [here, booted]);
    expect(lane?.engines).toEqual([]);
    expect(lane?.cases).toHaveLength(1);
  });

  it("run one case at a time where a case has the machine to itself", () => {
    const lanes = lanesOf([caseOn("kernel:x", yes), caseOn("here", yes)], [booted, here]);
    expect(lanes.map((lane) => jobsOf(lane, 4))).toEqual([4, 1]);
  });
});

describe("runLane", () => {
  async function lifeOf(changes: Partial<Machine>, support: PlannedCase["support"] = yes) {
    const life: string[] = [];
    const machine = scriptedMachine(
      async () => {
        life.push("run");
        return evidenceResult();
      },
      { close: async () => void life.push("close"), ...changes },
    );
    const lane: Lane = {
      machine,
      engines: support.kind === "yes" ? ["kvm"] : [],
      cases: [caseOn("here", support)],
    };
    const directory = openRunDirectory();
    const running = runLane(lane, {
      directory,
      jobs: 4,
      timeoutMs: 1000,
      repeat: 1,
      signal: new AbortController().signal,
      expectationOf: () => null,
      errata: [],
      onStart: () => {},
      onEnd: () => {},
      onBooted: ({ name, attestation }) =>
        void life.push(`booted ${name} ${attestation?.kernel ?? "in vain"}`),
      onEnded: ({ results }) => void life.push(`${results.length} ended`),
    }).catch((error: Error) => void life.push(error.message));
    await running;
    expect(await directory.close()).toEqual([]);
    return life;
  }

  it("opens the machine, runs its cases, and closes it", async () => {
    expect(await lifeOf({})).toEqual(["run", "1 ended", "close"]);
  });

  it("says what was booted", async () => {
    const open = async () => ({ kind: "booted", attestation: null }) as const;
    expect(await lifeOf({ open })).toEqual(["booted here in vain", "run", "1 ended", "close"]);
  });

  it("does not open a machine on which nothing can run", async () => {
    const open = () => Promise.reject(new Error("must not be opened"));
    expect(await lifeOf({ open }, no)).toEqual(["1 ended", "close"]);
  });

  it("closes a machine that does not open", async () => {
    const open = () => Promise.reject(new Error("it broke"));
    expect(await lifeOf({ open })).toEqual(["close", "it broke"]);
  });
});
