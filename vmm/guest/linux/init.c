/*
 * The program in a Linux guest, as its first process or started by another one. It mounts what it needs, finds the memory
 * that it shares with the host, and runs one case after the other. It judges nothing, and it has no other way to the host
 * than that memory and the doorbell port: an exit each, after which the host has dealt with the report.
 *
 * The kernel's command line has `daxfault.channel=0xADDRESS`, where `struct linux_case` lies in guest physical memory that
 * is no RAM of the kernel's (reserved in e820), so that /dev/mem maps it. The first case is there before the guest begins;
 * the next one when DOORBELL_IDLE returns. A case that cannot be run is refused, and costs nothing behind it.
 *
 * `daxfault.doorbell=0xPORT` names a port that takes bytes and does not hold the vCPU up (QEMU's isa-debugcon): the report is
 * in the memory (struct mailbox), a byte has the host look, and the process waits for the answer in the memory. There is no
 * first case then, and what of the kernel such a host cannot see is said on the console.
 */
#include "tasks.h"
#include "x86/port.h"
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/reboot.h>

#define COMMAND_LINE_BYTES 4096
#define CHANNEL_OPTION "daxfault.channel=0x"
#define DOORBELL_OPTION "daxfault.doorbell=0x"
#define ANSWER_NAP_NANOSECONDS 50000
#define LONGEST_NAP_NANOSECONDS 2000000
#define SYSLOG_ACTION_READ_ALL 3
#define MOUNT_POINT "/mnt"
#define MNT_DETACH 2
/* A device may come later than the first process. */
#define DEVICE_ROUNDS 200
#define DEVICE_NAP_NANOSECONDS 10000000
/* How often a driver that is there may take its device for not ready. */
#define DRIVER_ROUNDS 10

static word length(const char *text)
{
    word count = 0;
    while (text[count])
        count++;
    return count;
}

static void say(const char *text) { CALL3(write, 2, text, length(text)); }

/* Nothing can be reported to the host: the console has it. */
static void __attribute__((noreturn)) give_up(const char *why)
{
    say("daxfault-init: ");
    say(why);
    say("\n");
    CALL0(sync);
    CALL4(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0);
    for (;;)
        nap(DEVICE_NAP_NANOSECONDS);
}

