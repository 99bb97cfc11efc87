/*
 * The micro-kernel: descriptor tables, interrupt controller, dispatch of traps. No allocation, no unbounded loop.
 *
 * The host enters it in long mode with paging on, descriptor-table registers already pointing at gdt, idt and tss
 * (see struct image_header); filling them is this file's job.
 */
#include "kernel.h"

enum { VECTOR_NMI = 2, VECTOR_UD = 6, VECTOR_DF = 8, VECTOR_PF = 14, VECTOR_MC = 18, VECTOR_VE = 20 };
enum { VECTOR_SPURIOUS = 0xff };

#define MSR_X2APIC_EOI 0x80b
#define MSR_X2APIC_SVR 0x80f
#define MSR_X2APIC_LVT_TIMER 0x832
#define MSR_X2APIC_TIMER_INITIAL 0x838
#define MSR_X2APIC_TIMER_DIVIDE 0x83e
#define LVT_TIMER_PERIODIC (1 << 17)
/* KVM's APIC bus runs at 1 GHz (APIC_BUS_CYCLE_NS is 1), divided by 1: 4 ms, Linux's usual 250 Hz. */
#define TIMER_DIVIDE_BY_1 0xb
#define TIMER_TICKS 4000000

struct tss {
    uint32_t reserved0;
    uint64_t rsp0, rsp1, rsp2, reserved1, ist[7], reserved2;
    uint16_t reserved3, iomap;
} __attribute__((packed));

struct gate {
    uint64_t low, high;
};

uint64_t gdt[5 + 2 * MAX_CPUS] = {
    [SELECTOR_KERNEL_CODE / 8] = 0x00af9b000000ffff,
    [SELECTOR_KERNEL_DATA / 8] = 0x00cf93000000ffff,
    [SELECTOR_USER_DATA / 8] = 0x00cff3000000ffff,
    [SELECTOR_USER_CODE / 8] = 0x00affb000000ffff,
};
struct gate idt[256];
struct tss tss[MAX_CPUS];

/* IST stacks 1 to 4: a fault in their handlers must not depend on the stack that broke. */
#define IST_STACK_BYTES 4096
static uint8_t ist_stacks[MAX_CPUS][4][IST_STACK_BYTES] __attribute__((aligned(16)));
static uint8_t trap_stacks[MAX_CPUS][8192] __attribute__((aligned(16)));

extern const uint8_t stubs[];

/* Counted when it is complete: the host may stop the vCPU between any two instructions. */
void record_of(uint32_t task, enum event_kind kind, const struct frame *frame, uint64_t error_code, uint64_t address)
{
    volatile struct cpu_report *report = this_report();
    uint32_t index = report->event_count;
    if (index < MAX_EVENTS) {
        volatile struct event *event = &report->events[index];
        event->kind = kind;
        event->task = task;
        event->vector = (uint32_t)frame->vector;
        event->cpl = (uint32_t)frame->cs & 3;
        event->error_code = error_code;
        event->cr2 = address;
        event->rip = frame->rip;
        event->tsc = read_tsc();
    }
    report->event_count = index + 1;
}

void record(enum event_kind kind, const struct frame *frame, uint64_t error_code, uint64_t address)
{
    record_of(current_task(), kind, frame, error_code, address);
}

void stop(enum doorbell kind, uint32_t argument)
{
    for (;;)
        doorbell(kind, argument); /* the host does not come back from this */
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
        task_done(frame);
        break;
    case CALL_COPY:
        kernel_copy(frame);
        break;
    case CALL_KILL:
        kill_other((uint32_t)frame->rsi);
        break;
    default:
        stop(DOORBELL_PANIC, PANIC_BAD_STEP);
    }
}

/* Any exception without a handler: at CPL 3 it ends the task, at CPL 0 the guest. */
static void unhandled(struct frame *frame)
{
    record(EVENT_EXCEPTION, frame, frame->error_code, 0);
    if (in_kernel(frame))
        stop(DOORBELL_PANIC, PANIC_EXCEPTION_IN_KERNEL);
    kill_task(frame);
}

static void interrupt(struct frame *frame)
{
    wrmsr(MSR_X2APIC_EOI, 0);
    if (frame->vector == VECTOR_APF_READY)
        page_ready(frame);
    else
        preempt(frame);
}

