/* quantize/blocks.h
 * Encoders of the stored types: the other direction of model_row_trits() and model_row_f32(). */
#ifndef TRIREME_QUANT_BLOCKS_H
#define TRIREME_QUANT_BLOCKS_H

#include "model/model.h"

/* 256 trits and a scale as one block of 66 (TQ2_0) or 54 (TQ1_0) bytes. The scale is rounded to
 * half
 * precision, nearest even. Trits must be -1, 0 or +1. */
void quant_block_tq2(const int8_t trits[256], float scale, uint8_t *out);
void quant_block_tq1(const int8_t trits[256], float scale, uint8_t *out);

/* elems = 128 or 64 trits as one block of I2_S; the scale is the tensor's. */
void quant_block_i2s(const int8_t *trits, uint32_t elems, uint8_t *out);

/* Row `row` of I2_S_R4, n trits: into the n bytes that it shares with 3 others, of which the first
 * (row % 4 == 0) must come first. */
void quant_row_i2s_r4(const int8_t *trits, uint64_t row, uint64_t n, uint8_t *out);

/* Floats as one block: Q8_0 (32 of them, 34 bytes), Q6_K (256 of them, 210 bytes: each 16 get the
 * scale that
 * their largest magnitude asks for). Values must be finite. */
void quant_block_q8_0(const float x[32], uint8_t *out);
void quant_block_q6_k(const float x[256], uint8_t *out);

/* n floats (a multiple of the type's block) in a dense stored type: F32, F16, BF16, Q8_0 or Q6_K.
 * */
void quant_row_dense(model_type_t type, const float *x, uint64_t n, uint8_t *out);

#endif
