/*
 * The processor's own word on memory operands: runs one instruction a line of input and says where it faulted.
 * Input: eighteen registers in KVM's order, FS base, GS base, and the bytes, all in hexadecimal. Output: `ADDRESS read|write` of the
 * page fault that the instruction took as its first, or `none` (another exception, a signal, no fault at all).
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define CODE ((unsigned char *)0x10000000)

static uint64_t want[20];
static uint64_t own_fs;
static ucontext_t home;
static volatile int state; /* 0: enter, 1: running, 2: back */
static char answer[64];

static long arch(int code, uint64_t value)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(158L), "D"((long)code), "S"(value) : "rcx", "r11", "memory");
    return result;
}

/* In KVM's order: rax rbx rcx rdx rsi rdi rsp rbp r8..r15 rip rflags. */
static const int place[18] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RSP, REG_RBP, REG_R8,
                              REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP, REG_EFL};

/* No C library here: FS is not its own when the instruction has run. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    ucontext_t *now = context;
    (void)number, (void)info;
    if (state == 0) { /* SIGUSR1: enter */
        home = *now;
        state = 1;
        for (int i = 0; i < 18; i++)
            now->uc_mcontext.gregs[place[i]] = (long)want[i];
        arch(ARCH_SET_GS, want[19]);
        arch(ARCH_SET_FS, want[18]);
        return;
    }
    arch(ARCH_SET_FS, own_fs);
    state = 2;
    if (now->uc_mcontext.gregs[REG_TRAPNO] == 14 && now->uc_mcontext.gregs[REG_RIP] == (long)want[16])
        snprintf(answer, sizeof answer, "%llx %s", (unsigned long long)now->uc_mcontext.gregs[REG_CR2],
                 now->uc_mcontext.gregs[REG_ERR] & 2 ? "write" : "read");
    else
        strcpy(answer, "none");
    memcpy(now->uc_mcontext.gregs, home.uc_mcontext.gregs, sizeof home.uc_mcontext.gregs);
}

int main(void)
{
    static char line[1024];
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    for (int i = 0; i < 6; i++)
        sigaction((int[]){SIGUSR1, SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE}[i], &action, NULL);
    if (mmap(CODE, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != CODE)
        return 1;
    syscall(SYS_arch_prctl, ARCH_GET_FS, &own_fs);
    while (fgets(line, sizeof line, stdin)) {
        char *at = line;
        for (int i = 0; i < 20; i++)
            want[i] = strtoull(at, &at, 16);
        memset(CODE, 0xcc, 4096);
        for (int i = 0; i < 15; i++) {
            char *end;
            unsigned long byte = strtoul(at, &end, 16);
            if (end == at)
                break;
            CODE[i] = (unsigned char)byte;
            at = end;
        }
        want[16] = (uint64_t)CODE;
        state = 0;
        raise(SIGUSR1);
        puts(answer);
    }
    return 0;
}
