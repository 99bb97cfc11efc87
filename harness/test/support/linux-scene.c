/*
 * The only program of a Linux guest in linux-guest.test.ts: maps a file of an ext4 file system on persistent memory (DAX),
 * has the host cut the memory under one of its pages, touches that page, has it grown again, and says what came of it.
 *
 * The command line names the accesses: scene=load,store,.. Each gets a page of its own, from the last page of the file
 * down, so that what one access leaves behind does not concern the next. Lines that begin with "scene " are results; the
 * doorbell port (0x10) asks the host: 1 and the page's number in the image: cut there; 2: grow; 3: the access is over.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define DOORBELL 0x10
enum { CUT = 1, GROW = 2, OVER = 3 };

static sigjmp_buf out;
static siginfo_t seen;
static volatile int is_trying;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!is_trying) {
        printf("scene: %s outside of an access\n", sigabbrev_np(number));
        _exit(1);
    }
    seen = *info;
    siglongjmp(out, 1);
}

static void ring(unsigned command, unsigned page)
{
    outl(command << 28 | page, DOORBELL);
}

/* The result of a system call, or 0 for an instruction. */
static long touch(const char *access, char *at, int file, off_t offset)
{
    static char buffer[PAGE];
    int pipes[2];
    if (pipe(pipes) < 0)
        return -1;
    if (!strcmp(access, "load"))
        return *(volatile unsigned char *)at;
    if (!strcmp(access, "store"))
        return *(volatile char *)at = 0x5a;
    if (!strcmp(access, "atomic"))
        return __sync_fetch_and_add((int *)at, 1);
    if (!strcmp(access, "movs")) {
        void *to = buffer, *from = at;
        long count = 64;
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
        return count;
    }
    if (!strcmp(access, "fetch")) {
        ((void (*)(void))at)();
        return 0;
    }
    if (!strcmp(access, "read"))
        return pread(file, buffer, 64, offset);
    if (!strcmp(access, "write"))
        return pwrite(file, "hello", 5, offset);
    if (!strcmp(access, "copy-in"))
        return write(pipes[1], at, 64);
    if (!strcmp(access, "copy-out")) {
        if (write(pipes[1], buffer, 64) != 64)
            return -1;
        return read(pipes[0], at, 64);
    }
    if (!strcmp(access, "path"))
        return open(at, O_RDONLY);
    errno = ENOSYS;
    return -1;
}

static void try(const char *when, const char *access, char *at, int file, off_t offset)
{
    errno = 0;
    if (sigsetjmp(out, 1) == 0) {
        is_trying = 1;
        long result = touch(access, at, file, offset);
        is_trying = 0;
        printf("scene %s %s: result %ld %s\n", access, when, result, result == -1 ? strerrorname_np(errno) : "-");
        return;
    }
    is_trying = 0;
    long off = (char *)seen.si_addr - at;
    printf("scene %s %s: signal %s code %d address %s%ld\n", access, when, sigabbrev_np(seen.si_signo), seen.si_code,
           off >= 0 && off < PAGE ? "page+" : "", off >= 0 && off < PAGE ? off : (long)seen.si_addr);
}

static void play(const char *access, char *map, int file, off_t offset)
{
    char *at = map + offset;
    int block = (int)(offset / PAGE);
    memset(at, 0xc3, PAGE); /* ret; and of no meaning as a path */
    if (ioctl(file, FIBMAP, &block) < 0)
        printf("scene %s: FIBMAP %s\n", access, strerrorname_np(errno));
    ring(CUT, (unsigned)block);
    pid_t child = fork();
    if (child == 0) {
        if (iopl(3) < 0) /* not inherited */
            perror("scene: iopl");
        try("cut", access, at, file, offset);
        ring(OVER, 0);
        ring(GROW, 0);
        try("grown", access, at, file, offset);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ring(OVER, 0);
    ring(GROW, 0);
    if (WIFSIGNALED(status))
        printf("scene %s: the process was killed by %s\n", access, sigabbrev_np(WTERMSIG(status)));
}

int main(void)
{
    static char line[4096];
    mkdir("/proc", 0755);
    mkdir("/mnt", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    int file = open("/proc/cmdline", O_RDONLY);
    if (read(file, line, sizeof line - 1) < 0 || iopl(3) < 0)
        perror("scene: cmdline, iopl");
    printf("scene up\n");
    char *accesses = strstr(line, "scene=");
    if (accesses == NULL)
        reboot(RB_POWER_OFF);
    accesses[strcspn(accesses, " \n")] = 0;
    for (int i = 0; i < 100 && access("/dev/pmem0", F_OK) < 0; i++)
        usleep(50000);
    if (mount("/dev/pmem0", "/mnt", "ext4", 0, "dax=always") < 0)
        printf("scene mount: %s\n", strerrorname_np(errno));
    file = open("/mnt/file", O_RDWR);
    struct stat stat;
    fstat(file, &stat);
    char *map = mmap(NULL, (size_t)stat.st_size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        printf("scene mmap: %s\n", strerrorname_np(errno));
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    for (int number = 1; number < 32; number++)
        if (number == SIGBUS || number == SIGSEGV || number == SIGILL)
            sigaction(number, &action, NULL);
    pid_t bystander = fork();
    if (bystander == 0)
        for (;;)
            usleep(100000);
    off_t offset = stat.st_size;
    for (char *access = strtok(accesses + strlen("scene="), ","); access; access = strtok(NULL, ",")) {
        offset -= PAGE;
        play(access, map, file, offset);
    }
    printf("scene bystander: %s\n", kill(bystander, 0) < 0 || waitpid(bystander, NULL, WNOHANG) ? "gone" : "alive");
    printf("scene end\n");
    reboot(RB_POWER_OFF);
}
