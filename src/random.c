/* SPDX-License-Identifier: MIT */
/* Gives unpredictable bytes and the hashes around the upgrade's key.  Must not
   use any generator but a cryptographic one. */

#include "random.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <string.h>

#include "http.h"
#include "sipwire.h"

bool sw_random_bytes(struct sw_random *random, void *out, size_t length) {
  if (random->left < length) {
    if (RAND_bytes(random->block, SW_RANDOM_BLOCK) != 1)
      return false;
    random->left = SW_RANDOM_BLOCK;
  }
  uint8_t *from = random->block + SW_RANDOM_BLOCK - random->left;
  memcpy(out, from, length);
  memset(from, 0, length);
  random->left -= length;
  return true;
}

int sipwire_random(void *out, size_t length) {
  if (length > INT_MAX)
    return SIPWIRE_ETOO_BIG;
  return RAND_bytes(out, (int)length) == 1 ? 0 : SIPWIRE_ESYSTEM;
}

bool sw_random_key(struct sw_random *random, char *key) {
  unsigned char nonce[16];
  if (!sw_random_bytes(random, nonce, sizeof nonce))
    return false;
  return EVP_EncodeBlock((unsigned char *)key, nonce, sizeof nonce) ==
         SW_HTTP_KEY_LENGTH;
}

bool sw_random_accept(const char *key, char *accept) {
  unsigned char text[SW_HTTP_KEY_LENGTH + sizeof SW_HTTP_GUID];
  unsigned char digest[SHA_DIGEST_LENGTH];
  unsigned size = 0;
  memcpy(text, key, SW_HTTP_KEY_LENGTH);
  memcpy(text + SW_HTTP_KEY_LENGTH, SW_HTTP_GUID, sizeof SW_HTTP_GUID);
  if (!EVP_Digest(text, sizeof text - 1, digest, &size, EVP_sha1(), NULL))
    return false;
  return EVP_EncodeBlock((unsigned char *)accept, digest, SHA_DIGEST_LENGTH) ==
         SW_HTTP_ACCEPT_LENGTH;
}
