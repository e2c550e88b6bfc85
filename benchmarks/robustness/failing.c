// Writes below $FAILING_BELOW fail as on a full disk, from the n-th on; for LD_PRELOAD.
// The file $FAILING_STATE has two numbers, shared by all processes: writes so far, and n (0: none fails).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long *state;
static const char *below;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FAILING_STATE");
  below = getenv("FAILING_BELOW");
  int place = path && below ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (place < 0) return;
  void *found = mmap(NULL, 2 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, place, 0);
  if (found != MAP_FAILED) state = found;
  close(place);
}

static int fails(int place) {
  char link[64], path[4096];
  if (!state) return 0;
  int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", place);
  ssize_t size = readlink(link, path, sizeof path - 1);
  errno = before;
  if (size <= 0) return 0;
  path[size] = 0;
  if (strncmp(path, below, strlen(below))) return 0;
  long seen = __atomic_add_fetch(&state[0], 1, __ATOMIC_SEQ_CST);
  if (!state[1] || seen < state[1]) return 0;
  errno = ENOSPC;
  return 1;
}

#define GUARD(type, name, parameters, place, arguments)        \
  type name parameters {                                       \
    static type(*real) parameters;                             \
    if (fails(place)) return -1;                               \
    if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    return real arguments;                                     \
  }

GUARD(ssize_t, write, (int place, const void *data, size_t size), place, (place, data, size))
GUARD(ssize_t, pwrite64, (int place, const void *data, size_t size, off64_t at), place, (place, data, size, at))
GUARD(ssize_t, writev, (int place, const struct iovec *parts, int count), place, (place, parts, count))
GUARD(ssize_t, sendfile64, (int place, int from, off64_t *at, size_t size), place, (place, from, at, size))
GUARD(ssize_t, copy_file_range, (int from, off64_t *a, int place, off64_t *b, size_t size, unsigned flags), place,
      (from, a, place, b, size, flags))
GUARD(int, ftruncate64, (int place, off64_t size), place, (place, size))
GUARD(int, fsync, (int place), place, (place))
GUARD(int, fdatasync, (int place), place, (place))
