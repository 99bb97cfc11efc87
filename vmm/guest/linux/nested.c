/*
 * The guest's own guest (L2): a VM of the Linux guest's KVM that makes one access at a time. Its memory is the program
 * itself and the window, each at the address that the process has them at, so that the DAX file's mapping is a memslot and
 * an access is the same instruction of x86/access.S, at CPL 3, with paging. No interrupt controller.
 *
 * It is no kernel: of exceptions only #PF has a gate, which its VMM, this process, hears of; any other one is a triple
 * fault. Its VMM does nothing for a lost page either, as VMMs are today: it stops.
 */
#include "nested.h"
#include <asm/kvm.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/kvm.h>
#include <linux/mman.h>

#define PAGE 4096ull
#define LARGE_PAGE (2ull << 20)
#define ENTRIES 512
#define PORT_DONE 0x10
#define PORT_FAULT 0x11
#define VECTOR_PF 14
#define STACK_BYTES 8192
#define MAX_CPUID_ENTRIES 256
/* Below 4 GiB, for real-mode tricks of VMX; the places that VMMs use. */
#define TSS_PLACE 0xfffbd000ull

/* Present, writable, CPL 3 may, accessed, dirty; with PS a large page. */
#define TABLE 0x67ull
#define LARGE 0xe7ull

enum selector { KERNEL_CODE = 0x08, KERNEL_DATA = 0x10, USER_DATA = 0x1b, USER_CODE = 0x23, TASK_STATE = 0x28 };

/* CR0: PE, MP, ET, NE, WP, PG. CR4: PAE, OSFXSR, OSXMMEXCPT. EFER: LME, LMA. */
#define CR0 0x80010033ull
#define CR4 0x620ull
#define EFER 0x500ull
/* IF, IOPL 3, and the bit that is always set. */
#define USER_FLAGS 0x3202ull

struct cpuid_room {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[MAX_CPUID_ENTRIES];
};

void nested_entry(void);
void nested_fault(void);
/* The program's first and last byte: the linker's. */
extern const char __executable_start[], _end[];

static uint64_t pml4[ENTRIES], pdpt[ENTRIES], first_gib[ENTRIES], second_gib[ENTRIES]
    __attribute__((aligned(4096)));
static uint64_t gdt[8] __attribute__((aligned(16)));
static uint64_t idt[2 * (VECTOR_PF + 1)] __attribute__((aligned(16)));
static uint32_t task_state[26] __attribute__((aligned(16)));
static uint8_t user_stack[STACK_BYTES] __attribute__((aligned(64)));
static uint8_t kernel_stack[STACK_BYTES] __attribute__((aligned(64)));
static uint8_t bytes[MAX_ACCESS_BYTES] __attribute__((aligned(64)));

static word vcpu = -1;
static volatile struct kvm_run *run;

static uint64_t at(const void *pointer) { return (uint64_t)pointer; }

/* One to one: the gibibyte of the program, and the window's. */
static void fill_page_tables(void)
{
    pml4[0] = at(pdpt) | TABLE;
    pdpt[0] = at(first_gib) | TABLE;
    pdpt[1] = at(second_gib) | TABLE;
    for (uint64_t i = 0; i < ENTRIES; i++) {
        first_gib[i] = i * LARGE_PAGE | LARGE;
        second_gib[i] = (i + ENTRIES) * LARGE_PAGE | LARGE;
    }
}

static void fill_descriptors(void)
{
    gdt[1] = 0x00af9b000000ffffull;
    gdt[2] = 0x00cf93000000ffffull;
    gdt[3] = 0x00cff3000000ffffull;
    gdt[4] = 0x00affb000000ffffull;
    uint64_t state = at(task_state), stack = at(kernel_stack) + STACK_BYTES;
    gdt[5] = (sizeof task_state - 1) | (state & 0xffffff) << 16 | 0x8bull << 40 | (state >> 24 & 0xff) << 56;
    /* RSP0; no bitmap of ports. */
    task_state[1] = (uint32_t)stack;
    task_state[2] = (uint32_t)(stack >> 32);
    task_state[25] = sizeof task_state << 16;
    uint64_t handler = at(nested_fault);
    idt[2 * VECTOR_PF] = (handler & 0xffff) | (uint64_t)KERNEL_CODE << 16 | 0x8e00ull << 32 | (handler >> 16 & 0xffff) << 48;
    idt[2 * VECTOR_PF + 1] = handler >> 32;
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, int is_code)
{
    return (struct kvm_segment){ .limit = 0xffffffff, .selector = selector, .type = type, .present = 1,
                                 .dpl = selector & 3, .db = !is_code, .s = 1, .l = is_code, .g = 1 };
}

