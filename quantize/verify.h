/* quantize/verify.h
 * Is a model file what it should be? Fingerprints of all tensors, and a look at every weight. */
#ifndef TRIREME_QUANT_VERIFY_H
#define TRIREME_QUANT_VERIFY_H

#include "quantize/rows.h"

typedef struct {
    model_hash_t hash;
    bool         damaged;
    uint64_t     row; /* the first damaged one */
} quant_verdict_t;

/* Is a row sound: codes that exist, finite scales and weights? `online` weights need no scale. */
bool quant_row_sound(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                     quant_scratch_t *scratch);

/* The scales that lie outside the tensor's bytes (I2_S, packed directories), bit for bit: to be
 * joined with the hashes. */
model_hash_t quant_hash_scales(const model_tensor_t *tensor);

/* A finding in words. Always BASE_ERR_INPUT. */
base_status_t quant_fail_row(const model_source_t *source, const quant_item_t *item, uint64_t row,
                             base_err_t *err);

/* Hash and look at all items; verdicts[n] from the caller. Damage is no failure: it is in the
 * verdicts. Status: OK | MEMORY | INTERRUPTED. Local; all CPUs. */
base_status_t quant_verify(const model_source_t *source, const quant_item_t *items, uint32_t n,
                           const atomic_int *stop, quant_verdict_t *verdicts, base_err_t *err);

#endif
