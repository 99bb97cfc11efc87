/**
 * A Linux guest on our VMM, inside a kernel's VM: what becomes of the process, the VM, and of the boot after the case. Minutes
 * under emulation: only with `npm run test:long`.
 *
 * What is expected of Linux 6.12 was measured before, with a VMM in C that shares nothing with ours.
 */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Evidence, RunResult } from "../../../../language/src/index.ts";
import { proposalOf } from "../../../../language/test/support/cases.ts";
import { engineRow } from "../../../src/engines/registry.ts";
import { loadScenarios } from "../../../src/fixtures.ts";
import { obtainKernel } from "../../../src/kernel/cache.ts";
import { type GuestAsked, parseKernelSpec } from "../../../src/kernel/spec.ts";
import { kernelMachine } from "../../../src/machines/kernel/machine.ts";
import { openRunDirectory } from "../../../src/run/directory.ts";
import { caseFolder } from "../../support/folders.ts";
import { noVm, VM_KERNEL } from "../../support/vm.ts";

const BOUND_MS = 900_000;
const row = engineRow("linux");

function evidenceOf(result: RunResult): Evidence {
  if (result.kind !== "evidence") throw new Error(`${result.kind}: ${result.message}`);
  return result.evidence;
}

/** Debian's image of this version in a folder by itself: its configuration and its modules are not at hand. */
async function bareImage(version: string): Promise<string> {
  const kernel = await obtainKernel({ kind: "debian-version", text: `debian:${version}`, version }, null);
  const path = join(caseFolder(), `vmlinuz-${version}`);
  copyFileSync(kernel.imagePath, path);
  return path;
}

/**
 * Runs the cases one after the other in one kernel's VM: `scenario proposal`.
 * @param guestImage the guest's kernel, without modules; the usual one if left out
 */
async function runAll(cases: readonly string[], guestImage?: string): Promise<readonly RunResult[]> {
  const run = openRunDirectory();
  const { signal } = new AbortController();
  const spec = parseKernelSpec(VM_KERNEL);
  if (spec.kind === "problem") throw new Error(spec.message);
  const guest: { readonly guest?: GuestAsked } =
    guestImage === undefined
      ? {}
      : { guest: { spec: { kind: "file", text: guestImage, path: guestImage }, modulesDirectory: null } };
  const machine = await kernelMachine({ spec, modulesDirectory: null, engines: [row], ...guest });
  try {
    await machine.open([row.name], { directory: run.engineDirectory(), signal });
    const found: RunResult[] = [];
    for (const one of cases) {
      const [id = "", proposal = ""] = one.split(" ");
      const scenario = loadScenarios().find((known) => known.id === id);
      if (scenario === undefined) throw new Error(`there is no scenario ${id}`);
      await machine.recover();
      const planned = {
        scenario,
        proposal: proposalOf(proposal),
        engine: row.name,
        nature: row.nature,
      } as const;
      const context = {
        directory: run.engineDirectory(),
        timeoutMs: 240_000,
        signal,
        slowness: machine.slowness(row),
      };
      found.push(await machine.run({ ...planned, machine: machine.name }, context));
    }
    return found;
  } finally {
    await machine.close();
    await run.close();
  }
}

async function evidenceOfAll(cases: readonly string[]): Promise<readonly Evidence[]> {
  return (await runAll(cases)).map(evidenceOf);
}

