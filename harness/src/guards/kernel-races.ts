/** Races with a Linux guest inside a VM that boots a kernel with KVM: one VM for all of them. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { onAbort } from "../abort.ts";
import { obtainKernel } from "../kernel/cache.ts";
import { KernelError } from "../kernel/error.ts";
import { guestKernelIn } from "../kernel/guest.ts";
import { requireQemu, slownessOf } from "../kernel/qemu.ts";
import type { GuestAsked, KernelSpec } from "../kernel/spec.ts";
import { insideEnvironment, startKernelVm } from "../kernel/vm.ts";
import { builtPath } from "../paths.ts";
import type { RunDirectory } from "../run/directory.ts";
import { within } from "../within.ts";
import type { FromKernelRaces, KernelRacePlan } from "./kernel-race-messages.ts";
import type { RaceOptions } from "./race.ts";

/** On a machine with KVM: of the VM, and of each race beside its rounds. */
const BOOT_MS = 30_000;
const RACE_MS = 60_000;
const ROUND_MS = 300;

export type KernelRacesOptions = {
  /** Has KVM. */
  readonly spec: KernelSpec;
  readonly guest: GuestAsked;
  readonly races: readonly RaceOptions[];
  readonly directory: RunDirectory;
  readonly signal: AbortSignal;
  readonly onMessage: (message: Exclude<FromKernelRaces, { type: "ended" }>) => void;
};

/** Throws a KernelError where a kernel cannot be had, or the VM does not come to the end of the races. */
export async function runKernelRaces(options: KernelRacesOptions): Promise<void> {
  const { spec, guest, races, directory, signal, onMessage } = options;
  const qemu = requireQemu();
  const slowness = slownessOf(qemu.accelerator);
  const kernel = await obtainKernel(spec, null, signal);
  const folder = directory.caseDirectory("guest");
  const guestKernel = await guestKernelIn(folder, { ...guest, signal });
  const plan: KernelRacePlan = { kernel: guestKernel, slowness, races };
  const path = join(folder, "plan.json");
  writeFileSync(path, JSON.stringify(plan));
  let isDone = false;
  const vm = startKernelVm({
    kernel,
    qemu,
    directory: directory.caseDirectory("vm"),
    // See `KernelVmOptions`: a guest with interrupts runs inside.
    ...(qemu.accelerator === "tcg" ? { cpus: 1 } : {}),
    program: {
      command: [process.execPath, builtPath("harness/src/guards/kernel-race-main.ts"), path],
      environment: insideEnvironment,
    },
    onMessage: (message) => {
      const from = message as FromKernelRaces;
      if (from.type === "ended") isDone = true;
      else onMessage(from);
    },
  });
  const stopListening = onAbort(signal, () => void vm.kill());
  const lifeMs = races.reduce((sum, { rounds }) => sum + RACE_MS + rounds * ROUND_MS, BOOT_MS) * slowness;
  const isInTime = await within(vm.ended, lifeMs);
  if (!isInTime) await vm.kill();
  const { message } = await vm.ended;
  stopListening();
  signal.throwIfAborted();
  const console = vm.console().at(-1) ?? "nothing";
  if (!isInTime) throw new KernelError(`${kernel.name}: no end within ${lifeMs} ms; last: ${console}`);
  if (!isDone) throw new KernelError(`${kernel.name}: ${message}`);
  const crash = vm.crash();
  if (crash !== null) throw new KernelError(`${kernel.name} complained: ${crash.text}`);
}
