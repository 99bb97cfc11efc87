/*
 * The first process of a VM that boots a kernel under test. It carries out /plan, a list of commands made outside
 * (harness/src/kernel/initramfs.ts), then waits for the program that it started and turns the machine off.
 *
 * Static and without a C library: nothing of the machine that built it is needed inside, and any compiler can build it.
 * A command per line, words parted by tabs; `-` in front: go on if it fails, and say so.
 *   insmod FILE PARAMETERS        load a module
 *   mkdir PATH
 *   mount SOURCE TARGET TYPE FLAGS OPTIONS     FLAGS: ro, or - for none; OPTIONS may be empty
 *   chroot PATH
 *   setenv NAME=VALUE
 *   exec PATH ARGUMENT...         the program; the plan ends here
 * Whatever goes wrong is a line on the console that begins with `daxfault-init:`; the machine then turns itself off. What
 * may fail and does is one that begins with `daxfault-init goes on:`.
 */
#include <asm/unistd.h>
#include <linux/reboot.h>

#define O_RDONLY 0
#define O_RDWR 2
#define O_CLOEXEC 02000000
#define MS_RDONLY 1
#define SIGCHLD 17
#define EEXIST 17
#define ECHILD 10
#define PLAN_BYTES 16384
#define MAX_WORDS 16
#define MAX_ENVIRONMENT 16

typedef long word;

static word call5(word number, word a, word b, word c, word d, word e)
{
    word result;
    register word r10 __asm__("r10") = d;
    register word r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

#define CALL(number, a, b, c) call5(number, (word)(a), (word)(b), (word)(c), 0, 0)

static word length(const char *text)
{
    word count = 0;
    while (text[count])
        count++;
    return count;
}

static int is(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static void say(const char *text)
{
    CALL(__NR_write, 2, text, length(text));
}

static void say_number(word value)
{
    char digits[24];
    char *at = digits + sizeof digits - 1;
    *at = 0;
    do
        *--at = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    say(at);
}

static void __attribute__((noreturn)) power_off(void)
{
    CALL(__NR_sync, 0, 0, 0);
    for (;;)
        call5(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0, 0);
}

/* `daxfault-init: mount root /root: errno 22`, where that is the end; else `daxfault-init goes on: ..` */
static void complain(char **words, int count, word error, int goes_on)
{
    say(goes_on ? "daxfault-init goes on:" : "daxfault-init:");
    for (int i = 0; i < count; i++) {
        say(" ");
        say(words[i]);
    }
    say(": errno ");
    say_number(-error);
    say("\n");
}

static word load_module(const char *path, const char *parameters)
{
    word fd = CALL(__NR_open, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    word result = CALL(__NR_finit_module, fd, parameters, 0);
    CALL(__NR_close, fd, 0, 0);
    /* Built in, or loaded for another one before. */
    return result == -EEXIST ? 0 : result;
}

static word make_directory(const char *path)
{
    word result = CALL(__NR_mkdir, path, 0755, 0);
    return result == -EEXIST ? 0 : result;
}

static word change_root(const char *path)
{
    word result = CALL(__NR_chdir, path, 0, 0);
    if (result == 0)
        result = CALL(__NR_chroot, ".", 0, 0);
    return result;
}

/* Starts the program, reaps everything that ends, and is done when the program is. */
static void __attribute__((noreturn)) run_program(char **arguments, char **environment)
{
    word pid = call5(__NR_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        CALL(__NR_setsid, 0, 0, 0);
        word error = CALL(__NR_execve, arguments[0], arguments, environment);
        complain(arguments, 1, error, 0);
        CALL(__NR_exit, 127, 0, 0);
    }
    for (;;) {
        int status = 0;
        word ended = call5(__NR_wait4, -1, (word)&status, 0, 0, 0);
        if (ended == pid) {
            say("daxfault-init: the program has ended, wait status ");
            say_number(status);
            say("\n");
            power_off();
        }
        if (ended == -ECHILD)
            power_off();
    }
}

static char *environment[MAX_ENVIRONMENT + 1];
static int environment_count;

/* One command of the plan; 0, or a negative errno. */
static word perform(char **words, int count)
{
    const char *verb = words[0];
    if (is(verb, "insmod") && count >= 2)
        return load_module(words[1], count > 2 ? words[2] : "");
    if (is(verb, "mkdir") && count == 2)
        return make_directory(words[1]);
    if (is(verb, "mount") && count >= 5) {
        word flags = is(words[4], "ro") ? MS_RDONLY : 0;
        return call5(__NR_mount, (word)words[1], (word)words[2], (word)words[3], flags,
                     (word)(count > 5 ? words[5] : ""));
    }
    if (is(verb, "chroot") && count == 2)
        return change_root(words[1]);
    if (is(verb, "setenv") && count == 2 && environment_count < MAX_ENVIRONMENT) {
        environment[environment_count++] = words[1];
        return 0;
    }
    if (is(verb, "exec") && count >= 2)
        run_program(words + 1, environment);
    return -22; /* EINVAL: not a command */
}

static void carry_out(char *line)
{
    int may_fail = *line == '-';
    char *words[MAX_WORDS + 1];
    int count = 0;
    if (may_fail)
        line++;
    while (count < MAX_WORDS) {
        words[count++] = line;
        while (*line && *line != '\t')
            line++;
        if (!*line)
            break;
        *line++ = 0;
    }
    words[count] = 0;
    word error = perform(words, count);
    if (error < 0) {
        complain(words, count, error, may_fail);
        if (!may_fail)
            power_off();
    }
}

static char plan[PLAN_BYTES];

static void __attribute__((used, noreturn)) begin(void)
{
    /* The initramfs has /dev/console; without it nothing is printed, but the plan may still succeed. */
    word console = CALL(__NR_open, "/dev/console", O_RDWR, 0);
    for (word fd = 0; fd <= 2 && console >= 0; fd++)
        CALL(__NR_dup2, console, fd, 0);
    word file = CALL(__NR_open, "/plan", O_RDONLY | O_CLOEXEC, 0);
    word size = 0;
    for (;;) {
        word got = CALL(__NR_read, file, plan + size, PLAN_BYTES - 1 - size);
        if (got <= 0)
            break;
        size += got;
    }
    CALL(__NR_close, file, 0, 0);
    plan[size] = 0;
    for (char *line = plan; *line;) {
        char *end = line;
        while (*end && *end != '\n')
            end++;
        char *next = *end ? end + 1 : end;
        *end = 0;
        if (*line)
            carry_out(line);
        line = next;
    }
    say("daxfault-init: the plan starts no program\n");
    power_off();
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall begin\n");
