/*
 * The channel between host and guest: one range of shared memory. Portable: its address and the way to ring the
 * doorbell depend on where the steps run (micro/x86/machine.h, linux/case.h).
 *
 * Mirrored by vmm/src/guest/channel.ts; vmm/test/guest/channel.test.ts compiles a program against this file and
 * compares every size, offset and number with that mirror.
 *
 * Writers: the host fills `header.configuration` and `programs` before the first instruction, and `signals`
 * at any time. Everything else is the guest's; the host only reads it.
 */
#pragma once
#include <stdint.h>

#define CHANNEL_MAGIC 0x3154534547584144ull /* "DAXGEST1" */

/* Guest virtual; the micro-guest's guest physical addresses are the same. Where the host maps the window. */
#define WINDOW_ADDRESS 0x40000000ull

#define MAX_CPUS 2
#define MAX_TASKS 104
#define MAX_STEPS 64
#define MAX_SIGNALS 16
#define MAX_EVENTS 256
#define MAX_ACCESS_BYTES 64

/* Reports to the host, of the guest kernel or of the Linux program: 32 bits, kind in the low 8, argument above. */
enum doorbell {
    DOORBELL_SIGNAL = 1,   /* argument: signal number, just raised by a task; from bit 8 on 1 + its number, of the Linux program */
    DOORBELL_FINISHED = 2, /* every task of every vCPU that can end has ended */
    DOORBELL_PANIC = 3,    /* argument: enum panic_reason; the last event says where */
    DOORBELL_NMI = 4,      /* the handler of an event wants an NMI now, before it reads the event's details */
    DOORBELL_READY = 5,    /* the Linux program has mapped the window: the tasks begin when the host lets them */
    DOORBELL_IDLE = 6,     /* the first process of a Linux guest has ended its case and takes the next one that is there */
    DOORBELL_RESULTS = 7,  /* a task of the Linux program is about to change the file: the host takes all results first; argument from bit 8 on as of DOORBELL_SIGNAL */
};

enum panic_reason {
    PANIC_EXCEPTION_IN_KERNEL = 1,
    PANIC_BAD_CONFIGURATION = 2,
    PANIC_BAD_STEP = 3,
    PANIC_NO_APF = 4,       /* configured to enable async page faults, but CPUID does not offer them */
    PANIC_APF_IN_KERNEL = 5, /* page-not-present for CPL 0, which the guest never asked for */
    PANIC_MACHINE_CHECK = 6, /* in the guest kernel, where no machine-check-safe fixup covers it */
    PANIC_NO_VE_INFO = 7,    /* configured to hand over the #VE information area, but CPUID does not offer that */
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
    VERB_KERNEL_READ = 10,  /* system call: the guest kernel copies from the window (copy_from_user) */
    VERB_KERNEL_WRITE = 11, /* system call: the guest kernel copies to the window (copy_to_user) */
    VERB_PUSH = 12,         /* PUSH with the stack pointer in the window: the task's stack lies there */
    VERB_KILL = 13,         /* SIGKILL for another task of the same vCPU, whose number is `address` */
    VERB_AGAIN = 14,        /* from the first step, for ever: rounds, for measurements */
    /* Of the Linux program alone: system calls on the file behind `address`, not through the mapping. */
    VERB_FILE_READ = 15,  /* pread(2) */
    VERB_FILE_WRITE = 16, /* pwrite(2) */
    VERB_FILE_SIZE = 17,  /* fstat(2): its size, in eight bytes */
    VERB_FSYNC = 18,      /* fsync(2) */
    VERB_MSYNC = 19,      /* msync(2) of the pages that `address` and `size` touch, MS_SYNC */
    VERB_FILE_TRUNCATE = 20, /* ftruncate(2): `value` is the new size */
    VERB_FILE_READ_DIRECT = 21, /* pread(2) with O_DIRECT, of the page that contains `address` */
    VERB_KERNEL_PIN = 22,       /* write(2) with O_DIRECT to another file, from the page at `address` */
    VERB_FORK_LOAD = 23,        /* fork(2): the child loads */
    VERB_EXEC = 24,             /* execve(2) of the file */
};

