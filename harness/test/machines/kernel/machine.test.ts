/** What becomes of kernels that cannot be tried or do not come up: their cases say why, and nothing is left. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { natures } from "../../../../language/test/support/evidence.ts";
import type { Case } from "../../../src/engine.ts";
import { findQemu } from "../../../src/kernel/qemu.ts";
import { parseKernelSpec } from "../../../src/kernel/spec.ts";
import { bootSupport, kernelMachine } from "../../../src/machines/kernel/machine.ts";
import { openRunDirectory } from "../../../src/run/directory.ts";
import { processesOf } from "../../../src/run/sweep.ts";
import { type BootImage, bootImage, IMAGE_BYTES } from "../../support/kernels.ts";

const run = openRunDirectory();
afterAll(async () => {
  expect(await run.close()).toEqual([]);
});

function imageOf(bytes: Uint8Array): string {
  const path = join(run.engineDirectory(), "bzImage");
  writeFileSync(path, bytes);
  return path;
}

const caseWith = (): Case => ({
  scenario: scenarioWith({}),
  proposal: proposalOf("apf-loop"),
  engine: "kvm",
  nature: natures.kvm,
  machine: "kernel:test",
});

async function failureOf(path: string, modulesDirectory: string | null = null): Promise<string> {
  const spec = parseKernelSpec(path);
  if (spec.kind === "problem") throw new Error(spec.message);
  const machine = await kernelMachine({ spec, modulesDirectory });
  const signal = new AbortController().signal;
  const opening = await machine.open(["kvm"], { directory: run.engineDirectory(), signal });
  expect(opening).toEqual({ kind: "booted", attestation: null });
  const context = { directory: run.engineDirectory(), timeoutMs: 1000, signal, slowness: 1 };
  const result = await machine.run(caseWith(), context);
  await machine.close();
  expect(processesOf(run.path)).toEqual([]);
  if (result.kind !== "engine-error") throw new Error(`expected an engine error, got ${result.kind}`);
  return result.message;
}

// Asked for before the image is looked at.
describe.skipIf(findQemu() === null)("a kernel that cannot be tried (needs QEMU)", () => {
  it("is truncated", async () => {
    const image = imageOf(bootImage().subarray(0, IMAGE_BYTES - 1));
    expect(await failureOf(image)).toContain(
      `is truncated: its header speaks of ${IMAGE_BYTES} bytes, the file has ${IMAGE_BYTES - 1}`,
    );
  });

  it("is not there", async () => {
    expect(await failureOf("/nonexistent/bzImage")).toMatch(/ENOENT.*\/nonexistent\/bzImage/);
  });

  it("lacks a module that nothing works without", async () => {
    const modules = join(run.engineDirectory(), "modules");
    mkdirSync(modules);
    expect(await failureOf(imageOf(bootImage()), modules)).toMatch(
      /modules has no module virtio_pci, nor is it in the image/,
    );
  });
});

describe.skipIf(findQemu() === null)("a kernel that does not come up (needs QEMU)", () => {
  const failureAtBoot = (image: BootImage) => failureOf(imageOf(bootImage(image)));

  it("panics", async () => {
    const says = "[ 0.1] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n";
    expect(await failureAtBoot({ says })).toMatch(
      /bzImage did not come up: the kernel died: Kernel panic - not syncing: VFS: Unable to mount root fs$/,
    );
  });

  it("does not unpack itself, and is not waited for", async () => {
    const says = "XZ-compressed data is corrupt\r\n\r\n -- System halted";
    expect(await failureAtBoot({ says, end: "stop" })).toMatch(
      /bzImage did not come up: the kernel died: XZ-compressed data is corrupt$/,
    );
  });

  it("resets the machine without a word", async () => {
    expect(await failureAtBoot({})).toMatch(
      /the machine was reset without a word, as by a triple fault; the kernel said nothing$/,
    );
  });

  it("is refused by QEMU, whose own words are told", async () => {
    const elf = Buffer.concat([Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]), Buffer.alloc(100)]);
    expect(await failureOf(imageOf(elf))).toMatch(/bzImage did not come up: QEMU ended with 1: /);
  });
});

describe("a machine without QEMU", () => {
  it("says what to install", async () => {
    const before = process.env.DAXFAULT_NO_QEMU;
    process.env.DAXFAULT_NO_QEMU = "1";
    try {
      expect(bootSupport()).toMatchObject({ kind: "no", fix: expect.stringContaining("apt-get") });
    } finally {
      if (before === undefined) delete process.env.DAXFAULT_NO_QEMU;
      else process.env.DAXFAULT_NO_QEMU = before;
    }
  });
});

describe("the cases of a kernel that is not up", () => {
  const machineOf = () => kernelMachine({ spec: { kind: "host", text: "host" }, modulesDirectory: null });

  it("are answered for each engine that runs inside kernels, by what is known without the kernel", async () => {
    const machine = await machineOf();
    const supports = (engine: string, proposal: string) =>
      machine.supports(engine, scenarioWith({}), proposalOf(proposal));
    expect(supports("kvm", "apf-loop")).toEqual({ kind: "yes" });
    expect(supports("process", "native")).toEqual({ kind: "yes" });
    expect(supports("kvm", "native")).toMatchObject({ reason: "the proposal has no VM" });
    expect(supports("model", "apf-loop")).toMatchObject({
      reason: "engine model does not run inside kernels",
    });
  });

  it("say that it was not booted, and nothing attests it", async () => {
    const machine = await machineOf();
    expect([machine.name, machine.option("kvm")]).toEqual(["kernel:host", "--kernel host"]);
    expect(await machine.attestations(["kvm"])).toEqual([]);
    const { signal } = new AbortController();
    const context = { directory: "/nowhere", timeoutMs: 1000, signal, slowness: 1 };
    expect(await machine.run(caseWith(), context)).toEqual({
      kind: "engine-error",
      message: "it was not booted",
    });
    expect(machine.consoles()).toEqual([]);
    await machine.close();
  });
});
