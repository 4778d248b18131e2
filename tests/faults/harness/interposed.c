/* Library for LD_PRELOAD that counts the file-system events of a process below one folder and disturbs one of them.

An event is a call of the C library that changes the file system: the process is killed before, in or after the k-th, or the
call fails. Calls outside of the folder, and all calls until `faults_begin`, are passed on. The state lies in memory that is
shared with forked processes, so that the parent can read the events of a child that was killed.

Not seen: writes through a writable memory map, and writes that stdio does within the C library (the opening is seen). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { WATCH, KILL_BEFORE, KILL_AFTER, KILL_TORN, FAIL, FAIL_SHORT, STOP };
enum kind {
    OPEN, WRITE, PWRITE, FTRUNCATE, FALLOCATE, FSYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK, SYMLINK, CHMOD, KINDS
};
static const char *const names[KINDS] = {
    "open", "write", "pwrite", "ftruncate", "fallocate", "fsync", "rename", "unlink", "mkdir", "rmdir", "link",
    "symlink", "chmod"
};

#define LOG_BYTES (4 << 20)

struct faults {
    char root[PATH_MAX];
    size_t root_length;
    int mode, error, sticky, lock_error;
    long at;
    unsigned kinds;
    atomic_int lock;
    int disturbed, dead;
    long count;
    size_t used;
    char log[LOG_BYTES];
};

static struct faults *state;

void *faults_begin(const char *root, int mode, long at, int error, int sticky, unsigned kinds, int lock_error) {
    struct faults *made =
        mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) return NULL;
    made->root_length = strlen(root);
    memcpy(made->root, root, made->root_length + 1);
    made->mode = mode, made->at = at, made->error = error, made->sticky = sticky, made->kinds = kinds;
    made->lock_error = lock_error;
    return made;
}

void faults_use(void *made) { state = made; }
const char *faults_log(struct faults *made) { return made->log; }
int faults_disturbed(struct faults *made) { return made->disturbed; }
void faults_end(struct faults *made) { munmap(made, sizeof *made); }

#define REAL(type, name, ...)                                                      \
    static type (*real)(__VA_ARGS__);                                              \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int inside(const char *path) {
    return path && !strncmp(path, state->root, state->root_length) &&
           (path[state->root_length] == '/' || !path[state->root_length]);
}

static const char *of_fd(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return buffer;
}

static const char *of_path(int folder, const char *path, char *buffer) {
    if (!path) return NULL;
    if (path[0] == '/') return path;
    if (folder == AT_FDCWD ? !getcwd(buffer, PATH_MAX) : !of_fd(folder, buffer)) return NULL;
    size_t length = strlen(buffer);
    if (length + strlen(path) + 2 > PATH_MAX) return NULL;
    buffer[length] = '/';
    strcpy(buffer + length + 1, !strncmp(path, "./", 2) ? path + 2 : path);
    return buffer;
}

static void die(void) {
    state->dead = 1;
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* The other path of a call that has two. */
static __thread const char *other;

/* What to do with a call. GO and CUT hold the lock until `leave`. */
enum order { PASS, GO, CUT, REFUSE };

static enum order enter(enum kind kind, const char *path) {
    if (!state || !inside(path)) {
        other = NULL;
        return PASS;
    }
    while (atomic_exchange(&state->lock, 1)) sched_yield();
    while (state->dead) pause();
    long number = state->count++;
    int wanted = (state->kinds >> kind) & 1;
    int met = number == state->at, from = number >= state->at;
    size_t rest = LOG_BYTES - state->used;
    const char *source = other && inside(other) ? other + state->root_length : "";
    int wrote =
        snprintf(state->log + state->used, rest, "%s\t%s\t%s\n", names[kind], path + state->root_length, source);
    other = NULL;
    if (wrote > 0 && (size_t)wrote < rest) state->used += wrote;
    enum order order = GO;
    switch (state->mode) {
    case KILL_BEFORE:
        if (met) state->disturbed = 1, die();
        break;
    case KILL_TORN:
        if (met) state->disturbed = 1, order = CUT;
        break;
    case FAIL:
        if (wanted && from && (state->sticky || !state->disturbed)) state->disturbed = 1, order = REFUSE;
        break;
    case FAIL_SHORT:
        if (wanted && met) state->disturbed = 1, order = CUT;
        else if (wanted && from) state->disturbed = 1, order = REFUSE;
        break;
    case STOP:
        if (met) state->disturbed = 1;
        break;
    }
    if (state->mode == STOP && met) {
        atomic_store(&state->lock, 0);
        raise(SIGSTOP);
        return PASS;
    }
    if (order == REFUSE) {
        atomic_store(&state->lock, 0);
        errno = state->error;
    }
    return order;
}

static void leave(enum order order) {
    if (order == PASS) return;
    int kept = errno;
    if ((state->mode == KILL_AFTER && state->count - 1 == state->at) || (order == CUT && state->mode == KILL_TORN)) {
        state->disturbed = 1;
        die();
    }
    atomic_store(&state->lock, 0);
    errno = kept;
}

