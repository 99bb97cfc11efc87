/**
 * From a scenario and a proposal to what the VM process of a guest in QEMU does. Pure; refuses what QEMU does not do at a lost
 * page: it is taken as it is, and nothing of ours is in it but the file server.
 */
import {
  cacheTimeoutMs,
  cpuOf,
  enablesApf,
  guestActors,
  isNested,
  isVmmAction,
  type Proposal,
  type Scenario,
  type Witness,
} from "../../../../../language/src/index.ts";
import type { DaxQemu } from "../../../engine.ts";
import { type BuiltIn, type GuestKernel, type Support, stockKernels } from "../../../engine.ts";
import { commonPlan, type PlanPlace } from "../../vm/plan.ts";
import { ATTRIBUTE_MS, BOOT_BOUND_MS, type LinuxPlan, mounts, supportsLinux } from "../plan.ts";
import type { Accelerator } from "./arguments.ts";
import type { QemuBoot } from "./guest.ts";

export type QemuPlan = Omit<LinuxPlan, "boot"> & {
  readonly qemu: DaxQemu;
  readonly kernel: GuestKernel;
  readonly boot: Omit<QemuBoot, "socketPath" | "serverPid" | "kernelName">;
};

const yes: Support = { kind: "yes" };
const no = (reason: string): Support => ({ kind: "no", reason, fix: null });

/**
 * What a proposal wants of a VMM that QEMU does not do. Where a guard has taken a range away, it does nothing either: an access
 * there is one to a memory region of QEMU's without a file, whatever the proposal's VMM would report.
 */
function supportsVmm({ exits, vmm, server }: Proposal): Support {
  // On our own VMM both have one description of the file.
  if (server === "kernel-lease") {
    return no(
      "this program has the file open, to see what becomes of it, and the kernel leases no file to a server of its own process " +
        "while another one has it open (F_SETLEASE): run it on our own VMM, or start `daxfault serve --guard kernel-lease` yourself",
    );
  }
  if (exits === "fence") return no("QEMU watches no file: the fence (exits=fence) is our own VMM's");
  if (server !== "none" || vmm === "stop" || vmm === "none") return yes;
  return no(`QEMU stops at the exit, and reports nothing to its guest (vmm=${vmm} is our own VMM's)`);
}

function supportsScenario(scenario: Scenario): Support {
  if (scenario.layout === "nvdimm") {
    return no(
      "an NVDIMM of QEMU's is one file, metadata included: our own VMM has the case's file behind metadata of its own",
    );
  }
  if (isNested(scenario)) return no("a guest's own guest is run on our own VMM only");
  for (const [name, actor] of Object.entries(scenario.actors)) {
    if (actor.in !== "vmm") continue;
    const action = actor.steps.find(isVmmAction);
    return no(
      action === undefined
        ? `${name}: QEMU does not run a VM again after an error of KVM_RUN (runstate_needs_reset())`
        : `${name}: ${action.verb}; only a VMM of ours does that for a scenario`,
    );
  }
  return yes;
}

/** What only KVM does: async page faults, and the large page that it has mapped for the guest. */
function isOfKvm({ subject, label, is }: Witness): boolean {
  return (
    subject === "kvm" ||
    (subject === "guest" && label === "apf" && is === "on") ||
    (subject === "backing" && label === "huge-page")
  );
}

/** QEMU's TCG runs the guest without KVM: it is a process that has the file mapped, as proposal `native` says. */
function supportsEmulated(scenario: Scenario, proposal: Proposal): Support {
  const witness = scenario.witness.find(isOfKvm);
  if (witness !== undefined) {
    return no(
      `its witness is of KVM, and QEMU's TCG has none: ${witness.subject}.${witness.label} is ${witness.is}`,
    );
  }
  if (proposal.kvm === "none" || proposal.server !== "none") return yes;
  return no(
    `${proposal.id} is about KVM: QEMU's TCG emulates the guest, as a process that has the file mapped (native)`,
  );
}

/** Can a guest in QEMU run the case, on whatever machine? */
export function supportsQemu(
  accelerator: Accelerator,
  scenario: Scenario,
  proposal: Proposal,
  builtIn: BuiltIn = stockKernels,
): Support {
  const guestOnly: Proposal = { ...proposal, kvm: "today", vmm: "stop", guest: "unaware", lapic: "kernel" };
  const answers = [
    supportsScenario(scenario),
    supportsVmm(proposal),
    ...(accelerator === "tcg"
      ? [
          supportsEmulated(scenario, proposal),
          supportsLinux(scenario, { ...guestOnly, exits: "kvm" }, stockKernels),
        ]
      : [supportsLinux(scenario, proposal, builtIn)]),
  ];
  return answers.find(({ kind }) => kind === "no") ?? yes;
}

export type QemuAsked = {
  readonly accelerator: Accelerator;
  readonly qemu: DaxQemu;
  readonly kernel: GuestKernel;
};

export function planQemu(
  scenario: Scenario,
  proposal: Proposal,
  place: PlanPlace,
  { accelerator, qemu, kernel }: QemuAsked,
): QemuPlan {
  const common = commonPlan(scenario, proposal, place);
  const { ioPatienceMs, isIoAnswered, slowness } = common;
  return {
    ...common,
    qemu,
    kernel,
    boot: {
      command: qemu.command,
      accelerator,
      imagePath: kernel.imagePath,
      initrdPath: kernel.pciInitrdPath,
      cpus: 1 + Math.max(0, ...guestActors(scenario).map(([, actor]) => cpuOf(actor))),
      asyncPageFaults: accelerator === "kvm" && enablesApf(proposal) ? "offered" : "hidden",
      hltInGuest: proposal.exits === "hlt-in-guest",
      boundMs: BOOT_BOUND_MS * slowness,
      slowness,
      ioPatienceMs,
      isIoAnswered,
    },
    mount: mounts[scenario.layout],
    attributeMs: cacheTimeoutMs(scenario.backing.cache) ?? ATTRIBUTE_MS * slowness,
  };
}
