/**
 * The VM process of one case at a time: maps the file, builds the machine, runs the case, reports. Hangs, SIGBUS and lost VMs
 * end here and nowhere else. It serves another case only if it has checked that nothing of this one is left.
 */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { MappingHolder } from "../../../../fs-server/src/index.ts";
import { PageOutError, pageOut, residentPages } from "../../../../sys/src/index.ts";
import {
  Fence,
  type Machine,
  openMachine,
  PageStates,
  runMachine,
  WindowHolder,
} from "../../../../vmm/src/index.ts";
import { FIRST_LENT_DESCRIPTOR } from "../child-side.ts";
import { type CaseGuest, CaseRunner } from "../vm/case-runner.ts";
import { type Guarding, guardFile } from "../vm/guard.ts";
import { send, serveCases } from "../vm/vm-side.ts";
import { actOnMapping } from "./mapping-action.ts";
import type { VmPlan } from "./plan.ts";
import { openWindow, type Window } from "./window.ts";

/** The case under way. */
let runner: CaseRunner | null = null;

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
function handToGuard(window: Window, guarding: Guarding): SharedArrayBuffer {
  const states = new PageStates(window.hva, window.bytes);
  const holders = window.mappings.map(
    ({ hva, lengthBytes, fileOffset }) =>
      new WindowHolder(
        { hva, lengthBytes: Number(lengthBytes), fileOffset, fd: guarding.fd },
        states,
        (event) => runner?.trace.heldBy(event),
      ),
  );
  guarding.holder.become(holderOf(holders));
  return states.buffer;
}

/** Pages everything out, and looks again: the witness does not rest on the word of what did it. */
async function swapOut({ hva, bytes }: Window): Promise<void> {
  await pageOut(hva, bytes);
  const resident = residentPages(hva, bytes).length;
  if (resident > 0) throw new PageOutError(`${resident} pages are in memory that should be in swap`);
}

function guestOf(machine: Machine, plan: VmPlan, window: Window): CaseGuest {
  return {
    channel: machine.channel,
    cpus: machine.vcpus.length,
    capabilities: () => machine.kvm.capabilities(),
    start: (handlers, limits) => runMachine(machine, handlers, limits),
    act: (action) => actOnMapping(action, plan, window),
    release: () => window.release(),
    ...(plan.memory.kind === "tmpfs-huge" || plan.memory.kind === "hugetlb"
      ? { hasLargePage: () => (machine.vm.stat("pages_2m") ?? 0n) > 0n }
      : {}),
  };
}

async function runCase(plan: VmPlan): Promise<void> {
  // Lent by the host setup: a kernel lease is granted to the only open file description of a file.
  const guarding =
    plan.guard === null
      ? null
      : await guardFile(plan.guard, FIRST_LENT_DESCRIPTOR, (event) => runner?.trace.guarded(event));
  const window = openWindow(plan, guarding?.fd ?? null);
  const pageStates = guarding === null ? undefined : handToGuard(window, guarding);
  const machine = openMachine({
    ...plan.machine,
    policy: plan.policy,
    windowHva: window.hva,
    windowBytes: window.bytes,
    programs: plan.tasks.map(({ program }) => program),
    ...(pageStates === undefined ? {} : { pageStates }),
  });
  window.join?.(machine.vm);
  const running = new CaseRunner(
    plan,
    guestOf(machine, plan, window),
    (message) => void send(message),
    guarding,
  );
  runner = running;
  const fence = plan.fence
    ? new Fence(plan.filePath, window.mappings, (event) => running.trace.fenced(event))
    : null;
  if (plan.memory.kind === "private-swapped") {
    await swapOut(window);
    running.trace.swappedOut(window.bytes);
  }
  if (guarding?.refusal != null) running.trace.unguarded(guarding.refusal);
  const isCopy = guarding !== null && guarding.fd !== FIRST_LENT_DESCRIPTOR;
  void send({ type: "ready", filePath: isCopy ? `/proc/${process.pid}/fd/${guarding.fd}` : null });
  const report = await running.run();
  const lost = (await guarding?.lost()) ?? null;
  // Nothing was guarded from then on: what was seen says nothing of the guard.
  const end = lost === null ? report.end : ({ kind: "defect", message: lost } as const);
  await send({ type: "report", report: { ...report, end } });
  fence?.close();
  await guarding?.close();
  runner = null;
  window.release();
  machine.close();
  await window.close();
}

/** Descriptors that a VM, a file or a guard may leave open in this process. */
const suspicious = /anon_inode:(?:kvm-|\[userfaultfd\]|\[fanotify\]|\[kvm-gmem\])|^\/dev\/kvm/;

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

serveCases<VmPlan>({
  runCase,
  runner: () => runner,
  isKnown: (error) => error instanceof PageOutError,
  isClean: (plan) => leftovers(plan).length === 0,
});
