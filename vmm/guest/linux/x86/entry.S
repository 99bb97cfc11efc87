/* The program's first instructions, the return from a signal handler, and the jump into a task. */
        .intel_syntax noprefix
        .code64
        .text

/* int program(word argument_count, char **arguments) */
        .globl  _start
_start: xor     ebp, ebp
        mov     rdi, [rsp]
        lea     rsi, [rsp + 8]
        and     rsp, -16
        call    program
        mov     edi, eax
        mov     eax, 231        /* exit_group(2) */
        syscall
        ud2

/* Where a handler returns to (SA_RESTORER): rt_sigreturn(2). */
        .globl  restore_context
restore_context:
        mov     eax, 15
        syscall

/* void start_task(uint32_t task, uint32_t step, void *stack): on that stack as if called. */
        .globl  start_task
start_task:
        lea     rsp, [rdx - 8]
        xor     ebp, ebp
        jmp     task_main

        .section .note.GNU-stack, "", @progbits
