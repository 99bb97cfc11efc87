/*
 * The Linux program: runs the steps of a case's tasks. One argument, the descriptor of the memory in case.h: as a process
 * of the host. `guest`, or nothing where it is the first process: in a guest (init.c).
 *
 * As a process of the host it writes its reports, 32 bits each, to standard output, and maps the window. A byte on
 * standard input lets the tasks begin; its end is the end of the program.
 */
#include "tasks.h"
#include <asm/signal.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/resource.h>

#define ANSWER_NAP_NANOSECONDS 50000

/* A task goes on when the host has dealt with its signal: what it has seen so far is known before anything comes of it. */
static void ring_pipe(uint32_t value)
{
    uint32_t task = value >> 16;
    uint32_t kind = value & 0xff;
    if ((kind != DOORBELL_SIGNAL && kind != DOORBELL_RESULTS) || task == 0) {
        CALL3(write, 1, &value, sizeof value);
        return;
    }
    volatile struct mailbox *own = &the_case->tasks[task - 1].mail;
    own->rung++;
    CALL3(write, 1, &value, sizeof value);
    while (own->answered != own->rung)
        nap(ANSWER_NAP_NANOSECONDS);
}

/* Memory images of what dies on purpose are not wanted. */
static void disable_core_dumps(void)
{
    struct rlimit64 none = { 0, 0 };
    CALL4(prlimit64, 0, RLIMIT_CORE, &none, 0);
}

static int run_process(word memory)
{
    word mapped = CALL6(mmap, 0, sizeof *the_case, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (mapped < 0)
        return 2;
    the_case = (struct linux_case *)mapped;
    ring = ring_pipe;
    CALL2(prctl, PR_SET_PDEATHSIG, SIGKILL);
    disable_core_dumps();
    if (is_refused() || !map_window())
        return 1;
    ring(DOORBELL_READY);
    char begin;
    if (CALL3(read, 0, &begin, 1) == 1)
        run_tasks(0);
    return 0;
}

static int is(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* -1: no number. */
static word number_of(const char *text)
{
    word value = 0;
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9' || value > 100000)
            return -1;
        value = 10 * value + (*at - '0');
    }
    return *text ? value : -1;
}

int program(word argument_count, char **arguments)
{
    if (CALL0(getpid) == 1 || (argument_count == 2 && is(arguments[1], "guest")))
        run_guest();
    word memory = argument_count == 2 ? number_of(arguments[1]) : -1;
    if (memory >= 0)
        return run_process(memory);
    static const char usage[] = "steps DESCRIPTOR: started by daxfault\n";
    CALL3(write, 2, usage, sizeof usage - 1);
    return 2;
}
