/*
 * The guest's program of `daxfault bench virtiofsd` (harness/src/bench/virtiofsd*.ts), the only one there (after init). Built by the
 * bench, static. It mounts what is named, as `/TAG`, a virtio-fs each; options of mount(2) follow a colon.
 *
 * usage: guest-files turns WARM-UP ROUNDS FILES OPERATIONS TAG[:OPTIONS]...
 *        guest-files hold TAG[:OPTIONS]
 *
 * turns: the same work on the same files of several mounts, in turns. Each mount has `data`, a file, and `tree`, a tree of
 * files. Caches are dropped before each turn, and the order of the mounts moves on by one with each round. Says
 * `@ mounted`, a line a turn, `@ ROUND TAG ROW UNITS NANOSECONDS`, and `@ done`. WARM-UP rounds come first, without the last
 * row, which takes longest.
 *
 * hold: reads `data`, maps it, touches each page, and keeps the mapping. Says `@ mounted`, and `@ held` when it has; waits for a
 * line after each.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
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

static void say(const char *line)
{
    puts(line);
    fflush(stdout);
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

/* Bytes to the file's end. */
static int64_t read_all(int fd)
{
    int64_t total = 0;
    for (ssize_t count; (count = read(fd, buffer, BLOCK)) != 0; total += count)
        if (count < 0)
            die("read");
    return total;
}

static int64_t read_sequential(void)
{
    int fd = open_data(O_RDONLY);
    int64_t total = read_all(fd);
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

static void touch_all(const char *memory, off_t size)
{
    for (off_t at = 0; at < size; at += PAGE)
        sink = memory[at];
}

static int64_t map_sequential(void)
{
    off_t size;
    char *memory = map_data(&size);
    touch_all(memory, size);
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

static int64_t seen;

static int see(const char *path, const struct stat *stats, int kind, struct FTW *where)
{
    (void)path, (void)where;
    seen += kind == FTW_F && stats->st_size > 0;
    return 0;
}

static int see_content(const char *path, const struct stat *stats, int kind, struct FTW *where)
{
    (void)stats, (void)where;
    if (kind != FTW_F)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(path);
    seen += read_all(fd);
    close(fd);
    return 0;
}

static int64_t walk(int (*each)(const char *, const struct stat *, int, struct FTW *))
{
    seen = 0;
    if (nftw("tree", each, 16, FTW_PHYS) != 0 || seen == 0)
        die("nftw");
    return seen;
}

/* As `find tree -type f -size +0` does it. */
static int64_t find_tree(void)
{
    return walk(see);
}

/* As `tar c tree` does it. */
static int64_t tar_tree(void)
{
    return walk(see_content);
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

/* The page cache, names and inodes go. */
static void drop_caches(void)
{
    sync();
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "3", 1) != 1)
        die("drop_caches");
    close(fd);
}

static void turn(int round, const char *tag, int row)
{
    if (chdir("/") != 0 || chdir(tag) != 0)
        die(tag);
    drop_caches();
    random_state = 2463534242u;
    int64_t begin = now();
    int64_t units = rows[row].run();
    int64_t nanoseconds = now() - begin;
    printf("@ %d %s %s %lld %lld\n", round, tag, rows[row].name, (long long)units, (long long)nanoseconds);
    fflush(stdout);
}

static void mount_at(const char *source, const char *target, const char *type, const char *options)
{
    if ((mkdir(target, 0755) != 0 && errno != EEXIST) || mount(source, target, type, 0, options) != 0)
        die(target);
}

/* `TAG:OPTIONS`, of which TAG is left. */
static void mount_place(char *place)
{
    char *options = strchr(place, ':');
    if (options != NULL)
        *options++ = 0;
    char target[64];
    snprintf(target, sizeof target, "/%s", place);
    mount_at(place, target, "virtiofs", options);
}

static void wait_for_line(void)
{
    for (int c; (c = getchar()) != '\n';)
        if (c == EOF)
            die("standard input");
}

static void hold(const char *tag)
{
    say("@ mounted");
    wait_for_line();
    if (chdir("/") != 0 || chdir(tag) != 0)
        die(tag);
    read_sequential();
    off_t size;
    const char *memory = map_data(&size);
    touch_all(memory, size);
    say("@ held");
    wait_for_line();
}

static void turns(int warm_up, int rounds, char *const places[], int count)
{
    int row_count = sizeof rows / sizeof rows[0];
    say("@ mounted");
    for (int round = 0; round < warm_up + rounds; round++)
        for (int row = 0; row < row_count - (round < warm_up); row++)
            for (int place = 0; place < count; place++)
                turn(round, places[(place + round) % count], row);
    say("@ done");
}

static int is(const char *mode, char *const arguments[])
{
    return arguments[1] != NULL && strcmp(arguments[1], mode) == 0;
}

int main(int count, char *arguments[])
{
    int first = is("hold", arguments) && count == 3 ? 2 : is("turns", arguments) ? 6 : count;
    if (first >= count)
        return 64;
    memset(buffer, 'b', sizeof buffer);
    mount_at("proc", "/proc", "proc", NULL);
    for (int place = first; place < count; place++)
        mount_place(arguments[place]);
    if (first == 2) {
        hold(arguments[2]);
        return 0;
    }
    file_count = atoi(arguments[4]);
    operation_count = atoi(arguments[5]);
    turns(atoi(arguments[2]), atoi(arguments[3]), arguments + first, count - first);
    return 0;
}
