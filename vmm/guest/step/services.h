/*
 * Everything that interpreter.c needs from its environment. The micro-guest on x86 provides it by x86/access.S, and call.S and kernel.c of its own;
 * another environment (a process of a Linux guest) by functions of the same names.
 *
 * An environment's runtime.h, found by the include path, defines
 *   channel      volatile struct channel *: a variable, or an address
 *   read_tsc()   the time stamp that the host's clock is tied to
 * and, where it has verbs of its own, declares
 *   run_own_step()   whether `step` is one: then it has been done
 *   HAS_OWN_STEPS    that this is so
 * and HAS_OWN_ACCESS where it has perform() of its own: an access may then be another machine's.
 */
#pragma once
#include "channel.h"
#include "runtime.h"

/* Calls from a task to its kernel. */
enum kernel_call_number {
    CALL_YIELD = 0x4b01,    /* let another task run */
    CALL_DONE = 0x4b02,     /* this task has ended */
    CALL_BAD_STEP = 0x4b03, /* the host's program is invalid */
    CALL_SIGNAL = 0x4b04,   /* report to the host that this task has raised the signal in `argument` */
    CALL_KILL = 0x4b06,     /* SIGKILL for the task whose number is in `argument` */
    CALL_COPY = 0x4b05,     /* system call: copy between the window and `memory` as the step in `argument` says */
};
/* Returns for CALL_COPY the bytes not copied. */
uint64_t kernel_call(uint64_t number, uint64_t argument, void *memory);

/* The accesses: exactly one instruction of each touches the window. */
typedef void access_fn(void *window, void *memory, uint64_t size);
access_fn load_1, load_2, load_4, load_8, load_16, load_32, load_64;
access_fn store_1, store_2, store_4, store_8, store_16, store_32, store_64;
access_fn atomic_1, atomic_2, atomic_4, atomic_8, atomic_16;
access_fn copy_from, copy_to, fetch, push;

/* Makes the access. Returns how it ended, enum result_status; another way than RESULT_DONE has `code` filled in. */
#ifdef HAS_OWN_ACCESS
uint32_t perform(access_fn *access, void *window, void *memory, uint64_t size);
#else
static inline uint32_t perform(access_fn *access, void *window, void *memory, uint64_t size)
{
    access(window, memory, size);
    return RESULT_DONE;
}
#endif

/* interpreter.c: runs `task` from a step on, to CALL_DONE. */
void task_main(uint32_t task, uint32_t first_step);
