/*
 * What the Linux program and its host share: the channel, and behind it what a case is on Linux. The program is a process
 * of the host (engine `process`; the memory is a file whose descriptor it inherits) or the first process of a Linux guest
 * (the memory is physical, at an address of the kernel's command line).
 *
 * Mirrored by vmm/src/guest/linux-case.ts, which vmm/test/guest/linux-case.test.ts compares with the compiler.
 *
 * Writers: the host fills everything above `stop` before the program looks at it, `stop` and `answered` at any time. The
 * rest is the program's. A new case is zeros everywhere else, `first` included: its process counts its reports itself.
 */
#pragma once
#include "channel.h"

#define CASE_MAGIC 0x4553414358554e4cull /* "LNUXCASE" */

#define MAX_MAPPINGS 16
#define MAX_PATH_BYTES 4096 /* PATH_MAX (include/uapi/linux/limits.h) */
#define MAX_MOUNT_BYTES 64
#define MAX_REFUSAL_BYTES 256

enum case_flags {
    CASE_PINS_TASKS = 1 << 0, /* a task runs on the processor of its number, as on the micro-guest's vCPU */
    CASE_EXECUTES = 1 << 1,   /* a task fetches code from the window, which is mapped PROT_EXEC */
    CASE_HOLDS_FILE = 1 << 2, /* a task has steps on the file itself: it stays open */
    CASE_ONLY_READS = 1 << 3, /* the file is opened and mapped for reading: a task executes it (ETXTBSY, deny_write_access()) */
};

/* A part of the file in the window; all three are multiples of the page size. */
struct mapping {
    uint64_t at, file_offset, length;
};

/*
 * Reports of one process, where a doorbell does not hold it up (a pipe, a port that takes bytes): it waits until the host has
 * dealt with the last one, as for an exit.
 */
struct mailbox {
    uint32_t doorbell; /* the last report; of a port alone: what a pipe carries is the report itself */
    uint32_t rung;     /* how many there have been */
    uint32_t answered; /* `rung` of the last one that the host has dealt with */
    uint32_t tsc_low, tsc_high; /* when the last one was made; of a port alone */
};

/* A task as its kernel sees it. */
struct linux_task {
    uint32_t pid;    /* of its process, until that has been waited for */
    uint32_t status; /* the process's wait status, once task_report.state says that it has ended */
    struct mailbox mail;
};

struct linux_case {
    struct channel channel;
    uint64_t magic;
    uint64_t window_bytes;
    uint32_t flags;
    uint32_t mapping_count;
    struct mapping mappings[MAX_MAPPINGS];
    char path[MAX_PATH_BYTES];
    /* In a Linux guest: what is mounted on /mnt before the file is opened; nothing where `type` is empty. */
    char mount_type[MAX_MOUNT_BYTES], mount_source[MAX_MOUNT_BYTES], mount_options[MAX_MOUNT_BYTES];
    uint32_t stop; /* the host's at any time: ends the tasks, and the case */
    uint32_t begun; /* every task has been started: they wait for each other, so that one can be killed by another's first step */
    char refusal[MAX_REFUSAL_BYTES]; /* with DOORBELL_PANIC: why the case cannot be run */
    struct mailbox first; /* of the first process of a guest */
    struct linux_task tasks[MAX_TASKS];
};
