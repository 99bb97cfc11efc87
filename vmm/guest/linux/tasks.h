/* What the files of the Linux program share. */
#pragma once
#include "services.h"
#include "sys.h"

/* The way to the host: by pipe from a process of the host (steps.c), by port from a guest (init.c). */
typedef void ring_fn(uint32_t value);
extern ring_fn *ring;

/* case.c */
/* The file, open for reading and writing; -1: it is not held. */
extern word held_file;
/* Reports why the case cannot be run: words in a row, then `error`, which is -errno or 0. */
void refuse(const char *first, const char *second, word error);
/* `lacking`: what the kernel has not, an end of a sentence with a colon; or nothing. */
void refuse_mount(const char *lacking, const char *type, word error);
void refuse_task(uint32_t task, const char *what);
/* Is there something in the case that a process cannot do? Then it is refused. */
int is_refused(void);
/* Maps the file into the window. 0 where that failed, and the case is refused. */
int map_window(void);
void unmap_window(void);

/* tasks.c */
/*
 * Starts the tasks, a process each, waits for their ends, and reports the last one. Returns when the host says `stop`, or
 * when all have ended and `ends_alone`; no task is left then.
 */
void run_tasks(int ends_alone);
/* Of a task: returns when the host has taken the results of all tasks so far. */
void hand_over_results(void);
/* Of a task: a child does the step's load, into the result; returns when it has ended. A death of the child's is its own. */
void load_by_child(const struct step *step, struct result *result);

/* init.c: the program as the first process of a Linux guest. */
void run_guest(void) __attribute__((noreturn));

/* x86/entry.S */
void restore_context(void);
void start_task(uint32_t task, uint32_t step, void *stack) __attribute__((noreturn));
