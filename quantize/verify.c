/* quantize/verify.c: hashes of tensors, soundness of rows. */
#include "quantize/verify.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "model/bytes.h"

bool quant_row_sound(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                     quant_scratch_t *scratch)
{
    if (model_type_info(tensor->type)->ternary) {
        float min = INFINITY;
        float max = 0;
        return isfinite(tensor->scale) &&
               model_row_trits(source, tensor, row, 0, tensor->n_cols, scratch->trits, &min, &max);
    }
    model_row_f32(source, tensor, row, 0, tensor->n_cols, scratch->row);
    for (uint64_t i = 0; i < tensor->n_cols; i++)
        if (!isfinite(scratch->row[i])) return false;
    return true;
}

model_hash_t quant_hash_scales(const model_tensor_t *tensor)
{
    return (model_hash_t){model_bits_of_float(tensor->scale),
                          model_bits_of_float(tensor->out_scale)};
}

base_status_t quant_fail_row(const model_source_t *source, const quant_item_t *item, uint64_t row,
                             base_err_t *err)
{
    const model_type_t type = item->tensor->type;
    const char        *what = "a weight that is not a finite number";
    if (type == MODEL_TQ2_0)
        what = "the code 3, which means nothing, or a scale that is not finite";
    else if (type == MODEL_TQ1_0)
        what = "a scale that is not finite";
    else if (model_type_info(type)->ternary)
        what = "the code 3, which means nothing";
    return base_fail(err, BASE_ERR_INPUT,
                     "%s: tensor %s, row %" PRIu64 " of %" PRIu64 ", type %s: holds %s",
                     model_source_path(source, item->tensor->file), item->name, row,
                     item->tensor->n_rows, model_type_info(type)->name, what);
}

typedef struct {
    const model_source_t *source;
    const quant_item_t   *items;
    quant_verdict_t      *verdicts;
    pthread_mutex_t       lock;
} context_t;

static base_status_t look(void *context, uint32_t item, uint64_t row, uint64_t n_rows,
                          quant_scratch_t *scratch, base_err_t *err)
{
    context_t *c = context;
    (void)err;
    for (uint64_t r = row; r < row + n_rows; r++) {
        if (quant_row_sound(c->source, c->items[item].tensor, r, scratch)) continue;
        quant_verdict_t *v = &c->verdicts[item];
        (void)pthread_mutex_lock(&c->lock);
        if (!v->damaged || r < v->row) v->row = r;
        v->damaged = true;
        (void)pthread_mutex_unlock(&c->lock);
        break;
    }
    return BASE_OK;
}

static base_status_t hash(void *context, uint32_t item, uint64_t row, uint64_t n_rows,
                          quant_scratch_t *scratch, base_err_t *err)
{
    context_t *c = context;
    (void)row;
    (void)n_rows;
    (void)scratch;
    (void)err;
    c->verdicts[item].hash = model_tensor_hash(c->source, c->items[item].tensor);
    return BASE_OK;
}

base_status_t quant_verify(const model_source_t *source, const quant_item_t *items, uint32_t n,
                           const atomic_int *stop, quant_verdict_t *verdicts, base_err_t *err)
{
    context_t c = {.source = source, .items = items, .verdicts = verdicts};
    memset(verdicts, 0, n * sizeof(*verdicts));
    (void)pthread_mutex_init(&c.lock, NULL);
    base_status_t st = quant_rows_each(items, n, true, hash, &c, stop, "hashing", err);
    if (st == BASE_OK) st = quant_rows_each(items, n, false, look, &c, stop, "checking", err);
    (void)pthread_mutex_destroy(&c.lock);
    return st;
}
