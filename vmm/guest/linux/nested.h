/* A task of the guest's own guest (TASK_NESTED): each access is made in a VM of this kernel's KVM. */
#pragma once
#include "services.h"
#include "sys.h"

/* Makes the task's VM; 0, or -errno, and `*failed` says at what. In the task's own process. */
word open_nested(uint64_t window_bytes, const char **failed);

/* Bit 0 of a #PF's error code: a page is present and forbids the access (SDM vol. 3, 4.7). */
#define FAULT_PRESENT 1

/* How an access in the VM ended. */
enum nested_end {
    NESTED_DONE,
    NESTED_EFAULT, /* KVM_RUN returned -EFAULT: the VM has stopped, and its VMM knows */
    NESTED_ERRNO,  /* ... another error: `detail` */
    NESTED_FAULT,  /* the VM's processor got a #PF: `detail` is its error code, `address` its CR2 */
    NESTED_EXIT,   /* KVM_RUN gave up the VM: `detail` is the exit reason */
};

struct nested_result {
    enum nested_end end;
    uint64_t detail, address, rip;
};

/* One access of step/services.h in the VM, with CPL 3: the same instruction, one level down. */
struct nested_result run_nested(access_fn *access, void *window, void *memory, uint64_t size);
