/*
 * The guest's program of `daxfault bench virtiofsd` (harness/src/bench/virtiofsd*.ts), the only one there (after init). Built by the
 * bench, static. It mounts what is named, as `/TAG`, a virtio-fs each; options of mount(2) follow a colon.
 *
 * usage: guest-files turns WARM-UP ROUNDS FILES OPERATIONS TAG[:OPTIONS]...
 *        guest-files programs WARM-UP ROUNDS FILES OPERATIONS FIO FIND TAR TAG[:OPTIONS]...
 *        guest-files hold TAG[:OPTIONS]
 *
 * turns: the same work on the same files of several mounts, in turns. Each mount has `data`, a file, and `tree`, a tree of
 * files. Caches are dropped before each turn, and the order of the mounts moves on by one with each round. Says
 * `@ mounted`, a line a turn, `@ ROUND TAG ROW UNITS NANOSECONDS`, and `@ done`. WARM-UP rounds come first, without the last
 * row, which takes longest.
 *
 * programs: after the same WARM-UP, the programs that others wrote. FIO, FIND and TAR are folders of the virtio-fs `tools`, each with a
 * program of Debian's and its libraries. fio says a line a job (terse, version 3), `@ ROUND TAG fio LINE`; find and tar
 * walk `source`, a tree, and are timed from fork(2) to the end, with their own pages in the cache: lines as above.
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

static void enter(const char *tag)
{
    if (chdir("/") != 0 || chdir(tag) != 0)
        die(tag);
}

static void say_turn(int round, const char *tag, const char *row, int64_t units, int64_t nanoseconds)
{
    printf("@ %d %s %s %lld %lld\n", round, tag, row, (long long)units, (long long)nanoseconds);
    fflush(stdout);
}

static void turn(int round, const char *tag, int row)
{
    enter(tag);
    drop_caches();
    random_state = 2463534242u;
    int64_t begin = now();
    int64_t units = rows[row].run();
    say_turn(round, tag, rows[row].name, units, now() - begin);
}

/* A program of Debian's, by its own loader. Returns where its standard output comes. */
#define MAX_WORDS 64
static FILE *start(pid_t *pid, const char *folder, const char *program, const char *const arguments[])
{
    static char libraries[256], paths[2 * sizeof libraries + 8], loader[sizeof libraries + 32], path[256];
    snprintf(libraries, sizeof libraries, "/tools/%s/usr/lib/x86_64-linux-gnu", folder);
    snprintf(loader, sizeof loader, "%s/ld-linux-x86-64.so.2", libraries);
    /* fio's librados has a folder of its own, by its absolute path. */
    snprintf(paths, sizeof paths, "%s:%s/ceph", libraries, libraries);
    snprintf(path, sizeof path, "/tools/%s/usr/bin/%s", folder, program);
    const char *words[MAX_WORDS] = {loader, "--library-path", paths, path};
    int count = 4;
    while (*arguments != NULL && count < MAX_WORDS - 1)
        words[count++] = *arguments++;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0 || (*pid = fork()) < 0)
        die(program);
    if (*pid == 0) {
        dup2(ends[1], 1);
        execv(loader, (char **)words);
        die(loader);
    }
    close(ends[1]);
    return fdopen(ends[0], "r");
}

static void finish(pid_t pid, FILE *output, const char *program)
{
    int status;
    fclose(output);
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    if (status != 0) {
        printf("! %s: wait status %d\n", program, status);
        fflush(stdout);
        exit(1);
    }
}

/* Of find the lines, of tar the bytes. */
static int64_t amount(FILE *output, int is_lines)
{
    int64_t total = 0;
    for (size_t count; (count = fread(buffer, 1, BLOCK, output)) > 0;)
        if (is_lines)
            for (size_t at = 0; at < count; at++)
                total += buffer[at] == '\n';
        else
            total += count;
    return total;
}

static void walk_by(int round, const char *tag, const char *program, const char *folder,
                    const char *const arguments[])
{
    pid_t pid;
    enter(tag);
    drop_caches();
    FILE *output = start(&pid, folder, program, (const char *const[]){"--version", NULL});
    amount(output, 1);
    finish(pid, output, program);
    int64_t begin = now();
    output = start(&pid, folder, program, arguments);
    int64_t units = amount(output, program[0] == 'f');
    finish(pid, output, program);
    if (units == 0) {
        printf("! %s: nothing in the tree\n", program);
        exit(1);
    }
    say_turn(round, tag, program, units, now() - begin);
}

