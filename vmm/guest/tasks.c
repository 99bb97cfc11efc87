/* Tasks: round robin, cooperative and by the timer; sleeping for a token; SIGBUS. */
#include "kernel.h"

/* 8 below the top of a stack: as if called, which is how the compiler expects it to be aligned. */
#define CALLED 8
#define TASK_STACK_BYTES 4096
#define RFLAGS_IF 0x202

static uint8_t kernel_task_stacks[MAX_TASKS][TASK_STACK_BYTES] __attribute__((aligned(16)));
extern uint8_t user_stacks[MAX_TASKS][TASK_STACK_BYTES];

static struct task {
    struct frame frame;
    uint32_t state, token;
} tasks[MAX_TASKS];
static uint32_t current;

/* Tokens whose page-ready came before the task slept: Linux's dummy node in apf_task_wake_one() (arch/x86/kernel/kvm.c). */
#define MAX_EARLY_TOKENS 8
static uint32_t early_tokens[MAX_EARLY_TOKENS], early_token_count;
#define WAKE_ALL 0xffffffffu

void enter(struct frame *frame) __attribute__((noreturn));
void task_main(uint32_t task, uint32_t first_step);
extern const char store_16[], store_at_16[], store_32[], store_at_32[], store_64[], store_at_64[];
extern const char load_done_16[], load_done_32[], load_done_64[];

uint32_t current_task(void) { return current; }

static void set_current(uint32_t task)
{
    current = task;
    channel->current_task = task;
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
    frame->rsp = (uint64_t)(user ? user_stacks[task] : kernel_task_stacks[task]) + TASK_STACK_BYTES - CALLED;
    frame->rflags = RFLAGS_IF;
}

void create_tasks(void)
{
    for (uint32_t i = 0; i < channel->task_count; i++) {
        start_at(i, &tasks[i].frame, 0);
        set_state(i, TASK_READY);
    }
}

void start_first_task(void)
{
    static struct frame first;
    set_current(0);
    copy_frame(&first, &tasks[0].frame);
    enter(&first);
}

/* What the counting tasks had counted when the last other task ended: they are given the time to show that they live. */
static uint64_t counts_at_end[MAX_TASKS];

static int is_counter(uint32_t task)
{
    const volatile struct task_program *program = &channel->programs[task];
    uint32_t steps = program->step_count;
    return steps > 0 && steps <= MAX_STEPS && program->steps[steps - 1].verb == VERB_COUNT;
}

static void end_task(uint32_t task, uint32_t state)
{
    set_state(task, state);
    for (uint32_t i = 0; i < channel->task_count; i++)
        counts_at_end[i] = channel->reports[i].count;
}

static int finished(void)
{
    for (uint32_t i = 0; i < channel->task_count; i++) {
        if (tasks[i].state == TASK_SLEEPING)
            return 0;
        if (tasks[i].state == TASK_READY && !(is_counter(i) && channel->reports[i].count > counts_at_end[i]))
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
    restart_vector_store(frame);
    copy_frame(&tasks[current].frame, frame);
    channel->reports[current].rip = frame->rip;
    channel->heartbeat++;
    if (finished())
        stop(DOORBELL_FINISHED, 0);
    for (;;) {
        for (uint32_t i = 1; i <= channel->task_count; i++) {
            uint32_t next = (current + i) % channel->task_count;
            if (tasks[next].state != TASK_READY)
                continue;
            set_current(next);
            copy_frame(frame, &tasks[next].frame);
            return;
        }
        /* All others sleep in an async page fault: each turn of the loop is one interrupt. */
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
    end_task(current, TASK_DONE);
    schedule(frame);
}

void kill_task(struct frame *frame)
{
    end_task(current, TASK_KILLED);
    schedule(frame);
}

void sigbus(struct frame *frame, enum sigbus_code code, uint64_t address)
{
    record(EVENT_SIGBUS, frame, code, address);
    uint32_t step = channel->reports[current].current_step;
    if (step < MAX_STEPS) {
        channel->reports[current].results[step].code = code;
        channel->reports[current].results[step].ended = read_tsc();
        channel->reports[current].results[step].status = RESULT_SIGBUS;
    }
    if (channel->programs[current].on_sigbus == SIGBUS_SKIPS_STEP)
        start_at(current, frame, step + 1);
    else
        kill_task(frame);
}

static int came_early(uint32_t token)
{
    for (uint32_t i = 0; i < early_token_count; i++)
        if (early_tokens[i] == token) {
            early_tokens[i] = early_tokens[--early_token_count];
            return 1;
        }
    return 0;
}

void sleep_task(struct frame *frame, uint32_t token)
{
    if (came_early(token))
        return;
    tasks[current].token = token;
    set_state(current, TASK_SLEEPING);
    schedule(frame);
}

void wake_task(uint32_t token)
{
    for (uint32_t i = 0; i < channel->task_count; i++)
        if (tasks[i].state == TASK_SLEEPING && (token == WAKE_ALL || tasks[i].token == token)) {
            set_state(i, TASK_READY);
            if (token != WAKE_ALL)
                return;
        }
    if (token != WAKE_ALL && early_token_count < MAX_EARLY_TOKENS)
        early_tokens[early_token_count++] = token;
}
