/* model/hash.c: fingerprints of tensors. */
#include <xxhash.h>

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
