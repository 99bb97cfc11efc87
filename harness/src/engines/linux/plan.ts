/**
 * From a scenario and a proposal to what the VM process of a Linux guest does: how the guest is booted, and the case.
 * Pure; refuses a case that Linux cannot run, or that would show nothing.
 *
 * The guest is what its kernel is, whatever persona the proposal wishes for: what a proposal's VMM does is tried on it,
 * and what becomes of that is the result.
 */
import {
  type Actor,
  allAccesses,
  cacheTimeoutMs,
  changesServer,
  cpuOf,
  enablesApf,
  type GuestPart,
  type GuestStep,
  guestActors,
  guestPersonas,
  isAccess,
  isMappedIntoGuest,
  isNested,
  type KvmPart,
  kernelCopyOptionsOf,
  type Layout,
  type Proposal,
  type Scenario,
  seenBytes,
  touchOf,
} from "../../../../language/src/index.ts";
import type { LinuxMount } from "../../../../vmm/src/index.ts";
import { type BuiltIn, type GuestKernel, type Support, stockKernels } from "../../engine.ts";
import { supportsKvm } from "../built-in.ts";
import { ownMappingReason } from "../own-mapping.ts";
import { sealedReason } from "../sealed.ts";
import { type CasePlan, commonPlan, type PlanPlace } from "../vm/plan.ts";

/** What a boot of the guest depends on: cases that agree in all of it share one. */
export type BootPlan = {
  readonly kernel: GuestKernel;
  /** The one that has the file. */
  readonly device: "virtio-fs" | "virtio-pmem";
  readonly cpus: number;
  readonly asyncPageFaults: "offered" | "hidden";
  readonly machineCheckRecovery: "offered" | "hidden";
  /** The guest has KVM. */
  readonly virtualization: "offered" | "hidden";
  readonly hltInGuest: boolean;
  readonly ioPatienceMs: number;
  readonly isIoAnswered: boolean;
  /** From KVM_CREATE_VM to the guest's program. */
  readonly boundMs: number;
};

export type LinuxPlan = CasePlan & {
  readonly boot: BootPlan;
  /** By which the guest has the file. */
  readonly mount: LinuxMount;
  /** How long the guest's kernel may take the size and the times that it has for the file's own. */
  readonly attributeMs: number;
};

/** Tag of the virtio-fs device. */
export const SHARE_TAG = "daxfault";

export const mounts: Readonly<Record<Layout, LinuxMount>> = {
  "dax-window": { type: "virtiofs", source: SHARE_TAG, options: "dax=always" },
  "virtio-fs": { type: "virtiofs", source: SHARE_TAG, options: "dax=never" },
  nvdimm: { type: "ext4", source: "/dev/pmem0", options: "dax=always" },
};

/** On a real machine. Measured under emulation: 5 to 8 s on an idle machine, a minute on a busy one. */
export const BOOT_BOUND_MS = 30_000;
/** As virtiofsd's `--cache auto` has it; of a host's step the guest's kernel learns nothing sooner. */
export const ATTRIBUTE_MS = 1000;
/** Each is a process of the guest. */
const TASKS_MAX = 16;

const yes: Support = { kind: "yes" };
const no = (reason: string, fix: string | null = null): Support => ({ kind: "no", reason, fix });

/** What Linux is, by the persona that a proposal has; a text: why no Linux is like that. */
const personas: Readonly<Record<GuestPart, "offered" | "hidden" | string>> = {
  apf: "offered",
  unaware: "hidden",
  "mce-safe-loads": "offered",
  "mce-safe-loads-no-apf": "hidden",
  // It takes the error report for what it takes it.
  "pv-error": "offered",
  "pv-error-no-apf": "hidden",
  "apf-send-always": "no Linux since 5.8 asks for page-not-present at CPL 0",
  "apf-error": "no Linux understands an error in page-ready",
  "mce-safe-all": "no Linux covers stores by machine-check-safe copies",
  ve: "Linux has a handler for #VE in TDX guests only",
  "ve-no-apf": "Linux has a handler for #VE in TDX guests only",
};

/** What a Linux with the patch of a proposal is besides: the personas that it has become. */
const patchedPersonas: Readonly<Partial<Record<KvmPart, readonly GuestPart[]>>> = {
  "ready-error": ["apf-error"],
  "inject-ve": ["ve", "ve-no-apf"],
};

/** A text: why no Linux with `built` in it is like that. */
function personaOn(guest: GuestPart, built: KvmPart): string {
  if (!(patchedPersonas[built] ?? []).includes(guest)) return personas[guest];
  return guestPersonas[guest].asyncPageFaults === "off" ? "hidden" : "offered";
}

function supportsProposal(proposal: Proposal, builtIn: BuiltIn): Support {
  const { lapic, vmm, guest } = proposal;
  if (lapic === null || guest === "none") return no("the proposal has no VM");
  const kvm = supportsKvm(builtIn.kvm, proposal);
  if (kvm.kind === "no") return kvm;
  if (lapic === "user") {
    return no(
      "the Linux guest has its APIC in the kernel; fence-exit and no-hlt-exits-no-apf have the same -EFAULT exit",
    );
  }
  if (vmm === "inject-pv") return no("Linux has no driver for the paravirtual error interrupt");
  const persona = personaOn(guest, builtIn.guest);
  return persona === "offered" || persona === "hidden" ? yes : no(persona);
}