/* Of a step. */
enum step_flags {
    STEP_INTERRUPTS_OFF = 1 << 0, /* the guest kernel's copy runs with IF = 0 */
    STEP_NO_FIXUP = 1 << 1,       /* no exception-table entry covers it */
    STEP_REPEATS = 1 << 2,        /* the access is done again and again until signal `until` is seen, then once more */
    STEP_TALLIES = 1 << 3,        /* with 8 bytes: counts what it sees (struct tally), `value` may change meanwhile */
};

enum result_status {
    RESULT_NOT_REACHED = 0,
    RESULT_STARTED = 1,
    RESULT_DONE = 2,
    RESULT_EFAULT = 3, /* a system call returned -EFAULT */
    RESULT_SIGBUS = 4, /* `code` says which */
    RESULT_SIGSEGV = 5, /* the same as RESULT_SIGBUS; of the Linux program, whose kernel sends it for a #PF that it cannot explain */
    RESULT_ERRNO = 6,   /* of a system call: `code` is the errno, which is not EFAULT */
    RESULT_SHORT = 7,   /* of a system call: `code` bytes only */
};

/* si_code of SIGBUS (asm-generic/siginfo.h), those of a lost page; a Linux guest's may be any other. */
enum sigbus_code { SIGBUS_ADRERR = 2, SIGBUS_MCEERR_AR = 4 };

/* A task's reaction to SIGBUS. */
enum on_sigbus {
    ON_SIGBUS_KILLED = 0,
    ON_SIGBUS_NEXT_STEP = 1, /* a handler that goes on with the next step */
    ON_SIGBUS_SAME_STEP = 2, /* ... that begins the same step again */
};

/*
 * The values that a tallying step has seen: lies over its result's bytes; the access writes its value to the first word.
 * A loaded word that is neither zero nor at least the step's `value`, as that was before the load, is stale: the host
 * raises `value` when what was smaller is gone from the file for good. A store stores `value`.
 */
struct tally {
    uint64_t seen, accesses, zeros, stale, last_stale, last_value, sigbus_count;
};

/* Of a task. */
enum task_flags {
    TASK_INTERRUPTS_OFF = 1 << 0,    /* runs with IF = 0: nothing preempts it, nothing can be delivered */
    TASK_NESTED = 1 << 1,            /* of the Linux program in a guest: its accesses are those of a VM of that guest's KVM */
    TASK_SIGSEGV_IS_SIGBUS = 1 << 2, /* of the Linux program: `on_sigbus` holds for SIGSEGV, too, Linux's word for a #PF that reports a loss */
};

enum task_state { TASK_UNUSED = 0, TASK_READY = 1, TASK_SLEEPING = 2, TASK_DONE = 3, TASK_KILLED = 4 };

enum configuration {
    CONFIGURE_LAPIC = 1 << 0, /* enable the local APIC (x2APIC mode, set by the host) */
    CONFIGURE_APF = 1 << 1,   /* enable async page faults as Linux does: CPL 3 only, page-ready by interrupt */
    CONFIGURE_TIMER = 1 << 2, /* preempt tasks at CPL 3 by the local APIC's timer */
    CONFIGURE_NMI_IS_SIGBUS = 1 << 3,      /* as gVisor: an NMI means that the interrupted access failed */
    CONFIGURE_MCE_SAFE_READS = 1 << 4,     /* machine checks in the kernel's reads of user memory are fixed up */
    CONFIGURE_MCE_SAFE_WRITES = 1 << 5,    /* and in its writes, which Linux cannot */
    CONFIGURE_PF_IS_ERROR = 1 << 6,        /* a #PF that the page tables do not explain is an error, not spurious */
    CONFIGURE_APF_ERROR = 1 << 7,          /* page-ready may carry an error (`ready_flags`); asks KVM for it where that is offered */
    CONFIGURE_APF_SLEEPS_LATE = 1 << 8,    /* page-ready is let in before the task sleeps */
    CONFIGURE_NMI_BEFORE_READING = 1 << 9, /* the first handler from CPL 3 is hit by an NMI that takes a #PF of its own */
    CONFIGURE_NMI_SAVES_CR2 = 1 << 10,     /* around that #PF, as Linux does (exc_nmi()) */
    CONFIGURE_NMI_SAVES_FLAGS = 1 << 11,   /* and the word of the shared area that says "not present" */
    CONFIGURE_APF_SEND_ALWAYS = 1 << 12,   /* with CONFIGURE_APF: page-not-present at CPL 0 too, as Linux until 5.7 */
    CONFIGURE_VE_INFO = 1 << 13,           /* hands KVM the #VE information area (MSR_KVM_VE_INFO) */
    CONFIGURE_NMI_READS_PAGE = 1 << 14,    /* the NMI's access is one to the page that the event is about */
};

