/* LD_PRELOAD: every call that changes the file system is numbered, written down, and made to fail or to kill.

   Only calls on files below SHIM_ROOT count; SQLite's are among them. What is to happen is read from the file
   SHIM_CONTROL, mapped shared, so that a test arms a process that runs and its forked children:

       struct control, all int64: 0 count of calls so far; 1 number of the call to hit, from 1 (0: none);
       2 errno (0: SIGKILL; -1: to the node's first process as well, and
       so to all of it); 3 sticky, 1: that call and every later one of the kind, 2: and every later one with that path, of any kind; 4 calls that were hit; 5 is it counting;
       6 microseconds to sleep in each sync (a hung disk); 7 microseconds a clock step;
       8 the last number given to a beginning or an end;
       then char kind[32] and char path[224]: only calls of this kind ("" any) whose path has this in it ("" any)
       are counted.

   Each counted call is one line of SHIM_LOG when it is over: "BEGIN END KIND RESULT DEVICE:INODE SIZE PATH [PATH2]",
   BEGIN and END from one counter of all processes, RESULT 0 or the errno. Writes to the SQLite log, and what is sent on
   a socket while counting, have their bytes in hexadecimal as a last word. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t count, at, error, sticky, hits, counting, hang, clock_step, sequence;
    char kind[32], path[224];
};

static struct control nothing, *control = &nothing;
static char root[1024];
static size_t root_length;
static int log_fd = -1;
static pid_t outside; /* who starts the nodes: not one of them */

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("SHIM_CONTROL"), *below = getenv("SHIM_ROOT"), *log = getenv("SHIM_LOG");
    if (!name || !below) return;
    int fd = syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (at == MAP_FAILED) return;
    snprintf(root, sizeof root, "%s", below);
    root_length = strlen(root);
    if (log) log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    outside = syscall(SYS_getpid);
    control = at;
}

#define NEXT(type, name) \
    static __typeof__(type) real; \
    if (!real) real = (__typeof__(type))dlsym(RTLD_NEXT, name)

static void place_of_fd(int fd, char *out, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, size - 1);
    out[length < 0 ? 0 : length] = 0;
}

static void place_at(int dir, const char *name, char *out, size_t size) {
    if (name[0] == '/') { snprintf(out, size, "%s", name); return; }
    char folder[2048];
    if (dir == AT_FDCWD) { if (!getcwd(folder, sizeof folder)) folder[0] = 0; }
    else place_of_fd(dir, folder, sizeof folder);
    snprintf(out, size, "%s/%s", folder, name);
}

static int is_below(const char *path) {
    return root_length && !strncmp(path, root, root_length) && path[root_length] == '/';
}

/* The verdict on a call: 0 go on, otherwise the errno to fail with; may not come back. `begun` is 0 when not counted. */
static int judge(const char *kind, const char *path, int64_t *begun) {
    *begun = 0;
    if (!control->counting || !(is_below(path) || !strcmp(path, root))) return 0;
    *begun = __atomic_add_fetch(&control->sequence, 1, __ATOMIC_SEQ_CST);
    if (control->hang && (strstr(kind, "sync") || !strcmp(kind, "write_out"))) {
        struct timespec pause = {control->hang / 1000000, control->hang % 1000000 * 1000};
        while (syscall(SYS_nanosleep, &pause, &pause) && errno == EINTR) {}
    }
    if (control->path[0] && !strstr(path, control->path)) return 0;
    if (control->sticky == 2 && control->hits) return (int)control->error;
    if (control->kind[0] && strcmp(control->kind, kind)) return 0;
    int64_t number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (!control->at || number < control->at || (number > control->at && !control->sticky)) return 0;
    __atomic_add_fetch(&control->hits, 1, __ATOMIC_SEQ_CST);
    if (control->error <= 0) {
        pid_t parent = syscall(SYS_getppid);
        if (control->error < 0 && parent != outside) syscall(SYS_kill, parent, SIGKILL);
        syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL);
        for (;;) syscall(SYS_pause);
    }
    return (int)control->error;
}

