/* SPDX-License-Identifier: MIT */
/* Hashes, and turns bytes into text.  Must not keep anything of what it was
   given. */

#include "hash.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

#include "ascii.h"
#include "sipwire.h"

static const struct algorithm {
  const char *name;
  const EVP_MD *(*md)(void);
} algorithms[] = {
    {"md5", EVP_md5},
    {"sha-256", EVP_sha256},
    {"sha-512-256", EVP_sha512_256},
};

static const struct algorithm *find(const char *name) {
  struct sw_slice word = {name, strlen(name)};
  for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++)
    if (sw_is_word(word, algorithms[i].name))
      return &algorithms[i];
  return NULL;
}

void sw_hex(const uint8_t *bytes, size_t length, char *hex) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < length; i++) {
    *hex++ = digits[bytes[i] >> 4];
    *hex++ = digits[bytes[i] & 15];
  }
  *hex = '\0';
}

bool sw_hash(const char *name, char *hex, size_t count,
             const struct sw_slice *parts) {
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  const struct algorithm *algorithm = find(name);
  EVP_MD_CTX *context = algorithm ? EVP_MD_CTX_new() : NULL;
  bool good = context && EVP_DigestInit_ex(context, algorithm->md(), NULL);
  for (size_t i = 0; good && i < count; i++)
    good = (!i || EVP_DigestUpdate(context, ":", 1)) &&
           EVP_DigestUpdate(context, parts[i].data, parts[i].length);
  good = good && EVP_DigestFinal_ex(context, digest, &size);
  EVP_MD_CTX_free(context);
  if (good)
    sw_hex(digest, size, hex);
  OPENSSL_cleanse(digest, sizeof digest);
  return good;
}

int sipwire_hash(const char *name, const void *data, size_t length, char *hex) {
  struct sw_slice part = {data, length};
  if (!find(name))
    return SIPWIRE_EINVALID;
  return sw_hash(name, hex, 1, &part) ? (int)strlen(hex) : SIPWIRE_ESYSTEM;
}

int sipwire_base64(const void *data, size_t length, char *text) {
  if (length > INT_MAX / 4 * 3 - 3)
    return SIPWIRE_ETOO_BIG;
  return EVP_EncodeBlock((unsigned char *)text, data, (int)length);
}
