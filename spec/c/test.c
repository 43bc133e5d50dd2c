/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE
#include "test.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

unsigned test_checks, test_failures;
const char *test_name = "";

static bool report(bool held, const char *what, const char *file, int line) {
  test_checks++;
  if (!held) {
    test_failures++;
    fprintf(stderr, "%s:%d: in %s: %s", file, line, test_name, what);
  }
  return held;
}

bool test_check(bool held, const char *what, const char *file, int line) {
  if (!report(held, what, file, line))
    fprintf(stderr, " does not hold\n");
  return held;
}

bool test_check_int(long long got, long long want, const char *what,
                    const char *file, int line) {
  if (!report(got == want, what, file, line))
    fprintf(stderr, " is %lld, not %lld\n", got, want);
  return got == want;
}

bool test_check_str(const char *got, const char *want, const char *what,
                    const char *file, int line) {
  bool held = got == want || (got && want && !strcmp(got, want));
  if (!report(held, what, file, line))
    fprintf(stderr, " is \"%s\", not \"%s\"\n", got ? got : "(null)",
            want ? want : "(null)");
  return held;
}

bool test_check_mem(const void *got, size_t got_length, const void *want,
                    size_t want_length, const char *what, const char *file,
                    int line) {
  bool held = got_length == want_length &&
              (!want_length || !memcmp(got, want, want_length));
  if (!report(held, what, file, line))
    fprintf(stderr, " (%zu bytes) is not the expected %zu bytes\n", got_length,
            want_length);
  return held;
}

static size_t span(size_t length) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return (length + page - 1) / page * page + page;
}

void *test_guarded(const void *data, size_t length) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), size = span(length);
  uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED || mprotect(base + size - page, page, PROT_NONE))
    abort();
  uint8_t *copy = base + size - page - length;
  if (length)
    memcpy(copy, data, length);
  return copy;
}

void test_unguard(void *copy, size_t length) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), size = span(length);
  munmap((uint8_t *)copy + length + page - size, size);
}

int test_summary(const char *program) {
  printf("%s: %u passed, %u failed\n", program, test_checks - test_failures,
         test_failures);
  return test_failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
