/* launch/npy.c: NumPy files. The format: numpy.lib.format, version 1.0. */
#include "launch/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/limits.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "'<f4' is written as it lies in memory");

enum { NPY_HEAD_BYTES = 128 };

struct npy {
    FILE    *file;
    char     path[LIMIT_PATH_BYTES];
    char     part[LIMIT_PATH_BYTES + 32]; /* the temporary name; empty: none */
    uint64_t left;                        /* floats still to come */
};

static base_status_t npy_failed(const npy_t *npy, base_err_t *err)
{
    return base_fail(err, BASE_ERR_IO, "%s: cannot write: %s", npy->path, strerror(errno));
}

base_status_t npy_create(const char *path, npy_t **out, base_err_t *err)
{
    npy_t        *npy    = NULL;
    void         *memory = NULL;
    struct stat   info;
    base_status_t st = BASE_OK;

    if (strlen(path) >= (size_t)LIMIT_PATH_BYTES)
        return base_fail(err, BASE_ERR_IO, "%.64s...: name longer than %d bytes", path,
                         LIMIT_PATH_BYTES);
    st = base_alloc(&memory, 1, sizeof(*npy), "the .npy file", err);
    if (st != BASE_OK) return st;
    npy = memory;
    (void)snprintf(npy->path, sizeof(npy->path), "%s", path);
    if (stat(path, &info) != 0 || S_ISREG(info.st_mode))
        (void)snprintf(npy->part, sizeof(npy->part), "%s.part-%ld", path, (long)getpid());
    npy->file = fopen(npy->part[0] != '\0' ? npy->part : npy->path, "wb");
    if (npy->file == NULL) {
        st           = npy_failed(npy, err);
        npy->part[0] = '\0'; /* nothing to remove */
        npy_destroy(&npy);
        return st;
    }
    *out = npy;
    return BASE_OK;
}

base_status_t npy_begin(npy_t *npy, uint64_t rows, uint64_t columns, base_err_t *err)
{
    char head[NPY_HEAD_BYTES + 1];
    int  n = 0;

    base_assert(npy->left == 0);
    n = snprintf(head, sizeof(head),
                 "\x93NUMPY\x01%c%c%c{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRIu64
                 ", %" PRIu64 "), }",
                 0, NPY_HEAD_BYTES - 10, 0, rows, columns);
    base_assert(n > 0 && n < NPY_HEAD_BYTES);
    memset(head + n, ' ', (size_t)(NPY_HEAD_BYTES - n));
    head[NPY_HEAD_BYTES - 1] = '\n';
    npy->left                = rows * columns;
    if (fwrite(head, 1, NPY_HEAD_BYTES, npy->file) != NPY_HEAD_BYTES) return npy_failed(npy, err);
    return BASE_OK;
}

base_status_t npy_append(npy_t *npy, const float *values, size_t n, base_err_t *err)
{
    base_assert(n <= npy->left);
    if (fwrite(values, sizeof(*values), n, npy->file) != n) return npy_failed(npy, err);
    npy->left -= n;
    return BASE_OK;
}

base_status_t npy_finish(npy_t *npy, base_err_t *err)
{
    int rc = 0;

    base_assert(npy->left == 0);
    rc        = fclose(npy->file);
    npy->file = NULL;
    if (rc != 0) return npy_failed(npy, err);
    if (npy->part[0] != '\0' && rename(npy->part, npy->path) != 0) return npy_failed(npy, err);
    npy->part[0] = '\0';
    return BASE_OK;
}

void npy_destroy(npy_t **npy)
{
    if (*npy == NULL) return;
    if ((*npy)->file != NULL) (void)fclose((*npy)->file);
    if ((*npy)->part[0] != '\0') (void)unlink((*npy)->part);
    free(*npy);
    *npy = NULL;
}
