/** Defects of kernels that expected outcomes show. Defined once; files of expectations name them, or add their own. */

export type Defect = { readonly id: string; readonly text: string; readonly source: string };

/** Of every expectation in which the VMM loops. */
export const ENDLESS_LOOP = "endless-loop";

export const defects: readonly Defect[] = [
  {
    id: ENDLESS_LOOP,
    text: "KVM drops the error of the failed page fault and retries for ever: the vCPU never comes back, a core burns, and nobody is told.",
    source: "virt/kvm/async_pf.c, async_pf_execute(): the result of get_user_pages_remote() is not looked at",
  },
  {
    id: "memory-fault-cap-untrue",
    text: "KVM_CAP_MEMORY_FAULT_INFO says 1, but the -EFAULT exit for shared memory has no KVM_EXIT_MEMORY_FAULT: the VMM is not told which page.",
    source: "arch/x86/kvm/mmu/mmu.c, kvm_handle_error_pfn(): a bare return -EFAULT",
  },
  {
    id: "async-page-fault-writes",
    text: "The asynchronous page fault of a load asks for a page to write. Of a mapping that may only be read it has none, and is done at once: the vCPU's thread waits for the page itself, the whole guest with it.",
    source:
      "virt/kvm/async_pf.c, async_pf_execute(): FOLL_WRITE whatever the fault is; arch/x86/kvm/mmu/mmu.c, kvm_arch_async_page_ready(): faults the page in synchronously",
  },
];
