/* The port of the doorbell (micro/x86/machine.h), rung from CPL 3 with IOPL 3. */
#pragma once
#include "machine.h"

static inline void ring_port(uint32_t value)
{
    __asm__ volatile("outl %0, %w1" : : "a"(value), "Nd"(DOORBELL_PORT) : "memory");
}
