/* SPDX-License-Identifier: Apache-2.0 */

#include "base/sha256.h"

#include <openssl/evp.h>

#define READ_BYTES (128 * 1024)

struct Sha256 {
        EVP_MD_CTX *ctx;
};

Sha256 *sha256_free(Sha256 *h) {
        if (h)
                EVP_MD_CTX_free(h->ctx);
        return mfree(h);
}

int sha256_new(Sha256 **ret) {
        _cleanup_(sha256_freep) Sha256 *h = calloc(1, sizeof(Sha256));

        assert(ret);

        if (!h)
                return -ENOMEM;
        h->ctx = EVP_MD_CTX_new();
        if (!h->ctx)
                return -ENOMEM;
        if (EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1)
                return -EOPNOTSUPP;
        *ret = TAKE_PTR(h);
        return 0;
}

int sha256_add(Sha256 *h, const void *data, size_t size_bytes) {
        return EVP_DigestUpdate(h->ctx, data, size_bytes) == 1 ? 0 : -EIO;
}

int sha256_finish(Sha256 *h, char ret_hex[static SHA256_HEX_SIZE]) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned n;

        if (EVP_DigestFinal_ex(h->ctx, digest, &n) != 1)
                return -EIO;
        assert(n * 2 + 1 == SHA256_HEX_SIZE);
        for (unsigned i = 0; i < n; i++)
                (void) snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
        return 0;
}

int sha256_fd(int fd, char ret_hex[static SHA256_HEX_SIZE]) {
        _cleanup_(sha256_freep) Sha256 *h = NULL;
        _cleanup_free_ char *buffer = malloc(READ_BYTES);
        int r;

        if (!buffer)
                return -ENOMEM;
        r = sha256_new(&h);
        if (r < 0)
                return r;

        for (;;) {
                ssize_t n = TEMP_FAILURE_RETRY(read(fd, buffer, READ_BYTES));

                if (n < 0)
                        return -errno;
                if (n == 0)
                        return sha256_finish(h, ret_hex);
                r = sha256_add(h, buffer, (size_t) n);
                if (r < 0)
                        return r;
        }
}

int sha256_buffer(const void *data, size_t size_bytes, char ret_hex[static SHA256_HEX_SIZE]) {
        _cleanup_(sha256_freep) Sha256 *h = NULL;
        int r;

        r = sha256_new(&h);
        if (r >= 0)
                r = sha256_add(h, data, size_bytes);
        return r < 0 ? r : sha256_finish(h, ret_hex);
}
