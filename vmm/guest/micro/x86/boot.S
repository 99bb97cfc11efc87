/*
 * Entry, the 256 exception and interrupt stubs, and the way back.
 *
 * Software KVM (kvm_pvm) interprets CPL 0 code with KVM's instruction emulator: everything here and in kernel.c stays
 * with plain instructions that the emulator knows.
 */
        .intel_syntax noprefix
        .code64

        .text
        .globl  entry
entry:  call    kernel_main             /* the host has set rsp and the task register; never returns */

/* void enter(struct frame *frame): resumes what `frame` holds. */
        .globl  enter
enter:  mov     rsp, rdi
resume: pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     r11
        pop     r10
        pop     r9
        pop     r8
        pop     rbp
        pop     rdi
        pop     rsi
        pop     rdx
        pop     rcx
        pop     rbx
        pop     rax
        add     rsp, 16                 /* vector, error code */
        iretq

/* All stubs end here with vector and error code on top of the hardware's frame: struct frame of kernel.h. */
common: push    rax
        push    rbx
        push    rcx
        push    rdx
        push    rsi
        push    rdi
        push    rbp
        push    r8
        push    r9
        push    r10
        push    r11
        push    r12
        push    r13
        push    r14
        push    r15
        mov     rdi, rsp
        call    trap
        jmp     resume

/*
 * One stub of 16 bytes for each vector. The processor pushes an error code for 8, 10 to 14, 17, 21, 29 and 30 (SDM
 * vol. 3, 6.15; APM vol. 2, 8.2); the others push a zero, so that all frames are alike.
 */
        .balign 16
        .globl  stubs
stubs:
        .set    vector, 0
        .rept   256
        .balign 16
        .if     !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
        push    0
        .endif
        push    vector
        jmp     common
        .set    vector, vector + 1
        .endr
        .balign 16

/* The host reads this before it starts the guest: struct image_header. */
        .macro  pointers prefix
        .irp    size, 1, 2, 4, 8, 16, 32, 64
        .quad   \prefix\size
        .endr
        .endm

        .section .header, "a"
        .quad   0x3154534547584144      /* CHANNEL_MAGIC */
        .quad   entry
        .quad   boot_stacks + 4096      /* BOOT_STACK_BYTES */
        .quad   gdt, 0x47
        .quad   idt, 0xfff
        .quad   tss, 0x67
        .quad   user_start, user_end
        .quad   image_end
        pointers load_at_
        pointers store_at_
        .irp    size, 1, 2, 4, 8, 16
        .quad   atomic_at_\size
        .endr
        .quad   0, 0                    /* no atomic access of 32 or 64 bytes exists */
        .quad   copy_from_at, copy_to_at
        .quad   kernel_read_at, kernel_write_at
        .quad   push_at

        .bss
        .balign 4096
boot_stacks:
        .skip   2 * 4096                /* MAX_CPUS */

        .section .note.GNU-stack, "", @progbits
