/* model/blocks.h
 * Inside of the room: decoding single blocks. quantize/ tests its encoders against these. */
#ifndef TRIREME_MODEL_BLOCKS_H
#define TRIREME_MODEL_BLOCKS_H

#include "model/model.h"

/* The codes of one block as trits -1, 0, +1; the scale is left alone.
 * TQ2_0: false if a code is 3 (decoded as +2). TQ1_0 has no invalid codes. */
bool model_block_tq2_trits(const uint8_t *block, int8_t out[256]);
void model_block_tq1_trits(const uint8_t *block, int8_t out[256]);

/* I2_S of elems = 128 or 64 weights; false if a code is 3. */
bool model_block_i2s_trits(const uint8_t *block, uint32_t elems, int8_t *out);

/* One block of a dense type (Q8_0, Q6_K, Q4_0 to Q5_K) as floats: block_elems of them. Products
 * and sums are rounded one by one, in the order of ggml's dequantize_row_*. */
void model_block_widen(model_type_t type, const uint8_t *block, float *out);

/* Types whose rows share bytes: how far right the codes of a row lie in them, and the first of its
 * bytes (n_cols of them) in mapped files. */
unsigned       model_shared_shift(const model_tensor_t *tensor, uint64_t row);
const uint8_t *model_shared_row(const model_source_t *source, const model_tensor_t *tensor,
                                uint64_t row, unsigned *shift);

/* First byte of a tensor of mapped files. */
const uint8_t *model_tensor_data(const model_source_t *source, const model_tensor_t *tensor);

/* Blocks [block, block + n) of a row of a checked tensor: in the mapped file, or generated into
 * scratch, which has room for them. */
const uint8_t *model_row_blocks(const model_source_t *source, const model_tensor_t *tensor,
                                uint64_t row, uint64_t block, uint64_t n, uint8_t *scratch);

#endif
