/* SPDX-License-Identifier: MIT */

/* Hashes, base64 and random bytes, by the RFCs' own vectors.  What is hashed
   lies in memory that ends at a guard page. */

#include "hash.h"

#include "sipwire.h"
#include "test.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void vector(const char *name, const char *text, const char *want) {
  char hex[SIPWIRE_HASH_SIZE + 1];
  size_t length = strlen(text);
  void *data = test_guarded(text, length);
  memset(hex, '~', sizeof hex);
  CHECK_INT(sipwire_hash(name, data, length, hex), strlen(want));
  CHECK_STR(hex, want);
  CHECK_INT(hex[SIPWIRE_HASH_SIZE], '~');
  test_unguard(data, length);
}

/* RFC 1321 A.5, RFC 6234 (FIPS 180-4) */
static void hashes_are_those_of_their_standards(void) {
  vector("md5", "", "d41d8cd98f00b204e9800998ecf8427e");
  vector("md5", "abc", "900150983cd24fb0d6963f7d28e17f72");
  vector("md5", "message digest", "f96b697d7cb7938d525a2f31aaf161d0");
  vector("sha-256", "abc",
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  vector("sha-256", "",
         "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  vector("sha-512-256", "abc",
         "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23");
}

static void names_are_known_in_any_case(void) {
  vector("MD5", "a", "0cc175b9c0f1b6a831c399e269772661");
  vector("Sha-256", "abc",
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void other_names_are_refused_and_nothing_is_written(void) {
  static const char *names[] = {"",        "sha1",     "md",   "md5 ",
                                "sha-512", "md5-sess", "sha-2"};
  for (size_t i = 0; i < COUNT(names); i++) {
    char hex[] = "untouched";
    CHECK_INT(sipwire_hash(names[i], "x", 1, hex), SIPWIRE_EINVALID);
    CHECK_STR(hex, "untouched");
  }
}

/* RFC 7616 section 3.9.1: A1, A2 and the response. */
static void parts_are_joined_by_colons(void) {
  char a1[SIPWIRE_HASH_SIZE], a2[SIPWIRE_HASH_SIZE], hex[SIPWIRE_HASH_SIZE];
#define PART(text)                                                             \
  { text, strlen(text) }
  struct sw_slice first[] = {PART("Mufasa"), PART("http-auth@example.org"),
                             PART("Circle of Life")};
  struct sw_slice second[] = {PART("GET"), PART("/dir/index.html")};
  CHECK(sw_hash("md5", a1, COUNT(first), first));
  CHECK_STR(a1, "3d78807defe7de2157e2b0b6573a855f");
  CHECK(sw_hash("md5", a2, COUNT(second), second));
  struct sw_slice all[] = {
      PART(a1),         PART("7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"),
      PART("00000001"), PART("f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"),
      PART("auth"),     PART(a2)};
  CHECK(sw_hash("md5", hex, COUNT(all), all));
  CHECK_STR(hex, "8ca523f5e9506fed4657c9700eebdbec");
#undef PART
}

/* RFC 4648 section 10 */
static void base64_is_padded(void) {
  static const char *pairs[][2] = {{"", ""},
                                   {"f", "Zg=="},
                                   {"fo", "Zm8="},
                                   {"foo", "Zm9v"},
                                   {"foob", "Zm9vYg=="},
                                   {"fooba", "Zm9vYmE="},
                                   {"\xff\xfb", "//s="}};
  for (size_t i = 0; i < COUNT(pairs); i++) {
    size_t length = strlen(pairs[i][0]);
    char text[SIPWIRE_BASE64_SIZE(5) + 1];
    void *data = test_guarded(pairs[i][0], length);
    memset(text, '~', sizeof text);
    CHECK_INT(sipwire_base64(data, length, text), strlen(pairs[i][1]));
    CHECK_STR(text, pairs[i][1]);
    CHECK_INT(text[SIPWIRE_BASE64_SIZE(length)], '~');
    CHECK_INT(SIPWIRE_BASE64_SIZE(length), strlen(pairs[i][1]) + 1);
    test_unguard(data, length);
  }
}

static void sizes_that_fit_no_int_are_refused(void) {
  char out[8] = "as it is";
  CHECK_INT(sipwire_base64("x", SIZE_MAX, out), SIPWIRE_ETOO_BIG);
  CHECK_INT(sipwire_base64("x", INT32_MAX, out), SIPWIRE_ETOO_BIG);
  CHECK_INT(sipwire_random(out, SIZE_MAX), SIPWIRE_ETOO_BIG);
  CHECK_MEM(out, sizeof out, "as it is", 8);
}

static void random_bytes_fill_what_was_asked_for_and_differ(void) {
  uint8_t bytes[3][40];
  memset(bytes, 0, sizeof bytes);
  CHECK_INT(sipwire_random(bytes[0], 0), 0);
  CHECK_INT(bytes[0][0], 0);
  CHECK_INT(sipwire_random(bytes[0], 32), 0);
  CHECK_INT(sipwire_random(bytes[1], 32), 0);
  CHECK(memcmp(bytes[0], bytes[1], 32) != 0);
  CHECK(memcmp(bytes[0] + 16, bytes[2], 16) != 0);
  CHECK_MEM(bytes[0] + 32, 8, bytes[2], 8);
}

int main(void) {
  RUN(hashes_are_those_of_their_standards);
  RUN(names_are_known_in_any_case);
  RUN(other_names_are_refused_and_nothing_is_written);
  RUN(parts_are_joined_by_colons);
  RUN(base64_is_padded);
  RUN(sizes_that_fit_no_int_are_refused);
  RUN(random_bytes_fill_what_was_asked_for_and_differ);
  return test_summary("test_hash");
}
