/* Tasks: each belongs to one vCPU; round robin, cooperative and by the timer; sleeping for a token; SIGBUS. */
#include "kernel.h"

/* 8 below the top of a stack: as if called, which is how the compiler expects it to be aligned. */
#define CALLED 8
#define TASK_STACK_BYTES 4096
#define RFLAGS_RESERVED 0x2
#define RFLAGS_IF 0x200

/* In pages of CPL 3 (guest.ld), whatever the task runs at. */
static uint8_t task_stacks[MAX_TASKS][TASK_STACK_BYTES] __attribute__((aligned(4096), section(".task_stacks")));

static struct task {
    struct frame frame;
    uint32_t state, token, kill_pending;
} tasks[MAX_TASKS];

/* Tokens whose page-ready came before the task slept: Linux's dummy node in apf_task_wake_one() (arch/x86/kernel/kvm.c). */
#define MAX_EARLY_TOKENS MAX_TASKS
#define WAKE_ALL 0xffffffffu

/* State of one vCPU. */
static struct cpu {
    uint32_t tasks[MAX_TASKS], task_count; /* the tasks that it runs */
    uint32_t current;                      /* index into `tasks` */
    struct early {
        uint32_t token;
        int error;
    } early[MAX_EARLY_TOKENS];
    uint32_t early_token_count;
    uint32_t ended;         /* of its tasks that do not count for ever */
    uint32_t asleep;        /* of those, too */
    volatile uint32_t gone; /* of those: ended, or asleep for ever; as of its last scheduling decision, for other vCPUs */
    struct frame first;
} cpus[MAX_CPUS];

/*
 * The tasks that count for ever, of all vCPUs, and what they had counted when the last other task ended: they are given
 * the time to show that they live. Every vCPU fills the list alike.
 */
static uint32_t counters[MAX_TASKS], counter_count;
static volatile uint64_t counts_at_end[MAX_TASKS];

void enter(struct frame *frame) __attribute__((noreturn));
extern const char store_at_16[], store_at_32[], store_at_64[];
extern const char load_done_16[], load_done_32[], load_done_64[];

static struct cpu *here(void) { return &cpus[this_cpu()]; }

uint32_t current_task(void)
{
    struct cpu *cpu = here();
    return cpu->tasks[cpu->current];
}

static void set_current(struct cpu *cpu, uint32_t index)
{
    cpu->current = index;
    this_report()->current_task = cpu->tasks[index];
}

static void set_state(uint32_t task, uint32_t state)
{
    tasks[task].state = state;
    channel->reports[task].state = state;
}

/* Copies word by word: the compiler must not turn it into a call or into SSE. */
static void copy_frame(struct frame *to, const struct frame *from)
{
    volatile uint64_t *out = (volatile uint64_t *)to;
    const uint64_t *in = (const uint64_t *)from;
    for (unsigned i = 0; i < sizeof *to / sizeof *in; i++)
        out[i] = in[i];
}

static void start_at(uint32_t task, struct frame *frame, uint32_t first_step)
{
    int user = channel->programs[task].cpl == 3;
    frame->rip = (uint64_t)task_main;
    frame->rdi = task;
    frame->rsi = first_step;
    frame->cs = user ? SELECTOR_USER_CODE | 3 : SELECTOR_KERNEL_CODE;
    frame->ss = user ? SELECTOR_USER_DATA | 3 : SELECTOR_KERNEL_DATA;
    frame->rsp = (uint64_t)task_stacks[task] + TASK_STACK_BYTES - CALLED;
    int interrupts_off = channel->programs[task].flags & TASK_INTERRUPTS_OFF;
    frame->rflags = RFLAGS_RESERVED | (interrupts_off ? 0 : RFLAGS_IF);
}

static int is_counter(uint32_t task)
{
    const volatile struct task_program *program = &channel->programs[task];
    uint32_t steps = program->step_count;
    return steps > 0 && steps <= MAX_STEPS && program->steps[steps - 1].verb == VERB_COUNT;
}

