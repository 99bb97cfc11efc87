/* Code of the nested VM, at the addresses at which the program has it. nested.c has the numbers. */
        .intel_syntax noprefix
        .code64
        .text

/* CPL 3, IOPL 3: the access in rax with its arguments in rdi, rsi, rdx; then an exit. */
        .globl  nested_entry
nested_entry:
        call    rax
        out     0x10, al
        ud2

/* CPL 0, the gate of #PF: an exit with the frame at rsp, error code first. */
        .globl  nested_fault
nested_fault:
        out     0x11, al
        ud2

        .section .note.GNU-stack, "", @progbits
