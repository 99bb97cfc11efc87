/*
 * The micro-kernel: descriptor tables, traps, tasks, async page faults. No allocation, no unbounded loop.
 *
 * The host enters it in long mode with paging on, descriptor-table registers already pointing at gdt, idt and tss
 * (see struct image_header); filling them is this file's job.
 */
#include "guest.h"

enum { VECTOR_DF = 8, VECTOR_NMI = 2, VECTOR_UD = 6, VECTOR_PF = 14, VECTOR_MC = 18, VECTOR_VE = 20, VECTOR_APF = 0xf3 };
enum { VECTOR_SPURIOUS = 0xff };

#define MSR_X2APIC_EOI 0x80b
#define MSR_X2APIC_SVR 0x80f
#define MSR_KVM_ASYNC_PF_EN 0x4b564d02
#define MSR_KVM_ASYNC_PF_INT 0x4b564d06
#define MSR_KVM_ASYNC_PF_ACK 0x4b564d07
#define KVM_ASYNC_PF_ENABLED 1
#define KVM_ASYNC_PF_DELIVERY_AS_INT 8
#define KVM_CPUID_FEATURES 0x40000001
#define KVM_FEATURE_ASYNC_PF_INT (1u << 14)
#define KVM_PV_REASON_PAGE_NOT_PRESENT 1
#define WAKE_ALL 0xffffffffu

/* As pushed by the stubs of boot.S, lowest address first. */
struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error_code;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* struct kvm_vcpu_pv_apf_data (Documentation/virt/kvm/x86/msr.rst): `flags` belongs to #PF, `token` to the interrupt. */
struct apf_area {
    uint32_t flags, token;
};
#define apf ((volatile struct apf_area *)APF_AREA_ADDRESS)

struct tss {
    uint32_t reserved0;
    uint64_t rsp0, rsp1, rsp2, reserved1, ist[7], reserved2;
    uint16_t reserved3, iomap;
} __attribute__((packed));

struct gate {
    uint64_t low, high;
};

uint64_t gdt[7] = {
    [SELECTOR_KERNEL_CODE / 8] = 0x00af9b000000ffff,
    [SELECTOR_KERNEL_DATA / 8] = 0x00cf93000000ffff,
    [SELECTOR_USER_DATA / 8] = 0x00cff3000000ffff,
    [SELECTOR_USER_CODE / 8] = 0x00affb000000ffff,
};
struct gate idt[256];
struct tss tss;

/* IST stacks 1 to 4: a fault in their handlers must not depend on the stack that broke. */
#define IST_STACK_BYTES 4096
static uint8_t ist_stacks[4][IST_STACK_BYTES] __attribute__((aligned(16)));
static uint8_t trap_stack[8192] __attribute__((aligned(16)));
static uint8_t kernel_task_stacks[MAX_TASKS][4096] __attribute__((aligned(16)));
extern uint8_t user_stacks[MAX_TASKS][4096];

static struct task {
    struct frame frame;
    uint32_t state, counting, token;
} tasks[MAX_TASKS];
static uint32_t current;

/* Tokens whose page-ready came before the task slept: Linux's dummy node in apf_task_wake_one() (arch/x86/kernel/kvm.c). */
#define MAX_EARLY_TOKENS 8
static uint32_t early_tokens[MAX_EARLY_TOKENS], early_token_count;

extern const uint8_t stubs[];
void enter(struct frame *frame) __attribute__((noreturn));
void task_main(uint32_t task);

