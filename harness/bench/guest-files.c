/*
 * The guest's program of `daxfault bench virtiofsd` (harness/src/bench/virtiofsd.ts): the same work on the same files of
 * several mounts, in turns. Built by the bench, static.
 *
 * usage: guest-files ROUNDS FILES OPERATIONS FOLDER...
 *
 * Each folder has `data`, a file, and `tree`, a tree of files. Caches are dropped before each turn, and the order of the
 * folders moves on by one with each round. Prints a line a turn: `@ FOLDER ROW UNITS NANOSECONDS`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 131072
#define PAGE 4096

static char buffer[BLOCK];
static int file_count, operation_count;

static void __attribute__((noreturn)) die(const char *what)
{
    printf("! %s: %s\n", what, strerror(errno));
    fflush(stdout);
    exit(1);
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static int open_data(int flags)
{
    int fd = open("data", flags | O_CLOEXEC);
    if (fd < 0)
        die("open data");
    return fd;
}

static off_t size_of(int fd)
{
    struct stat stats;
    if (fstat(fd, &stats) != 0)
        die("fstat");
    return stats.st_size;
}

/* The same in every turn. */
static uint32_t random_state;
static off_t random_page(off_t size)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return (off_t)(random_state % (uint32_t)(size / PAGE)) * PAGE;
}

static int64_t read_sequential(void)
{
    int fd = open_data(O_RDONLY);
    int64_t total = 0;
    for (ssize_t count; (count = read(fd, buffer, BLOCK)) != 0; total += count)
        if (count < 0)
            die("read");
    close(fd);
    return total;
}

static int64_t read_random(void)
{
    int fd = open_data(O_RDONLY);
    off_t size = size_of(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    for (int i = 0; i < operation_count; i++)
        if (pread(fd, buffer, PAGE, random_page(size)) != PAGE)
            die("pread");
    close(fd);
    return operation_count;
}

static char *map_data(off_t *size)
{
    int fd = open_data(O_RDONLY);
    *size = size_of(fd);
    char *memory = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    close(fd);
    return memory;
}

static volatile char sink;

static int64_t map_sequential(void)
{
    off_t size;
    char *memory = map_data(&size);
    for (off_t at = 0; at < size; at += PAGE)
        sink = memory[at];
    munmap(memory, size);
    return size;
}

static int64_t map_random(void)
{
    off_t size;
    char *memory = map_data(&size);
    madvise(memory, size, MADV_RANDOM);
    for (int i = 0; i < operation_count; i++)
        sink = memory[random_page(size)];
    munmap(memory, size);
    return operation_count;
}

static int64_t write_sequential(void)
{
    int fd = open_data(O_WRONLY);
    off_t size = size_of(fd);
    for (off_t at = 0; at < size; at += BLOCK)
        if (pwrite(fd, buffer, BLOCK, at) != BLOCK)
            die("pwrite");
    if (fsync(fd) != 0)
        die("fsync");
    close(fd);
    return size;
}

static int64_t write_random(void)
{
    int fd = open_data(O_WRONLY);
    off_t size = size_of(fd);
    for (int i = 0; i < operation_count; i++)
        if (pwrite(fd, buffer, PAGE, random_page(size)) != PAGE)
            die("pwrite");
    close(fd);
    return operation_count;
}

static const char *name_of(int number)
{
    static char name[32];
    snprintf(name, sizeof name, "made/file-%06d", number);
    return name;
}

static int64_t create_files(void)
{
    if (mkdir("made", 0755) != 0)
        die("mkdir");
    for (int i = 0; i < file_count; i++) {
        int fd = open(name_of(i), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0)
            die("create");
        close(fd);
    }
    return file_count;
}

static int64_t stat_files(void)
{
    struct stat stats;
    for (int i = 0; i < file_count; i++)
        if (stat(name_of(i), &stats) != 0)
            die("stat");
    return file_count;
}

static int64_t unlink_files(void)
{
    for (int i = 0; i < file_count; i++)
        if (unlink(name_of(i)) != 0)
            die("unlink");
    if (rmdir("made") != 0)
        die("rmdir");
    return file_count;
}

/* The number that a command of the shell writes. */
static int64_t count_of(const char *command)
{
    FILE *output = popen(command, "r");
    long long count = -1;
    if (output == NULL || fscanf(output, "%lld", &count) != 1 || pclose(output) != 0 || count <= 0)
        die(command);
    return count;
}

static int64_t find_tree(void)
{
    return count_of("find tree -type f -size +0 | wc -l");
}

static int64_t tar_tree(void)
{
    return count_of("tar cf - tree | wc -c");
}

static const struct {
    const char *name;
    int64_t (*run)(void);
} rows[] = {
    {"read-sequential", read_sequential}, {"read-random", read_random},
    {"mmap-sequential", map_sequential},  {"mmap-random", map_random},
    {"write-sequential", write_sequential}, {"write-random", write_random},
    {"create", create_files},             {"stat", stat_files},
    {"unlink", unlink_files},             {"find", find_tree},
    {"tar", tar_tree},
};

/* The page cache, names and inodes go; what the shell's programs are read from comes back before the clock runs. */
static void drop_caches(void)
{
    sync();
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "3", 1) != 1)
        die("drop_caches");
    close(fd);
    if (system("find /dev/null | wc -l > /dev/null; tar cf - /dev/null 2> /dev/null | wc -c > /dev/null") != 0)
        die("find and tar");
}

static void turn(const char *folder, int row)
{
    if (chdir(folder) != 0)
        die(folder);
    drop_caches();
    random_state = 2463534242u;
    int64_t begin = now();
    int64_t units = rows[row].run();
    int64_t nanoseconds = now() - begin;
    printf("@ %s %s %lld %lld\n", folder, rows[row].name, (long long)units, (long long)nanoseconds);
    fflush(stdout);
    if (chdir("/") != 0)
        die("chdir");
}

int main(int count, char **arguments)
{
    if (count < 5)
        return 64;
    int rounds = atoi(arguments[1]), places = count - 4;
    file_count = atoi(arguments[2]);
    operation_count = atoi(arguments[3]);
    memset(buffer, 'b', sizeof buffer);
    for (int round = 0; round < rounds; round++)
        for (int row = 0; row < (int)(sizeof rows / sizeof rows[0]); row++)
            for (int place = 0; place < places; place++)
                turn(arguments[4 + (place + round) % places], row);
    printf("@ done\n");
    fflush(stdout);
    return 0;
}
