/*
 * The peer of vmm/src/arch/x86/bench/exits.ts: the same loops around KVM_RUN in C, for comparison only. Built and run by
 * `daxfault bench kvm`.
 *
 * usage: exits STATE port|fault|fault-ioctl MILLISECONDS
 *
 * fault: special registers and events in struct kvm_run where KVM keeps them there (KVM_CAP_SYNC_REGS); fault-ioctl: by a
 * call each, as without.
 *
 * STATE is written by the TypeScript side, so that both run the very same guest: struct kvm_regs, struct kvm_sregs, then
 * guest memory from address 0 to the end of the file. Prints the cycles a second.
 */
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WINDOW_ADDRESS 0x40000000ull
#define WINDOW_BYTES 0x200000ull
#define TSS_ADDRESS 0xfffbd000ull
#define MAX_CPUID_ENTRIES 256
#define PORT 0x10
#define VECTOR_PF 14
/* Not present, read, CPL 3: what the processor would have pushed. */
#define PF_ERROR_CODE 4
#define SYNCED (KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
/* The clock is looked at once in so many cycles. */
#define BATCH 64

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void check(const char *what, int result)
{
    if (result < 0)
        die(what);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void add_slot(int vm, uint32_t slot, uint64_t address, uint64_t bytes, void *memory)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot, .guest_phys_addr = address, .memory_size = bytes, .userspace_addr = (uint64_t)memory};
    check("KVM_SET_USER_MEMORY_REGION", ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
}

/* A mapping of a file that has been truncated to nothing since. */
static void *lost_window(void)
{
    int fd = memfd_create("window", 0);
    check("memfd_create", fd);
    check("ftruncate", ftruncate(fd, WINDOW_BYTES));
    void *window = mmap(0, WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (window == MAP_FAILED)
        die("mmap");
    check("ftruncate", ftruncate(fd, 0));
    return window;
}

static int vcpu;
static int can_sync;
static struct kvm_run *run;

static void port_cycle(void)
{
    check("KVM_RUN", ioctl(vcpu, KVM_RUN, 0));
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT || run->io.direction != KVM_EXIT_IO_OUT) {
        fprintf(stderr, "exit reason %u, port %u\n", run->exit_reason, run->io.port);
        exit(1);
    }
}

static void run_to_fault(void)
{
    if (ioctl(vcpu, KVM_RUN, 0) != -1 || errno != EFAULT) {
        fprintf(stderr, "KVM_RUN: no EFAULT, exit reason %u\n", run->exit_reason);
        exit(1);
    }
}

static void inject(struct kvm_vcpu_events *events)
{
    events->exception.injected = 1;
    events->exception.nr = VECTOR_PF;
    events->exception.has_error_code = 1;
    events->exception.pending = 0;
    events->exception.error_code = PF_ERROR_CODE;
}

static void synced_fault_cycle(void)
{
    run->kvm_valid_regs = SYNCED;
    run_to_fault();
    run->s.regs.sregs.cr2 = WINDOW_ADDRESS;
    inject(&run->s.regs.events);
    run->kvm_dirty_regs = SYNCED;
}

static void fault_cycle(void)
{
    run_to_fault();
    struct kvm_sregs sregs;
    check("KVM_GET_SREGS", ioctl(vcpu, KVM_GET_SREGS, &sregs));
    sregs.cr2 = WINDOW_ADDRESS;
    check("KVM_SET_SREGS", ioctl(vcpu, KVM_SET_SREGS, &sregs));
    struct kvm_vcpu_events events;
    check("KVM_GET_VCPU_EVENTS", ioctl(vcpu, KVM_GET_VCPU_EVENTS, &events));
    inject(&events);
    check("KVM_SET_VCPU_EVENTS", ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events));
}

static void create(const char *state)
{
    int file = open(state, O_RDONLY);
    check(state, file);
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct stat size;
    check("fstat", fstat(file, &size));
    if (read(file, &regs, sizeof regs) != sizeof regs || read(file, &sregs, sizeof sregs) != sizeof sregs)
        die("state");
    size_t bytes = (size_t)size.st_size - sizeof regs - sizeof sregs;
    void *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || read(file, memory, bytes) != (ssize_t)bytes)
        die("guest memory");

    int kvm = open("/dev/kvm", O_RDWR);
    check("/dev/kvm", kvm);
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    check("KVM_CREATE_VM", vm);
    can_sync = (ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS) & SYNCED) == SYNCED;
    check("KVM_SET_TSS_ADDR", ioctl(vm, KVM_SET_TSS_ADDR, TSS_ADDRESS));
    add_slot(vm, 0, 0, bytes, memory);
    add_slot(vm, 1, WINDOW_ADDRESS, WINDOW_BYTES, lost_window());
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    check("KVM_CREATE_VCPU", vcpu);
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + MAX_CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));
    cpuid->nent = MAX_CPUID_ENTRIES;
    check("KVM_GET_SUPPORTED_CPUID", ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid));
    check("KVM_SET_CPUID2", ioctl(vcpu, KVM_SET_CPUID2, cpuid));
    int run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    check("KVM_GET_VCPU_MMAP_SIZE", run_bytes);
    run = mmap(0, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED)
        die("mmap of the vCPU");
    check("KVM_SET_SREGS", ioctl(vcpu, KVM_SET_SREGS, &sregs));
    check("KVM_SET_REGS", ioctl(vcpu, KVM_SET_REGS, &regs));
}

static void (*cycle_named(const char *name))(void)
{
    if (strcmp(name, "port") == 0)
        return port_cycle;
    if (strcmp(name, "fault") == 0)
        return can_sync ? synced_fault_cycle : fault_cycle;
    return strcmp(name, "fault-ioctl") == 0 ? fault_cycle : 0;
}

int main(int argc, char **argv)
{
    if (argc != 4 || !cycle_named(argv[2])) {
        fprintf(stderr, "usage: exits STATE port|fault|fault-ioctl MILLISECONDS\n");
        return 64;
    }
    double limit = atof(argv[3]) / 1000;
    create(argv[1]);
    void (*cycle)(void) = cycle_named(argv[2]);
    for (int i = 0; i < BATCH; i++)
        cycle();
    uint64_t cycles = 0;
    double start = now(), seconds;
    do {
        for (int i = 0; i < BATCH; i++)
            cycle();
        cycles += BATCH;
        seconds = now() - start;
    } while (seconds < limit);
    printf("%.3f\n", (double)cycles / seconds);
    return 0;
}
