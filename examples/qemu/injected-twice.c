/*
 * Shows that QEMU's TCG may deliver an external interrupt that a hypervisor injects by VMRUN (EVENTINJ) twice. A kernel:
 * multiboot, 32 bits, no paging, no library. examples/qemu/injected-twice builds and runs it.
 *
 * Again and again it runs a guest and injects vector 0xf3. The guest's handler counts its entries, spins for some 10 ms
 * without an exit, and returns; its gate is an interrupt gate: it runs with IF = 0. One injection is one entry on any
 * processor (AMD64 Architecture Programmer's Manual, volume 2, 15.20). The spinning makes a rare event frequent: the
 * second delivery can happen from VMRUN to the guest's first exit or exception. A second CPU has nothing to do; with one,
 * QEMU ends the first one's turn every 100 ms.
 *
 * VMCB: AMD64 APM volume 2, appendix B.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define INJECTIONS 128
#define VECTOR 0xf3
#define SPIN_TURNS 8000000

#define PAGE 4096
#define MULTIBOOT_MAGIC 0x1badb002u
#define MSR_EFER 0xc0000080u
#define EFER_SVME (1u << 12)
#define MSR_VM_HSAVE_PA 0xc0010117u
#define EXIT_VMMCALL 0x81u
#define EVENTINJ_VALID (1u << 31)
#define FLAG_ALWAYS (1u << 1)
#define FLAG_IF (1u << 9)
#define CODE 0x08
#define DATA 0x10

struct gate {
    u16 low, selector, type, high;
};

__attribute__((section(".multiboot"), used)) static const u32 multiboot[] = {
    MULTIBOOT_MAGIC,
    0,
    -MULTIBOOT_MAGIC,
};

static u8 vmcb[PAGE] __attribute__((aligned(PAGE)));
static u8 host_save[PAGE] __attribute__((aligned(PAGE)));
/* No bit is set: no access to a port or an MSR is intercepted. */
static u8 permissions[4 * PAGE] __attribute__((aligned(PAGE)));
static u8 guest_stack[PAGE] __attribute__((aligned(16)));
u8 host_stack[PAGE] __attribute__((aligned(16)));
static struct gate idt[256];
static const unsigned long long gdt[] = {0, 0x00cf9b000000ffffull, 0x00cf93000000ffffull};

/* Written by the guest. */
volatile u32 entries;
/* EFLAGS and EIP where the handler's latest entry came in. */
volatile u32 interrupted_flags, interrupted_eip;

void guest_main(void);
void guest_handler(void);
void guest_handler_end(void);

__asm__(".globl start\n"
    "start: mov $host_stack + 4096, %esp\n"
    "    call host_main\n"
    "guest_main: vmmcall\n"
    "    hlt\n"
    "guest_handler:\n"
    "    push %eax\n"
    "    push %ecx\n"
    "    mov 8(%esp), %eax\n"
    "    mov %eax, interrupted_eip\n"
    "    mov 16(%esp), %eax\n"
    "    mov %eax, interrupted_flags\n"
    "    incl entries\n"
    "    mov spin_turns, %ecx\n"
    "1:  dec %ecx\n"
    "    jnz 1b\n"
    "    pop %ecx\n"
    "    pop %eax\n"
    "    iret\n"
    "guest_handler_end:\n");

u32 spin_turns = SPIN_TURNS;

static void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void wrmsr(u32 msr, u32 low)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"(low), "d"(0));
}

static u32 rdmsr_low(u32 msr)
{
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return low;
}

static void text(const char *s)
{
    while (*s)
        out8(0x3f8, (u8)*s++);
}

static void number(u32 value, u32 base)
{
    char digits[11];
    char *at = digits + 10;
    *at = 0;
    do
        *--at = "0123456789abcdef"[value % base];
    while (value /= base);
    text(base == 16 ? "0x" : "");
    text(at);
}

static void put16(u32 offset, u16 value)
{
    *(volatile u16 *)(vmcb + offset) = value;
}

