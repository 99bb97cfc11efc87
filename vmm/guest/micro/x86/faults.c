/*
 * Errors of memory, however they arrive: #PF, #MC, #VE, NMI or a paravirtual interrupt. At CPL 3 they become SIGBUS for
 * the task that was interrupted; at CPL 0 the exception table decides, and where it has no entry the guest panics.
 */
#include "kernel.h"

#define MSR_IA32_MCG_CAP 0x179
#define MSR_IA32_MCG_STATUS 0x17a
#define MSR_IA32_MCG_CTL 0x17b
#define MCG_CTL_P (1 << 8)
#define MC_CTL(bank) (0x400 + 4 * (bank))
#define MC_STATUS(bank) (0x401 + 4 * (bank))
#define MC_ADDR(bank) (0x402 + 4 * (bank))
#define MCI_STATUS_VAL (1ull << 63)
#define MAX_BANKS 32
#define MSR_KVM_VE_INFO 0x4b564d09
#define KVM_FEATURE_VE_INFO (1u << 21)
#define KVM_MSR_ENABLED 1
#define VE_LINEAR_ADDRESS_VALID (1 << 7)

#define ve ((volatile struct ve_information *)this_area(VE_INFORMATION_ADDRESS))
#define pv ((volatile struct pv_error *)this_area(PV_ERROR_ADDRESS))

/* The guest's own page tables (vmm/src/arch/x86/page-tables.ts): the window's first table, then one each 2 MiB. */
#define WINDOW_PAGE_TABLES 0x6000ull
#define WINDOW_MAX_BYTES (64ull << 20)
#define PTE_PRESENT 1ull
#define PTE_POISONED (1ull << 9) /* a bit that hardware leaves to software */

/* Exception table: the instruction that may fail, where to go on, and whether a machine check there is survivable. */
extern const char kernel_read_at[], kernel_write_at[], kernel_copy_failed[], nmi_probe_at[], nmi_probe_failed[];
uint64_t kernel_read(void *memory, const void *window, uint64_t size);
uint64_t kernel_write(void *window, const void *memory, uint64_t size);
void nmi_probe(uint64_t address);
/* Of the copy under way on each vCPU: STEP_NO_FIXUP takes its entry out of the table. */
static uint32_t copy_flags[MAX_CPUS];

int inside_nmi(const struct frame *frame) { return frame->rip == (uint64_t)nmi_probe_at; }

static int fixup(struct frame *frame, uint64_t address)
{
    if (inside_nmi(frame)) {
        record(EVENT_FIXUP, frame, 0, address);
        frame->rip = (uint64_t)nmi_probe_failed;
        return 1;
    }
    int covered = frame->rip == (uint64_t)kernel_read_at || frame->rip == (uint64_t)kernel_write_at;
    if (!covered || (copy_flags[this_cpu()] & STEP_NO_FIXUP))
        return 0;
    record(EVENT_FIXUP, frame, 0, address);
    frame->rip = (uint64_t)kernel_copy_failed;
    return 1;
}

/* As Linux: copy_from_user has had machine-check-safe entries since 5.8, copy_to_user never had. */
static int machine_check_safe(const struct frame *frame)
{
    if (frame->rip == (uint64_t)kernel_read_at)
        return (channel->configuration & CONFIGURE_MCE_SAFE_READS) != 0;
    return frame->rip == (uint64_t)kernel_write_at && (channel->configuration & CONFIGURE_MCE_SAFE_WRITES) != 0;
}

static volatile uint64_t *pte_of(uint64_t address)
{
    uint64_t offset = address - WINDOW_ADDRESS;
    return offset < WINDOW_MAX_BYTES ? (volatile uint64_t *)WINDOW_PAGE_TABLES + offset / 4096 : 0;
}