enum event_kind {
    EVENT_EXCEPTION = 1,       /* anything that is not one of the next two */
    EVENT_APF_NOT_PRESENT = 2, /* #PF with flags = 1 in the shared area; token in `cr2` */
    EVENT_APF_READY = 3,       /* page-ready interrupt; token in `cr2` */
    EVENT_MACHINE_CHECK = 4,   /* #MC; MCi_ADDR in `cr2`, MCi_STATUS in `error_code` */
    EVENT_VE = 5,              /* #VE; guest physical address in `cr2`, exit qualification in `error_code` */
    EVENT_NMI = 6,
    EVENT_PV_ERROR = 7,        /* paravirtual error interrupt; guest virtual address in `cr2` */
    EVENT_SIGBUS = 8,          /* delivered to `task`; sigbus_code in `error_code`, address in `cr2` */
    EVENT_FIXUP = 9,           /* the exception table caught an access of the kernel's; address in `cr2` */
    EVENT_SIGSEGV = 10,        /* as EVENT_SIGBUS */
};

struct step {
    uint16_t verb;
    uint16_t flags;
    uint16_t size;    /* bytes, accesses only */
    uint16_t until;   /* number of the signal that ends the repetition */
    uint64_t address; /* guest virtual; for VERB_SIGNAL and VERB_AWAIT the signal's number */
    uint64_t value;   /* for stores: little-endian, zero-extended to the size */
};

struct result {
    uint32_t status;
    uint32_t code; /* si_code: of the micro-guest, enum sigbus_code */
    uint8_t bytes[MAX_ACCESS_BYTES];
    uint64_t began, ended; /* time stamps (TSC): just before the access, and when it was over or its failure was reported */
};

struct task_program {
    uint8_t cpl; /* 0 or 3 */
    uint8_t on_sigbus;
    uint8_t cpu; /* the vCPU that runs it, always */
    uint8_t flags;
    uint32_t step_count;
    struct step steps[MAX_STEPS];
};

struct task_report {
    uint32_t state;
    uint32_t current_step;
    uint64_t count; /* of VERB_COUNT */
    uint64_t rip;   /* where the task was when it last lost the processor */
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

/*
 * Written by one vCPU only, so that no two of them ever write the same word. Tasks of the Linux program, which runs on as
 * many processors as there are, take the next event by an atomic addition to `event_count`.
 */
struct cpu_report {
    uint32_t event_count; /* of all events; only the first MAX_EVENTS are kept */
    uint32_t apf_not_present_count;
    uint32_t apf_ready_count;
    uint32_t nmi_count;
    uint32_t current_task; /* the one on the vCPU, or the last that was */
    uint32_t heartbeat;    /* counts the micro-kernel's scheduling decisions */
    uint32_t outstanding;  /* page-not-present events without their page-ready so far */
    uint32_t early_tokens; /* page-ready events that found no sleeper and are still kept for one */
    uint32_t oops_count;   /* errors in the kernel's own accesses that no exception-table entry caught */
    uint32_t reserved;
    struct event events[MAX_EVENTS];
};

struct channel {
    uint64_t magic;
    uint32_t configuration;
    uint32_t task_count;
    uint32_t signals[MAX_SIGNALS]; /* 0 or 1 */
    struct cpu_report cpus[MAX_CPUS];
    struct task_program programs[MAX_TASKS];
    struct task_report reports[MAX_TASKS];
};