static void note(int64_t begun, const char *kind, int result, int fd, const char *path, const char *path2,
                 const void *data, size_t size) {
    if (!begun || log_fd < 0) return;
    int64_t ended = __atomic_add_fetch(&control->sequence, 1, __ATOMIC_SEQ_CST);
    struct stat facts;
    memset(&facts, 0, sizeof facts);
    if (fd >= 0) fstat(fd, &facts);
    else if (path) fstatat(AT_FDCWD, path2 && *path2 ? path2 : path, &facts, AT_SYMLINK_NOFOLLOW);
    char *line = malloc(4096 * 2 + 2 * size + 256);
    if (!line) return;
    int length = sprintf(line, "%ld %ld %s %d %ld:%ld %ld %s %s ", (long)begun, (long)ended, kind, result,
                         (long)facts.st_dev, (long)facts.st_ino, (long)size, path, path2 && *path2 ? path2 : "-");
    for (size_t each = 0; data && each < size; each++)
        length += sprintf(line + length, "%02x", ((const unsigned char *)data)[each]);
    line[length++] = '\n';
    ssize_t ignored = syscall(SYS_write, log_fd, line, length);
    (void)ignored;
    free(line);
}

static int is_log(const char *path) {
    size_t length = strlen(path);
    return length > 4 && !strcmp(path + length - 4, "-wal");
}

#define FAIL(code) do { errno = (code); return -1; } while (0)

/* An outcome of a call on an open file, written down; errno is kept. */
#define ON_FD(kind, fd, call, size, data) \
    char path[4096]; int64_t begun = 0; int verdict = 0; path[0] = 0; \
    if (control->counting) { place_of_fd(fd, path, sizeof path); verdict = judge(kind, path, &begun); } \
    long answer = -1; int kept = verdict; \
    if (!verdict) { answer = (call); kept = answer < 0 ? errno : 0; } \
    note(begun, kind, kept, fd, path, NULL, begun && is_log(path) ? (data) : NULL, (size)); \
    if (kept) FAIL(kept); \
    return answer

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(ssize_t (*)(int, const void *, size_t), "write");
    ON_FD("write", fd, real(fd, data, size), size, data);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    NEXT(ssize_t (*)(int, const void *, size_t, off_t), "pwrite");
    ON_FD("write", fd, real(fd, data, size, at), size, data);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    NEXT(ssize_t (*)(int, const void *, size_t, off64_t), "pwrite64");
    ON_FD("write", fd, real(fd, data, size, at), size, data);
}
ssize_t writev(int fd, const struct iovec *pieces, int count) {
    NEXT(ssize_t (*)(int, const struct iovec *, int), "writev");
    ON_FD("write", fd, real(fd, pieces, count), 0, NULL);
}
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
    NEXT(ssize_t (*)(int, const struct iovec *, int, off_t), "pwritev");
    ON_FD("write", fd, real(fd, pieces, count, at), 0, NULL);
}
int fsync(int fd) {
    NEXT(int (*)(int), "fsync");
    ON_FD("fsync", fd, real(fd), 0, NULL);
}
int fdatasync(int fd) {
    NEXT(int (*)(int), "fdatasync");
    ON_FD("fdatasync", fd, real(fd), 0, NULL);
}
int syncfs(int fd) {
    NEXT(int (*)(int), "syncfs");
    ON_FD("syncfs", fd, real(fd), 0, NULL);
}
int sync_file_range(int fd, off64_t at, off64_t size, unsigned int flags) {
    NEXT(int (*)(int, off64_t, off64_t, unsigned int), "sync_file_range");
    ON_FD(flags & 4 ? "write_out" : "write_begun", fd, real(fd, at, size, flags), 0, NULL); /* 4: waits for the end */
}
int ftruncate(int fd, off_t size) {
    NEXT(int (*)(int, off_t), "ftruncate");
    ON_FD("ftruncate", fd, real(fd, size), 0, NULL);
}
int ftruncate64(int fd, off64_t size) {
    NEXT(int (*)(int, off64_t), "ftruncate64");
    ON_FD("ftruncate", fd, real(fd, size), 0, NULL);
}

/* The same of a call on a name, or on two. */
#define ON_NAME(kind, dir, name, dir2, name2, call) \
    char path[4096], path2[4096]; int64_t begun = 0; int verdict = 0; path[0] = path2[0] = 0; \
    if (control->counting) { \
        place_at(dir, name, path, sizeof path); \
        if (name2) place_at(dir2, name2, path2, sizeof path2); \
        verdict = judge(kind, path, &begun); \
    } \
    long answer = -1; int kept = verdict; \
    if (!verdict) { answer = (call); kept = answer < 0 ? errno : 0; } \
    note(begun, kind, kept, -1, path, path2, NULL, 0); \
    if (kept) FAIL(kept); \
    return (int)answer

#define NO_NAME ((const char *)NULL)