/* HWPoison: the page stays unusable whatever becomes of the file. */
static void poison(uint64_t address)
{
    volatile uint64_t *pte = pte_of(address);
    if (!pte)
        return;
    *pte = (*pte & ~PTE_PRESENT) | PTE_POISONED;
    __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static void fail(struct frame *frame, enum sigbus_code code, uint64_t address, enum panic_reason reason)
{
    if (!in_kernel(frame))
        sigbus(frame, code, address);
    else if (!fixup(frame, address)) {
        if (reason == PANIC_MACHINE_CHECK)
            stop(DOORBELL_PANIC, reason);
        /* As Linux: an oops. The task in whose name the kernel ran dies, the kernel goes on. */
        this_report()->oops_count++;
        kill_task(frame);
    }
}

void page_fault(struct frame *frame)
{
    uint64_t address = read_cr2();
    record(EVENT_EXCEPTION, frame, frame->error_code, address);
    volatile uint64_t *pte = pte_of(address);
    if (pte && (*pte & PTE_POISONED))
        fail(frame, SIGBUS_MCEERR_AR, address, PANIC_EXCEPTION_IN_KERNEL);
    else if (pte && (*pte & PTE_PRESENT)) {
        /* The page is mapped, the memory behind it is lost: this #PF was injected. Linux finds nothing wrong and retries. */
        if (channel->configuration & CONFIGURE_PF_IS_ERROR)
            fail(frame, SIGBUS_ADRERR, address, PANIC_EXCEPTION_IN_KERNEL);
    }
    else if (!in_kernel(frame))
        kill_task(frame); /* SIGSEGV */
    else if (!fixup(frame, address))
        stop(DOORBELL_PANIC, PANIC_EXCEPTION_IN_KERNEL);
}

static uint32_t bank_count(void)
{
    uint32_t count = rdmsr(MSR_IA32_MCG_CAP) & 0xff;
    return count < MAX_BANKS ? count : MAX_BANKS;
}

/* KVM ignores an injected uncorrected error unless the guest has enabled reporting (kvm_vcpu_ioctl_x86_set_mce()). */
void enable_machine_checks(void)
{
    if (rdmsr(MSR_IA32_MCG_CAP) & MCG_CTL_P)
        wrmsr(MSR_IA32_MCG_CTL, ~0ull);
    for (uint32_t bank = 0; bank < bank_count(); bank++)
        wrmsr(MC_CTL(bank), ~0ull);
}

void machine_check(struct frame *frame)
{
    uint64_t status = 0, address = 0;
    for (uint32_t bank = 0; bank < bank_count(); bank++) {
        uint64_t found = rdmsr(MC_STATUS(bank));
        if (!(found & MCI_STATUS_VAL))
            continue;
        status = found;
        address = rdmsr(MC_ADDR(bank));
        wrmsr(MC_STATUS(bank), 0);
    }
    record(EVENT_MACHINE_CHECK, frame, status, address);
    wrmsr(MSR_IA32_MCG_STATUS, 0);
    poison(address); /* guest virtual = guest physical */
    if (in_kernel(frame) && !machine_check_safe(frame))
        stop(DOORBELL_PANIC, PANIC_MACHINE_CHECK);
    fail(frame, SIGBUS_MCEERR_AR, address, PANIC_MACHINE_CHECK);
}

/* Of fixtures/kernels/kvm-ve-injection: #VE by KVM itself. A VMM's needs no consent. */
void enable_virtualization_exceptions(void)
{
    if (!(kvm_features() & KVM_FEATURE_VE_INFO))
        stop(DOORBELL_PANIC, PANIC_NO_VE_INFO);
    wrmsr(MSR_KVM_VE_INFO, (uint64_t)ve | KVM_MSR_ENABLED);
}

void virtualization_exception(struct frame *frame)
{
    /* Guest virtual = guest physical: KVM on AMD's nested paging knows no other. */
    int has_linear = (ve->exit_qualification & VE_LINEAR_ADDRESS_VALID) != 0;
    uint64_t address = has_linear ? ve->linear_address : ve->physical_address;
    record(EVENT_VE, frame, ve->exit_qualification, ve->physical_address);
    ve->busy = 0;
    fail(frame, SIGBUS_ADRERR, address, PANIC_EXCEPTION_IN_KERNEL);
}

/* In page 0, which nothing maps: a #PF of the guest's own. */
#define NOT_MAPPED 16ull

/* Of an event whose handler has not read it yet; NOT_MAPPED if there is none that says an address. */
static uint64_t unread_address(void)
{
    if (ve->busy)
        return ve->physical_address;
    for (uint32_t bank = 0; bank < bank_count(); bank++) {
        if (rdmsr(MC_STATUS(bank)) & MCI_STATUS_VAL)
            return rdmsr(MC_ADDR(bank));
    }
    return NOT_MAPPED;
}

/*
 * As perf's callchains in an NMI: reads memory that may not be present, which takes a #PF. That overwrites what the
 * interrupted handler had not read yet, unless it is saved: CR2, and the reason in the shared area.
 */
static void fault_inside_nmi(void)
{
    uint32_t configuration = channel->configuration;
    uint64_t cr2 = read_cr2();
    uint32_t flags = configuration & CONFIGURE_NMI_SAVES_FLAGS ? take_page_not_present() : 0;
    nmi_probe(configuration & CONFIGURE_NMI_READS_PAGE ? unread_address() : NOT_MAPPED);
    if (configuration & CONFIGURE_NMI_SAVES_CR2)
        write_cr2(cr2);
    if (configuration & CONFIGURE_NMI_SAVES_FLAGS)
        set_page_not_present(flags);
}

void nmi(struct frame *frame)
{
    this_report()->nmi_count++;
    record(EVENT_NMI, frame, 0, 0);
    if ((channel->configuration & CONFIGURE_NMI_BEFORE_READING) && in_kernel(frame))
        fault_inside_nmi();
    if (channel->configuration & CONFIGURE_NMI_IS_SIGBUS)
        fail(frame, SIGBUS_ADRERR, 0, PANIC_EXCEPTION_IN_KERNEL); /* an NMI carries no address */
}

void pv_error(struct frame *frame)
{
    uint64_t address = pv->linear_address;
    record(EVENT_PV_ERROR, frame, pv->pending, address);
    pv->pending = 0;
    fail(frame, SIGBUS_ADRERR, address, PANIC_EXCEPTION_IN_KERNEL);
}

/* CALL_COPY: rsi = step, rdx = the task's memory. Reports in rax as a system call does. */
void kernel_copy(struct frame *frame)
{
    const struct step *step = (const struct step *)frame->rsi;
    void *memory = (void *)frame->rdx;
    uint64_t size = step->size <= MAX_ACCESS_BYTES ? step->size : MAX_ACCESS_BYTES;
    copy_flags[this_cpu()] = step->flags;
    /* Linux copies with interrupts on; the timer does not preempt CPL 0. */
    if (!(step->flags & STEP_INTERRUPTS_OFF))
        __asm__ volatile("sti" : : : "memory");
    uint64_t left = step->verb == VERB_KERNEL_READ ? kernel_read(memory, (const void *)step->address, size)
                                                   : kernel_write((void *)step->address, memory, size);
    __asm__ volatile("cli" : : : "memory");
    frame->rax = left;
}
