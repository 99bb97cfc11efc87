import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { Expectation, KvmPart, Proposal, Scenario } from "../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../language/test/support/cases.ts";
import { evidenceResult, expectationWith, natures } from "../../../language/test/support/evidence.ts";
import { processState } from "../../../sys/src/index.ts";
import type { EngineKind, Machine, Support } from "../../src/engine.ts";
import { openRunDirectory } from "../../src/run/directory.ts";
import { type Place, type PlannedCase, plan, replayCommand, shardOf, shellWord } from "../../src/run/plan.ts";
import { type RunnerOptions, type RunOutcome, runCases } from "../../src/run/runner.ts";
import { childEnvironment } from "../../src/run/tag.ts";
import { scriptedMachine } from "../support/engine.ts";
import { executionOf } from "../support/results.ts";

const efaultExit = proposalOf("efault-exit");

function planned(count: number): readonly PlannedCase[] {
  return Array.from({ length: count }, (_, index) => ({
    scenario: scenarioWith({ id: `s${index}` }),
    argument: `s${index}`,
    proposal: efaultExit,
    ...executionOf("kvm"),
    support: { kind: "yes" as const },
  }));
}

async function run(
  cases: readonly PlannedCase[],
  machine: Machine,
  changes: Partial<RunnerOptions> = {},
): Promise<RunOutcome> {
  const directory = openRunDirectory();
  try {
    return await runCases(cases, {
      machine,
      directory,
      jobs: 2,
      timeoutMs: 1000,
      repeat: 1,
      signal: new AbortController().signal,
      expectationOf: () => expectationWith(),
      errata: [],
      onStart: () => {},
      onEnd: () => {},
      ...changes,
    });
  } finally {
    expect(await directory.close()).toEqual([]);
    expect(existsSync(directory.path)).toBe(false);
  }
}

describe("a case that is run several times", () => {
  const value = { kind: "value", value: 1n } as const;
  const came = evidenceResult({
    observations: {
      accesses: { victim: { "load#1": value, "load#2": value } },
      vmm: [{ kind: "running" }],
    },
  });

  it("is unstable where its outcomes differ, and says how often it saw which", async () => {
    let runs = 0;
    const machine = scriptedMachine(async () => {
      runs += 1;
      return runs % 3 === 0 ? { kind: "timeout", message: "too long" } : evidenceResult();
    });
    const { results } = await run(planned(1), machine, { repeat: 6, jobs: 1 });
    expect(runs).toBe(6);
    expect(results[0]?.verdict).toMatchObject({ kind: "inconclusive", cause: "unstable" });
    expect(results[0]?.outcomes.map(({ count, verdict }) => [count, verdict])).toEqual([
      [4, "pass"],
      [2, "inconclusive"],
    ]);
  });

  it("is inconclusive, not unstable, where the machine was busy in a run and the others agree", async () => {
    let runs = 0;
    const machine = scriptedMachine(async () => {
      runs += 1;
      return runs === 2 ? { kind: "busy", message: "no processor" } : evidenceResult();
    });
    const { results } = await run(planned(1), machine, { repeat: 3, jobs: 1 });
    expect(results[0]?.verdict).toEqual({
      kind: "inconclusive",
      cause: "busy",
      reason: "no processor (1 of 3 runs; the others came out the same)",
    });
  });

  it("is inconclusive, not unstable, where the emulator erred in some runs and the machine was busy in one", async () => {
    let runs = 0;
    const machine = scriptedMachine(async () => {
      runs += 1;
      if (runs === 1) return { kind: "busy", message: "no processor" };
      return runs < 4 ? { kind: "emulator-defect", message: "delivered twice" } : evidenceResult();
    });
    const { results } = await run(planned(1), machine, { repeat: 5, jobs: 1 });
    expect(results[0]?.verdict).toMatchObject({
      kind: "inconclusive",
      reason: expect.stringMatching(/ \(3 of 5 runs; the others came out the same\)$/),
    });
  });

  it("is a fail where one run is a counterexample", async () => {
    let runs = 0;
    const machine = scriptedMachine(async () => {
      runs += 1;
      return runs === 2 ? came : evidenceResult();
    });
    const { results } = await run(planned(1), machine, { repeat: 3, jobs: 1 });
    expect(results[0]?.verdict.kind).toBe("fail");
    expect(results[0]?.verdict.reason).toContain("2 of 3: ");
  });

  it("keeps the runs that had ended when it was interrupted", async () => {
    const interruption = new AbortController();
    let runs = 0;
    const machine = scriptedMachine(async () => {
      runs += 1;
      if (runs === 4) interruption.abort();
      return evidenceResult();
    });
    const ended = await run(planned(2), machine, { repeat: 20, jobs: 1, signal: interruption.signal });
    expect(ended.interrupted).toBe(true);
    expect(ended.results.map(({ outcomes }) => outcomes.map(({ count }) => count))).toEqual([[3]]);
  });

  it("is one sample of that many runs where all came out the same", async () => {
    const machine = scriptedMachine(async () => evidenceResult());
    const { results } = await run(planned(1), machine, { repeat: 4 });
    expect(results[0]?.verdict.kind).toBe("pass");
    const result = results[0]?.result;
    expect(result?.kind === "evidence" && result.evidence.exhaustiveness).toMatchObject({ runs: 4 });
  });
});