static word set_special_registers(void)
{
    struct kvm_sregs sregs;
    word error = CALL3(ioctl, vcpu, KVM_GET_SREGS, &sregs);
    if (error < 0)
        return error;
    sregs.cs = segment(USER_CODE, 11, 1);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(USER_DATA, 3, 0);
    sregs.tr = (struct kvm_segment){ .base = at(task_state), .limit = sizeof task_state - 1, .selector = TASK_STATE,
                                     .type = 11, .present = 1 };
    sregs.gdt.base = at(gdt);
    sregs.gdt.limit = sizeof gdt - 1;
    sregs.idt.base = at(idt);
    sregs.idt.limit = sizeof idt - 1;
    sregs.cr0 = CR0;
    sregs.cr3 = at(pml4);
    sregs.cr4 = CR4;
    sregs.efer = EFER;
    return CALL3(ioctl, vcpu, KVM_SET_SREGS, &sregs);
}

static word add_memory(word vm, uint32_t slot, uint64_t address, uint64_t size)
{
    struct kvm_userspace_memory_region region = { .slot = slot, .guest_phys_addr = address, .memory_size = size,
                                                  .userspace_addr = address };
    return CALL3(ioctl, vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static word set_cpuid(word kvm)
{
    static struct cpuid_room room;
    room.head.nent = MAX_CPUID_ENTRIES;
    word error = CALL3(ioctl, kvm, KVM_GET_SUPPORTED_CPUID, &room);
    return error < 0 ? error : CALL3(ioctl, vcpu, KVM_SET_CPUID2, &room);
}

static word make_vcpu(word kvm, word vm)
{
    vcpu = CALL3(ioctl, vm, KVM_CREATE_VCPU, 0);
    word room = vcpu < 0 ? vcpu : CALL3(ioctl, kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (room < 0)
        return room;
    word shared = CALL6(mmap, 0, room, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (shared < 0 && shared > -4096)
        return shared;
    run = (volatile struct kvm_run *)shared;
    return set_cpuid(kvm);
}

word open_nested(uint64_t window_bytes, const char **failed)
{
    fill_page_tables();
    fill_descriptors();
    *failed = "open /dev/kvm";
    word kvm = CALL3(open, "/dev/kvm", O_RDWR | O_CLOEXEC, 0);
    if (kvm < 0)
        return kvm;
    *failed = "KVM_CREATE_VM";
    word vm = CALL3(ioctl, kvm, KVM_CREATE_VM, 0);
    if (vm < 0)
        return vm;
    *failed = "memslots of the nested VM";
    CALL3(ioctl, vm, KVM_SET_TSS_ADDR, TSS_PLACE);
    uint64_t first = at(__executable_start) & -PAGE;
    word error = add_memory(vm, 0, first, (at(_end) - first + PAGE - 1) & -PAGE);
    if (error == 0)
        error = add_memory(vm, 1, WINDOW_ADDRESS, window_bytes);
    if (error < 0)
        return error;
    *failed = "vCPU of the nested VM";
    error = make_vcpu(kvm, vm);
    return error < 0 ? error : set_special_registers();
}

static struct nested_result fault_result(const struct kvm_regs *registers)
{
    const uint64_t *frame = (const uint64_t *)registers->rsp;
    struct kvm_sregs sregs;
    CALL3(ioctl, vcpu, KVM_GET_SREGS, &sregs);
    return (struct nested_result){ NESTED_FAULT, frame[0], sregs.cr2, frame[1] };
}

static struct nested_result result_of(word error)
{
    struct kvm_regs registers;
    CALL3(ioctl, vcpu, KVM_GET_REGS, &registers);
    if (error < 0)
        return (struct nested_result){ error == -EFAULT ? NESTED_EFAULT : NESTED_ERRNO, (uint64_t)-error, 0,
                                       registers.rip };
    if (run->exit_reason != KVM_EXIT_IO)
        return (struct nested_result){ NESTED_EXIT, run->exit_reason, 0, registers.rip };
    if (run->io.port == PORT_FAULT)
        return fault_result(&registers);
    return (struct nested_result){ .end = NESTED_DONE };
}

static void copy_bytes(uint8_t *to, const uint8_t *from, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        to[i] = from[i];
}

struct nested_result run_nested(access_fn *access, void *window, void *memory, uint64_t size)
{
    struct kvm_regs registers = { .rax = at((const void *)access), .rdi = at(window), .rsi = at(bytes), .rdx = size,
                                  .rsp = at(user_stack) + STACK_BYTES, .rip = at((const void *)nested_entry),
                                  .rflags = USER_FLAGS };
    uint64_t count = size <= MAX_ACCESS_BYTES ? size : MAX_ACCESS_BYTES;
    copy_bytes(bytes, memory, count);
    word error = CALL3(ioctl, vcpu, KVM_SET_REGS, &registers);
    if (error == 0)
        error = set_special_registers();
    while (error == 0) {
        error = CALL3(ioctl, vcpu, KVM_RUN, 0);
        if (error != -EINTR)
            break;
        error = 0;
    }
    struct nested_result result = result_of(error);
    if (result.end == NESTED_DONE)
        copy_bytes(memory, bytes, count);
    return result;
}