static void wrmsr(uint32_t index, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static uint64_t read_cr2(void)
{
    uint64_t value;
    __asm__ volatile("mov %%cr2, %0" : "=r"(value));
    return value;
}

static uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static void record(enum event_kind kind, const struct frame *frame, uint64_t cr2)
{
    uint32_t index = channel->event_count++;
    if (index >= MAX_EVENTS)
        return;
    volatile struct event *event = &channel->events[index];
    event->kind = kind;
    event->task = current;
    event->vector = (uint32_t)frame->vector;
    event->cpl = (uint32_t)frame->cs & 3;
    event->error_code = frame->error_code;
    event->cr2 = cr2;
    event->rip = frame->rip;
    event->tsc = read_tsc();
}

static void __attribute__((noreturn)) stop(enum doorbell kind, uint32_t argument)
{
    for (;;)
        doorbell(kind, argument); /* the host does not come back from this */
}

static void set_current(uint32_t task)
{
    current = task;
    channel->current_task = task;
}

static void set_state(uint32_t task, uint32_t state)
{
    tasks[task].state = state;
    channel->reports[task].state = state;
}

/* Copies word by word: the compiler must not turn it into a call or into SSE. */
static void copy_frame(struct frame *to, const struct frame *from)
{
    uint64_t *out = (uint64_t *)to;
    const uint64_t *in = (const uint64_t *)from;
    for (unsigned i = 0; i < sizeof *to / sizeof *out; i++)
        ((volatile uint64_t *)out)[i] = in[i];
}

static int finished(void)
{
    for (uint32_t i = 0; i < channel->task_count; i++)
        if ((tasks[i].state == TASK_READY && !tasks[i].counting) || tasks[i].state == TASK_SLEEPING)
            return 0;
    return 1;
}

/*
 * Saves the interrupted task and goes on with the next that is ready, round robin. With all others asleep in an async
 * page fault it waits for the page-ready interrupt: each turn of the loop is one interrupt.
 */
static void schedule(struct frame *frame)
{
    copy_frame(&tasks[current].frame, frame);
    if (finished())
        stop(DOORBELL_FINISHED, 0);
    for (;;) {
        for (uint32_t i = 1; i <= channel->task_count; i++) {
            uint32_t next = (current + i) % channel->task_count;
            if (tasks[next].state != TASK_READY)
                continue;
            set_current(next);
            copy_frame(frame, &tasks[next].frame);
            return;
        }
        __asm__ volatile("sti\n hlt\n cli" : : : "memory");
    }
}

static void wake(uint32_t token)
{
    for (uint32_t i = 0; i < channel->task_count; i++)
        if (tasks[i].state == TASK_SLEEPING && (token == WAKE_ALL || tasks[i].token == token)) {
            set_state(i, TASK_READY);
            if (token != WAKE_ALL)
                return;
        }
    if (token != WAKE_ALL && early_token_count < MAX_EARLY_TOKENS)
        early_tokens[early_token_count++] = token;
}

static int came_early(uint32_t token)
{
    for (uint32_t i = 0; i < early_token_count; i++)
        if (early_tokens[i] == token) {
            early_tokens[i] = early_tokens[--early_token_count];
            return 1;
        }
    return 0;
}

static void page_not_present(struct frame *frame)
{
    uint32_t token = (uint32_t)read_cr2();
    apf->flags = 0;
    channel->apf_not_present_count++;
    record(EVENT_APF_NOT_PRESENT, frame, token);
    if ((frame->cs & 3) == 0)
        stop(DOORBELL_PANIC, PANIC_APF_IN_KERNEL);
    if (came_early(token))
        return;
    tasks[current].token = token;
    set_state(current, TASK_SLEEPING);
    schedule(frame);
}

static void page_ready(struct frame *frame)
{
    wrmsr(MSR_X2APIC_EOI, 0);
    uint32_t token = apf->token;
    apf->token = 0;
    wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
    channel->apf_ready_count++;
    record(EVENT_APF_READY, frame, token);
    wake(token);
}

static void kernel_called(struct frame *frame)
{
    frame->rip += 2; /* over the ud2 */
    switch (frame->rdi) {
    case CALL_SIGNAL:
        doorbell(DOORBELL_SIGNAL, (uint32_t)frame->rsi);
        break;
    case CALL_YIELD:
        schedule(frame);
        break;
    case CALL_DONE:
        set_state(current, TASK_DONE);
        schedule(frame);
        break;
    case CALL_COUNTING:
        tasks[current].counting = 1;
        break;
    default:
        stop(DOORBELL_PANIC, PANIC_BAD_STEP);
    }
}

/* Any exception that nothing here handles: at CPL 3 it ends the task, at CPL 0 the guest. */
static void exception(struct frame *frame)
{
    record(EVENT_EXCEPTION, frame, frame->vector == VECTOR_PF ? read_cr2() : 0);
    if ((frame->cs & 3) == 0)
        stop(DOORBELL_PANIC, PANIC_EXCEPTION_IN_KERNEL);
    set_state(current, TASK_KILLED);
    schedule(frame);
}

void trap(struct frame *frame)
{
    if (frame->vector == VECTOR_UD && frame->rip == (uint64_t)kernel_call_at)
        kernel_called(frame);
    else if (frame->vector == VECTOR_PF && (apf->flags & KVM_PV_REASON_PAGE_NOT_PRESENT))
        page_not_present(frame);
    else if (frame->vector == VECTOR_APF)
        page_ready(frame);
    else if (frame->vector == VECTOR_NMI)
        channel->nmi_count++;
    else if (frame->vector == VECTOR_SPURIOUS)
        return; /* no EOI: SDM vol. 3, 11.9 */
    else
        exception(frame);
}

static uint64_t ist_of(unsigned vector)
{
    switch (vector) {
    case VECTOR_DF:
        return 1;
    case VECTOR_NMI:
        return 2;
    case VECTOR_MC:
        return 3;
    case VECTOR_VE:
        return 4;
    default:
        return 0;
    }
}

static void fill_descriptor_tables(void)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t to = (uint64_t)&stubs[vector * 16];
        idt[vector].low = (to & 0xffff) | SELECTOR_KERNEL_CODE << 16 | ist_of(vector) << 32 | 0x8e00ull << 32 |
                          (to >> 16 & 0xffff) << 48;
        idt[vector].high = to >> 32;
    }
    tss.rsp0 = (uint64_t)(trap_stack + sizeof trap_stack);
    for (unsigned i = 0; i < 4; i++)
        tss.ist[i] = (uint64_t)(ist_stacks[i] + IST_STACK_BYTES);
    tss.iomap = sizeof tss;
    uint64_t base = (uint64_t)&tss;
    gdt[SELECTOR_TSS / 8] = 0x67 | (base & 0xffffff) << 16 | 0x8bull << 40 | (base >> 24 & 0xff) << 56;
    gdt[SELECTOR_TSS / 8 + 1] = base >> 32;
}

