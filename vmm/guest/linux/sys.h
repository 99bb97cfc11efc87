/*
 * System calls without a C library: what a step does is the instruction in x86/access.S and nothing around it, and the
 * program runs in any root file system. A result below zero is -errno.
 */
#pragma once
#include <asm/unistd.h>
#include <linux/time.h>
#include <stdint.h>

typedef long word;

static inline word call6(word number, word a, word b, word c, word d, word e, word f)
{
    word result;
    register word r10 __asm__("r10") = d;
    register word r8 __asm__("r8") = e;
    register word r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define CALL6(name, a, b, c, d, e, f)                                                                                  \
    call6(__NR_##name, (word)(a), (word)(b), (word)(c), (word)(d), (word)(e), (word)(f))
#define CALL5(name, a, b, c, d, e) CALL6(name, a, b, c, d, e, 0)
#define CALL4(name, a, b, c, d) CALL6(name, a, b, c, d, 0, 0)
#define CALL3(name, a, b, c) CALL6(name, a, b, c, 0, 0, 0)
#define CALL2(name, a, b) CALL6(name, a, b, 0, 0, 0, 0)
#define CALL1(name, a) CALL6(name, a, 0, 0, 0, 0, 0)
#define CALL0(name) CALL6(name, 0, 0, 0, 0, 0, 0)

static inline __attribute__((noreturn)) void exit_now(int code)
{
    for (;;)
        CALL1(exit_group, code);
}

static inline void nap(word nanoseconds)
{
    struct timespec time = { 0, nanoseconds };
    CALL2(nanosleep, &time, 0);
}