/* Of a call that can't be cut: killed before it, or refused, as a disk does that was full before. */
static enum order whole(enum order order) {
    if (order != CUT) return order;
    if (state->mode == KILL_TORN) die();
    atomic_store(&state->lock, 0);
    errno = state->error;
    return REFUSE;
}

#define EVENT(kind, path, failure, call)            \
    char buffer[PATH_MAX];                          \
    enum order order = whole(enter(kind, path));    \
    if (order == REFUSE) return failure;            \
    __typeof__(call) result = call;                 \
    leave(order);                                   \
    return result

#define WRITES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define MODE_ARGUMENT                               \
    mode_t mode = 0;                                \
    if (flags & (O_CREAT | O_TMPFILE)) {            \
        va_list rest;                               \
        va_start(rest, flags);                      \
        mode = va_arg(rest, mode_t);                \
        va_end(rest);                               \
    }

#define OPENING(name)                                                              \
    int name(const char *path, int flags, ...) {                                   \
        MODE_ARGUMENT                                                              \
        REAL(int, #name, const char *, int, ...);                                  \
        if (!state || !WRITES(flags)) return real(path, flags, mode);              \
        EVENT(OPEN, of_path(AT_FDCWD, path, buffer), -1, real(path, flags, mode)); \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name)                                                                   \
    int name(int folder, const char *path, int flags, ...) {                               \
        MODE_ARGUMENT                                                                      \
        REAL(int, #name, int, const char *, int, ...);                                     \
        if (!state || !WRITES(flags)) return real(folder, path, flags, mode);              \
        EVENT(OPEN, of_path(folder, path, buffer), -1, real(folder, path, flags, mode));   \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

#define CREATING(name)                                                             \
    int name(const char *path, mode_t mode) {                                      \
        REAL(int, #name, const char *, mode_t);                                    \
        if (!state) return real(path, mode);                                       \
        EVENT(OPEN, of_path(AT_FDCWD, path, buffer), -1, real(path, mode));        \
    }
CREATING(creat)
CREATING(creat64)

#define STREAM(name)                                                               \
    FILE *name(const char *path, const char *how) {                                \
        REAL(FILE *, #name, const char *, const char *);                           \
        if (!state || !strpbrk(how, "wa+")) return real(path, how);                \
        EVENT(OPEN, of_path(AT_FDCWD, path, buffer), NULL, real(path, how));       \
    }
STREAM(fopen)
STREAM(fopen64)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!state) return real(fd, data, size);
    char buffer[PATH_MAX];
    enum order order = enter(WRITE, of_fd(fd, buffer));
    if (order == REFUSE) return -1;
    if (order == CUT && size < 2) order = whole(order);
    if (order == REFUSE) return -1;
    ssize_t result = real(fd, data, order == CUT ? size / 2 : size);
    leave(order);
    return result;
}

#define WRITING_AT(name, type)                                                     \
    ssize_t name(int fd, const void *data, size_t size, type offset) {             \
        REAL(ssize_t, #name, int, const void *, size_t, type);                     \
        if (!state) return real(fd, data, size, offset);                           \
        char buffer[PATH_MAX];                                                     \
        enum order order = enter(PWRITE, of_fd(fd, buffer));                       \
        if (order == REFUSE) return -1;                                            \
        if (order == CUT && size < 2) order = whole(order);                        \
        if (order == REFUSE) return -1;                                            \
        ssize_t result = real(fd, data, order == CUT ? size / 2 : size, offset);   \
        leave(order);                                                              \
        return result;                                                             \
    }
WRITING_AT(pwrite, off_t)
WRITING_AT(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (!state) return real(fd, pieces, count);
    EVENT(WRITE, of_fd(fd, buffer), -1, real(fd, pieces, count));
}

ssize_t sendfile(int out, int in, off_t *offset, size_t size) {
    REAL(ssize_t, "sendfile", int, int, off_t *, size_t);
    if (!state) return real(out, in, offset, size);
    EVENT(WRITE, of_fd(out, buffer), -1, real(out, in, offset, size));
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    if (!state) return real(in, from, out, to, size, flags);
    EVENT(WRITE, of_fd(out, buffer), -1, real(in, from, out, to, size, flags));
}

#define ON_FD(kind, name, parameters, values, types)                               \
    int name parameters {                                                          \
        REAL(int, #name, types);                                                   \
        if (!state) return real values;                                            \
        EVENT(kind, of_fd(fd, buffer), -1, real values);                           \
    }
#define TYPES(...) __VA_ARGS__
ON_FD(FTRUNCATE, ftruncate, (int fd, off_t size), (fd, size), TYPES(int, off_t))
ON_FD(FTRUNCATE, ftruncate64, (int fd, off64_t size), (fd, size), TYPES(int, off64_t))
ON_FD(FALLOCATE, fallocate, (int fd, int how, off_t from, off_t size), (fd, how, from, size),
      TYPES(int, int, off_t, off_t))
ON_FD(FALLOCATE, fallocate64, (int fd, int how, off64_t from, off64_t size), (fd, how, from, size),
      TYPES(int, int, off64_t, off64_t))
ON_FD(FSYNC, fsync, (int fd), (fd), TYPES(int))
ON_FD(FSYNC, fdatasync, (int fd), (fd), TYPES(int))
ON_FD(CHMOD, fchmod, (int fd, mode_t mode), (fd, mode), TYPES(int, mode_t))

/* These two return the error. */
#define ALLOCATING(name, type)                                                     \
    int name(int fd, type from, type size) {                                       \
        REAL(int, #name, int, type, type);                                         \
        if (!state) return real(fd, from, size);                                   \
        EVENT(FALLOCATE, of_fd(fd, buffer), state->error, real(fd, from, size));   \
    }
ALLOCATING(posix_fallocate, off_t)
ALLOCATING(posix_fallocate64, off64_t)

#define ON_PATH(kind, name, parameters, values, types, folder, path)               \
    int name parameters {                                                          \
        REAL(int, #name, types);                                                   \
        if (!state) return real values;                                            \
        EVENT(kind, of_path(folder, path, buffer), -1, real values);               \
    }
ON_PATH(FTRUNCATE, truncate, (const char *path, off_t size), (path, size), TYPES(const char *, off_t), AT_FDCWD, path)
ON_PATH(FTRUNCATE, truncate64, (const char *path, off64_t size), (path, size), TYPES(const char *, off64_t), AT_FDCWD,
        path)
ON_PATH(UNLINK, unlink, (const char *path), (path), TYPES(const char *), AT_FDCWD, path)
ON_PATH(UNLINK, remove, (const char *path), (path), TYPES(const char *), AT_FDCWD, path)
ON_PATH(MKDIR, mkdir, (const char *path, mode_t mode), (path, mode), TYPES(const char *, mode_t), AT_FDCWD, path)
ON_PATH(MKDIR, mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode),
        TYPES(int, const char *, mode_t), folder, path)
ON_PATH(RMDIR, rmdir, (const char *path), (path), TYPES(const char *), AT_FDCWD, path)
ON_PATH(LINK, link, (const char *old, const char *new), (old, new), TYPES(const char *, const char *), AT_FDCWD, new)
ON_PATH(LINK, linkat, (int from, const char *old, int to, const char *new, int flags), (from, old, to, new, flags),
        TYPES(int, const char *, int, const char *, int), to, new)
ON_PATH(SYMLINK, symlink, (const char *old, const char *new), (old, new), TYPES(const char *, const char *), AT_FDCWD,
        new)
ON_PATH(SYMLINK, symlinkat, (const char *old, int folder, const char *new), (old, folder, new),
        TYPES(const char *, int, const char *), folder, new)
ON_PATH(CHMOD, chmod, (const char *path, mode_t mode), (path, mode), TYPES(const char *, mode_t), AT_FDCWD, path)
ON_PATH(CHMOD, fchmodat, (int folder, const char *path, mode_t mode, int flags), (folder, path, mode, flags),
        TYPES(int, const char *, mode_t, int), folder, path)

#define RENAMING(name, parameters, values, types, from, to)                        \
    int name parameters {                                                          \
        REAL(int, #name, types);                                                   \
        if (!state) return real values;                                            \
        char source[PATH_MAX];                                                     \
        other = of_path(from, old, source);                                        \
        EVENT(RENAME, of_path(to, new, buffer), -1, real values);                  \
    }
RENAMING(rename, (const char *old, const char *new), (old, new), TYPES(const char *, const char *), AT_FDCWD, AT_FDCWD)
RENAMING(renameat, (int from, const char *old, int to, const char *new), (from, old, to, new),
         TYPES(int, const char *, int, const char *), from, to)
RENAMING(renameat2, (int from, const char *old, int to, const char *new, unsigned flags), (from, old, to, new, flags),
         TYPES(int, const char *, int, const char *, unsigned), from, to)

int unlinkat(int folder, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    if (!state) return real(folder, path, flags);
    EVENT(flags & AT_REMOVEDIR ? RMDIR : UNLINK, of_path(folder, path, buffer), -1, real(folder, path, flags));
}

static int refuses_locks(int fd) {
    char buffer[PATH_MAX];
    return state && state->lock_error && inside(of_fd(fd, buffer));
}

int flock(int fd, int operation) {
    REAL(int, "flock", int, int);
    if (operation != LOCK_UN && refuses_locks(fd)) {
        errno = state->lock_error;
        return -1;
    }
    return real(fd, operation);
}

#define CONTROL(name)                                                              \
    int name(int fd, int command, ...) {                                           \
        va_list rest;                                                              \
        va_start(rest, command);                                                   \
        void *argument = va_arg(rest, void *);                                     \
        va_end(rest);                                                              \
        REAL(int, #name, int, int, ...);                                           \
        int locks = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW; \
        if (locks && ((struct flock *)argument)->l_type != F_UNLCK && refuses_locks(fd)) { \
            errno = state->lock_error;                                             \
            return -1;                                                             \
        }                                                                          \
        return real(fd, command, argument);                                        \
    }
CONTROL(fcntl)
CONTROL(fcntl64)