describe("runCases", () => {
  it("takes nothing for an observation where a process of the run is stopped, and names it", async () => {
    let stopped: ChildProcess | null = null;
    const machine = scriptedMachine(async (_scenario, _proposal, { directory }) => {
      const env = { ...process.env, ...childEnvironment(directory) };
      stopped = spawn("sleep", ["60"], { stdio: "ignore", env });
      stopped.kill("SIGSTOP");
      while (processState(stopped.pid ?? 0) !== "stopped") await sleep(1);
      return evidenceResult();
    });
    const { results } = await run(planned(1), machine);
    expect(results[0]?.verdict).toMatchObject({ kind: "inconclusive", cause: "engine-error" });
    expect(results[0]?.verdict.reason).toMatch(/^stopped from outside: process \d+ \(sleep\)$/);
    expect(stopped).not.toBeNull();
  });

  it("gives each case an empty folder of its own that goes with it, and keeps the plan's order", async () => {
    const folders: string[] = [];
    const machine = scriptedMachine(async (scenario, _proposal, { directory }) => {
      expect(existsSync(directory)).toBe(true);
      folders.push(directory);
      writeFileSync(join(directory, "left"), "x");
      await new Promise((resolve) => setTimeout(resolve, scenario.id === "s0" ? 100 : 5));
      return evidenceResult();
    });
    const { results, defects, interrupted } = await run(planned(5), machine);
    expect(results.map(({ planned: { scenario } }) => scenario.id)).toEqual(["s0", "s1", "s2", "s3", "s4"]);
    expect(results.every(({ verdict }) => verdict.kind === "pass")).toBe(true);
    expect(new Set(folders).size).toBe(5);
    expect(folders.some((folder) => existsSync(folder))).toBe(false);
    expect([defects, interrupted]).toEqual([[], false]);
  });

  it("has the machine recover before each run of a case, and does not count the time", async () => {
    const order: string[] = [];
    let recoveredMs = 0;
    let longestMs = 0;
    const machine = scriptedMachine(
      async (scenario) => {
        order.push(scenario.id);
        return evidenceResult();
      },
      {
        recover: async () => {
          order.push("recover");
          await new Promise((resolve) => setTimeout(resolve, 50));
          recoveredMs = performance.now();
        },
      },
    );
    const { results } = await run(planned(2), machine, {
      jobs: 1,
      onEnd: ({ durationMs }) => {
        longestMs = Math.max(longestMs, durationMs - (performance.now() - recoveredMs));
      },
    });
    expect(order).toEqual(["recover", "s0", "recover", "s1"]);
    expect(results.map(({ verdict }) => verdict.kind)).toEqual(["pass", "pass"]);
    expect(longestMs).toBe(0);
    order.length = 0;
    await run(planned(1), machine, { repeat: 2 });
    expect(order).toEqual(["recover", "s0", "recover", "s0"]);
  });

  it("begins no case after an interruption that came while the machine recovered", async () => {
    const abort = new AbortController();
    let runs = 0;
    const machine = scriptedMachine(
      async () => {
        runs += 1;
        return evidenceResult();
      },
      { recover: async () => abort.abort() },
    );
    const { results, interrupted } = await run(planned(2), machine, { signal: abort.signal });
    expect([runs, results.length, interrupted]).toEqual([0, 0, true]);
  });

  it("runs as many at a time as it is told", async () => {
    let now = 0;
    let most = 0;
    const machine = scriptedMachine(async () => {
      now += 1;
      most = Math.max(most, now);
      await new Promise((resolve) => setTimeout(resolve, 10));
      now -= 1;
      return evidenceResult();
    });
    await run(planned(9), machine, { jobs: 3 });
    expect(most).toBe(3);
  });

  it("skips what cannot run, with the reason, and does not start it", async () => {
    const machine = scriptedMachine(() => Promise.reject(new Error("must not run")));
    const cases = planned(1).map((one) => ({
      ...one,
      support: { kind: "no" as const, reason: "no KVM", fix: null },
    }));
    const { results } = await run(cases, machine);
    expect(results[0]?.verdict).toEqual({ kind: "skip", reason: "no KVM" });
  });

  it("ends a case whose engine does not, as a time-out", async () => {
    const machine = scriptedMachine(() => new Promise(() => {}));
    const { results } = await run(planned(1), machine, { timeoutMs: 10 });
    expect(results[0]?.verdict).toMatchObject({ kind: "inconclusive", cause: "timeout" });
  });

  it("takes a crash of the judge for a defect, never for a pass", async () => {
    const broken = { ...expectationWith(), outcome: null } as unknown as Expectation;
    const { results, defects } = await run(
      planned(1),
      scriptedMachine(async () => evidenceResult()),
      {
        expectationOf: () => broken,
      },
    );
    expect(results[0]?.verdict).toMatchObject({ kind: "inconclusive", cause: "engine-error" });
    expect(defects).toEqual([expect.stringContaining("the judge failed on s0 x efault-exit")]);
  });

  it("starts nothing new once it is aborted, and drops what was under way", async () => {
    const abort = new AbortController();
    const machine = scriptedMachine(async (scenario) => {
      if (scenario.id === "s1") abort.abort();
      return evidenceResult();
    });
    const { results, interrupted } = await run(planned(9), machine, { jobs: 1, signal: abort.signal });
    expect(results.map(({ planned: { scenario } }) => scenario.id)).toEqual(["s0"]);
    expect(interrupted).toBe(true);
  });
});

