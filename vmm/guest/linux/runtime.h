/* The runtime of step/services.h in a Linux process: where the channel is mapped, and the time-stamp counter. */
#pragma once
#include "case.h"

extern struct linux_case *the_case;
#define channel ((volatile struct channel *)&the_case->channel)

/* calls.c */
#define HAS_OWN_STEPS
int run_own_step(const struct step *step, struct result *result);

/* tasks.c */
#define HAS_OWN_ACCESS

static inline __attribute__((always_inline)) uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
