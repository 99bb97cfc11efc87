/**
 * The VM process of one case: maps the file, builds the machine, conducts, reports, exits. One case, one process:
 * hangs, SIGBUS and lost VMs end here and nowhere else.
 */

import { closeSync, openSync } from "node:fs";
import { basename } from "node:path";
import {
  componentName,
  DaxMappings,
  PassthroughFileSystem,
  ROOT_NODE,
} from "../../../../fs-server/src/index.ts";
import {
  disableCoreDumps,
  MAP_SHARED,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
} from "../../../../sys/src/index.ts";
import {
  buildMachine,
  Fence,
  type FencedMapping,
  Kvm,
  loadImage,
  MmapWindow,
} from "../../../../vmm/src/index.ts";
import { send as sendToParent, tieToParent } from "../child-side.ts";
import { Conductor } from "./conductor.ts";
import type { FromVm, ToVm } from "./messages.ts";
import type { VmPlan } from "./plan.ts";

type Window = {
  readonly hva: bigint;
  readonly bytes: number;
  readonly mappings: readonly FencedMapping[];
  close(): void;
};

/** The window as a virtio-fs device fills it: through the file server's SETUPMAPPING, by node id. */
function openDaxWindow(plan: VmPlan): Window {
  const window = new MmapWindow(BigInt(plan.windowBytes));
  const fileSystem = new PassthroughFileSystem(plan.sourceDirectory);
  const { node } = fileSystem.lookup(ROOT_NODE, componentName(basename(plan.filePath)));
  const mappings = new DaxMappings(fileSystem, window);
  for (const { fileOffset, at, length } of plan.mappings) {
    mappings.setup({ node, fileOffset, lengthBytes: length, windowOffset: at, writable: true });
  }
  return {
    hva: window.hva,
    bytes: plan.windowBytes,
    mappings: plan.mappings.map(({ fileOffset, at, length }) => ({
      hva: window.hva + at,
      fileOffset,
      lengthBytes: length,
    })),
    close() {
      mappings.removeAll();
      fileSystem.close();
      window.close();
    },
  };
}

/** The file as an NVDIMM: mapped whole, the mapping itself the memslot. */
function openNvdimm(plan: VmPlan): Window {
  const fd = openSync(plan.filePath, "r+");
  const bytes = plan.mappings.reduce((sum, { length }) => sum + Number(length), 0);
  const hva = mmap({ lengthBytes: bytes, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
  closeSync(fd);
  const mappings = [{ hva, fileOffset: 0n, lengthBytes: BigInt(bytes) }];
  return { hva, bytes, mappings, close: () => munmap(hva, bytes) };
}

/** Typed: only what the engine understands. */
const send = (message: FromVm): Promise<void> => sendToParent(message);

let conductor: Conductor | null = null;

async function runCase(plan: VmPlan): Promise<void> {
  const window = plan.layout === "dax-window" ? openDaxWindow(plan) : openNvdimm(plan);
  const kvm = Kvm.open();
  const machine = buildMachine(kvm, loadImage(), {
    ...plan.machine,
    windowHva: window.hva,
    windowBytes: window.bytes,
    programs: plan.tasks.map(({ program }) => program),
  });
  const conducting = new Conductor(plan, machine, (message) => void send(message));
  conductor = conducting;
  const fence = plan.fence
    ? new Fence(plan.filePath, window.mappings, (event) => conducting.fenced(event))
    : null;
  void send({ type: "ready" });
  await conducting.run();
  // Awaited: closing the channel ends this process.
  await send({ type: "report", report: conducting.report(kvm.capabilities()) });
  fence?.close();
  machine.close();
  kvm.close();
  window.close();
  process.disconnect?.();
}

tieToParent();
disableCoreDumps();
process.on("message", (message: ToVm) => {
  switch (message.type) {
    case "start":
      void runCase(message.plan).catch((error: unknown) => {
        console.error(error instanceof Error ? error.stack : String(error));
        process.exit(1);
      });
      return;
    case "signal":
      conductor?.raise(message.name);
      return;
    case "host-settled":
      conductor?.hostSettled();
  }
});