/* Each job when the one before has ended; fio drops the file's pages itself before it begins (invalidate=1). */
static void fio(int round, const char *tag, const char *folder)
{
    static char io_size[32], files[32], line[BLOCK];
    snprintf(io_size, sizeof io_size, "--io_size=%dk", operation_count * (PAGE / 1024));
    snprintf(files, sizeof files, "--nrfiles=%d", file_count);
    const char *const arguments[] = {
        "--minimal", "--thread", "--fallocate=none", "--filename=data",
        "--name=read-sequential", "--rw=read", "--bs=128k", "--ioengine=psync", "--stonewall",
        "--name=read-random", "--rw=randread", "--bs=4k", io_size, "--ioengine=psync", "--stonewall",
        "--name=mmap-sequential", "--rw=read", "--bs=4k", "--ioengine=mmap", "--stonewall",
        "--name=mmap-random", "--rw=randread", "--bs=4k", io_size, "--ioengine=mmap", "--stonewall",
        "--name=write-sequential", "--rw=write", "--bs=128k", "--end_fsync=1", "--ioengine=psync", "--stonewall",
        "--name=write-random", "--rw=randwrite", "--bs=4k", io_size, "--ioengine=psync", "--stonewall",
        NULL,
    };
    const char *const names[] = {
        "--minimal", "--thread", "--fallocate=none", "--directory=made", "--unlink=1",
        "--filesize=4k", "--openfiles=1", files,
        "--name=create", "--ioengine=filecreate", "--stonewall",
        "--name=stat", "--ioengine=filestat", "--stonewall",
        "--name=unlink", "--ioengine=filedelete", "--stonewall",
        NULL,
    };
    enter(tag);
    if (mkdir("made", 0755) != 0)
        die("mkdir");
    drop_caches();
    for (int part = 0; part < 2; part++) {
        pid_t pid;
        FILE *output = start(&pid, folder, "fio", part == 0 ? arguments : names);
        while (fgets(line, sizeof line, output) != NULL) {
            printf("@ %d %s fio %s", round, tag, line);
            fflush(stdout);
        }
        finish(pid, output, "fio");
    }
    if (rmdir("made") != 0)
        die("rmdir");
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
    enter(tag);
    read_sequential();
    off_t size;
    const char *memory = map_data(&size);
    touch_all(memory, size);
    say("@ held");
    wait_for_line();
}

static void turns(int first, int end, char *const places[], int count, int row_count)
{
    for (int round = first; round < end; round++)
        for (int row = 0; row < row_count; row++)
            for (int place = 0; place < count; place++)
                turn(round, places[(place + round) % count], row);
}

static void programs(int first, int end, char *const folders[], char *const places[], int count)
{
    static const char *const find_arguments[] = {"source", "-type", "f", "-size", "+0", NULL};
    static const char *const tar_arguments[] = {"-c", "-f", "-", "source", NULL};
    for (int round = first; round < end; round++)
        for (int row = 0; row < 3; row++)
            for (int at = 0; at < count; at++) {
                const char *place = places[(at + round) % count];
                if (row == 0)
                    fio(round, place, folders[0]);
                else if (row == 1)
                    walk_by(round, place, "find", folders[1], find_arguments);
                else
                    walk_by(round, place, "tar", folders[2], tar_arguments);
            }
}

static int is(const char *mode, char *const arguments[])
{
    return arguments[1] != NULL && strcmp(arguments[1], mode) == 0;
}

int main(int count, char *arguments[])
{
    int is_hold = is("hold", arguments) && count == 3, is_programs = is("programs", arguments);
    int first = is_hold ? 2 : is("turns", arguments) ? 6 : is_programs ? 9 : count;
    if (first >= count)
        return 64;
    memset(buffer, 'b', sizeof buffer);
    mount_at("proc", "/proc", "proc", NULL);
    for (int place = first; place < count; place++)
        mount_place(arguments[place]);
    if (is_hold) {
        hold(arguments[2]);
        return 0;
    }
    char *const *places = arguments + first;
    int place_count = count - first, row_count = sizeof rows / sizeof rows[0];
    int warm_up = atoi(arguments[2]), end = warm_up + atoi(arguments[3]);
    file_count = atoi(arguments[4]);
    operation_count = atoi(arguments[5]);
    if (is_programs) {
        mount_at("tools", "/tools", "virtiofs", NULL);
    }
    say("@ mounted");
    turns(0, warm_up, places, place_count, row_count - 1);
    if (is_programs)
        programs(warm_up, end, arguments + 6, places, place_count);
    else
        turns(warm_up, end, places, place_count, row_count);
    say("@ done");
    return 0;
}