describe.skipIf(noVm !== null)(`the engine linux (${noVm ?? VM_KERNEL})`, () => {
  it(
    "sees what Linux makes of each report, and serves case after case in one boot",
    async () => {
      const [loop, stop, fault, check, zeros] = await evidenceOfAll([
        "load-after-truncate apf-guest",
        "load-after-truncate fence-exit",
        "load-after-truncate pf-injection",
        "load-after-truncate mce-injection",
        "load-after-truncate remap-zero",
      ]);
      const last = (evidence: Evidence | undefined) => evidence?.observations.accesses.victim?.["load#2"];
      const vmm = (evidence: Evidence | undefined) => evidence?.observations.vmm?.at(-1)?.kind;
      expect([last(loop)?.kind, vmm(loop)]).toEqual(["hung", "looping"]);
      expect([last(stop)?.kind, vmm(stop)]).toEqual(["killed", "stopped"]);
      expect(last(fault)).toEqual({ kind: "sigsegv", code: "SEGV_ACCERR" });
      expect(last(check)).toEqual({ kind: "sigbus", code: "SI_KERNEL" });
      expect(last(zeros)?.kind).toBe("zero");
      for (const one of [loop, stop, fault, check, zeros]) {
        expect(one?.observations.guestKernel).toBe("alive");
        expect(one?.attestation).toMatchObject({ engine: "linux", apfEnabled: true, lapic: "kernel" });
      }
      expect(check?.guestConsole?.join("\n")).toContain("Machine Check Exception");
      expect([loop, stop, fault, check, zeros].map((one) => one?.attestation.guest?.bootCase)).toEqual([
        1, 2, 3, 4, 5,
      ]);
    },
    BOUND_MS,
  );

  it(
    "tells a page whose READs fail, which loops, from one whose READ is never answered, for which the process sleeps",
    async () => {
      const [loop, wait] = await evidenceOfAll([
        "load-of-failing-page apf-guest",
        "load-of-page-never-read-of-written-range apf-guest",
      ]);
      for (const one of [loop, wait]) {
        const labels = Object.values(one?.observations.accesses.victim ?? {});
        expect(labels.map(({ kind }) => kind)).toEqual(["value", "hung"]);
      }
      expect(loop?.observations.vmm?.map(({ kind }) => kind)).toEqual(["looping"]);
      expect(wait?.observations.vmm?.map(({ kind }) => kind)).toEqual(["running"]);
      expect(wait?.observations.bystanders).toEqual({ counter: "progress" });
    },
    BOUND_MS,
  );

  it(
    "sees the same of a file on an NVDIMM, and its own page cache without DAX",
    async () => {
      const [loop, fault, read, cached, known] = await evidenceOfAll([
        "nvdimm/load-after-truncate apf-guest",
        "nvdimm/store-after-truncate pf-injection",
        "nvdimm/file-read-after-truncate pf-injection",
        "virtio-fs/load-of-cached-page apf-guest",
        "virtio-fs/load-after-size apf-guest",
      ]);
      const last = (evidence: Evidence | undefined, label: string) =>
        evidence?.observations.accesses.victim?.[label];
      expect(last(loop, "load#2")?.kind).toBe("hung");
      expect(last(fault, "store#1")).toEqual({ kind: "sigsegv", code: "SEGV_ACCERR" });
      expect(last(read, "file-read#1")?.kind).toBe("efault");
      expect(last(cached, "load#2")?.kind).toBe("stale");
      expect(last(known, "load#2")).toEqual({ kind: "sigbus", code: "BUS_ADRERR" });
      const guests = [loop, fault, read, cached, known].map((one) => one?.attestation.guest);
      expect(guests.map((guest) => [guest?.mount, guest?.bootCase])).toEqual([
        ["ext4 dax=always", 1],
        ["ext4 dax=always", 2],
        ["ext4 dax=always", 3],
        ["virtiofs dax=never", 1],
        ["virtiofs dax=never", 2],
      ]);
      for (const one of [loop, fault, read]) expect(one?.attestation.windowBytes).toBeNull();
    },
    BOUND_MS,
  );

  // Modules of Debian's: virtiofs of 6.1, virtio_mmio of both.
  it.each([
    ["6.1", "no virtio-fs (CONFIG_VIRTIO_FS, CONFIG_FUSE_FS): mount of type virtiofs: errno 19"],
    ["6.12", "no virtio device (CONFIG_VIRTIO_MMIO, CONFIG_ACPI): mount of type virtiofs: errno 22"],
  ])(
    "names the option that a kernel in a file lacks: %s without its modules",
    async (version, lack) => {
      const image = await bareImage(version);
      const results = await runAll(
        ["load-after-truncate fence-exit", "load-after-truncate pf-injection"],
        image,
      );
      const message = `--guest-kernel ${image}: it cannot be a guest: ${lack}`;
      for (const result of results) {
        expect(result).toEqual({ kind: "engine-error", message: expect.stringContaining(message) });
      }
    },
    BOUND_MS,
  );
});