/* At the first event at CPL 3 with data in CR2, in a bank, or in an area, the host sends an NMI before the data is read. */
static void ask_for_nmi(const struct frame *frame)
{
    static uint8_t asked[MAX_CPUS];
    if (!(channel->configuration & CONFIGURE_NMI_BEFORE_READING) || in_kernel(frame) || asked[this_cpu()])
        return;
    asked[this_cpu()] = 1;
    doorbell(DOORBELL_NMI, 0);
}

static void page_fault_or_event(struct frame *frame)
{
    uint32_t not_present = take_page_not_present();
    if (not_present && !inside_nmi(frame))
        page_not_present(frame);
    else
        page_fault(frame); /* inside an NMI that saved nothing, the reason is lost here */
}

void trap(struct frame *frame)
{
    switch (frame->vector) {
    case VECTOR_PF:
    case VECTOR_MC:
    case VECTOR_VE:
    case VECTOR_NMI:
    case VECTOR_PV_ERROR:
        ask_for_nmi(frame);
    }
    switch (frame->vector) {
    case VECTOR_UD:
        if (frame->rip == (uint64_t)kernel_call_at)
            kernel_called(frame);
        else
            unhandled(frame);
        break;
    case VECTOR_PF:
        page_fault_or_event(frame);
        break;
    case VECTOR_MC:
        machine_check(frame);
        break;
    case VECTOR_VE:
        virtualization_exception(frame);
        break;
    case VECTOR_NMI:
        nmi(frame);
        break;
    case VECTOR_PV_ERROR:
        if (channel->configuration & CONFIGURE_LAPIC)
            wrmsr(MSR_X2APIC_EOI, 0);
        pv_error(frame);
        break;
    case VECTOR_APF_READY:
    case VECTOR_TIMER:
        interrupt(frame);
        break;
    case VECTOR_SPURIOUS:
        break; /* no EOI: SDM vol. 3, 11.9 */
    default:
        unhandled(frame);
    }
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

/* Every vCPU fills the common table with the same words, so that none waits for another. */
static void fill_interrupt_table(void)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t to = (uint64_t)&stubs[vector * 16];
        idt[vector].low = (to & 0xffff) | SELECTOR_KERNEL_CODE << 16 | ist_of(vector) << 32 | 0x8e00ull << 32 |
                          (to >> 16 & 0xffff) << 48;
        idt[vector].high = to >> 32;
    }
}

/* The host has loaded the task register with a hidden base; the table holds the same from now on. */
static void fill_task_segment(uint32_t cpu)
{
    struct tss *own = &tss[cpu];
    own->rsp0 = (uint64_t)(trap_stacks[cpu] + sizeof trap_stacks[cpu]);
    for (unsigned i = 0; i < 4; i++)
        own->ist[i] = (uint64_t)(ist_stacks[cpu][i] + IST_STACK_BYTES);
    own->iomap = sizeof *own;
    uint64_t base = (uint64_t)own, *descriptor = &gdt[SELECTOR_TSS / 8 + 2 * cpu];
    descriptor[0] = 0x67 | (base & 0xffffff) << 16 | 0x8bull << 40 | (base >> 24 & 0xff) << 56;
    descriptor[1] = base >> 32;
}

static void start_timer(void)
{
    wrmsr(MSR_X2APIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    wrmsr(MSR_X2APIC_LVT_TIMER, LVT_TIMER_PERIODIC | VECTOR_TIMER);
    wrmsr(MSR_X2APIC_TIMER_INITIAL, TIMER_TICKS);
}

void kernel_main(void)
{
    fill_interrupt_table();
    fill_task_segment(this_cpu());
    uint32_t count = channel->task_count;
    if (channel->magic != CHANNEL_MAGIC || count == 0 || count > MAX_TASKS)
        stop(DOORBELL_PANIC, PANIC_BAD_CONFIGURATION);
    uint32_t configuration = channel->configuration;
    if (configuration & CONFIGURE_LAPIC)
        wrmsr(MSR_X2APIC_SVR, 0x100 | VECTOR_SPURIOUS);
    enable_machine_checks();
    if (configuration & CONFIGURE_VE_INFO)
        enable_virtualization_exceptions();
    if (configuration & CONFIGURE_APF)
        enable_async_page_faults();
    create_tasks();
    if (configuration & CONFIGURE_TIMER)
        start_timer();
    start_first_task();
}
