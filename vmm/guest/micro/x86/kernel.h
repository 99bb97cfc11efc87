/* The micro-kernel's own declarations: what its files share. */
#pragma once
#include "services.h"

/* The instruction of kernel_call(): a ud2 with the arguments in rdi, rsi and rdx; the answer goes to rax. */
extern const char kernel_call_at[];

static inline __attribute__((always_inline)) void doorbell(enum doorbell kind, uint32_t argument)
{
    __asm__ volatile("outl %0, %w1" : : "a"((uint32_t)kind | argument << 8), "Nd"(DOORBELL_PORT) : "memory");
}

/* As pushed by the stubs of boot.S, lowest address first. */
struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error_code;
    uint64_t rip, cs, rflags, rsp, ss;
};

static inline int in_kernel(const struct frame *frame) { return (frame->cs & 3) == 0; }

/* Number of the vCPU that runs this, from its task register. */
static inline uint32_t this_cpu(void)
{
    uint16_t selector;
    __asm__ volatile("str %0" : "=r"(selector));
    return (uint32_t)(selector - SELECTOR_TSS) / 16;
}

static inline volatile struct cpu_report *this_report(void) { return &channel->cpus[this_cpu()]; }

/* An area of the vCPU's own, shared with the host. */
static inline void *this_area(uint64_t address) { return (void *)(address + this_cpu() * CPU_AREA_BYTES); }

static inline void wrmsr(uint32_t index, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

/* EAX of the leaf KVM_CPUID_FEATURES: bits KVM_FEATURE_*. */
static inline uint32_t kvm_features(void)
{
    uint32_t eax = 0x40000001, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    return eax;
}

static inline uint64_t rdmsr(uint32_t index)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index) : "memory");
    return (uint64_t)high << 32 | low;
}

static inline uint64_t read_cr2(void)
{
    uint64_t value;
    __asm__ volatile("mov %%cr2, %0" : "=r"(value));
    return value;
}

static inline void write_cr2(uint64_t value) { __asm__ volatile("mov %0, %%cr2" : : "r"(value)); }

/* kernel.c */
/* An event of the current task's; of any task's. */
void record(enum event_kind kind, const struct frame *frame, uint64_t error_code, uint64_t address);
void record_of(uint32_t task, enum event_kind kind, const struct frame *frame, uint64_t error_code, uint64_t address);
void stop(enum doorbell kind, uint32_t argument) __attribute__((noreturn));

/* tasks.c */
void create_tasks(void);
void start_first_task(void) __attribute__((noreturn));
uint32_t current_task(void);
/* Saves the interrupted task and puts the next one that is ready into `frame`, round robin. */
void schedule(struct frame *frame);
/* From the timer: only where a task may lose the processor. */
void preempt(struct frame *frame);
void task_done(struct frame *frame);
/* SIGBUS for the task in `frame`: its handler goes on with the next step, or it is killed. */
void sigbus(struct frame *frame, enum sigbus_code code, uint64_t address);
void kill_task(struct frame *frame);
/* SIGKILL from another task of this vCPU. One that sleeps for a page dies when it is woken, as in Linux. */
void kill_other(uint32_t task);
void sleep_task(struct frame *frame, uint32_t token);
/* `error`: the page is lost, and its sleeper gets SIGBUS. */
void wake_task(uint32_t token, int error);

/* apf.c */
void enable_async_page_faults(void);
/* Reads and clears the reason of a #PF. */
uint32_t take_page_not_present(void);
void set_page_not_present(uint32_t flags);
void page_not_present(struct frame *frame);
void page_ready(struct frame *frame);

/* faults.c */
void enable_machine_checks(void);
void enable_virtualization_exceptions(void);
void page_fault(struct frame *frame);
void machine_check(struct frame *frame);
void virtualization_exception(struct frame *frame);
void nmi(struct frame *frame);
void pv_error(struct frame *frame);
void kernel_copy(struct frame *frame);
/* Is this the #PF that an NMI handler takes on purpose? */
int inside_nmi(const struct frame *frame);
