/*
 * Tasks as Linux processes: each has the window and the channel in common with the others and dies alone. The services of
 * interpreter.c are system calls; SIGBUS is the kernel's own.
 *
 * A signal is observed by a handler, on a stack of its own. Where the task has no handler (ON_SIGBUS_KILLED), it then dies
 * of the same signal by the default action, before another instruction. Where it has one, the handler for SIGBUS runs
 * on the task's stack, as a program's does: with the stack in the lost page, the kernel has nowhere to put its frame, and
 * the task dies of SIGSEGV (force_sigsegv(), kernel/signal.c).
 */
#include "tasks.h"
#include "nested.h"
#include "x86/context.h"
#include <linux/errno.h>
#include <linux/prctl.h>
#include <linux/wait.h>

#define SA_KERNEL_RESTORER 0x04000000
#define STACK_BYTES 65536
#define NAP_NANOSECONDS 1000000
#define SHORT_NAP_NANOSECONDS 50000

/* As rt_sigaction(2) takes it. */
struct action {
    void (*handler)(int number, siginfo_t *info, void *context);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
};

ring_fn *ring;

/* Of this process: each has a copy. */
static uint32_t own_task;
static int is_child; /* of a task: made by load_by_child() */
static uint8_t task_stack[STACK_BYTES] __attribute__((aligned(64)));
static uint8_t signal_stack[STACK_BYTES] __attribute__((aligned(64)));

static unsigned long mask_of(int signal_number) { return 1ul << (signal_number - 1); }

static void set_mask(unsigned long mask)
{
    CALL4(rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof mask);
}

static void set_action(int signal_number, const struct action *action)
{
    CALL4(rt_sigaction, signal_number, action, 0, sizeof action->mask);
}

struct signal {
    int number, code;
    uint64_t address;
};

static void record(const struct signal *signal, uint64_t at)
{
    volatile struct cpu_report *report = &channel->cpus[channel->programs[own_task].cpu % MAX_CPUS];
    uint32_t index = __atomic_fetch_add(&report->event_count, 1, __ATOMIC_SEQ_CST);
    if (index >= MAX_EVENTS)
        return;
    volatile struct event *event = &report->events[index];
    event->task = own_task;
    event->vector = (uint32_t)signal->number;
    event->cpl = 3;
    event->error_code = (uint64_t)(int64_t)signal->code;
    event->cr2 = signal->address;
    event->rip = at;
    event->tsc = read_tsc();
    event->kind = signal->number == SIGBUS ? EVENT_SIGBUS : EVENT_SIGSEGV;
}

/* The default action, as soon as the handler has returned: until then the signal is blocked. */
static void die_of(int signal_number)
{
    const struct action standard = { 0, 0, 0, 0 };
    set_action(signal_number, &standard);
    CALL3(tgkill, CALL0(getpid), CALL0(gettid), signal_number);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    volatile struct task_report *report = &channel->reports[own_task];
    const volatile struct task_program *program = &channel->programs[own_task];
    uint32_t step = report->current_step;
    report->rip = interrupted_at(context);
    const struct signal signal = { number, info->si_code, (uint64_t)info->si_addr };
    record(&signal, report->rip);
    volatile struct result *result = step < MAX_STEPS ? &report->results[step] : 0;
    if (!result || result->status != RESULT_STARTED) {
        die_of(number);
        return;
    }
    result->code = (uint32_t)info->si_code;
    result->ended = read_tsc();
    result->status = number == SIGBUS ? RESULT_SIGBUS : RESULT_SIGSEGV;
    if (program->steps[step].flags & STEP_TALLIES)
        ((volatile struct tally *)result->bytes)->sigbus_count++;
    int is_handled = number == SIGBUS || program->flags & TASK_SIGSEGV_IS_SIGBUS;
    if (!is_handled || program->on_sigbus == ON_SIGBUS_KILLED || is_child) {
        die_of(number);
        return;
    }
    int retries = program->on_sigbus == ON_SIGBUS_SAME_STEP;
    restart_at(context, own_task, retries ? step : step + 1, task_stack + STACK_BYTES);
}

/* What a kernel in the nested VM would do with a #PF that its page tables do not explain (bad_area_nosemaphore()). */
static void fault_nested(const struct nested_result *fault)
{
    volatile struct task_report *report = &channel->reports[own_task];
    volatile struct result *result = &report->results[report->current_step];
    const struct signal signal = { SIGSEGV, fault->detail & FAULT_PRESENT ? SEGV_ACCERR : SEGV_MAPERR, fault->address };
    report->rip = fault->rip;
    record(&signal, fault->rip);
    result->code = (uint32_t)signal.code;
    result->ended = read_tsc();
    result->status = RESULT_SIGSEGV;
    die_of(SIGSEGV);
}

