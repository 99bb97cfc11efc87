/*
 * Steps that only a process of Linux has: system calls on the file behind the window, which go past the mapping, O_DIRECT,
 * fork and exec.
 *
 * The kernel copies to and from memory of the task's own, not the result's bytes: in a guest the channel is no memory of its
 * kernel's, so that direct I/O cannot pin it (VM_PFNMAP, EFAULT).
 */
#include "tasks.h"
#include <asm/stat.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#define PAGE 4096ull

static uint8_t buffer[PAGE] __attribute__((aligned(4096)));

/* Where the file has what the window has at an address; -1: nowhere. */
static word file_offset(uint64_t address)
{
    uint64_t offset = address - WINDOW_ADDRESS;
    for (uint32_t i = 0; i < the_case->mapping_count; i++) {
        const struct mapping *mapping = &the_case->mappings[i];
        if (offset >= mapping->at && offset - mapping->at < mapping->length)
            return (word)(mapping->file_offset + (offset - mapping->at));
    }
    return -1;
}

static word file_size(void *bytes)
{
    struct stat status;
    word error = CALL2(fstat, held_file, &status);
    if (error == 0)
        *(volatile uint64_t *)bytes = (uint64_t)status.st_size;
    return error;
}

/*
 * The open file once more, at the first use only: an open(2) may ask the file server for attributes, by which the client learns
 * of a truncation (fuse_permission()).
 */
static word open_direct(void)
{
    static word file = -1;
    if (file >= 0)
        return file;
    static char path[] = "/proc/self/fd/00";
    uint32_t end = sizeof path - 1;
    path[end - 2] = (char)('0' + held_file / 10 % 10);
    path[end - 1] = (char)('0' + held_file % 10);
    if (held_file < 10)
        path[end - 2] = path[end - 1], path[end - 1] = 0;
    file = CALL3(open, path, O_RDONLY | O_DIRECT | O_CLOEXEC, 0);
    return file;
}

/* O_DIRECT wants page and buffer aligned. Returns how many of the bytes at `address` there are. */
static word read_direct(uint64_t address, uint64_t size)
{
    uint64_t before = address % PAGE;
    word file = open_direct();
    if (file < 0)
        return file;
    word done = CALL4(pread64, file, buffer, PAGE, file_offset(address - before));
    if (done < 0)
        return done;
    uint64_t there = (uint64_t)done > before ? (uint64_t)done - before : 0;
    for (uint32_t i = 0; i < size; i++)
        buffer[i] = buffer[before + i];
    return (word)(there < size ? there : size);
}

/*
 * To a file beside the case's, which is empty. A write(2) that makes a DAX file longer is direct I/O whatever its flags
 * (fuse_dax_write_iter()): the page goes into the request, and the file server reads it from the window.
 */
static word write_pinned(uint64_t address)
{
    static char path[MAX_PATH_BYTES + 8];
    uint32_t length = 0;
    for (; the_case->path[length] && length < MAX_PATH_BYTES; length++)
        path[length] = the_case->path[length];
    for (const char *end = "-copy"; *end; end++)
        path[length++] = *end;
    path[length] = 0;
    word file = CALL3(open, path, O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
    if (file < 0)
        return file;
    word done = CALL3(write, file, address, PAGE);
    CALL1(close, file);
    CALL1(unlink, path);
    return done;
}

/* Returns only where it fails. */
static word execute(void)
{
    char *arguments[] = { the_case->path, 0 }, *environment[] = { 0 };
    return CALL3(execve, the_case->path, arguments, environment);
}

static word call(const struct step *step, uint64_t size)
{
    uint64_t first = step->address & ~(PAGE - 1);
    switch (step->verb) {
    case VERB_FILE_READ:
        return CALL4(pread64, held_file, buffer, size, file_offset(step->address));
    case VERB_FILE_WRITE:
        return CALL4(pwrite64, held_file, buffer, size, file_offset(step->address));
    case VERB_FILE_SIZE:
        return file_size(buffer);
    case VERB_FILE_TRUNCATE:
        return CALL2(ftruncate, held_file, step->value);
    case VERB_FSYNC:
        return CALL1(fsync, held_file);
    case VERB_FILE_READ_DIRECT:
        return read_direct(step->address, size);
    case VERB_KERNEL_PIN:
        return write_pinned(step->address);
    case VERB_EXEC:
        return execute();
    default:
        return CALL3(msync, first, step->address + size - first, MS_SYNC);
    }
}

/* Of a call that moves bytes: how many. 0: it does not. */
static uint64_t moved_bytes(uint32_t verb, uint64_t size)
{
    if (verb == VERB_KERNEL_PIN)
        return PAGE;
    return verb == VERB_FILE_READ || verb == VERB_FILE_WRITE || verb == VERB_FILE_READ_DIRECT ? size : 0;
}

/* What has been seen is compared with the file as it was then: the host looks at it before it changes. */
static int changes_file(uint32_t verb) { return verb == VERB_FILE_WRITE || verb == VERB_FILE_TRUNCATE; }

int run_own_step(const struct step *step, struct result *result)
{
    if (step->verb < VERB_FILE_READ || step->verb > VERB_EXEC)
        return 0;
    uint64_t size = step->size <= MAX_ACCESS_BYTES ? step->size : MAX_ACCESS_BYTES;
    int is_write = step->verb == VERB_FILE_WRITE;
    for (uint32_t i = 0; i < MAX_ACCESS_BYTES; i++)
        buffer[i] = is_write && i < 8 ? (uint8_t)(step->value >> (8 * i)) : 0;
    if (changes_file(step->verb))
        hand_over_results();
    result->began = read_tsc();
    result->status = RESULT_STARTED;
    if (step->verb == VERB_FORK_LOAD) {
        load_by_child(step, result);
        return 1;
    }
    word done = call(step, size);
    result->ended = read_tsc();
    int is_short = done >= 0 && (uint64_t)done < moved_bytes(step->verb, size);
    for (uint32_t i = 0; done >= 0 && i < MAX_ACCESS_BYTES; i++)
        result->bytes[i] = buffer[i];
    if (done < 0 || is_short)
        result->code = (uint32_t)(done < 0 ? -done : done);
    result->status = done == -EFAULT ? RESULT_EFAULT : done < 0 ? RESULT_ERRNO : is_short ? RESULT_SHORT : RESULT_DONE;
    return 1;
}