void create_tasks(void)
{
    struct cpu *cpu = here();
    uint32_t number = this_cpu(), found = 0;
    for (uint32_t i = 0; i < channel->task_count; i++) {
        if (is_counter(i))
            counters[found++] = i;
        if (channel->programs[i].cpu != number)
            continue;
        start_at(i, &tasks[i].frame, 0);
        set_state(i, TASK_READY);
        cpu->tasks[cpu->task_count++] = i;
    }
    counter_count = found;
    if (cpu->task_count == 0)
        stop(DOORBELL_PANIC, PANIC_BAD_CONFIGURATION);
}

void start_first_task(void)
{
    struct cpu *cpu = here();
    set_current(cpu, 0);
    copy_frame(&cpu->first, &tasks[cpu->tasks[0]].frame);
    enter(&cpu->first);
}

static void end_task(uint32_t task, uint32_t state)
{
    for (uint32_t i = 0; i < counter_count; i++)
        counts_at_end[i] = channel->reports[counters[i]].count;
    set_state(task, state);
    if (!is_counter(task))
        here()->ended++;
}

/*
 * A task that sleeps for a page-ready that will not come (its token was lost) sleeps for ever and is not waited for.
 * Only its own vCPU can decide this: another one that reads `outstanding` and then `asleep` may see the first of a moment
 * between two sleeps and the second of the next sleep.
 */
static uint32_t gone(const struct cpu *cpu)
{
    return cpu->ended + (this_report()->outstanding == 0 ? cpu->asleep : 0);
}

/* Of all vCPUs: the one that notices first reports it to the host. */
static int finished(void)
{
    uint32_t gone = 0;
    for (uint32_t i = 0; i < MAX_CPUS; i++)
        gone += cpus[i].gone;
    if (gone + counter_count < channel->task_count)
        return 0;
    for (uint32_t i = 0; i < counter_count; i++) {
        const volatile struct task_report *report = &channel->reports[counters[i]];
        if (report->state != TASK_DONE && report->state != TASK_KILLED && report->count <= counts_at_end[i])
            return 0;
    }
    return 1;
}

/*
 * Vector registers are not saved: a task that loses the processor between filling one and storing it to the window
 * begins that store again, which reads its own memory once more and nothing else.
 */
static void restart_vector_store(struct frame *frame)
{
    if (frame->rip == (uint64_t)store_at_16)
        frame->rip = (uint64_t)store_16;
    else if (frame->rip == (uint64_t)store_at_32)
        frame->rip = (uint64_t)store_32;
    else if (frame->rip == (uint64_t)store_at_64)
        frame->rip = (uint64_t)store_64;
}

void schedule(struct frame *frame)
{
    struct cpu *cpu = here();
    restart_vector_store(frame);
    copy_frame(&tasks[current_task()].frame, frame);
    channel->reports[current_task()].rip = frame->rip;
    this_report()->heartbeat++;
    for (;;) {
        cpu->gone = gone(cpu);
        if (finished())
            stop(DOORBELL_FINISHED, 0);
        for (uint32_t i = 1, next = cpu->current; i <= cpu->task_count; i++) {
            next = next + 1 < cpu->task_count ? next + 1 : 0;
            if (tasks[cpu->tasks[next]].state != TASK_READY)
                continue;
            set_current(cpu, next);
            copy_frame(frame, &tasks[cpu->tasks[next]].frame);
            return;
        }
        /* All others sleep in an async page fault, or have ended: each turn of the loop is one interrupt. */
        __asm__ volatile("sti\n hlt\n cli" : : : "memory");
    }
}

void preempt(struct frame *frame)
{
    /* A vector load has happened and is not stored yet: the next instruction does it, then the next tick will do. */
    int loaded = frame->rip == (uint64_t)load_done_16 || frame->rip == (uint64_t)load_done_32 ||
                 frame->rip == (uint64_t)load_done_64;
    if (!in_kernel(frame) && !loaded)
        schedule(frame);
}

void task_done(struct frame *frame)
{
    end_task(current_task(), TASK_DONE);
    schedule(frame);
}

