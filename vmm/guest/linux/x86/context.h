/* What a signal has interrupted, on x86-64. */
#pragma once
#include <asm/sigcontext.h>
#include <asm/signal.h>
#include <asm/siginfo.h>
#include <asm/ucontext.h>
#include <stdint.h>

#define FLAGS_DIRECTION 0x400

static inline uint64_t interrupted_at(const void *context)
{
    return ((const struct ucontext *)context)->uc_mcontext.rip;
}

/* After the handler the task is at the beginning of a step, on an empty stack: what start_task() does. */
static inline void restart_at(void *context, uint32_t task, uint32_t step, void *stack)
{
    struct sigcontext *at = &((struct ucontext *)context)->uc_mcontext;
    void task_main(uint32_t task, uint32_t first_step);
    at->rip = (uint64_t)task_main;
    at->rdi = task;
    at->rsi = step;
    at->rsp = (uint64_t)stack - 8;
    at->eflags &= ~(uint64_t)FLAGS_DIRECTION;
}
