/*
 * The micro-guest's machine on x86-64, as host and guest agree on it: where things lie in its memory, the port of the
 * doorbell, vectors, the areas that KVM and a VMM write for a vCPU, and the header of the image.
 *
 * Mirrored by vmm/src/arch/x86/layout.ts; vmm/test/guest/channel.test.ts compares the two with the compiler.
 */
#pragma once
#include "channel.h"

/* Guest physical = guest virtual addresses, all below 2 MiB; for the window see channel.h. */
#define IMAGE_ADDRESS 0x40000ull
#define CHANNEL_ADDRESS 0x100000ull
#define VE_INFORMATION_ADDRESS 0x1d0000ull
#define PV_ERROR_ADDRESS 0x1e0000ull
#define APF_AREA_ADDRESS 0x1f0000ull
#define RAM_BYTES 0x200000ull
/* The three areas above are a vCPU's own: that of vCPU n lies n times as much behind that of vCPU 0. */
#define CPU_AREA_BYTES 0x1000

#define VECTOR_APF_READY 0xf3
#define VECTOR_PV_ERROR 0xf4
#define VECTOR_TIMER 0xf5

/* Port of the doorbell (enum doorbell). Rung by the micro-kernel only. */
#define DOORBELL_PORT 0x10

/*
 * struct kvm_vcpu_pv_apf_data (Documentation/virt/kvm/x86/msr.rst): `flags` belongs to #PF, `token` to the interrupt.
 * `ready_flags` is Goyal's proposal of 2020: the state of the page. KVM as released never writes it; with
 * fixtures/kernels/sigbus-injection it does, if the guest asks for it.
 */
#define PAGE_NOT_PRESENT 1
#define PAGE_ERROR 1
struct apf_area {
    uint32_t flags, token, ready_flags;
};

/*
 * Filled in before #VE is injected, by a VMM or by KVM with fixtures/kernels/kvm-ve-injection: the information area of SDM vol. 3, 25.5.7.2. `busy` is set by
 * the injector and cleared by the handler; no #VE may be delivered while it is set.
 */
#define VE_BUSY 0xffffffffu
struct ve_information {
    uint32_t exit_reason, busy;
    uint64_t exit_qualification, linear_address, physical_address;
};

/* Paravirtual error interrupt: our own, in the spirit of Goyal's `ready_flags`. `pending` is cleared by the handler. */
struct pv_error {
    uint32_t pending, reserved;
    uint64_t linear_address, physical_address;
};

/* First bytes of the image, at IMAGE_ADDRESS: the host starts it by them. */
#define ACCESS_SIZES 7 /* 1, 2, 4, 8, 16, 32, 64 bytes */
struct image_header {
    uint64_t magic;
    uint64_t entry;
    uint64_t boot_stack; /* of vCPU 0; that of vCPU n ends n times BOOT_STACK_BYTES above */
    uint64_t gdt, gdt_limit;
    uint64_t idt, idt_limit;
    uint64_t tss, tss_limit; /* of vCPU 0; the others' follow without a gap */
    uint64_t user_start, user_end; /* the only pages of the image that CPL 3 may touch */
    uint64_t image_end;            /* behind .bss */
    /* The instruction that touches the window, by verb and log2(size): where a precise report must point. */
    uint64_t load_at[ACCESS_SIZES], store_at[ACCESS_SIZES], atomic_at[ACCESS_SIZES];
    uint64_t copy_from_at, copy_to_at;
    uint64_t kernel_read_at, kernel_write_at;
    uint64_t push_at;
};

#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_KERNEL_DATA 0x10
#define SELECTOR_USER_DATA 0x18
#define SELECTOR_USER_CODE 0x20
#define SELECTOR_TSS 0x28 /* of vCPU 0; that of vCPU n is n times 16 above: the micro-kernel knows its vCPU by it */
#define BOOT_STACK_BYTES 4096