static int has_async_page_faults(void)
{
    uint32_t eax = KVM_CPUID_FEATURES, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    return (eax & KVM_FEATURE_ASYNC_PF_INT) != 0;
}

static void enable_async_page_faults(void)
{
    if (!has_async_page_faults())
        stop(DOORBELL_PANIC, PANIC_NO_APF);
    wrmsr(MSR_KVM_ASYNC_PF_INT, VECTOR_APF);
    wrmsr(MSR_KVM_ASYNC_PF_EN, APF_AREA_ADDRESS | KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT);
}

static void create_task(uint32_t task)
{
    struct frame *frame = &tasks[task].frame;
    int user = channel->programs[task].cpl == 3;
    frame->rip = (uint64_t)task_main;
    frame->rdi = task;
    frame->cs = user ? SELECTOR_USER_CODE | 3 : SELECTOR_KERNEL_CODE;
    frame->ss = user ? SELECTOR_USER_DATA | 3 : SELECTOR_KERNEL_DATA;
    /* 8 below the top: as if called, which is how the compiler expects the stack to be aligned. */
    frame->rsp = (uint64_t)(user ? user_stacks[task] + 4096 : kernel_task_stacks[task] + 4096) - 8;
    frame->rflags = 0x202; /* IF = 1 */
    set_state(task, TASK_READY);
}

void kernel_main(void)
{
    fill_descriptor_tables();
    uint32_t count = channel->task_count;
    if (channel->magic != CHANNEL_MAGIC || count == 0 || count > MAX_TASKS)
        stop(DOORBELL_PANIC, PANIC_BAD_CONFIGURATION);
    if (channel->configuration & CONFIGURE_LAPIC)
        wrmsr(MSR_X2APIC_SVR, 0x100 | VECTOR_SPURIOUS);
    if (channel->configuration & CONFIGURE_APF)
        enable_async_page_faults();
    for (uint32_t i = 0; i < count; i++)
        create_task(i);
    set_current(0);
    static struct frame first;
    copy_frame(&first, &tasks[0].frame);
    enter(&first);
}
