/* model/hash.c: fingerprints of tensors and of models. */
#include <xxhash.h>

#include "model/bytes.h"
#include "model/source.h"

model_hash_t model_tensor_hash(const model_source_t *source, const model_tensor_t *tensor)
{
    base_assert(!model_source_generated(source) && tensor->type != MODEL_NONE);
    const XXH128_hash_t h = XXH3_128bits(model_source_data(source, tensor->file) + tensor->offset,
                                         (size_t)tensor->bytes);
    return (model_hash_t){h.high64, h.low64};
}

model_hash_t model_hash_join(const model_hash_t *hashes, size_t n)
{
    XXH3_state_t *state = XXH3_createState();
    base_assert(state != NULL);
    (void)XXH3_128bits_reset(state);
    for (size_t i = 0; i < n; i++) {
        XXH128_canonical_t bytes;
        XXH128_canonicalFromHash(&bytes, (XXH128_hash_t){hashes[i].low, hashes[i].high});
        (void)XXH3_128bits_update(state, &bytes, sizeof(bytes));
    }
    const XXH128_hash_t h = XXH3_128bits_digest(state);
    (void)XXH3_freeState(state);
    return (model_hash_t){h.high64, h.low64};
}

model_hash_t model_bytes_hash(const void *bytes, size_t n)
{
    const XXH128_hash_t h = XXH3_128bits(bytes, n);
    return (model_hash_t){h.high64, h.low64};
}

uint64_t model_bytes_hash64(const void *bytes, size_t n)
{
    return XXH3_64bits(bytes, n);
}

/* ---- which model */

enum { HEAD_BYTES = 64 << 10, SAMPLES = 64, SAMPLE_BYTES = 4096 };

static void add_u64(XXH3_state_t *state, uint64_t v)
{
    uint8_t bytes[8];
    model_store_u64(bytes, v);
    (void)XXH3_128bits_update(state, bytes, sizeof(bytes));
}

static void add_tensor(XXH3_state_t *state, const model_tensor_t *t)
{
    const uint64_t numbers[] = {(uint64_t)t->type,
                                t->file,
                                t->offset,
                                t->bytes,
                                t->n_rows,
                                t->n_cols,
                                model_bits_of_float(t->scale),
                                model_bits_of_float(t->out_scale),
                                t->online,
                                t->unit};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) add_u64(state, numbers[i]);
}

static void add_file(XXH3_state_t *state, const uint8_t *data, uint64_t bytes, uint64_t head_bytes)
{
    const bool     all  = bytes <= HEAD_BYTES + SAMPLES * SAMPLE_BYTES;
    const uint64_t head = all || bytes < head_bytes ? bytes : head_bytes;
    (void)XXH3_128bits_update(state, data, (size_t)head);
    for (uint64_t i = 1; i <= SAMPLES && !all; i++) {
        const uint64_t at = (bytes - SAMPLE_BYTES) / SAMPLES * i;
        (void)XXH3_128bits_update(state, data + at, SAMPLE_BYTES);
    }
}

model_hash_t model_file_key(const model_source_t *source, uint32_t file, uint64_t head_bytes)
{
    XXH3_state_t *state = XXH3_createState();
    base_assert(state != NULL && !model_source_generated(source));
    (void)XXH3_128bits_reset(state);
    add_u64(state, model_source_bytes(source, file));
    add_file(state, model_source_data(source, file), model_source_bytes(source, file), head_bytes);
    const XXH128_hash_t h = XXH3_128bits_digest(state);
    (void)XXH3_freeState(state);
    model_source_forget(source, file);
    return (model_hash_t){h.high64, h.low64};
}

model_hash_t model_fingerprint(const model_source_t *source, const model_desc_t *desc)
{
    XXH3_state_t *state = XXH3_createState();
    base_assert(state != NULL && !model_source_generated(source));
    (void)XXH3_128bits_reset(state);
    for (uint32_t i = 0; i < model_source_count(source); i++) {
        add_u64(state, model_source_bytes(source, i));
        add_u64(state, model_source_time(source, i));
        add_file(state, model_source_data(source, i), model_source_bytes(source, i), HEAD_BYTES);
    }
    add_u64(state, desc->width);
    add_u64(state, desc->head_dim);
    add_u64(state, desc->n_layers);
    add_tensor(state, &desc->embed);
    add_tensor(state, &desc->head);
    add_tensor(state, &desc->out_norm);
    for (uint32_t l = 0; l < desc->n_layers; l++) {
        add_u64(state, (uint64_t)desc->layers[l].n_heads << 32 | desc->layers[l].n_kv_heads);
        add_u64(state, desc->layers[l].ffn);
        for (int i = 0; i < MODEL_LAYER_TENSOR_COUNT; i++) add_tensor(state, &desc->layers[l].t[i]);
    }
    const XXH128_hash_t h = XXH3_128bits_digest(state);
    (void)XXH3_freeState(state);
    return (model_hash_t){h.high64, h.low64};
}
