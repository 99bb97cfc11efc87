/** What becomes of kernels that cannot even be tried: their cases say why, and nothing is started. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { kernelEngine } from "../../../src/engines/kernel/engine.ts";
import { findQemu } from "../../../src/kernel/qemu.ts";
import { parseKernelSpec } from "../../../src/kernel/spec.ts";
import { openRunDirectory } from "../../../src/run/directory.ts";
import { processesOf } from "../../../src/run/sweep.ts";
import { proposalOf, scenarioWith } from "../../support/cases.ts";

const run = openRunDirectory();
afterAll(async () => {
  expect(await run.close()).toEqual([]);
});

/** A bzImage as far as its header goes: boot protocol, 4 + 1 setup sectors, 64 KiB of kernel, a release. */
function imageOf(sizeBytes: number): string {
  const bytes = Buffer.alloc(sizeBytes);
  bytes[0x1f1] = 4;
  bytes.writeUInt32LE(0x10000 / 16, 0x1f4);
  bytes.writeUInt32BE(0x48647253, 0x202);
  bytes.writeUInt16LE(0x300 - 0x200, 0x20e);
  bytes.write("6.99.0-test (somebody)\0", 0x300, "latin1");
  const path = join(run.engineDirectory(), "bzImage");
  writeFileSync(path, bytes);
  return path;
}

const WHOLE_BYTES = 5 * 512 + 0x10000;

async function failureOf(path: string, modulesDirectory: string | null): Promise<string> {
  const spec = parseKernelSpec(path);
  if (spec.kind === "problem") throw new Error(spec.message);
  const engine = kernelEngine({ spec, modulesDirectory });
  const signal = new AbortController().signal;
  await engine.open({ directory: run.engineDirectory(), signal });
  expect(await engine.attest()).toBeNull();
  const context = { directory: run.engineDirectory(), timeoutMs: 1000, signal, slowness: 1 };
  const result = await engine.run(scenarioWith({}), proposalOf("apf-loop"), context);
  await engine.close();
  expect(processesOf(run.path)).toEqual([]);
  if (result.kind !== "engine-error") throw new Error(`expected an engine error, got ${result.kind}`);
  return result.message;
}

// Asked for before the image is looked at.
describe.skipIf(findQemu() === null)("a kernel that cannot be tried (needs QEMU)", () => {
  it("is truncated", async () => {
    expect(await failureOf(imageOf(WHOLE_BYTES - 1), null)).toMatch(
      /is truncated: its header speaks of 68096 bytes, the file has 68095/,
    );
  });

  it("is not there", async () => {
    expect(await failureOf("/nonexistent/bzImage", null)).toMatch(/ENOENT.*\/nonexistent\/bzImage/);
  });

  it("lacks a module that nothing works without", async () => {
    const modules = join(run.engineDirectory(), "modules");
    mkdirSync(modules);
    expect(await failureOf(imageOf(WHOLE_BYTES), modules)).toMatch(
      /modules has no module virtio_pci, nor is it in the image/,
    );
  });
});

describe("a machine without QEMU", () => {
  it("says what to install", async () => {
    const before = process.env.DAXFAULT_NO_QEMU;
    process.env.DAXFAULT_NO_QEMU = "1";
    try {
      const engine = kernelEngine({ spec: { kind: "host", text: "host" }, modulesDirectory: null });
      expect(await engine.available()).toMatchObject({ kind: "no", fix: expect.stringContaining("apt-get") });
    } finally {
      if (before === undefined) delete process.env.DAXFAULT_NO_QEMU;
      else process.env.DAXFAULT_NO_QEMU = before;
    }
  });
});