int link(const char *a, const char *b) {
    NEXT(int (*)(const char *, const char *), "link");
    ON_NAME("link", AT_FDCWD, a, AT_FDCWD, b, real(a, b));
}
int linkat(int from, const char *a, int to, const char *b, int flags) {
    NEXT(int (*)(int, const char *, int, const char *, int), "linkat");
    ON_NAME("link", from, a, to, b, real(from, a, to, b, flags));
}
int rename(const char *a, const char *b) {
    NEXT(int (*)(const char *, const char *), "rename");
    ON_NAME("rename", AT_FDCWD, a, AT_FDCWD, b, real(a, b));
}
int renameat(int from, const char *a, int to, const char *b) {
    NEXT(int (*)(int, const char *, int, const char *), "renameat");
    ON_NAME("rename", from, a, to, b, real(from, a, to, b));
}
int mkdir(const char *name, mode_t mode) {
    NEXT(int (*)(const char *, mode_t), "mkdir");
    ON_NAME("mkdir", AT_FDCWD, name, 0, NO_NAME, real(name, mode));
}
int mkdirat(int dir, const char *name, mode_t mode) {
    NEXT(int (*)(int, const char *, mode_t), "mkdirat");
    ON_NAME("mkdir", dir, name, 0, NO_NAME, real(dir, name, mode));
}
int unlink(const char *name) {
    NEXT(int (*)(const char *), "unlink");
    ON_NAME("unlink", AT_FDCWD, name, 0, NO_NAME, real(name));
}
int unlinkat(int dir, const char *name, int flags) {
    NEXT(int (*)(int, const char *, int), "unlinkat");
    ON_NAME("unlink", dir, name, 0, NO_NAME, real(dir, name, flags));
}
int rmdir(const char *name) {
    NEXT(int (*)(const char *), "rmdir");
    ON_NAME("unlink", AT_FDCWD, name, 0, NO_NAME, real(name));
}

/* A file that is made: only that counts, not the opening of one that is there. */
#define MADE(symbol, dir, name, flags, call, plain) \
    if (!((flags) & O_CREAT)) return (plain); \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    if (!control->counting || (!((flags) & O_EXCL) && !faccessat(dir, name, F_OK, AT_EACCESS))) return (call); \
    ON_NAME("create", dir, name, 0, NO_NAME, (call))

int open(const char *name, int flags, ...) {
    NEXT(int (*)(const char *, int, ...), "open");
    MADE("open", AT_FDCWD, name, flags, real(name, flags, mode), real(name, flags));
}
int open64(const char *name, int flags, ...) {
    NEXT(int (*)(const char *, int, ...), "open64");
    MADE("open64", AT_FDCWD, name, flags, real(name, flags, mode), real(name, flags));
}
int openat(int dir, const char *name, int flags, ...) {
    NEXT(int (*)(int, const char *, int, ...), "openat");
    MADE("openat", dir, name, flags, real(dir, name, flags, mode), real(dir, name, flags));
}
int openat64(int dir, const char *name, int flags, ...) {
    NEXT(int (*)(int, const char *, int, ...), "openat64");
    MADE("openat64", dir, name, flags, real(dir, name, flags, mode), real(dir, name, flags));
}

/* What a peer is told: written down before it is sent, with its bytes. */
static void tell(int fd, const void *data, size_t size) {
    if (control->counting && log_fd >= 0)
        note(__atomic_add_fetch(&control->sequence, 1, __ATOMIC_SEQ_CST), "send", 0, fd, "socket", NULL, data, size > 4096 ? 4096 : size);
}
ssize_t send(int fd, const void *data, size_t size, int flags) {
    NEXT(ssize_t (*)(int, const void *, size_t, int), "send");
    tell(fd, data, size);
    return real(fd, data, size, flags);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    NEXT(ssize_t (*)(int, const struct msghdr *, int), "sendmsg");
    for (size_t each = 0; each < message->msg_iovlen; each++)
        tell(fd, message->msg_iov[each].iov_base, message->msg_iov[each].iov_len);
    return real(fd, message, flags);
}

/* The wall clock is set: by so much, for as long as the control says so. */
int clock_gettime(clockid_t id, struct timespec *now) {
    NEXT(int (*)(clockid_t, struct timespec *), "clock_gettime");
    int answer = real(id, now);
    if (!answer && id == CLOCK_REALTIME && control->clock_step) {
        int64_t all = now->tv_sec * 1000000LL + now->tv_nsec / 1000 + control->clock_step;
        now->tv_nsec = all % 1000000 * 1000 + now->tv_nsec % 1000;
        now->tv_sec = all / 1000000;
    }
    return answer;
}
