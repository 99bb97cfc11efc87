/* Shared by the micro-kernel and the step interpreter. */
#pragma once
#include "channel.h"

#define channel ((volatile struct channel *)CHANNEL_ADDRESS)

/* What a task may ask of the micro-kernel. At the ud2 rdi, rsi and rdx hold the arguments below. */
enum kernel_call_number {
    CALL_YIELD = 0x4b01,    /* let another task run */
    CALL_DONE = 0x4b02,     /* this task has ended */
    CALL_BAD_STEP = 0x4b03, /* the host's program makes no sense */
    CALL_SIGNAL = 0x4b04,   /* tell the host that this task has raised the signal in `argument` */
    CALL_KILL = 0x4b06,     /* SIGKILL for the task whose number is in `argument` */
    CALL_COPY = 0x4b05,     /* system call: copy between the window and `memory` as the step in `argument` says */
};
/* What the micro-kernel leaves in rax: for CALL_COPY the bytes not copied. */
uint64_t kernel_call(uint64_t number, uint64_t argument, void *memory);
extern const char kernel_call_at[];

static inline __attribute__((always_inline)) uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static inline __attribute__((always_inline)) void doorbell(enum doorbell kind, uint32_t argument)
{
    __asm__ volatile("outl %0, %w1" : : "a"((uint32_t)kind | argument << 8), "Nd"(DOORBELL_PORT) : "memory");
}
