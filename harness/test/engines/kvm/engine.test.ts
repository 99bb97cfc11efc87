/** The engine on the real /dev/kvm: what facts about KVM become in the words of the vocabulary. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Evidence, type Scenario, vmmText } from "../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { kvmEngine } from "../../../src/engines/kvm/engine.ts";
import { supportOf, thisMachine } from "../../../src/machine.ts";
import { processesOf, sweep } from "../../../src/run/sweep.ts";

const available = await kvmEngine.available();
const fuse = supportOf(thisMachine(), ["fuse"]);
const note = available.kind === "no" ? ` (skipped: ${available.reason})` : "";

async function run(proposal: string, scenario: Scenario): Promise<Evidence> {
  const directory = mkdtempSync(join(realpathSync(tmpdir()), "daxfault-"));
  const context = { directory, timeoutMs: 15_000, signal: new AbortController().signal, slowness: 1 };
  try {
    const result = await kvmEngine.run(scenario, proposalOf(proposal), context);
    if (result.kind !== "evidence") throw new Error(`${result.kind}: ${result.message}`);
    return result.evidence;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A run's folder with cases one after the other; returns the processes that work for it after each. */
async function processesAfterCases(proposals: readonly string[]): Promise<readonly (readonly number[])[]> {
  const run = mkdtempSync(join(realpathSync(tmpdir()), "daxfault-"));
  const after: (readonly number[])[] = [];
  try {
    for (const [index, proposal] of proposals.entries()) {
      const directory = join(run, `case-${index}`);
      mkdirSync(directory);
      const context = { directory, timeoutMs: 15_000, signal: new AbortController().signal, slowness: 1 };
      const result = await kvmEngine.run(scenarioWith({}), proposalOf(proposal), context);
      expect(result.kind).toBe("evidence");
      expect(processesOf(directory)).toEqual([]);
      after.push(processesOf(run));
    }
    return after;
  } finally {
    expect(await sweep(run)).toEqual([]);
  }
}

const history = (evidence: Evidence) => evidence.observations.vmm?.map(vmmText);

/** Grows the file back once the vCPU is stuck; the VMM then runs it again. */
const regrow = scenarioWith({
  actors: {
    ...scenarioWith({}).actors,
    repair: {
      in: "host-process",
      through: "file",
      steps: [
        { verb: "await", name: "stuck" },
        { verb: "truncate", size: 0x400000n },
        { verb: "signal", name: "regrown" },
      ],
    },
    vmm: { in: "vmm", steps: [{ verb: "await", name: "regrown" }, { verb: "resume" }] },
  },
});