static void report_exit(uint64_t reason)
{
    static char text[] = "nested VM: KVM_RUN gave it up, exit reason 00\n";
    char *digits = text + sizeof text - 4;
    digits[0] = (char)('0' + reason / 10 % 10);
    digits[1] = (char)('0' + reason % 10);
    CALL3(write, 2, text, sizeof text - 1);
}

uint32_t perform(access_fn *access, void *window, void *memory, uint64_t size)
{
    if (!(channel->programs[own_task].flags & TASK_NESTED)) {
        access(window, memory, size);
        return RESULT_DONE;
    }
    struct nested_result done = run_nested(access, window, memory, size);
    volatile struct task_report *report = &channel->reports[own_task];
    switch (done.end) {
    case NESTED_DONE:
        return RESULT_DONE;
    case NESTED_EFAULT:
        return RESULT_EFAULT;
    case NESTED_ERRNO:
        report->results[report->current_step].code = (uint32_t)done.detail;
        return RESULT_ERRNO;
    case NESTED_FAULT:
        fault_nested(&done);
        break;
    case NESTED_EXIT:
        report->rip = done.rip;
        report_exit(done.detail);
        CALL2(kill, CALL0(getpid), SIGKILL);
    }
    exit_now(1);
}

static void take_signals(void)
{
    stack_t stack = { .ss_sp = signal_stack, .ss_size = STACK_BYTES };
    CALL2(sigaltstack, &stack, 0);
    int is_handled = channel->programs[own_task].on_sigbus != ON_SIGBUS_KILLED;
    struct action action = { on_signal, SA_SIGINFO | SA_KERNEL_RESTORER | SA_ONSTACK, restore_context, 0 };
    set_action(SIGSEGV, &action);
    if (is_handled)
        action.flags &= ~(unsigned long)SA_ONSTACK;
    set_action(SIGBUS, &action);
}

/*
 * A system call on the window: write(2) to a pipe makes the kernel copy from it, read(2) from one to it. A new pipe each
 * time, because what a failed read(2) has not taken stays in it.
 */
static uint64_t copy(const struct step *step, void *memory)
{
    int is_read = step->verb == VERB_KERNEL_READ;
    uint64_t size = step->size <= MAX_ACCESS_BYTES ? step->size : MAX_ACCESS_BYTES;
    void *window = (void *)step->address;
    int ends[2];
    if (CALL2(pipe2, ends, 0) < 0)
        exit_now(1);
    word done = CALL3(write, ends[1], is_read ? window : memory, size);
    if (done == (word)size)
        done = CALL3(read, ends[0], is_read ? memory : window, size);
    CALL1(close, ends[0]);
    CALL1(close, ends[1]);
    return done == (word)size ? 0 : done < 0 ? size : size - (uint64_t)done;
}

static void kill_other(uint64_t task)
{
    if (task >= channel->task_count)
        exit_now(1);
    uint32_t pid = the_case->tasks[task].pid;
    if (pid)
        CALL2(kill, pid, SIGKILL);
}

uint64_t kernel_call(uint64_t number, uint64_t argument, void *memory)
{
    switch (number) {
    case CALL_YIELD:
        nap(NAP_NANOSECONDS);
        return 0;
    case CALL_SIGNAL:
        ring(DOORBELL_SIGNAL | (uint32_t)argument << 8 | (own_task + 1) << 16);
        return 0;
    case CALL_COPY:
        return copy((const struct step *)argument, memory);
    case CALL_KILL:
        kill_other(argument);
        return 0;
    case CALL_DONE:
        exit_now(0);
    default:
        exit_now(1);
    }
}

void hand_over_results(void) { ring(DOORBELL_RESULTS | (own_task + 1) << 16); }

static access_fn *load_of(uint32_t size)
{
    return size == 1 ? load_1 : size == 2 ? load_2 : size == 4 ? load_4 : size == 8 ? load_8 : size == 16 ? load_16 : 0;
}

void load_by_child(const struct step *step, struct result *result)
{
    access_fn *load = load_of(step->size);
    word parent = CALL0(getpid);
    word pid = load ? CALL5(clone, SIGCHLD, 0, 0, 0, 0) : -EINVAL;
    if (pid < 0)
        exit_now(1);
    if (pid == 0) {
        is_child = 1;
        CALL2(prctl, PR_SET_PDEATHSIG, SIGKILL);
        if (CALL0(getppid) != parent)
            exit_now(0);
        load((void *)step->address, (void *)result->bytes, step->size);
        result->ended = read_tsc();
        result->status = RESULT_DONE;
        exit_now(0);
    }
    int status = 0;
    CALL4(wait4, pid, &status, 0, 0);
    /* Died without a report: an end that its handler did not see is the task's, too. */
    if (((volatile struct result *)result)->status == RESULT_STARTED)
        CALL2(kill, CALL0(getpid), status & 0x7f ? status & 0x7f : SIGKILL);
}