describe("plan", () => {
  const yes = { kind: "yes" } as const;
  const rows: Readonly<Record<"model" | "process" | "kvm", EngineKind>> = {
    model: { name: "model", nature: natures.model, proposals: "all" },
    process: { name: "process", nature: natures.process, proposals: "without-vm" },
    kvm: { name: "kvm", nature: natures.kvm, proposals: "with-vm" },
  };
  const here = scriptedMachine(async () => evidenceResult());
  const engines = (...names: (keyof typeof rows)[]): readonly Place[] =>
    names.map((name) => ({ machine: here, engines: [rows[name]], available: yes }));
  const kernel = (answer: Support = yes, kvm: KvmPart = "today"): Place => ({
    machine: scriptedMachine(async () => evidenceResult(), {
      builtIn: { kvm, guest: "today" },
      name: "kernel:x",
      option: () => "--kernel x",
      supports: () => answer,
    }),
    engines: [rows.process, rows.kvm],
    available: yes,
  });
  const named = (changes: Partial<Scenario> = {}) => ({
    scenario: scenarioWith(changes),
    argument: "./mine.json",
  });
  const preset = (proposal: Proposal) => ({ proposal, option: "" });
  const both = [proposalOf("native"), efaultExit].map(preset);
  const names = (cases: readonly PlannedCase[]) =>
    cases.map((one) => `${one.proposal.id} ${one.engine}${one.machine === "here" ? "" : ` ${one.machine}`}`);

  it("pairs proposals with the engines that they are for", () => {
    expect(names(plan([named()], both, engines("process", "kvm")))).toEqual([
      "native process",
      "efault-exit kvm",
    ]);
  });

  it("leaves out what a scenario is not about", () => {
    expect(names(plan([named({ proposals: ["efault-exit"] })], both, engines("process", "kvm")))).toEqual([
      "efault-exit kvm",
    ]);
  });

  it("keeps a pair that makes no sense if it is all that was asked for", () => {
    expect(names(plan([named()], [preset(efaultExit)], engines("process")))).toEqual(["efault-exit process"]);
  });

  it("runs inside a kernel what each proposal is for, once", () => {
    expect(names(plan([named()], both, [...engines("kvm"), kernel()]))).toEqual([
      "native process kernel:x",
      "efault-exit kvm",
      "efault-exit kvm kernel:x",
    ]);
  });

  it("gives what no kernel has to the model, and its reason where a kernel alone was asked for", () => {
    const future = preset(proposalOf("final-efault"));
    expect(names(plan([named()], [future], [...engines("model", "kvm"), kernel()]))).toEqual([
      "final-efault model",
    ]);
    const no = { kind: "no", reason: "in no kernel", fix: null } as const;
    const alone = plan([named()], [future], [kernel(no)]);
    expect(names(alone)).toEqual(["final-efault kvm kernel:x"]);
    expect(alone[0]?.support).toEqual(no);
  });

  it("runs on a kernel with a proposal built in what is about that, and today's elsewhere", () => {
    const some = ["native", "apf-guest", "final-efault", "final-efault-pf", "exit-request"].map((id) =>
      preset(proposalOf(id)),
    );
    const patched = kernel(yes, "final-efault");
    expect(names(plan([named()], some, [...engines("kvm"), patched]))).toEqual([
      "native process kernel:x",
      "apf-guest kvm",
      "final-efault kvm kernel:x",
      "final-efault-pf kvm kernel:x",
    ]);
    const no = { kind: "no", reason: "this kernel has kvm=final-efault", fix: null } as const;
    const [alone] = plan([named()], [preset(proposalOf("apf-guest"))], [kernel(no, "final-efault")]);
    expect(alone?.support).toEqual(no);
  });

  it("asks a kernel with a proposal built in what becomes of the guest of apf-loop", () => {
    const about = named({ proposals: ["apf-loop"] });
    const [one] = plan([about], [preset(proposalOf("apf-loop"))], [kernel(yes, "final-efault")]);
    expect(one?.proposal).toEqual({
      ...proposalOf("apf-loop"),
      id: "apf-loop+final-efault",
      kvm: "final-efault",
      title: "A guest that never enabled async page faults, on a KVM with final-efault.",
    });
    expect(one && replayCommand(one)).toBe("daxfault run ./mine.json --proposal apf-loop --kernel x");
    const others = named({ proposals: ["apf-loop", "efault-exit"] });
    const [other] = plan([others], [preset(proposalOf("apf-loop"))], [kernel(yes, "final-efault")]);
    expect(other?.proposal.id).toBe("apf-loop");
  });

  it("names a machine in place of its engines", () => {
    const [one] = plan([named()], [preset(efaultExit)], [kernel()]);
    expect(one && replayCommand(one)).toBe("daxfault run ./mine.json --proposal efault-exit --kernel x");
  });

  it("takes an engine's absence for every case of it", () => {
    const absent = { kind: "no", reason: "no KVM", fix: null } as const;
    const [kvm] = engines("kvm");
    if (kvm === undefined) throw new Error("no engine");
    const [one] = plan([named()], [preset(efaultExit)], [{ ...kvm, available: absent }]);
    expect(one?.support).toEqual(absent);
    expect(one && replayCommand(one)).toBe("daxfault run ./mine.json --proposal efault-exit --engine kvm");
  });

  it("names the file that a proposal of the user's own comes from", () => {
    const own = { proposal: efaultExit, option: "--proposals 'my own.json'" };
    const [one] = plan([named()], [own], engines("kvm"));
    expect(one && replayCommand(one)).toBe(
      "daxfault run ./mine.json --proposals 'my own.json' --proposal efault-exit --engine kvm",
    );
  });
});

describe("shardOf", () => {
  it.each([1, 2, 3, 7, 20])("puts every case into exactly one of %d shards, evenly", (count) => {
    const cases = planned(16);
    const shards = Array.from({ length: count }, (_, index) => shardOf(cases, { index: index + 1, count }));
    expect(shards.flat().toSorted((a, b) => cases.indexOf(a) - cases.indexOf(b))).toEqual(cases);
    const sizes = shards.map((shard) => shard.length);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
  });
});

describe("shellWord", () => {
  it.each([
    ["./mine.json", "./mine.json"],
    ["my own.json", "'my own.json'"],
    ["it's", "'it'\\''s'"],
    ["", "''"],
  ])("%j is %s", (text, word) => {
    expect(shellWord(text)).toBe(word);
    expect(execFileSync("sh", ["-c", `printf %s ${word}`], { encoding: "utf8" })).toBe(text);
  });
});
