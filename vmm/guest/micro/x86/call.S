/*
 * What the micro-guest has besides the accesses (step/x86/access.S): a task's call to the micro-kernel, and the
 * kernel's own accesses.
 */
        .intel_syntax noprefix
        .code64
        .text

/*
 * uint64_t kernel_call(uint64_t number, uint64_t argument, void *memory): ud2 is a trap to the micro-kernel on every KVM. On kvm_pvm
 * neither int n nor syscall nor a port access (in spite of IOPL = 3) gets out of CPL 3.
 */
        .globl  kernel_call, kernel_call_at
kernel_call:
kernel_call_at:
        ud2
        ret

/*
 * The guest kernel's own copies, covered by the exception table of faults.c. Not in the pages of CPL 3: .kernel.text.
 *   uint64_t copy(void *to, const void *from, uint64_t size)   bytes that are left
 */
        .section .kernel.text, "ax"
        .globl  kernel_read, kernel_read_at, kernel_write, kernel_write_at, kernel_copy_failed
kernel_read:
        mov     rcx, rdx
kernel_read_at:
        rep movsb
        xor     eax, eax
        ret
kernel_write:
        mov     rcx, rdx
kernel_write_at:
        rep movsb
        xor     eax, eax
        ret
kernel_copy_failed:
        mov     rax, rcx
        ret

/* nmi_probe(address): reads memory that may not be present, inside an NMI. */
        .globl  nmi_probe, nmi_probe_at, nmi_probe_failed
nmi_probe:
nmi_probe_at:
        mov     rax, [rdi]
nmi_probe_failed:
        ret

        .section .note.GNU-stack, "", @progbits