static void put(u32 offset, u32 value)
{
    *(volatile u32 *)(vmcb + offset) = value;
}

static u32 get(u32 offset)
{
    return *(volatile u32 *)(vmcb + offset);
}

static void put_segment(u32 offset, u16 selector, u16 attributes)
{
    put16(offset, selector);
    put16(offset + 2, attributes);
    put(offset + 4, 0xffffffff);
    put(offset + 8, 0);
}

static void load_segments(void)
{
    const struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) descriptor = {sizeof(gdt) - 1, (u32)gdt};
    __asm__ volatile("lgdt %0\n"
             "ljmp %1, $1f\n"
             "1: mov %2, %%ds; mov %2, %%es; mov %2, %%ss\n"
             :
             : "m"(descriptor), "i"(CODE), "r"(DATA)
             : "memory");
}

/* The guest is the host's code with another stack and an IDT. */
static void prepare_guest(void)
{
    const u32 handler = (u32)guest_handler;
    idt[VECTOR] = (struct gate){(u16)handler, CODE, 0x8e00, (u16)(handler >> 16)};
    put(0x00c, 1u << 31); /* intercept shutdown */
    put(0x010, 3);          /* intercept VMRUN (obligatory) and VMMCALL */
    put(0x040, (u32)permissions);
    put(0x048, (u32)permissions);
    put(0x058, 1); /* ASID */
    put_segment(0x400, DATA, 0xc93);
    put_segment(0x410, CODE, 0xc9b);
    put_segment(0x420, DATA, 0xc93);
    put_segment(0x430, DATA, 0xc93);
    put(0x464, sizeof(gdt) - 1);
    put(0x468, (u32)gdt);
    put(0x484, sizeof(idt) - 1);
    put(0x488, (u32)idt);
    put(0x4d0, rdmsr_low(MSR_EFER));
    put(0x558, 0x11); /* CR0: PE, ET */
    put(0x560, 0x400);
    put(0x568, 0xffff0ff0);
}

/* Runs the guest until it exits, with the vector injected. */
static u32 run_guest(void)
{
    put(0x578, (u32)guest_main);
    put(0x5d8, (u32)guest_stack + PAGE);
    put(0x570, FLAG_ALWAYS | FLAG_IF);
    put(0x0a8, EVENTINJ_VALID | VECTOR);
    entries = 0;
    __asm__ volatile("pusha; mov %0, %%eax; vmrun; popa" : : "r"(vmcb) : "memory", "cc");
    return get(0x070);
}

/* Once: what the first injection that was delivered twice looked like. */
static void describe(u32 injection)
{
    const u32 from = (u32)guest_handler;
    text("injection ");
    number(injection, 10);
    text(": ");
    number(entries, 10);
    text(" entries, the last one at an instruction ");
    text(interrupted_eip >= from && interrupted_eip < (u32)guest_handler_end ? "of the handler" : "elsewhere");
    text(interrupted_flags & FLAG_IF ? " with IF = 1" : " with IF = 0");
    text("; EXITINTINFO ");
    number(get(0x088), 16);
    text("\n");
}

void host_main(void)
{
    u32 twice = 0;
    /* No interrupt of a device's is to come. */
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    load_segments();
    wrmsr(MSR_EFER, rdmsr_low(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, (u32)host_save);
    prepare_guest();
    for (u32 injection = 1; injection <= INJECTIONS; injection++) {
        const u32 exit = run_guest();
        if (exit != EXIT_VMMCALL || entries == 0) {
            text("unexpected exit ");
            number(exit, 16);
            text(" after ");
            number(entries, 10);
            text(" entries\n");
            break;
        }
        if (entries > 1 && twice++ == 0)
            describe(injection);
    }
    number(INJECTIONS, 10);
    text(" injections, delivered more than once: ");
    number(twice, 10);
    text("\n");
    /* The keyboard controller's reset: with -no-reboot QEMU ends. */
    out8(0x64, 0xfe);
    for (;;)
        __asm__ volatile("hlt");
}