void kill_task(struct frame *frame)
{
    end_task(current_task(), TASK_KILLED);
    schedule(frame);
}

/*
 * Returns whether the task goes on, at `frame`. Where the stack is what is lost, the handler's frame has no place: the
 * task is killed as by SIGSEGV (force_sigsegv()), and sees nothing of the SIGBUS.
 */
static int take_sigbus(uint32_t task, struct frame *frame, enum sigbus_code code, uint64_t address)
{
    volatile struct task_report *report = &channel->reports[task];
    const volatile struct task_program *program = &channel->programs[task];
    uint32_t step = report->current_step;
    int handled = program->on_sigbus != ON_SIGBUS_KILLED;
    record_of(task, EVENT_SIGBUS, frame, code, address);
    if (step >= MAX_STEPS || (handled && program->steps[step].verb == VERB_PUSH))
        return 0;
    report->results[step].code = code;
    report->results[step].ended = read_tsc();
    report->results[step].status = RESULT_SIGBUS;
    if (!handled)
        return 0;
    int retries = program->on_sigbus == ON_SIGBUS_SAME_STEP;
    if (program->steps[step].flags & STEP_TALLIES)
        ((volatile struct tally *)report->results[step].bytes)->sigbus_count++;
    start_at(task, frame, retries ? step : step + 1);
    return 1;
}

void sigbus(struct frame *frame, enum sigbus_code code, uint64_t address)
{
    if (!take_sigbus(current_task(), frame, code, address))
        kill_task(frame);
}

/* Returns whether it did; then `error` is what the page-ready said. */
static int came_early(struct cpu *cpu, uint32_t token, int *error)
{
    for (uint32_t i = 0; i < cpu->early_token_count; i++) {
        volatile struct early *own = &cpu->early[i], *last = &cpu->early[cpu->early_token_count - 1];
        if (own->token != token)
            continue;
        *error = own->error;
        own->token = last->token;
        own->error = last->error;
        this_report()->early_tokens = --cpu->early_token_count;
        return 1;
    }
    return 0;
}

void sleep_task(struct frame *frame, uint32_t token)
{
    uint32_t task = current_task();
    int error = 0;
    if (came_early(here(), token, &error)) {
        if (error)
            sigbus(frame, SIGBUS_ADRERR, 0);
        return;
    }
    tasks[task].token = token;
    set_state(task, TASK_SLEEPING);
    if (!is_counter(task))
        here()->asleep++;
    schedule(frame);
}

void kill_other(uint32_t task)
{
    if (task >= channel->task_count || channel->programs[task].cpu != this_cpu())
        stop(DOORBELL_PANIC, PANIC_BAD_STEP);
    if (tasks[task].state == TASK_READY && task != current_task())
        end_task(task, TASK_KILLED);
    else if (tasks[task].state == TASK_SLEEPING)
        tasks[task].kill_pending = 1;
}

static void wake(struct cpu *cpu, uint32_t task, int error)
{
    if (!is_counter(task))
        cpu->asleep--;
    if (tasks[task].kill_pending ||
        (error && !take_sigbus(task, &tasks[task].frame, SIGBUS_ADRERR, 0)))
        end_task(task, TASK_KILLED);
    else
        set_state(task, TASK_READY);
}

void wake_task(uint32_t token, int error)
{
    struct cpu *cpu = here();
    int found = token == WAKE_ALL;
    for (uint32_t i = 0; i < cpu->task_count; i++) {
        uint32_t task = cpu->tasks[i];
        if (tasks[task].state != TASK_SLEEPING || (token != WAKE_ALL && tasks[task].token != token))
            continue;
        wake(cpu, task, error);
        found = 1;
    }
    if (!found && cpu->early_token_count < MAX_EARLY_TOKENS) {
        cpu->early[cpu->early_token_count].token = token;
        cpu->early[cpu->early_token_count++].error = error;
    }
    this_report()->early_tokens = cpu->early_token_count;
    if (token != WAKE_ALL && this_report()->outstanding > 0)
        this_report()->outstanding--;
}