static void pin(uint32_t cpu)
{
    unsigned long mask = 1ul << cpu;
    CALL3(sched_setaffinity, 0, sizeof mask, &mask); /* a guest with fewer processors runs it where it can */
}

static void start(uint32_t task, word parent)
{
    word pid = CALL5(clone, SIGCHLD, 0, 0, 0, 0);
    if (pid < 0)
        refuse("clone", "", pid);
    if (pid > 0)
        the_case->tasks[task].pid = (uint32_t)pid;
    if (pid != 0)
        return;
    own_task = task;
    CALL2(prctl, PR_SET_PDEATHSIG, SIGKILL);
    if (CALL0(getppid) != parent)
        exit_now(0);
    set_mask(0);
    if (the_case->flags & CASE_PINS_TASKS)
        pin(channel->programs[task].cpu);
    take_signals();
    if (channel->programs[task].flags & TASK_NESTED) {
        const char *failed;
        word error = open_nested(the_case->window_bytes, &failed);
        if (error < 0)
            refuse(failed, "", error);
    }
    while (!((volatile struct linux_case *)the_case)->begun)
        nap(SHORT_NAP_NANOSECONDS);
    start_task(task, 0, task_stack + STACK_BYTES);
}

static int is_counter(uint32_t task)
{
    const volatile struct task_program *program = &channel->programs[task];
    return program->step_count > 0 && program->steps[program->step_count - 1].verb == VERB_COUNT;
}

static int has_ended(uint32_t task)
{
    uint32_t state = channel->reports[task].state;
    return state == TASK_DONE || state == TASK_KILLED;
}

static void ended(uint32_t pid, uint32_t status)
{
    for (uint32_t task = 0; task < channel->task_count; task++) {
        if (the_case->tasks[task].pid != pid)
            continue;
        the_case->tasks[task].pid = 0;
        the_case->tasks[task].status = status;
        channel->reports[task].state = status == 0 ? TASK_DONE : TASK_KILLED;
        if (status >> 8 & 0xff)
            refuse_task(task, " has a step that is none");
    }
}

static void reap(void)
{
    int status;
    word pid;
    while ((pid = CALL4(wait4, -1, &status, WNOHANG, 0)) > 0)
        ended((uint32_t)pid, (uint32_t)status);
}

/*
 * As in the micro-guest: every task that can end has, and those that count for ever have counted once more.
 * `counts`: as they were when the last other task ended, or so far.
 */
static int are_finished(uint64_t *counts)
{
    int finished = 1;
    for (uint32_t task = 0; task < channel->task_count; task++)
        if (!is_counter(task) && !has_ended(task))
            finished = 0;
    for (uint32_t task = 0; task < channel->task_count; task++) {
        if (!is_counter(task) || has_ended(task))
            continue;
        if (!finished)
            counts[task] = channel->reports[task].count;
        else if (channel->reports[task].count <= counts[task])
            return 0;
    }
    return finished;
}

static void end_all(void)
{
    for (uint32_t task = 0; task < channel->task_count; task++)
        if (the_case->tasks[task].pid)
            CALL2(kill, the_case->tasks[task].pid, SIGKILL);
    while (CALL4(wait4, -1, 0, 0, 0) > 0)
        ;
}

void run_tasks(int ends_alone)
{
    static uint64_t counts[MAX_TASKS];
    const unsigned long awaited = mask_of(SIGCHLD);
    volatile struct linux_case *shared = the_case;
    word own_pid = CALL0(getpid);
    int has_finished = 0;
    set_mask(awaited);
    for (uint32_t task = 0; task < channel->task_count; task++) {
        counts[task] = 0;
        channel->reports[task].state = TASK_READY;
        start(task, own_pid);
    }
    shared->begun = 1;
    while (!shared->stop && !(has_finished && ends_alone)) {
        struct timespec pause = { 0, 5 * NAP_NANOSECONDS };
        CALL4(rt_sigtimedwait, &awaited, 0, &pause, sizeof awaited);
        reap();
        if (has_finished || !are_finished(counts))
            continue;
        has_finished = 1;
        ring(DOORBELL_FINISHED);
    }
    end_all();
}
