/* The runtime of step/services.h in the micro-guest: address of the channel, and the time-stamp counter. */
#pragma once
#include "machine.h"

#define channel ((volatile struct channel *)CHANNEL_ADDRESS)

static inline __attribute__((always_inline)) uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
