/*
 * The accesses themselves: exactly one instruction touches the window, and it carries a label, so that a report can
 * be held against it. Called by step/interpreter.c, in the micro-guest at CPL 3 or CPL 0.
 *
 *   void access(void *window, void *memory, uint64_t size)   rdi, rsi, rdx
 */
        .intel_syntax noprefix
        .code64
        .text

        .macro  load size, register, mnemonic=mov
        .globl  load_\size
load_\size:
load_at_\size:
        \mnemonic \register, [rdi]
load_done_\size:
        \mnemonic [rsi], \register
        ret
        .globl  load_at_\size, load_done_\size
        .endm

        .macro  store size, register, mnemonic=mov
        .globl  store_\size
store_\size:
        \mnemonic \register, [rsi]
store_at_\size:
        \mnemonic [rdi], \register
        ret
        .globl  store_at_\size
        .endm

        load    1, al
        load    2, ax
        load    4, eax
        load    8, rax
        load    16, xmm0, movdqu
        load    32, ymm0, vmovdqu
        load    64, zmm0, vmovdqu64
        store   1, al
        store   2, ax
        store   4, eax
        store   8, rax
        store   16, xmm0, movdqu
        store   32, ymm0, vmovdqu
        store   64, zmm0, vmovdqu64

/* Adds one and reports the old value. */
        .macro  atomic size, register
        .globl  atomic_\size
atomic_\size:
        mov     eax, 1
atomic_at_\size:
        lock xadd [rdi], \register
        mov     [rsi], \register
        ret
        .globl  atomic_at_\size
        .endm

        atomic  1, al
        atomic  2, ax
        atomic  4, eax
        atomic  8, rax

/* Compares with zero and, if equal, stores zero: the old value is read, and written back, whatever it is. */
        .globl  atomic_16, atomic_at_16
atomic_16:
        push    rbx
        xor     eax, eax
        xor     edx, edx
        xor     ebx, ebx
        xor     ecx, ecx
atomic_at_16:
        lock cmpxchg16b [rdi]
        mov     [rsi], rax
        mov     [rsi + 8], rdx
        pop     rbx
        ret

/* The code in the window returns in eax. rip of a failed fetch is the window address itself. */
        .globl  fetch
fetch:  push    rsi
        call    rdi
        pop     rsi
        mov     [rsi], eax
        ret

        .globl  copy_from, copy_from_at
copy_from:
        mov     rcx, rdx
        xchg    rsi, rdi
copy_from_at:
        rep movsb
        ret

        .globl  copy_to, copy_to_at
copy_to:
        mov     rcx, rdx
copy_to_at:
        rep movsb
        ret

/* The stack is in the window for one instruction: what is pushed lies at rdi. */
        .globl  push, push_at
push:
        mov     rax, [rsi]
        mov     rcx, rsp
        lea     rsp, [rdi + 8]
push_at:
        push    rax
        mov     rsp, rcx
        ret

        .section .note.GNU-stack, "", @progbits
