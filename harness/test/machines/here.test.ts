import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { proposalOf, scenarioWith } from "../../../language/test/support/cases.ts";
import { evidenceResult } from "../../../language/test/support/evidence.ts";
import type { Engine } from "../../src/engine.ts";
import { engineRow, type RegisteredName } from "../../src/engines/registry.ts";
import { usualGuest } from "../../src/kernel/spec.ts";
import { hereMachine } from "../../src/machines/here.ts";
import { processesOf } from "../../src/run/sweep.ts";
import { scriptedEngine } from "../support/engine.ts";
import { caseFolder } from "../support/folders.ts";
import { executionOf } from "../support/results.ts";

const { signal } = new AbortController();
const context = { directory: "/nowhere", timeoutMs: 1000, signal, slowness: 1 };
const caseOn = (engine: "model" | "process" | "kvm") => ({
  scenario: scenarioWith({}),
  proposal: proposalOf("efault-exit"),
  ...executionOf(engine),
});

/** Two engines that note what is done to them. */
function noting() {
  const notes: string[] = [];
  const engine = (name: string): Engine =>
    scriptedEngine(
      async () => {
        notes.push(`run ${name}`);
        return evidenceResult();
      },
      {
        name,
        open: async ({ directory }) => void notes.push(`open ${name} ${existsSync(directory)}`),
        close: async () => void notes.push(`close ${name}`),
      },
    );
  return { notes, machine: hereMachine([engine("process"), engine("kvm")], usualGuest) };
}

describe("the machine here", () => {
  it("opens and closes the engines that have cases, each with a folder of its own", async () => {
    const { notes, machine } = noting();
    expect(await machine.open(["kvm"], { directory: caseFolder(), signal })).toEqual({ kind: "up" });
    await machine.run(caseOn("kvm"), context);
    await machine.close();
    await machine.close();
    expect(notes).toEqual(["open kvm true", "run kvm", "close kvm"]);
  });

  it("is beside as many busy processes as are asked for, until it is closed", async () => {
    const { machine } = noting();
    const directory = caseFolder();
    await machine.open(["kvm"], { directory, signal, busy: 2 });
    await expect.poll(() => processesOf(directory)).toHaveLength(2);
    await machine.close();
    await expect.poll(() => processesOf(directory)).toEqual([]);
  });

  it("is as fast as a real one, but for a guest in QEMU's emulator", () => {
    const { machine } = noting();
    const slownessOf = (name: RegisteredName): number => machine.slowness(engineRow(name));
    expect([slownessOf("kvm"), slownessOf("linux"), slownessOf("linux-qemu")]).toEqual([1, 1, 1]);
    expect(slownessOf("linux-qemu-tcg")).toBe(4);
  });

  it("attests those engines, and no others", async () => {
    const { machine } = noting();
    expect(await machine.attestations(["process"])).toHaveLength(1);
    expect(await machine.attestations([])).toEqual([]);
  });

  it("has nothing for an engine that it was not given", async () => {
    const { machine } = noting();
    const reason = "engine model is not loaded";
    const { scenario, proposal } = caseOn("model");
    expect(machine.supports("model", scenario, proposal)).toMatchObject({ kind: "no", reason });
    expect(await machine.run(caseOn("model"), context)).toEqual({ kind: "engine-error", message: reason });
  });
});