describe.skipIf(available.kind === "no")(`the kvm engine${note}`, () => {
  it("sees the EFAULT exit: where, at which level, with which addresses", async () => {
    const evidence = await run("efault-exit", scenarioWith({}));
    expect(evidence.observations).toMatchObject({
      accesses: {
        victim: { "load#1": { kind: "value", value: 0xda0000001000n }, "load#2": { kind: "killed" } },
      },
      host: { host: { "truncate#1": { kind: "done" } } },
      vmm: [{ kind: "stopped", reason: "efault", at: { cpl: 3, gva: 0x40001000n, gpa: 0x40001000n } }],
      guestKernel: "alive",
    });
    expect(evidence.attestation).toMatchObject({ engine: "kvm", lapic: "user", windowBytes: 0x200000 });
    expect(evidence.attestation.kvmBackend).toBe(thisMachine().kvmBackend);
  });

  it("has the next case in the same processes once nothing of this one is left in them", async () => {
    const [first, ...later] = await processesAfterCases([
      "apf-loop",
      "efault-exit",
      "mce-injection",
      "pf-injection",
    ]);
    expect(first).toHaveLength(2); // The VM's and the host actor's.
    for (const pids of later) expect(pids).toEqual(first);
  });

  it("sees the endless loop of a guest that never enabled async page faults", async () => {
    const evidence = await run("apf-loop", scenarioWith({ layout: "nvdimm", window: [] }));
    expect(history(evidence)).toEqual(["looping"]);
    expect(evidence.attestation).toMatchObject({ apfEnabled: false, lapic: "kernel", windowBytes: null });
    expect(evidence.observations.accesses.victim?.["load#2"]).toEqual({ kind: "hung" });
    expect(evidence.counters.pf_taken).toBeGreaterThan(50n);
  });

  it("sees not-present and ready events of a guest that did, in the order in which they happened", async () => {
    const evidence = await run("apf-guest", scenarioWith({}));
    expect(history(evidence)).toEqual(["looping"]);
    expect(evidence.attestation.apfEnabled).toBe(true);
    expect(evidence.counts["apf-not-present"]).toBeGreaterThan(10);
    const order = evidence.trace
      .filter(
        ({ kind, detail }) =>
          kind === "truncate" || (kind.startsWith("apf-") && !detail.includes("0xffffffff")),
      )
      .slice(0, 4)
      .map(({ kind }) => kind);
    expect(order).toEqual(["truncate", "apf-not-present", "apf-ready", "apf-not-present"]);
  });

  it.skipIf(fuse.kind === "no")(
    "takes as long over an access as the file server does over its page",
    async () => {
      const action = { kind: "delay", ms: 150 } as const;
      const faults = [{ operation: "read", at: 0x300000, after: 0, times: null, action }] as const;
      const { backing } = scenarioWith({});
      const steps = [
        { verb: "load", offset: 0x1000n, size: 8 },
        { verb: "load", offset: 0x300000n, size: 8 },
      ] as const;
      const slow = scenarioWith({
        backing: { ...backing, mount: { faults } },
        window: [{ fileOffset: 0n, at: 0n, length: 0x400000n }],
        actors: { victim: { in: "guest-task", steps } },
      });
      const evidence = await run("apf-guest", slow);
      expect(evidence.attestation.transport).toBe("devfuse");
      expect(evidence.observations.accesses.victim?.["load#2"]).toEqual({
        kind: "value",
        value: 0xda0000300000n,
      });
      expect(evidence.accessMs.victim?.["load#2"]).toBeGreaterThanOrEqual(150);
      expect(evidence.counts["apf-not-present"]).toBeGreaterThan(0);
    },
  );

  it("goes on after the file has grown again, from an exit as from a loop, and the guest reads zeros", async () => {
    for (const [proposal, expected] of [
      ["efault-exit", ["stopped(efault)", "running"]],
      ["apf-loop", ["looping", "running"]],
      ["apf-guest", ["looping", "running"]],
    ] as const) {
      const evidence = await run(proposal, regrow);
      expect([proposal, history(evidence)]).toEqual([proposal, expected]);
      expect(evidence.observations.accesses.victim?.["load#2"]).toEqual({ kind: "zero" });
    }
  });

  it("ends at once, leaving no process, when the run is aborted", async () => {
    const directory = mkdtempSync(join(realpathSync(tmpdir()), "daxfault-"));
    const abort = new AbortController();
    const started = performance.now();
    const running = kvmEngine.run(regrowNever, proposalOf("apf-loop"), {
      directory,
      timeoutMs: 15_000,
      signal: abort.signal,
      slowness: 1,
    });
    setTimeout(() => abort.abort(), 700);
    await expect(running).resolves.toMatchObject({ kind: "engine-error" });
    expect(performance.now() - started).toBeLessThan(5000);
    rmSync(directory, { recursive: true });
  });

  it("reports a guest that waits for ever as a time-out, not as an observation", async () => {
    const actors = { victim: { in: "guest-task", steps: [{ verb: "await", name: "never" }] } } as const;
    const directory = mkdtempSync(join(realpathSync(tmpdir()), "daxfault-"));
    const result = await kvmEngine.run(scenarioWith({ actors }), proposalOf("efault-exit"), {
      directory,
      timeoutMs: 5000,
      signal: new AbortController().signal,
      slowness: 1,
    });
    rmSync(directory, { recursive: true });
    expect(result).toMatchObject({ kind: "timeout" });
    // A machine that is too busy to have the VM report in time says so instead: a time-out all the same.
    expect(result.kind === "timeout" && result.message).toMatch(
      /victim ready at step 0|no report within|set up in time/,
    );
  });
});

/** Somebody awaits `stuck` and never does anything about it. */
const regrowNever = scenarioWith({
  actors: {
    ...scenarioWith({}).actors,
    lazy: {
      in: "host-process",
      through: "file",
      steps: [
        { verb: "await", name: "stuck" },
        { verb: "await", name: "never" },
      ],
    },
  },
});