/** What a step of a task in a guest's guest cannot do there; null: it can. As vmm/guest/linux/case.c refuses it. */
function beyondNested(name: string, step: GuestStep): string | null {
  if (!isAccess(step)) return null;
  const { by, instruction } = touchOf(step);
  if (by === "kernel" || instruction === null) {
    return `${name}: the nested VM has no kernel that could do ${step.verb}`;
  }
  return instruction === "move" && seenBytes(step) > 16
    ? `${name}: the nested VM has no registers of ${seenBytes(step)} bytes`
    : null;
}

/** The part of an actor that no process of a Linux guest can do; null: there is none. */
function beyondLinux(name: string, actor: Actor): string | null {
  switch (actor.in) {
    case "host-process":
    case "vmm":
      return null;
    case "guest-kernel":
      return `${name} runs at CPL 0; in a Linux guest the steps are those of processes`;
    case "guest-task":
      for (const step of actor.nested ? actor.steps : []) {
        const reason = beyondNested(name, step);
        if (reason !== null) return reason;
      }
      if (actor.interrupts === "off") return `${name} runs with interrupts off; a process cannot`;
      return actor.steps.some((step) => isAccess(step) && kernelCopyOptionsOf(step).length > 0)
        ? `${name} asks for a kernel copy that is not Linux's own`
        : null;
  }
}

function supportsScenario(scenario: Scenario): Support {
  for (const [name, actor] of Object.entries(scenario.actors)) {
    const reason = beyondLinux(name, actor);
    if (reason !== null) return no(reason);
  }
  if (scenario.nmi !== undefined)
    return no("the handlers of a Linux guest are its own: no NMI comes between");
  if (scenario.witness.some(({ subject, label }) => subject === "backing" && label === "huge-page")) {
    return no(
      "whether a large page that KVM has mapped is the file's or the guest's own RAM, KVM's counters do not say",
    );
  }
  const ownMapping = ownMappingReason(scenario, { failsPages: true });
  if (ownMapping !== null) return no(ownMapping);
  const tasks = guestActors(scenario).length;
  return tasks > TASKS_MAX ? no(`${tasks} tasks would be as many processes; at most ${TASKS_MAX}`) : yes;
}

/** Fence and guards act on the pages of the file that are guest memory. */
function supportsLayout({ layout }: Scenario, { exits, server }: Proposal): Support {
  if (isMappedIntoGuest(layout)) return yes;
  const who = server !== "none" ? `guard ${server}` : exits === "fence" ? "the fence" : null;
  if (who === null) return yes;
  return no(`no page of the file is guest memory in layout ${layout}: ${who} has nothing to act on`);
}

/** Does the task go on behind its handler for SIGBUS, where Linux sends another signal, or none? */
function goesOnInVain(scenario: Scenario, { vmm }: Proposal): boolean {
  const handles = guestActors(scenario).some(
    ([, actor]) => actor.in === "guest-task" && actor.onSigbus === "next-step",
  );
  return handles && (vmm === "inject-pf" || vmm === "nmi");
}

/** Can a Linux guest run the case, on whatever machine? */
export function supportsLinux(
  scenario: Scenario,
  proposal: Proposal,
  builtIn: BuiltIn = stockKernels,
): Support {
  const answers = [
    supportsProposal(proposal, builtIn),
    supportsScenario(scenario),
    supportsLayout(scenario, proposal),
  ];
  for (const answer of answers) {
    if (answer.kind === "no") return answer;
  }
  const fetches = allAccesses(scenario).some((step) => touchOf(step).kind === "fetch");
  if (fetches && proposal.vmm === "remap-zero") {
    return no("remap-zero replaces the code page with zeros: what the guest executes then is undefined");
  }
  if (goesOnInVain(scenario, proposal)) {
    return no(`no handler for SIGBUS sees what Linux makes of ${proposal.vmm}: the task would not go on`);
  }
  const reachesOriginal = sealedReason(scenario, proposal.server);
  return reachesOriginal === null ? yes : no(reachesOriginal);
}

/** Likewise on our own VMM, which serves the window in the process of its vCPUs (shared-folder.ts). */
export function supportsOwnVmm(
  scenario: Scenario,
  proposal: Proposal,
  builtIn: BuiltIn = stockKernels,
): Support {
  if (changesServer(scenario, "stops")) {
    return no(
      "the VMM serves the window itself, and opens the file of the stopped server for that: it would wait, and nobody see what the guest does",
    );
  }
  return supportsLinux(scenario, proposal, builtIn);
}

function bootPlan(scenario: Scenario, proposal: Proposal, common: CasePlan, kernel: GuestKernel): BootPlan {
  const { exits } = proposal;
  const { ioPatienceMs, isIoAnswered, slowness } = common;
  const cpus = 1 + Math.max(0, ...guestActors(scenario).map(([, actor]) => cpuOf(actor)));
  return {
    kernel,
    device: scenario.layout === "nvdimm" ? "virtio-pmem" : "virtio-fs",
    cpus,
    asyncPageFaults: enablesApf(proposal) ? "offered" : "hidden",
    machineCheckRecovery: "offered",
    virtualization: isNested(scenario) ? "offered" : "hidden",
    hltInGuest: exits === "hlt-in-guest",
    ioPatienceMs,
    isIoAnswered,
    boundMs: BOOT_BOUND_MS * slowness,
  };
}

export function planLinux(
  scenario: Scenario,
  proposal: Proposal,
  place: PlanPlace,
  kernel: GuestKernel,
): LinuxPlan {
  const common = commonPlan(scenario, proposal, place);
  return {
    ...common,
    boot: bootPlan(scenario, proposal, common, kernel),
    mount: mounts[scenario.layout],
    attributeMs: cacheTimeoutMs(scenario.backing.cache) ?? ATTRIBUTE_MS * common.slowness,
  };
}
