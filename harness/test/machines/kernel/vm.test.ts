/** A real kernel that dies, is reset, or says nothing more in the middle of a run, and what that costs the other cases. */
import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { RunResult } from "../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { natures } from "../../../../language/test/support/evidence.ts";
import type { Case } from "../../../src/engine.ts";
import { obtainKernel } from "../../../src/kernel/cache.ts";
import { requireQemu, slownessOf } from "../../../src/kernel/qemu.ts";
import { Boots, MAX_RESTARTS } from "../../../src/machines/kernel/boots.ts";
import { type Session, startSession } from "../../../src/machines/kernel/session.ts";
import { packagePath } from "../../../src/paths.ts";
import { openRunDirectory } from "../../../src/run/directory.ts";
import { processesOf } from "../../../src/run/sweep.ts";
import { noVm, VM_KERNEL, VM_TEST_BOUND_MS } from "../../support/vm.ts";

const caseOf = (id: string): Case => ({
  scenario: scenarioWith({ id }),
  proposal: proposalOf("apf-loop"),
  engine: "kvm",
  nature: natures.kvm,
  machine: `kernel:${VM_KERNEL}`,
});

const version = VM_KERNEL.slice("debian:".length);

describe.skipIf(noVm !== null)(`a kernel that dies in the middle of a run (${noVm ?? VM_KERNEL})`, () => {
  const directory = openRunDirectory();
  let boots: Boots;
  let start: () => Promise<Session>;
  let slowness = 1;

  /** As the runner does it: the machine recovers, then the cases run, here at the same time. */
  async function run(ids: readonly string[], timeoutMs = 60_000): Promise<readonly RunResult[]> {
    await Promise.all(ids.map(() => boots.recover()));
    const { state } = boots;
    if (state.kind === "down") throw new Error(state.why);
    const { signal } = new AbortController();
    const context = { directory: "/nowhere", timeoutMs, signal, slowness };
    return Promise.all(ids.map((id) => state.session.run(caseOf(id), context)));
  }

  /** The boots that answered, by the command line that each reads of itself. */
  const answered: string[] = [];

  async function expectAnotherBoot(): Promise<void> {
    const [result] = await run(["answer"]);
    if (result?.kind !== "unsupported") throw new Error(`no answer: ${JSON.stringify(result)}`);
    const { state } = boots;
    const vm = state.kind === "up" ? state.session.attestation().vm : null;
    expect(result.message).toBe(vm?.commandLine);
    expect(result.message).toContain(`=${vm?.bootId}`);
    expect(answered).not.toContain(result.message);
    answered.push(result.message);
    expect(processesOf(directory.path)).toHaveLength(1);
  }

  beforeAll(async () => {
    const qemu = requireQemu();
    slowness = slownessOf(qemu.accelerator);
    const kernel = await obtainKernel({ kind: "debian-version", text: VM_KERNEL, version }, null);
    const program = {
      command: [process.execPath, packagePath("harness/test/support/fragile-agent.mjs")],
      environment: {},
    };
    const { signal } = new AbortController();
    const options = { kernel, qemu, directory: directory.engineDirectory(), signal, program };
    start = () => startSession(options);
    boots = new Boots(start);
    await boots.boot();
  }, VM_TEST_BOUND_MS);

  afterAll(async () => {
    await boots.close();
    expect(processesOf(directory.path)).toEqual([]);
    expect(await directory.close()).toEqual([]);
    expect(existsSync(directory.path)).toBe(false);
  });

  it("panics: all that runs in it is told what it said, and the next case has another boot", {
    timeout: VM_TEST_BOUND_MS,
  }, async () => {
    await expectAnotherBoot();
    const message = expect.stringContaining("Kernel panic - not syncing: sysrq triggered crash");
    expect(await run(["silence", "panic"])).toEqual([
      { kind: "kernel-crash", message },
      { kind: "kernel-crash", message },
    ]);
    await expectAnotherBoot();
  });

  it("is reset without a word, as by a triple fault", { timeout: VM_TEST_BOUND_MS }, async () => {
    expect(await run(["reset"])).toEqual([
      { kind: "kernel-crash", message: expect.stringContaining("the machine was reset without a word") },
    ]);
    await expectAnotherBoot();
  });

  it("says nothing more to one case, while another still gets its result", {
    timeout: VM_TEST_BOUND_MS,
  }, async () => {
    const [silence, late] = await Promise.all([run(["silence"], 2000), run(["late"])]);
    expect(silence).toEqual([{ kind: "timeout", message: "the VM gave no result within 3000 ms" }]);
    expect(late).toMatchObject([{ kind: "unsupported" }]);
    await expectAnotherBoot();
  });

  it("complains and lives on, but is not booted again for ever; all its consoles are kept", {
    timeout: VM_TEST_BOUND_MS,
  }, async () => {
    const oops = "the kernel complained: BUG: unable to handle page fault for address: ffffffff00000000";
    expect(await run(["oops"])).toEqual([{ kind: "kernel-crash", message: oops }]);
    await boots.recover();
    expect(boots.state).toEqual({
      kind: "down",
      why: `not booted again after ${MAX_RESTARTS} times; the last: ${oops}`,
    });
    const consoles = boots.consoles();
    expect(consoles).toHaveLength(1 + MAX_RESTARTS);
    expect(new Set(consoles.map(({ bootId }) => bootId)).size).toBe(1 + MAX_RESTARTS);
    expect(consoles[0]?.lines.join("\n")).toContain("sysrq triggered crash");
    expect(processesOf(directory.path)).toEqual([]);
  });

  it("has nothing more to run when its program has ended", { timeout: VM_TEST_BOUND_MS }, async () => {
    const session = await start();
    const { signal } = new AbortController();
    const context = { directory: "/nowhere", timeoutMs: 60_000, signal, slowness };
    const ended = "daxfault-init: the program has ended, wait status 768";
    const ask = (id: string) => session.run(caseOf(id), context);
    expect(await ask("quit")).toEqual({ kind: "engine-error", message: ended });
    expect(session.flaw()).toBe(ended);
    expect(await ask("answer")).toEqual({
      kind: "engine-error",
      message: `the VM was gone before this case began: ${ended}`,
    });
    await session.close();
  });
});
