/* launch/npy.h
 * A NumPy file, version 1.0, float32 [rows, columns], written in pieces. It gets its name only when
 * it is whole; until then a temporary one beside it. Local, one thread. */
#ifndef TRIREME_LAUNCH_NPY_H
#define TRIREME_LAUNCH_NPY_H

#include "base/status.h"

typedef struct npy npy_t;

/* Open. A path that is there and no regular file (a pipe, /dev/null) is written as it is.
 * Status: OK | IO | MEMORY. */
base_status_t npy_create(const char *path, npy_t **out, base_err_t *err);
/* The header; then rows * columns floats by npy_append; then npy_finish. Status: OK | IO. */
base_status_t npy_begin(npy_t *npy, uint64_t rows, uint64_t columns, base_err_t *err);
base_status_t npy_append(npy_t *npy, const float *values, size_t n, base_err_t *err);
base_status_t npy_finish(npy_t *npy, base_err_t *err);
/* Accepts NULL; removes what was not finished. */
void npy_destroy(npy_t **npy);

#endif
