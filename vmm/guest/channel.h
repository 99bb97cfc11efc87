/*
 * The channel between host and micro-guest: one port, one range of shared memory.
 *
 * Mirrored by vmm/src/guest/channel.ts; vmm/test/guest/channel.test.ts compiles a program against this file and
 * compares every size, offset and number with that mirror.
 *
 * Who writes what: the host fills `header.configuration` and `programs` before the first instruction, and `signals`
 * at any time. Everything else is the guest's; the host only reads it.
 */
#pragma once
#include <stdint.h>

#define CHANNEL_MAGIC 0x3154534547584144ull /* "DAXGEST1" */

/* Guest physical = guest virtual addresses, all below 2 MiB. The window is wherever the host maps it. */
#define IMAGE_ADDRESS 0x40000ull
#define CHANNEL_ADDRESS 0x100000ull
#define APF_AREA_ADDRESS 0x1f0000ull
#define RAM_BYTES 0x200000ull

#define MAX_TASKS 8
#define MAX_STEPS 64
#define MAX_SIGNALS 16
#define MAX_EVENTS 256
#define MAX_ACCESS_BYTES 64

/* Port of the doorbell: 32 bits, kind in the low 8, argument above. Rung by the micro-kernel only. */
#define DOORBELL_PORT 0x10
enum doorbell {
    DOORBELL_SIGNAL = 1,   /* argument: signal number, just raised by a task */
    DOORBELL_FINISHED = 2, /* every task that can end has ended */
    DOORBELL_PANIC = 3,    /* argument: enum panic_reason; the last event says where */
};

enum panic_reason {
    PANIC_EXCEPTION_IN_KERNEL = 1,
    PANIC_BAD_CONFIGURATION = 2,
    PANIC_BAD_STEP = 3,
    PANIC_NO_APF = 4,       /* configured to enable async page faults, but CPUID does not offer them */
    PANIC_APF_IN_KERNEL = 5 /* page-not-present for CPL 0, which the guest never asked for */
};

enum verb {
    VERB_END = 0,
    VERB_LOAD = 1,
    VERB_STORE = 2,
    VERB_ATOMIC = 3,
    VERB_FETCH = 4,
    VERB_COPY_FROM = 5,
    VERB_COPY_TO = 6,
    VERB_SIGNAL = 7,
    VERB_AWAIT = 8,
    VERB_COUNT = 9,
};

enum result_status { RESULT_NOT_REACHED = 0, RESULT_STARTED = 1, RESULT_DONE = 2 };

enum task_state { TASK_UNUSED = 0, TASK_READY = 1, TASK_SLEEPING = 2, TASK_DONE = 3, TASK_KILLED = 4 };

enum configuration {
    CONFIGURE_LAPIC = 1 << 0, /* enable the local APIC (x2APIC mode, set by the host) */
    CONFIGURE_APF = 1 << 1,   /* enable async page faults as Linux does: CPL 3 only, page-ready by interrupt */
};

enum event_kind {
    EVENT_EXCEPTION = 1,       /* anything that is not one of the next two */
    EVENT_APF_NOT_PRESENT = 2, /* #PF with flags = 1 in the shared area; token in `cr2` */
    EVENT_APF_READY = 3,       /* page-ready interrupt; token in `cr2` */
};

struct step {
    uint32_t verb;
    uint32_t size;    /* bytes, accesses only */
    uint64_t address; /* guest virtual; for VERB_SIGNAL and VERB_AWAIT the signal's number */
    uint64_t value;   /* for stores: little-endian, zero-extended to the size */
};

struct result {
    uint32_t status;
    uint32_t reserved;
    uint8_t bytes[MAX_ACCESS_BYTES];
};

struct task_program {
    uint32_t cpl; /* 0 or 3 */
    uint32_t step_count;
    struct step steps[MAX_STEPS];
};

struct task_report {
    uint32_t state;
    uint32_t current_step;
    uint64_t count; /* of VERB_COUNT */
    struct result results[MAX_STEPS];
};

struct event {
    uint32_t kind;
    uint32_t task;
    uint32_t vector;
    uint32_t cpl;
    uint64_t error_code;
    uint64_t cr2;
    uint64_t rip;
    uint64_t tsc;
};

struct channel {
    uint64_t magic;
    uint32_t configuration;
    uint32_t task_count;
    uint32_t event_count; /* all that happened; only the first MAX_EVENTS are kept */
    uint32_t apf_not_present_count;
    uint32_t apf_ready_count;
    uint32_t nmi_count;
    uint32_t current_task; /* the one on the vCPU, or the last that was */
    uint32_t reserved;
    uint32_t signals[MAX_SIGNALS]; /* 0 or 1 */
    struct event events[MAX_EVENTS];
    struct task_program programs[MAX_TASKS];
    struct task_report reports[MAX_TASKS];
};

/* First bytes of the image, at IMAGE_ADDRESS: what the host must know to start it. */
#define ACCESS_SIZES 7 /* 1, 2, 4, 8, 16, 32, 64 bytes */
struct image_header {
    uint64_t magic;
    uint64_t entry;
    uint64_t boot_stack;
    uint64_t gdt, gdt_limit;
    uint64_t idt, idt_limit;
    uint64_t tss, tss_limit;
    uint64_t user_start, user_end; /* the only pages of the image that CPL 3 may touch */
    uint64_t image_end;            /* behind .bss */
    /* The instruction that touches the window, by verb and log2(size): where a precise report must point. */
    uint64_t load_at[ACCESS_SIZES], store_at[ACCESS_SIZES], atomic_at[ACCESS_SIZES];
    uint64_t copy_from_at, copy_to_at;
};

#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_KERNEL_DATA 0x10
#define SELECTOR_USER_DATA 0x18
#define SELECTOR_USER_CODE 0x20
#define SELECTOR_TSS 0x28
