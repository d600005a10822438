/* quantize/synth.h
 * Random ternary models of known shapes: as GGUF files that other engines load too, or in
 * memory.
 *
 * All have the skeleton of llama.cpp's "bitnet" (SiLU, sub-norms, tied head), whatever model the
 * shape comes from: they serve for timing and for tests, where the shape counts. Weights are a
 * function of (seed, tensor, row, column) alone: a third of the trits each, one scale per
 * tensor, so that a vector of unit variance stays one; a normal embedding; norms near 1. TQ1_0
 * and TQ2_0 of a seed hold the same model. */
#ifndef TRIREME_QUANT_SYNTH_H
#define TRIREME_QUANT_SYNTH_H

#include <stdatomic.h>

#include "model/model.h"

enum { QUANT_LAYER_TENSORS = MODEL_ATTN_Q_BIAS }; /* of a layer: those that all models have */

typedef struct {
    const char *name;
    uint32_t    width, ffn, n_layers, n_heads, n_kv_heads, head_dim, n_vocab, context;
    double      rope_base;
    float       norm_eps;
} quant_shape_t;

/* Shape number i, NULL past the last; shape by name, NULL if there is none. tiny-* are for
 * tests.
 * */
const quant_shape_t *quant_shape_at(size_t i);
const quant_shape_t *quant_shape_find(const char *name);

/* A stored type by its name, any case ("tq2_0"); MODEL_NONE if there is none. */
model_type_t quant_type_find(const char *name);

/* The model's shape without a file: linear tensors of `type` (TQ1_0, TQ2_0; F16, BF16, F32 hold
 * the same weights widened), the embedding of `embed` (any dense type). Offsets are the numbers
 * of the tensors, from 0: what quant_synth_source() goes by. Free with model_desc_free().
 * Status: OK | USAGE (the type cannot hold the shape's rows) | MEMORY. Local. */
base_status_t quant_synth_desc(const quant_shape_t *shape, model_type_t type, model_type_t embed,
                               model_desc_t *out, base_err_t *err);

/* A source that makes the rows of such a desc on demand, equal to those of the file. Status: OK
 * | MEMORY. */
base_status_t quant_synth_source(const char *label, uint64_t seed, model_source_t **out,
                                 base_err_t *err);

/* Both, as an opened model without a vocabulary; model_close() it. */
base_status_t quant_synth_model(const quant_shape_t *shape, model_type_t type, model_type_t embed,
                                uint64_t seed, model_t **out, base_err_t *err);

/* Blocks [block, block + n_blocks) of a row of a tensor of such a desc, in stored form. Any
 * thread. */
void quant_synth_row(uint64_t seed, const model_tensor_t *tensor, uint64_t row, uint64_t block,
                     uint64_t n_blocks, uint8_t *out);

/* Write the GGUF file, with a small SentencePiece vocabulary (bytes, then filler words), by
 * n_threads threads (0: one per usable CPU). Shows progress; the file appears when it is whole, and
 * not at all once *stop is not 0 (NULL: never).
 * Status: OK | USAGE | IO (disk full) | LIMIT | MEMORY | SYSTEM | INTERRUPTED. */
base_status_t quant_synth_write(const char *path, const quant_shape_t *shape, model_type_t type,
                                model_type_t embed, uint64_t seed, uint32_t n_threads,
                                const atomic_int *stop, base_err_t *err);

#endif
