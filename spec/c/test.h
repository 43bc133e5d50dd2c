/* SPDX-License-Identifier: MIT */
#ifndef SW_TEST_H
#define SW_TEST_H

/* The whole test framework of the C tests: a program is a main() that calls
   RUN(test) for each test and returns test_summary(). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

extern unsigned test_checks, test_failures;
extern const char *test_name;

#define CHECK(condition)                                                       \
  test_check((condition) ? true : false, #condition, __FILE__, __LINE__)
#define CHECK_INT(got, want)                                                   \
  test_check_int((long long)(got), (long long)(want), #got, __FILE__, __LINE__)
#define CHECK_STR(got, want)                                                   \
  test_check_str((got), (want), #got, __FILE__, __LINE__)
#define CHECK_MEM(got, got_length, want, want_length)                          \
  test_check_mem((got), (got_length), (want), (want_length), #got, __FILE__,   \
                 __LINE__)
#define RUN(test) (test_name = #test, (test)())

/* Each returns whether it held, and prints and counts a failure. */
bool test_check(bool held, const char *what, const char *file, int line);
bool test_check_int(long long got, long long want, const char *what,
                    const char *file, int line);
bool test_check_str(const char *got, const char *want, const char *what,
                    const char *file, int line);
bool test_check_mem(const void *got, size_t got_length, const void *want,
                    size_t want_length, const char *what, const char *file,
                    int line);

/* test_guarded returns a writable copy of |data| that ends exactly at an
   inaccessible page: reading one byte too far is a crash.  Release it with
   test_unguard(copy, length). */
void *test_guarded(const void *data, size_t length);
void test_unguard(void *copy, size_t length);

/* test_summary prints "NAME: N passed, N failed" and returns the exit code. */
int test_summary(const char *program);

#endif
