/**
 * The VM process of a Linux guest: boots it for the first case, serves case after case in the same boot as long as what
 * they ask of it is the same and nothing of an earlier case is left in it. Hangs, SIGBUS and lost VMs end here.
 */
import { closeSync, openSync } from "node:fs";
import { basename } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { ArmedFileSystem, type FileSystem, PassthroughFileSystem } from "../../../../fs-server/src/index.ts";
import type { LinuxGuestFacts, VmmAction } from "../../../../language/src/index.ts";
import { BootImageError } from "../../../../vmm/src/index.ts";
import { FIRST_LENT_DESCRIPTOR } from "../child-side.ts";
import { CaseRunner } from "../vm/case-runner.ts";
import { failPageOfFile } from "../vm/file-page.ts";
import { type Guarding, guardFile } from "../vm/guard.ts";
import { send, serveCases } from "../vm/vm-side.ts";
import { GuestError } from "./bring-up.ts";
import { LinuxGuest } from "./guest.ts";
import type { Nvdimm } from "./nvdimm.ts";
import type { BootPlan, LinuxPlan } from "./plan.ts";
import type { SharedFolder } from "./shared-folder.ts";
import { FenceWatch, GuardWatch } from "./window.ts";

/** After a case, on a real machine: the guest ends its tasks, takes the mount away, and is idle again. */
const SETTLE_MS = 1500;

type Boot = { readonly plan: BootPlan; readonly guest: LinuxGuest };

/** The boot that there is. */
let boot: Boot | null = null;
/** The case under way. */
let runner: CaseRunner | null = null;

/** The guest that the plan asks for: the one that is up, if it is like that. */
async function guestFor(plan: BootPlan): Promise<LinuxGuest> {
  if (boot !== null && isDeepStrictEqual(boot.plan, plan)) return boot.guest;
  await boot?.guest.close();
  boot = null;
  const guest = new LinuxGuest(plan);
  await guest.up();
  boot = { plan, guest };
  return guest;
}

function factsOf(plan: LinuxPlan, guest: LinuxGuest): LinuxGuestFacts {
  const { kernel, cpus, asyncPageFaults, machineCheckRecovery } = plan.boot;
  return {
    kernel: kernel.name,
    origin: kernel.origin,
    imageSha256: kernel.sha256,
    patches: kernel.patches,
    release: guest.release === "" ? (kernel.release ?? "unknown") : guest.release,
    commandLine: guest.commandLine,
    cpus,
    bootCase: guest.cases,
    asyncPageFaults,
    machineCheckRecovery,
    mount: `${plan.mount.type} ${plan.mount.options}`,
  };
}

/** KVM counts the entries of a guest's own guests (kvm_vcpu_stat.nested_run). */
const noNestedRun = "no access was made in a VM of the guest's own KVM: nested_run has not changed";

/** What of the storage is the case's: the guest is there at `remove`, and may be gone at `close`. */
type Filling = { remove(): void; close(): void };

/** Puts the file of the case into the guest's storage. */
function fill(storage: SharedFolder | Nvdimm, plan: LinuxPlan, guarding: Guarding | null): Filling {
  if (storage.kind === "nvdimm") {
    // A guarded file is not opened again: that breaks a lease.
    const fd = guarding?.fd ?? openSync(plan.filePath, "r+");
    const sizeBytes = plan.mappings.reduce((sum, { length }) => sum + Number(length), 0);
    storage.insert(fd, basename(plan.filePath), sizeBytes);
    return {
      remove: () => storage.remove(),
      close: () => {
        if (guarding === null) closeSync(fd);
      },
    };
  }
  const source = new PassthroughFileSystem(plan.sourceDirectory);
  const fs: FileSystem = guarding === null ? source : new ArmedFileSystem(source, guarding.fd);
  storage.serve(fs, { validity: { entryMs: plan.attributeMs, attributesMs: plan.attributeMs } });
  return { remove: () => {}, close: () => fs.close() };
}

/** What follows the window for this case. */
function watch(plan: LinuxPlan, guest: LinuxGuest, running: CaseRunner, guarding: Guarding | null): void {
  const { memory } = guest.storage;
  if (plan.fence) {
    memory.watchBy(new FenceWatch(plan.filePath, (event) => running.trace.fenced(event)));
  }
  if (guarding === null) return;
  if (guarding.refusal !== null) {
    running.trace.unguarded(guarding.refusal);
    return;
  }
  const holder = new GuardWatch(memory, guarding.fd, (event) => running.trace.heldBy(event));
  memory.watchBy(holder);
  guarding.holder.become(holder);
}

async function runCase(plan: LinuxPlan): Promise<void> {
  const guest = await guestFor(plan.boot);
  const guarding =
    plan.guard === null
      ? null
      : await guardFile(plan.guard, FIRST_LENT_DESCRIPTOR, (event) => runner?.trace.guarded(event));
  const filling = fill(guest.storage, plan, guarding);
  const prepared = {
    ...(await guest.prepare(plan, basename(plan.filePath))),
    act: (action: VmmAction) => failPageOfFile(plan, action.offset),
  };
  const running = new CaseRunner(plan, prepared, (message) => void send(message), guarding);
  runner = running;
  watch(plan, guest, running, guarding);
  const isCopy = guarding !== null && guarding.fd !== FIRST_LENT_DESCRIPTOR;
  void send({ type: "ready", filePath: isCopy ? `/proc/${process.pid}/fd/${guarding.fd}` : null });
  const report = await running.run();
  const nestedRuns = report.final?.counters.nested_run ?? 0n;
  const lost = (await guarding?.lost()) ?? null;
  // Nothing was guarded from then on: what was seen says nothing of the guard.
  const flawOfCase =
    lost ?? (plan.boot.virtualization === "offered" && nestedRuns === 0n ? noNestedRun : null);
  const end = flawOfCase === null ? report.end : ({ kind: "defect", message: flawOfCase } as const);
  const { oopses: oopsCount, console } = guest;
  await send({
    type: "report",
    report: { ...report, end, oopsCount, guest: { facts: factsOf(plan, guest), console } },
  });
  runner = null;
  guest.storage.memory.unwatch();
  const flaw = await guest.settle(SETTLE_MS * plan.slowness);
  filling.remove();
  if (flaw !== null) {
    boot = null;
    await guest.close();
  }
  await guarding?.close();
  filling.close();
}

serveCases<LinuxPlan>({
  runCase,
  runner: () => runner,
  isKnown: (error) => error instanceof GuestError || error instanceof BootImageError,
  // What is left of a case is the guest's to lose: `settle`.
  isClean: () => true,
});
