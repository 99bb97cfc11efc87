/**
 * The VM process of one case at a time: maps the file, builds the machine, conducts, reports. Hangs, SIGBUS and lost VMs
 * end here and nowhere else. It offers itself for another case only if it has looked and nothing of this one is left.
 */

import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import {
  ArmedFileSystem,
  componentName,
  DaxMappings,
  type MappingHolder,
  PassthroughFileSystem,
  ROOT_NODE,
} from "../../../../fs-server/src/index.ts";
import {
  disableCoreDumps,
  fillWithCopies,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  PageOutError,
  PROT_READ,
  PROT_WRITE,
  pageOut,
  residentPages,
} from "../../../../sys/src/index.ts";
import {
  buildMachine,
  Fence,
  type FencedMapping,
  Kvm,
  loadImage,
  MmapWindow,
  PageStates,
  WindowHolder,
} from "../../../../vmm/src/index.ts";
import { errorStack } from "../../error-text.ts";
import { FIRST_LENT_DESCRIPTOR, send as sendToParent, tieToParent } from "../child-side.ts";
import { Conductor } from "./conductor.ts";
import { type Guarding, guardFile } from "./guard.ts";
import type { FromVm, ToVm } from "./messages.ts";
import type { VmPlan } from "./plan.ts";

type Window = {
  readonly hva: bigint;
  readonly bytes: number;
  readonly mappings: readonly FencedMapping[];
  close(): void;
};

/** The window as a virtio-fs device fills it: through the file server's SETUPMAPPING, by node id. */
function openDaxWindow(plan: VmPlan, armed: number | null): Window {
  const window = new MmapWindow(BigInt(plan.windowBytes));
  const source = new PassthroughFileSystem(plan.sourceDirectory);
  const fileSystem = armed === null ? source : new ArmedFileSystem(source, armed);
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
function openNvdimm(plan: VmPlan, armed: number | null): Window {
  const fd = armed ?? openSync(plan.filePath, "r+");
  const bytes = plan.mappings.reduce((sum, { length }) => sum + Number(length), 0);
  const flags = plan.privateSwapped ? MAP_PRIVATE : MAP_SHARED;
  const hva = mmap({ lengthBytes: bytes, prot: PROT_READ | PROT_WRITE, flags, fd });
  if (plan.privateSwapped) fillWithCopies(hva, bytes, fd);
  if (armed === null) closeSync(fd);
  const mappings = [{ hva, fileOffset: 0n, lengthBytes: BigInt(bytes) }];
  return { hva, bytes, mappings, close: () => munmap(hva, bytes) };
}

/** Typed: only what the engine understands. */
const send = (message: FromVm): Promise<void> => sendToParent(message);

let conductor: Conductor | null = null;

/** Tells each mapping's holder. */
function holderOf(holders: readonly MappingHolder[]): MappingHolder {
  return {
    recall: (threat) => {
      for (const holder of holders) void holder.recall(threat);
    },
    settle: (sizeBytes) => {
      for (const holder of holders) holder.settle(sizeBytes);
    },
    cutOff: (reason) => {
      for (const holder of holders) holder.cutOff(reason);
    },
  };
}

/** The window's mappings become the guard's to recall. Returns the states of its pages for the vCPUs. */
function handToGuard(
  window: Window,
  guarding: Guarding,
  conducting: () => Conductor | null,
): SharedArrayBuffer {
  const states = new PageStates(window.hva, window.bytes);
  const holders = window.mappings.map(
    ({ hva, lengthBytes, fileOffset }) =>
      new WindowHolder(
        { hva, lengthBytes: Number(lengthBytes), fileOffset, fd: guarding.fd },
        states,
        (event) => conducting()?.heldBy(event),
      ),
  );
  guarding.holder.become(holderOf(holders));
  return states.buffer;
}

async function runCase(plan: VmPlan): Promise<void> {
  // Lent by the stage: a kernel lease is granted to the only open file description of a file.
  const guarding =
    plan.guard === null
      ? null
      : await guardFile(plan.guard, FIRST_LENT_DESCRIPTOR, (event) => conductor?.guarded(event));
  const armed = guarding?.fd ?? null;
  const window = plan.layout === "dax-window" ? openDaxWindow(plan, armed) : openNvdimm(plan, armed);
  const pageStates = guarding === null ? undefined : handToGuard(window, guarding, () => conductor);
  const kvm = Kvm.open();
  const machine = buildMachine(kvm, loadImage(), {
    ...plan.machine,
    windowHva: window.hva,
    windowBytes: window.bytes,
    programs: plan.tasks.map(({ program }) => program),
    ...(pageStates === undefined ? {} : { pageStates }),
  });
  const conducting = new Conductor(plan, machine, (message) => void send(message));
  conductor = conducting;
  const fence = plan.fence
    ? new Fence(plan.filePath, window.mappings, (event) => conducting.fenced(event))
    : null;
  if (plan.privateSwapped) {
    await pageOut(window.hva, window.bytes);
    // Looked at once more, by itself: the witness must not rest on the word of who was to do it.
    const resident = residentPages(window.hva, window.bytes).length;
    if (resident > 0) throw new PageOutError(`${resident} pages are in memory that should be in swap`);
    conducting.swappedOut(window.bytes);
  }
  if (guarding?.refusal != null) conducting.unguarded(guarding.refusal);
  const isCopy = guarding !== null && guarding.fd !== FIRST_LENT_DESCRIPTOR;
  void send({ type: "ready", filePath: isCopy ? `/proc/${process.pid}/fd/${guarding.fd}` : null });
  await conducting.run();
  await send({ type: "report", report: conducting.report(kvm.capabilities()) });
  fence?.close();
  await guarding?.close();
  conductor = null;
  machine.close();
  kvm.close();
  window.close();
}

/** What a VM, a file or a guard may leave open in this process. */
const suspicious = /anon_inode:(?:kvm-|\[userfaultfd\]|\[fanotify\])|^\/dev\/kvm/;

/** Descriptors and mappings of a case that is over: none, or the process must not serve another one. */
function leftovers(plan: VmPlan): readonly string[] {
  const isOfCase = (name: string): boolean =>
    suspicious.test(name) || name.startsWith(`${plan.sourceDirectory}/`);
  const links = readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // The folder's own descriptor.
    }
  });
  const mapped = readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .map((line) => line.split(/ +/, 6)[5] ?? "");
  return [...links, ...mapped].filter(isOfCase);
}

async function serveCase(plan: VmPlan): Promise<void> {
  try {
    await runCase(plan);
  } catch (error) {
    // The last line is what the user is told.
    console.error(error instanceof PageOutError ? error.message : errorStack(error));
    process.exit(1);
  }
  if (leftovers(plan).length > 0) process.exit(0);
  await send({ type: "idle" });
}

tieToParent();
disableCoreDumps();
process.on("message", (message: ToVm) => {
  switch (message.type) {
    case "start":
      void serveCase(message.plan);
      return;
    case "signal":
      conductor?.raise(message.name);
      return;
    case "host-settled":
      conductor?.hostSettled();
  }
});
