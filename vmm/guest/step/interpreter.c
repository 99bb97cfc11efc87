/*
 * The step interpreter: the program of every task. Portable C that needs services.h and nothing else. It touches only its
 * stack, the channel and the window: the micro-guest runs it at CPL 3 or CPL 0, from pages that CPL 3 may touch
 * (micro/x86/guest.ld).
 */
#include "services.h"

#define BY_SIZE(name, size)                                                                                            \
    ((size) == 1 ? name##_1 : (size) == 2 ? name##_2 : (size) == 4 ? name##_4 : (size) == 8 ? name##_8 : name##_16)

static access_fn *access_of(const struct step *step)
{
    uint32_t size = step->size;
    if (step->verb == VERB_FETCH)
        return fetch;
    if (size == 0 || size > MAX_ACCESS_BYTES)
        return 0;
    if (step->verb == VERB_COPY_FROM)
        return copy_from;
    if (step->verb == VERB_COPY_TO)
        return copy_to;
    if (step->verb == VERB_PUSH)
        return size == 8 ? push : 0;
    if (size & (size - 1))
        return 0;
    if (step->verb == VERB_ATOMIC)
        return size <= 16 ? BY_SIZE(atomic, size) : 0;
    if (step->verb == VERB_LOAD)
        return size == 64 ? load_64 : size == 32 ? load_32 : BY_SIZE(load, size);
    if (step->verb == VERB_STORE)
        return size == 64 ? store_64 : size == 32 ? store_32 : BY_SIZE(store, size);
    return 0;
}

static void fill(const struct step *step, struct result *result)
{
    for (uint32_t i = 0; i < step->size && i < MAX_ACCESS_BYTES; i++)
        result->bytes[i] = i < 8 ? (uint8_t)(step->value >> (8 * i)) : 0;
}

static void run_system_call(const struct step *step, struct result *result)
{
    if (step->verb == VERB_KERNEL_WRITE)
        fill(step, result);
    result->began = read_tsc();
    result->status = RESULT_STARTED;
    uint64_t left = kernel_call(CALL_COPY, (uint64_t)step, (void *)result->bytes);
    result->ended = read_tsc();
    result->status = left ? RESULT_EFAULT : RESULT_DONE;
}

/* @param value the step's value before the access */
static void tally(const struct step *step, uint64_t value, struct result *result)
{
    volatile struct tally *tally = (volatile struct tally *)result->bytes;
    tally->accesses++;
    if (step->verb != VERB_LOAD)
        return;
    uint64_t seen = tally->seen;
    if (!seen) {
        tally->zeros++;
    } else if (seen < value) {
        tally->stale++;
        tally->last_stale = seen;
        tally->last_value = value;
    }
}

static void run_access(const struct step *step, struct result *result)
{
    access_fn *access = access_of(step);
    if (!access) {
        kernel_call(CALL_BAD_STEP, 0, 0);
        return;
    }
    if (step->verb == VERB_STORE || step->verb == VERB_COPY_TO || step->verb == VERB_PUSH)
        fill(step, result);
    int again = step->flags & STEP_REPEATS;
    uint32_t status;
    do {
        result->began = read_tsc();
        result->status = RESULT_STARTED;
        /* Looked at before the access: the last one begins after the signal. */
        again = again && step->until < MAX_SIGNALS && !channel->signals[step->until];
        uint64_t value = *(const volatile uint64_t *)&step->value;
        if (step->flags & STEP_TALLIES && step->verb == VERB_STORE)
            fill(step, result);
        status = perform(access, (void *)step->address, (void *)result->bytes, step->size);
        if (status != RESULT_DONE)
            break;
        if (step->flags & STEP_TALLIES)
            tally(step, value, result);
    } while (again);
    result->ended = read_tsc();
    result->status = status;
}

/* Returns when the host or another task has raised the signal. Each look lets the other tasks run. */
static void await(uint64_t number)
{
    while (number < MAX_SIGNALS && !channel->signals[number])
        kernel_call(CALL_YIELD, 0, 0);
}

static void signal(uint64_t number)
{
    if (number >= MAX_SIGNALS)
        return;
    channel->signals[number] = 1;
    kernel_call(CALL_SIGNAL, number, 0);
}

static void count(uint32_t task)
{
    for (;;) {
        for (int i = 0; i < 1000; i++)
            channel->reports[task].count++;
        kernel_call(CALL_YIELD, 0, 0);
    }
}

void task_main(uint32_t task, uint32_t first_step)
{
    const struct task_program *program = (const struct task_program *)&channel->programs[task]; /* never changes */
    volatile struct task_report *report = &channel->reports[task];
    for (uint32_t i = first_step; i < program->step_count && i < MAX_STEPS; i++) {
        const struct step *step = &program->steps[i];
        report->current_step = i;
        if (step->verb == VERB_SIGNAL)
            signal(step->address);
        else if (step->verb == VERB_AWAIT)
            await(step->address);
        else if (step->verb == VERB_COUNT)
            count(task);
        else if (step->verb == VERB_AGAIN)
            i = UINT32_MAX; /* the loop adds one */
        else if (step->verb == VERB_KILL)
            kernel_call(CALL_KILL, step->address, 0);
        else if (step->verb == VERB_KERNEL_READ || step->verb == VERB_KERNEL_WRITE)
            run_system_call(step, (struct result *)&report->results[i]);
#ifdef HAS_OWN_STEPS
        else if (run_own_step(step, (struct result *)&report->results[i]))
            continue;
#endif
        else
            run_access(step, (struct result *)&report->results[i]);
    }
    kernel_call(CALL_DONE, 0, 0);
}
