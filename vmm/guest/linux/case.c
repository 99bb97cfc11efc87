/* A case before its tasks: what of it no process can do, and the file in the window. */
#include "tasks.h"
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

struct linux_case *the_case;
word held_file = -1;

static uint32_t append(uint32_t at, const char *text)
{
    while (*text && at + 1 < MAX_REFUSAL_BYTES)
        the_case->refusal[at++] = *text++;
    the_case->refusal[at] = 0;
    return at;
}

static uint32_t append_number(uint32_t at, uint64_t value)
{
    char digits[24], *first = digits + sizeof digits - 1;
    *first = 0;
    do
        *--first = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    return append(at, first);
}

void refuse_mount(const char *lacking, const char *type, word error)
{
    uint32_t at = append(append(append(0, lacking), "mount of type "), type);
    append_number(append(at, ": errno "), (uint64_t)-error);
    ring(DOORBELL_PANIC | PANIC_BAD_CONFIGURATION << 8);
}

void refuse(const char *first, const char *second, word error)
{
    uint32_t at = append(append(0, first), second);
    if (error < 0)
        append_number(append(at, ": errno "), (uint64_t)-error);
    ring(DOORBELL_PANIC | PANIC_BAD_CONFIGURATION << 8);
}

void refuse_task(uint32_t task, const char *what)
{
    append(append_number(append(0, "task "), task), what);
    ring(DOORBELL_PANIC | PANIC_BAD_STEP << 8);
}

/* Vector registers wider than SSE's are not turned on there, and it has no kernel that copies. */
static int is_beyond_nested(const volatile struct step *step)
{
    int is_move = step->verb == VERB_LOAD || step->verb == VERB_STORE;
    return step->verb == VERB_KERNEL_READ || step->verb == VERB_KERNEL_WRITE || step->verb >= VERB_FILE_READ ||
           (is_move && step->size > 16);
}

/* What a task asks for that a process cannot do; 0: nothing. */
static const char *beyond_process(uint32_t task)
{
    const volatile struct task_program *program = &channel->programs[task];
    if (program->cpl != 3)
        return " runs at CPL 0, which a process cannot";
    if (program->flags & TASK_INTERRUPTS_OFF)
        return " runs with interrupts off, which a process cannot";
    if (program->step_count > MAX_STEPS)
        return " has more steps than there is room for";
    for (uint32_t i = 0; i < program->step_count; i++) {
        if (program->steps[i].flags & (STEP_INTERRUPTS_OFF | STEP_NO_FIXUP))
            return " asks for a kernel copy that is not Linux's own";
        if (program->flags & TASK_NESTED && is_beyond_nested(&program->steps[i]))
            return " has a step that its nested VM cannot do";
    }
    return 0;
}

int is_refused(void)
{
    if (channel->magic != CHANNEL_MAGIC || the_case->magic != CASE_MAGIC)
        return refuse("this memory holds no case", "", 0), 1;
    if (channel->configuration)
        return refuse("configuration of the micro-guest, which a process has not", "", 0), 1;
    if (channel->task_count == 0 || channel->task_count > MAX_TASKS || the_case->mapping_count > MAX_MAPPINGS)
        return refuse("more tasks or mappings than there is room for", "", 0), 1;
    for (uint32_t task = 0; task < channel->task_count; task++) {
        const char *what = beyond_process(task);
        if (what)
            return refuse_task(task, what), 1;
    }
    return 0;
}

/* The pages between the mappings are nobody's, as in the micro-guest's window. */
int map_window(void)
{
    int only_reads = (the_case->flags & CASE_ONLY_READS) != 0;
    int protection = PROT_READ | (only_reads ? 0 : PROT_WRITE) | (the_case->flags & CASE_EXECUTES ? PROT_EXEC : 0);
    the_case->path[MAX_PATH_BYTES - 1] = 0;
    word file = CALL3(open, the_case->path, (only_reads ? O_RDONLY : O_RDWR) | O_CLOEXEC, 0);
    if (file < 0)
        return refuse("open ", the_case->path, file), 0;
    word window = CALL6(mmap, WINDOW_ADDRESS, the_case->window_bytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (window != (word)WINDOW_ADDRESS)
        return refuse("no room for the window", "", window < 0 ? window : -EEXIST), 0;
    for (uint32_t i = 0; i < the_case->mapping_count; i++) {
        const struct mapping *mapping = &the_case->mappings[i];
        if (mapping->at > the_case->window_bytes || mapping->length > the_case->window_bytes - mapping->at)
            return refuse("a mapping lies outside the window", "", 0), 0;
        word mapped = CALL6(mmap, WINDOW_ADDRESS + mapping->at, mapping->length, protection, MAP_SHARED | MAP_FIXED,
                            file, mapping->file_offset);
        if (mapped < 0)
            return refuse("mmap ", the_case->path, mapped), 0;
    }
    if (the_case->flags & CASE_HOLDS_FILE)
        held_file = file;
    else
        CALL1(close, file);
    return 1;
}

void unmap_window(void)
{
    CALL2(munmap, WINDOW_ADDRESS, the_case->window_bytes);
    if (held_file >= 0)
        CALL1(close, held_file);
    held_file = -1;
}