/* What another program or the kernel has mounted already stays. */
static void mount_system(const char *type, const char *target)
{
    CALL2(mkdir, target, 0755);
    CALL5(mount, type, target, type, 0, "");
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Is the first text at the beginning of the second one? Then its length; else 0. */
static word matched(const char *text, const char *in)
{
    word at = 0;
    while (text[at] && in[at] == text[at])
        at++;
    return text[at] ? 0 : at;
}

/* Of the option on the command line, a hexadecimal number; 0 where it is not there. */
static uint64_t number_of_option(const char *option)
{
    static char line[COMMAND_LINE_BYTES];
    word file = CALL3(open, "/proc/cmdline", O_RDONLY, 0);
    if (file < 0)
        give_up("no /proc/cmdline (CONFIG_PROC_FS)");
    word bytes = CALL3(read, file, line, sizeof line - 1);
    CALL1(close, file);
    for (word at = 0; at < bytes; at++) {
        word behind = matched(option, line + at);
        if (behind == 0)
            continue;
        uint64_t number = 0;
        for (const char *digit = line + at + behind; hex_digit(*digit) >= 0; digit++)
            number = number << 4 | (uint64_t)hex_digit(*digit);
        return number;
    }
    return 0;
}

static uint16_t byte_port;
static word port_file;

/*
 * By the kernel, not by an instruction of this program's: where KVM itself runs in QEMU's emulator, a port is refused to CPL 3
 * once the VMM has read and written the vCPU's registers. KVM says of TR that it is busy (svm_get_segment()), and the emulator
 * takes only one that is not for a valid TSS (helper_check_io(), target/i386/tcg/sysemu/seg_helper.c).
 */
static void ring_byte(void)
{
    static const char any = 1;
    CALL4(pwrite64, port_file, &any, 1, byte_port);
}

/*
 * The first process counts for itself: its mailbox is zero again when the host has put a case there, which is the answer to
 * DOORBELL_IDLE only once `answered` says so. A report by a task's process that is not the task's own (it cannot be set up)
 * goes by the same mailbox: nothing else is under way then.
 */
static void ring_byte_port(uint32_t value)
{
    static uint32_t own_count;
    uint32_t task = value >> 16, kind = value & 0xff;
    int is_task = (kind == DOORBELL_SIGNAL || kind == DOORBELL_RESULTS) && task > 0;
    volatile struct mailbox *own = is_task ? &the_case->tasks[task - 1].mail : &the_case->first;
    uint32_t rung = is_task ? own->rung + 1 : ++own_count;
    uint64_t now = read_tsc();
    own->doorbell = value;
    own->tsc_low = (uint32_t)now;
    own->tsc_high = (uint32_t)(now >> 32);
    own->rung = rung;
    ring_byte();
    for (word pause = ANSWER_NAP_NANOSECONDS; own->answered != rung;) {
        nap(pause);
        if (!is_task && pause < LONGEST_NAP_NANOSECONDS)
            pause *= 2;
    }
}

/* Has the kernel a handler for page-ready (kvm_guest_init())? Its row in /proc/interrupts is there from then on. */
static int has_async_page_faults(void)
{
    static char text[16384];
    word file = CALL3(open, "/proc/interrupts", O_RDONLY, 0);
    int found = 0;
    for (word bytes; file >= 0 && !found && (bytes = CALL3(read, file, text, sizeof text - 1)) > 0;) {
        text[bytes] = 0;
        for (word at = 0; at < bytes; at++)
            found |= matched("HYP:", text + at) > 0;
    }
    if (file >= 0)
        CALL1(close, file);
    return found;
}

static int is_about_device(const char *line)
{
    for (; *line && *line != '\n'; line++)
        if (matched("fuse: init (API version", line) || matched("Cache len:", line))
            return 1;
    return 0;
}

/* The kernel's own lines about FUSE and the DAX window, which `quiet` keeps off the console. */
static void say_kernel_facts(void)
{
    static char log[1 << 18];
    word bytes = CALL3(syslog, SYSLOG_ACTION_READ_ALL, log, sizeof log - 1);
    for (word at = 0; at < bytes; at++) {
        if (at > 0 && log[at - 1] != '\n')
            continue;
        if (!is_about_device(log + at))
            continue;
        word end = at;
        while (end < bytes && log[end] != '\n')
            end++;
        CALL3(write, 2, log + at, end - at);
        say("\n");
    }
    say(has_async_page_faults() ? "daxfault-guest: async page faults on\n" : "daxfault-guest: async page faults off\n");
}

static void map_case(void)
{
    uint64_t address = number_of_option(CHANNEL_OPTION);
    if (!address)
        give_up("no " CHANNEL_OPTION "ADDRESS on the kernel's command line");
    word file = CALL3(open, "/dev/mem", O_RDWR | O_CLOEXEC, 0);
    if (file < 0)
        give_up("no /dev/mem (CONFIG_DEVMEM, CONFIG_DEVTMPFS)");
    word mapped = CALL6(mmap, 0, sizeof *the_case, PROT_READ | PROT_WRITE, MAP_SHARED, file, address);
    if (mapped < 0)
        give_up("/dev/mem does not map the channel: it must be reserved in e820 (CONFIG_STRICT_DEVMEM)");
    CALL1(close, file);
    the_case = (struct linux_case *)mapped;
}

static int is_there(const char *path) { return CALL2(access, path, 0) == 0; }

static int is_type(const char *type)
{
    word at = 0;
    while (type[at] && the_case->mount_type[at] == type[at])
        at++;
    return type[at] == the_case->mount_type[at];
}

/* Waits for a device that is not there yet. */
static word mount_file_system(void)
{
    word error = 0;
    int refusals = 0;
    for (int round = 0; round < DEVICE_ROUNDS && refusals < DRIVER_ROUNDS; round++) {
        error = CALL5(mount, the_case->mount_source, MOUNT_POINT, the_case->mount_type, 0, the_case->mount_options);
        if (error != -ENOENT && error != -ENXIO && error != -EINVAL)
            break;
        /* Not the device, but what the kernel can make of it: each refusal is a line on the console. */
        refusals += error == -EINVAL && is_there("/sys/bus/virtio/devices/virtio0");
        nap(DEVICE_NAP_NANOSECONDS);
    }
    return error;
}

/*
 * What the kernel lacks, where a mount fails as these do without it; the host looks for the word CONFIG_. Without FUSE_DAX a
 * virtio-fs has no window (virtio_fs_setup_dax(), fs/fuse/virtio_fs.c), without FS_DAX an ext4 no option `dax`: EINVAL.
 */
static const char *lacking(word error)
{
    int is_fuse = is_type("virtiofs");
    if (error == -ENODEV)
        return is_fuse ? "no virtio-fs (CONFIG_VIRTIO_FS, CONFIG_FUSE_FS): " : "no ext4 (CONFIG_EXT4_FS): ";
    if (error != -ENOENT && error != -ENXIO && error != -EINVAL)
        return "";
    if (!is_there("/sys/bus/virtio/devices/virtio0"))
        return byte_port ? "no virtio device (CONFIG_VIRTIO_PCI): " : "no virtio device (CONFIG_VIRTIO_MMIO, CONFIG_ACPI): ";
    if (error == -EINVAL)
        return is_fuse ? "no DAX window (CONFIG_FUSE_DAX): " : "no DAX (CONFIG_FS_DAX): ";
    return is_fuse ? "" : "no NVDIMM (CONFIG_VIRTIO_PMEM, CONFIG_BLK_DEV_PMEM): ";
}

static void run_case(void)
{
    if (is_refused())
        return;
    int is_mounted = the_case->mount_type[0] != 0;
    word error = is_mounted ? mount_file_system() : 0;
    if (error < 0) {
        refuse_mount(lacking(error), the_case->mount_type, error);
        return;
    }
    if (map_window()) {
        ring(DOORBELL_READY);
        run_tasks(1);
    }
    unmap_window();
    if (is_mounted)
        CALL2(umount2, MOUNT_POINT, MNT_DETACH);
}

void run_guest(void)
{
    mount_system("proc", "/proc");
    mount_system("sysfs", "/sys");
    mount_system("devtmpfs", "/dev");
    CALL2(mkdir, MOUNT_POINT, 0755);
    map_case();
    byte_port = (uint16_t)number_of_option(DOORBELL_OPTION);
    ring = byte_port ? ring_byte_port : ring_port;
    /* Tasks have either too: fork(2) copies it. */
    if (!byte_port && CALL1(iopl, 3) < 0)
        give_up("iopl(3) failed (CONFIG_X86_IOPL_IOPERM)");
    if (byte_port) {
        port_file = CALL3(open, "/dev/port", O_WRONLY | O_CLOEXEC, 0);
        if (port_file < 0)
            give_up("no /dev/port (CONFIG_DEVPORT)");
        say_kernel_facts();
        ring(DOORBELL_IDLE);
    }
    for (;;) {
        run_case();
        ring(DOORBELL_IDLE);
    }
}
