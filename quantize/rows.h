/* quantize/rows.h
 * All tensors of an opened model as a list, and work on all their rows by all CPUs. */
#ifndef TRIREME_QUANT_ROWS_H
#define TRIREME_QUANT_ROWS_H

#include <stdatomic.h>

#include "model/model.h"

typedef enum { QUANT_VECTOR, QUANT_TABLE, QUANT_LINEAR } quant_kind_t; /* TABLE: embedding, head */

typedef struct {
    char                 name[80]; /* as in GGUF: "blk.0.attn_q.weight" */
    model_tensor_t      *tensor;   /* of the desc */
    quant_kind_t         kind;
    model_layer_tensor_t which; /* LINEAR and the vectors of layers */
} quant_item_t;

/* The tensors that are there, in the order of llama.cpp's files; a tied head is not listed twice.
 * free() *out. Status: OK | MEMORY. Local. */
base_status_t quant_items(model_desc_t *desc, quant_item_t **out, uint32_t *n, base_err_t *err);

/* What a thread has for itself: a row as floats and as trits, and room for the rows of a job in any
 * stored type. */
typedef struct {
    float   *row;
    int8_t  *trits;
    uint8_t *bytes;
} quant_scratch_t;

enum {
    QUANT_JOB_ROWS = 64
}; /* at most, a multiple of 4 but for the last rows of a tensor, and at
                               * most 4 MiB as floats unless it is 4 rows */

/* Rows [row, row + n_rows) of an item. Any thread, several at a time. */
typedef base_status_t quant_rows_t(void *context, uint32_t item, uint64_t row, uint64_t n_rows,
                                   quant_scratch_t *scratch, base_err_t *err);

/* Call `work` for all rows of all items; with `whole` once an item, whose rows are then its own
 * affair. Shows progress in bytes of the model. The first failure ends it, and so does *stop
 * becoming nonzero (NULL: never). Status: OK | MEMORY | INTERRUPTED | what `work` says. Local. */
base_status_t quant_rows_each(const quant_item_t *items, uint32_t n, bool whole, quant_rows_t *work,
                              void *context, const atomic_int *stop, const char *label,
                              base_err_t *err);

#endif
