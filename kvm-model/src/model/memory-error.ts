/**
 * Memory that goes bad under a mapping, and how the CPU reports it. Nothing of this is a lost page: the mapping is there,
 * so KVM is not asked.
 *
 * Mirrors what arch/x86/kernel/cpu/mce/severity.c knows of hardware: an action is required (AR) of an error that a data
 * load or an instruction fetch has consumed, at that instruction; it is optional (AO) of one that the patrol scrubber or a
 * write-back of the last-level cache finds. A store consumes nothing: it retires into the cache, and its bytes are gone.
 * Then memory_failure() (mm/memory-failure.c), which unmaps the page; for AR SIGBUS BUS_MCEERR_AR to the vCPU's thread, since
 * kvm_machine_check() (arch/x86/kvm/x86.h) reports it as of CPL 3.
 */
import type { Action } from "../explore/model.ts";
import { isStore } from "./access.ts";
import type { AccessStep } from "./case.ts";
import { replaceVma } from "./host-mm.ts";
import { exitToUserspace } from "./kvm.ts";
import type { Machine } from "./machine.ts";
import type { Page } from "./page.ts";
import type { Task } from "./task.ts";

/** The actor; the scrubber may never come to the page. */
export const MEMORY = "memory";

/** memory_failure(). */
function memoryFailure(m: Machine, page: Page): void {
  page.isBad = false;
  replaceVma(m, page.index, page.index + 1, "poisoned");
}

/** Does the access read, and so consume the error? */
export function consumesError(access: AccessStep, page: Page): boolean {
  return page.isBad && (!isStore(access) || access.op === "atomic");
}

/** The #MC intercept: svm_handle_mce(), handle_exception_irqoff(). */
export function consumeError(m: Machine, task: Task, page: Page): void {
  m.log?.(
    "exception",
    "host",
    "kvm",
    `machine check: ${task.name} has consumed the bad memory of page ${page.index}`,
  );
  memoryFailure(m, page);
  const { vcpu } = task;
  vcpu.faultingPage = page;
  vcpu.faulter = task;
  exitToUserspace(m, vcpu, "poison");
}

export function memoryActions(m: Machine): Action[] {
  if (!m.case.host.some((step) => step.op === "memory-error")) return [];
  return m.pages.map((page) => ({
    name: `memory: the scrubber, or a write-back, finds page ${page.index} bad`,
    actor: MEMORY,
    guard: () => page.isBad,
    apply: () => {
      m.log?.(
        "unmap",
        "host",
        "kvm",
        `page ${page.index} is found bad, no action required: memory failure takes it`,
      );
      memoryFailure(m, page);
    },
  }));
}
