/* Ports of the doorbell, rung from CPL 3 with IOPL 3: that of micro/x86/machine.h, or one that takes bytes. */
#pragma once
#include "machine.h"

static inline void ring_byte(uint16_t port)
{
    __asm__ volatile("outb %0, %w1" : : "a"((uint8_t)1), "Nd"(port) : "memory");
}

static inline void ring_port(uint32_t value)
{
    __asm__ volatile("outl %0, %w1" : : "a"(value), "Nd"(DOORBELL_PORT) : "memory");
}
