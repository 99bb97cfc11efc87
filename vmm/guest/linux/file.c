/*
 * Steps on the file behind the window that no guest without a file system has: system calls that go past the mapping. The
 * kernel copies to and from memory of the task's own; what is lost is on the file's side. Not to and from the result's
 * bytes: in a guest the channel is no memory of its kernel's, so that direct I/O cannot pin it (VM_PFNMAP, EFAULT).
 */
#include "tasks.h"
#include <asm/stat.h>
#include <linux/errno.h>
#include <linux/mman.h>

#define PAGE 4096ull

static uint8_t buffer[MAX_ACCESS_BYTES] __attribute__((aligned(64)));

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

static word call(const struct step *step, void *bytes, uint64_t size)
{
    uint64_t first = step->address & ~(PAGE - 1);
    switch (step->verb) {
    case VERB_FILE_READ:
        return CALL4(pread64, held_file, bytes, size, file_offset(step->address));
    case VERB_FILE_WRITE:
        return CALL4(pwrite64, held_file, bytes, size, file_offset(step->address));
    case VERB_FILE_SIZE:
        return file_size(bytes);
    case VERB_FILE_TRUNCATE:
        return CALL2(ftruncate, held_file, step->value);
    case VERB_FSYNC:
        return CALL1(fsync, held_file);
    default:
        return CALL3(msync, first, step->address + size - first, MS_SYNC);
    }
}

static int copies(uint32_t verb) { return verb == VERB_FILE_READ || verb == VERB_FILE_WRITE; }

/* What has been seen is compared with the file as it was then: the host looks at it before it changes. */
static int changes_file(uint32_t verb) { return verb == VERB_FILE_WRITE || verb == VERB_FILE_TRUNCATE; }

int run_own_step(const struct step *step, struct result *result)
{
    if (step->verb < VERB_FILE_READ || step->verb > VERB_FILE_TRUNCATE)
        return 0;
    uint64_t size = step->size <= MAX_ACCESS_BYTES ? step->size : MAX_ACCESS_BYTES;
    int is_write = step->verb == VERB_FILE_WRITE;
    for (uint32_t i = 0; i < MAX_ACCESS_BYTES; i++)
        buffer[i] = is_write && i < 8 ? (uint8_t)(step->value >> (8 * i)) : 0;
    if (changes_file(step->verb))
        hand_over_results();
    result->began = read_tsc();
    result->status = RESULT_STARTED;
    word done = call(step, buffer, size);
    result->ended = read_tsc();
    int is_short = copies(step->verb) && done >= 0 && (uint64_t)done < size;
    for (uint32_t i = 0; done >= 0 && i < MAX_ACCESS_BYTES; i++)
        result->bytes[i] = buffer[i];
    if (done < 0 || is_short)
        result->code = (uint32_t)(done < 0 ? -done : done);
    result->status = done == -EFAULT ? RESULT_EFAULT : done < 0 ? RESULT_ERRNO : is_short ? RESULT_SHORT : RESULT_DONE;
    return 1;
}
