/* worker/kernels/kernel.h
 * The compute kernels: one table of function pointers, filled weak to strong for the CPU at hand.
 *
 * Kernels know no threads, no model and no ranks: they are handed ranges. They allocate nothing,
 * keep no state, and may be called from any thread. Every variant gives the bytes that ref/ gives
 * (docs/NUMERICS.md); tests walk kernel_list.inc, compare and time each row.
 *
 * Packed ternary weights
 * ----------------------
 * Rows are cut into tiles of KERN_TILE_ROWS = 16. A tile is one contiguous run of bytes, tiles
 * follow each other; missing rows of the last tile are zero weights. K is padded with zero weights
 * to the granule of the format (KERN_T2_K = 16, KERN_T3_K = 20); the activations are padded with
 * zeros likewise, up to KERN_Q_PAD (80) for both.
 *
 *  t2, 2 bits a weight: for each granule g of 16 columns 64 bytes. Byte 4*r + j (row r of the tile,
 *      j = 0..3) holds in bits 2s..2s+1 (s = 0..3) the code (trit + 1) of column 16g + 4s + j.
 *  t3, 1.6 bits a weight: for each granule g of 20 columns 64 bytes. Byte 4*r + j holds the five
 *      digits (trit + 1) of the columns 20g + 4n + j, n = 0..4, as
 *      85 d0 + 29 d1 + 9 d2 + 3 d3 + d4, at most 254. A remainder is two subtractions and two
 *      minima of bytes, as what falls below zero wraps to a larger byte; the units leave room so
 *      that 85, 29 and 9 are 1 modulo 4, which makes a digit of a difference of remainders.
 *
 * So a vector register holds, after unpacking, 4 consecutive columns for each of 16 (or 8) rows:
 * the shape that VPDPBUSD (u8 x s8, sums of 4) and VPMADDUBSW want, against 4 broadcast
 * activations. */
#ifndef TRIREME_KERN_KERNEL_H
#define TRIREME_KERN_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KERN_TILE_ROWS = 16,
    KERN_T2_K      = 16,
    KERN_T3_K      = 20,
    KERN_T3_UNIT_0 = 85, /* what a digit of t3 counts: the first three; the others 3 and 1 */
    KERN_T3_UNIT_1 = 29,
    KERN_T3_UNIT_2 = 9,
    KERN_BLOCK_K   = 256, /* columns of one scale of block-scaled ternary rows */
    KERN_Q_PAD     = 80,  /* activation rows are zero-padded to a multiple of this */
    KERN_PAGE      = 64,  /* positions of one KV page */
    KERN_LANES     = 16,  /* float rows are zero-padded to a multiple of this */
    KERN_MAX_GROUP = 64,  /* query heads that share one KV head, at most, in one attn_page call */

    KERN_SCREEN_K           = 64,  /* columns of a block of coarse head rows (screen.h) */
    KERN_SCREEN_BLOCK_BYTES = 768, /* codes of such a block, 16 rows */
};

/* Stored types of dense rows, in file layout. */
typedef enum {
    KERN_F32,
    KERN_F16,
    KERN_BF16,
    KERN_Q8_0,
    KERN_Q6_K,
    KERN_Q4_0,
    KERN_Q4_1,
    KERN_Q5_0,
    KERN_Q5_1,
    KERN_Q2_K,
    KERN_Q3_K,
    KERN_Q4_K,
    KERN_Q5_K,
    KERN_TQ1_0, /* an embedding or head in a ternary type: a dense matrix like others */
    KERN_TQ2_0,
    KERN_DENSE_COUNT
} kern_dense_t;

/* Ternary product, n_tiles tiles of 16 rows against n_tok tokens:
 *   acc[t * acc_stride + 16 * tile + r] = sum_k trit[16 * tile + r][k] * q[t * q_stride + k]
 * acc        int32, n_tok rows of acc_stride elements (acc_stride >= 16 * n_tiles). 64-byte aligned
 *            start and stride not required. Overwritten.
 * w          packed tiles, 64-byte aligned.
 * k_granules granules of the format per row (columns / KERN_T2_K or / KERN_T3_K).
 * q          int8, n_tok rows of q_stride bytes, zero from the true K to q_stride; q_stride a
 *            multiple of KERN_Q_PAD and >= the padded K. All int8 values allowed, -128 too.
 * qsum       n_tok values: sum of each row of q.
 * Exact for padded K up to 2^19. n_tok >= 1, n_tiles >= 0. */
typedef void kern_tern_fn(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                          size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                          size_t n_tok);

/* Block-scaled ternary product: the tiles of t2 as they are, and a float scale for each row and
 * block of KERN_BLOCK_K columns, n_blocks = kern_blocks(k_granules), the last may be shorter.
 *   y[t * y_stride + 16 * tile + r] = Y, from Y = +0; for b rising: Y = fma((float)acc_b, s_b, Y)
 * acc_b       int32, the ternary product over the columns of block b. No columns: y = +0.
 * s_b         scales[(tile * n_blocks + b) * 16 + r]; rows past the tensor's: any, 0 for a y of +0.
 *             Any alignment of floats.
 * qsum_blocks n_tok rows of n_blocks values: the sums of q over each block (kern_block_sums).
 * The others as for kern_tern_fn; the caller multiplies y by the factor that undoes the
 * quantisation. NUMERICS 4. */
typedef void kern_tern_block_fn(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                                size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                                const int32_t *qsum_blocks, size_t n_tok);

/* Dense rows: y[t * y_stride + i] = dot16(row i, x + t * x_stride, k).
 * w: rows of row_bytes in file layout (any alignment); k: a multiple of 32 for Q8_0 and Q4_0 ..
 * Q5_1, of 256 for Q2_K .. Q6_K and TQ, any for the others. x: float rows, x_stride >= k (elements
 * beyond k are not read). NUMERICS 5. */
typedef void kern_dense_fn(float *y, size_t y_stride, const void *w, size_t row_bytes,
                           size_t n_rows, size_t k, const float *x, size_t x_stride, size_t n_tok);

/* A vector for coarse rows, by blocks of KERN_SCREEN_K columns (kern_screen_quant fills it):
 * scale_b * (256 * hi_j + lo_j) is within rounding of x_j. */
typedef struct {
    int8_t  *hi, *lo; /* [64 * n_blocks], zero past the vector's end */
    int32_t *bias;    /* [n_blocks] 32 times the sum of 256 * hi + lo */
    float   *scale;   /* [n_blocks] */
    float   *norm;    /* [n_blocks] at least the Euclidean norm of the block of x */
    float    total;   /* at least the norm of x */
    float    slack;   /* bound on all errors but that of the codes, per unit of A */
} kern_screen_x_t;

/* Coarse products and bounds of n_tiles tiles of 16 rows (screen.h), for each row:
 *   dot_b = sum over block b of (code - 32) * (256 * hi + lo)           int32, exact
 *   S = +0, A = +0; for b rising:  S = fma((float)dot_b, (float)m_b * scale_b, S)
 *                                  A = fma((float)m_b, norm_b, A)
 *   e    = min(p * A, fma(n, total, s * (slack * A)))         min(a,b) = a < b ? a : b
 *   mid  = s * S
 *   high = (mid + e) + 2^-126
 * The row's dot16 with x is not above high (NUMERICS 9).
 * mid, high: 16 * n_tiles floats, any alignment. w: 64-byte aligned. n_tiles >= 0. */
typedef void kern_screen_fn(float *mid, float *high, const uint8_t *w, size_t n_tiles,
                            size_t n_blocks, const kern_screen_x_t *x);

/* Block sums of squares: out[b] = dot16(x_b, x_b, block), ceil(n / block) of them. NUMERICS 2. */
typedef void kern_sumsq_fn(float *out, const float *x, size_t n, size_t block);

/* sum16 of n values. NUMERICS 1. */
typedef float kern_sum_fn(const float *x, size_t n);

/* max_i |x_i * w_i| (w NULL: max |x_i|), 0 if n == 0, NaN if any product is NaN. NUMERICS 3. */
typedef float kern_absmax_fn(const float *x, const float *w, size_t n);

/* q_i = clamp(rint((x_i * w_i) / d), -128, 127) for i < n (w NULL: x_i / d), then zeros
 * up to n_pad; a NaN gives 0. Returns the sum of q. NUMERICS 3. */
typedef int32_t kern_quant_fn(int8_t *q, const float *x, const float *w, float d, size_t n,
                              size_t n_pad);

/* y_i = (x_i * w_i) * r. y may be x. */
typedef void kern_norm_fn(float *y, const float *x, const float *w, float r, size_t n);

/* y_i = (float)acc_i * s        /   y_i = fma((float)acc_i, s, y_i). */
typedef void kern_scale_fn(float *y, const int32_t *acc, float s, size_t n);

/* y_i = y_i + x_i: biases, and the residual additions of dense outputs. x may be y. */
typedef void kern_add_fn(float *y, const float *x, size_t n);

/* y_i = y_i * s. */
typedef void kern_mul_fn(float *y, float s, size_t n);

/* f_i = act(gate_i) * up_i (NUMERICS 6); f may be gate or up. */
typedef void kern_glu_fn(float *f, const float *gate, const float *up, size_t n);

/* Rotate one head in place; cos/sin: rot/2 values each. rot even, <= head dim. */
typedef void kern_rope_fn(float *x, const float *cos, const float *sin, size_t rot);

/* One KV page for n_rows query rows that share a KV head: heads of its group, of one token or
 * several (NUMERICS 7). A page is KERN_PAGE rows of hd_pad floats or halves (hd_pad % 16 == 0,
 * padded with zeros), all of them readable; row r sees its first n_pos[r] (1..KERN_PAGE) positions
 * only.
 *
 * Scores: e[r * KERN_PAGE + j] = exp_(s_j - m[r]) for j < n_pos[r]; the rest of a row is undefined.
 * q    n_rows rows of hd_pad floats, padded with zeros.
 * m, z n_rows values out: maximum and sum. */
typedef void kern_attn_scores_fn(float *e, float *m, float *z, const float *q, size_t n_rows,
                                 const void *k, const uint32_t *n_pos, size_t hd_pad, float scale);

/* Values: o[r * hd_pad + c] = sum over j < n_pos[r] of e[r * KERN_PAGE + j] * v[j * hd_pad + c]. */
typedef void kern_attn_values_fn(float *o, const float *e, size_t n_rows, const void *v,
                                 const uint32_t *n_pos, size_t hd_pad);

/* Merge a page's (mp, zp, op) of n_rows rows into (m, z, o), hd_pad values of o each. NUMERICS
 * 7. */
typedef void kern_attn_merge_fn(float *m, float *z, float *o, const float *mp, const float *zp,
                                const float *op, size_t n_rows, size_t hd_pad);

/* Floats to halves: nearest, ties to even; beyond 65504 + 16 infinity. n % 16 == 0. */
typedef void kern_narrow_fn(uint16_t *y, const float *x, size_t n);

/* out_i = o_i / z. */
typedef void kern_div_fn(float *out, const float *o, float z, size_t n);

/* y_i = exp_(x_i): for tests of the function itself and for softmax elsewhere. */
typedef void kern_exp_fn(float *y, const float *x, size_t n);

/* All slots: name in the table, function type. Order is free; nothing depends on it. */
#define KERN_SLOTS(X)                                                                              \
    X(gemv_t2_i8, kern_tern_fn) /* n_tok == 1 */                                                   \
    X(gemm_t2_i8, kern_tern_fn)                                                                    \
    X(gemv_t3_i8, kern_tern_fn)                                                                    \
    X(gemm_t3_i8, kern_tern_fn)                                                                    \
    X(gemv_t2b_i8, kern_tern_block_fn) /* n_tok == 1 */                                            \
    X(gemm_t2b_i8, kern_tern_block_fn)                                                             \
    X(dense_f32, kern_dense_fn)                                                                    \
    X(dense_f16, kern_dense_fn)                                                                    \
    X(dense_bf16, kern_dense_fn)                                                                   \
    X(dense_q8_0, kern_dense_fn)                                                                   \
    X(dense_q6_k, kern_dense_fn)                                                                   \
    X(dense_q4_0, kern_dense_fn)                                                                   \
    X(dense_q4_1, kern_dense_fn)                                                                   \
    X(dense_q5_0, kern_dense_fn)                                                                   \
    X(dense_q5_1, kern_dense_fn)                                                                   \
    X(dense_q2_k, kern_dense_fn)                                                                   \
    X(dense_q3_k, kern_dense_fn)                                                                   \
    X(dense_q4_k, kern_dense_fn)                                                                   \
    X(dense_q5_k, kern_dense_fn)                                                                   \
    X(dense_tq1_0, kern_dense_fn)                                                                  \
    X(dense_tq2_0, kern_dense_fn)                                                                  \
    X(screen_6, kern_screen_fn)                                                                    \
    X(sumsq_f32, kern_sumsq_fn)                                                                    \
    X(sum_f32, kern_sum_fn)                                                                        \
    X(absmax_f32, kern_absmax_fn)                                                                  \
    X(quant_f32_i8, kern_quant_fn)                                                                 \
    X(norm_f32, kern_norm_fn)                                                                      \
    X(scale_i32_f32, kern_scale_fn)                                                                \
    X(scale_add_i32_f32, kern_scale_fn)                                                            \
    X(add_f32, kern_add_fn)                                                                        \
    X(scale_f32, kern_mul_fn)                                                                      \
    X(silu_mul_f32, kern_glu_fn)                                                                   \
    X(relu2_mul_f32, kern_glu_fn)                                                                  \
    X(rope_half_f32, kern_rope_fn)                                                                 \
    X(rope_pair_f32, kern_rope_fn)                                                                 \
    X(attn_scores_f32, kern_attn_scores_fn)                                                        \
    X(attn_scores_f16, kern_attn_scores_fn)                                                        \
    X(attn_values_f32, kern_attn_values_fn)                                                        \
    X(attn_values_f16, kern_attn_values_fn)                                                        \
    X(narrow_f16, kern_narrow_fn)                                                                  \
    X(attn_merge_f32, kern_attn_merge_fn)                                                          \
    X(div_f32, kern_div_fn)                                                                        \
    X(exp_f32, kern_exp_fn)

typedef struct {
#define X(slot, type) type *slot;
    KERN_SLOTS(X)
#undef X
} kern_table_t;

/* CPU features, as bundles that compilers and operating systems know together. */
enum {
    KERN_CPU_AVX2       = 1u << 0,  /* AVX2, FMA, F16C, and the OS keeps ymm state */
    KERN_CPU_AVX512VNNI = 1u << 1,  /* AVX-512 F, BW, VL, DQ, VNNI, and the OS keeps zmm state */
    KERN_CPU_AVX512VBMI = 1u << 2,  /* all that, and VBMI */
    KERN_CPU_ZEN4       = 1u << 3,  /* all that on AMD family 25: one VPDPBUSD of 64 bytes a cycle,
                                     * but a VPERMW and a VPADDW together */
    KERN_CPU_NEON       = 1u << 8,  /* every 64-bit ARM */
    KERN_CPU_DOTPROD    = 1u << 9,  /* Armv8.2 SDOT */
    KERN_CPU_I8MM       = 1u << 10, /* Armv8.6 SMMLA, and SDOT */
};
#define KERN_CPU_ALL UINT32_MAX /* no int holds it, so no enumerator may */

/* What this CPU and its operating system offer (CPUID and XGETBV; on ARM the auxiliary vector).
 * Local, any thread. */
uint32_t kern_cpu_features(void);

/* Fill the table with the strongest variants whose bits are all in `features`; 0 gives ref/ alone.
 * The caller ANDs kern_cpu_features() with a mask of its own (environment TRIREME_CPU, tests). */
void kern_table_init(kern_table_t *table, uint32_t features);

/* "ref", "avx2", "avx512vnni", "avx512vbmi", "zen4", "neon", "dotprod", "i8mm" to a feature mask;
 * false for another text. And the name of the strongest bundle in `features`. */
bool        kern_cpu_mask_parse(const char *name, uint32_t *mask);
const char *kern_cpu_name(uint32_t features);

/* Packing. A ternary format is one row of kern_format(): everything else asks it. */
typedef enum { KERN_T2, KERN_T3, KERN_FORMAT_COUNT } kern_format_id_t;

typedef struct {
    const char *name;
    double      bits_per_weight; /* as stored, without padding */
    size_t      k_granule;       /* columns per 64 bytes of a tile */
    /* Pack one tile: trits[r * stride + k] in {-1,0,1}, n_rows <= 16 rows, k columns; the rest is
     * padded with zero weights. out: kern_tile_bytes(). Overwritten. */
    void (*pack_tile)(uint8_t *out, const int8_t *trits, size_t stride, size_t n_rows, size_t k);
    /* The inverse, for tests and tools: 16 rows of the padded K. */
    void (*unpack_tile)(int8_t *trits, size_t stride, const uint8_t *tile, size_t k);
    /* The product kernels of this format in a table. */
    kern_tern_fn *(*gemv)(const kern_table_t *);
    kern_tern_fn *(*gemm)(const kern_table_t *);
} kern_format_t;

const kern_format_t *kern_format(kern_format_id_t id);

static inline size_t kern_granules(const kern_format_t *f, size_t k)
{
    return (k + f->k_granule - 1) / f->k_granule;
}

/* Blocks of KERN_BLOCK_K columns in rows of so many t2 granules. */
static inline size_t kern_blocks(size_t k_granules)
{
    return (k_granules * KERN_T2_K + KERN_BLOCK_K - 1) / KERN_BLOCK_K;
}

/* out[b] = the sum of q over block b, b < ceil(n_pad / KERN_BLOCK_K); n_pad = k_granules *
 * KERN_T2_K, for as many blocks as the product has. */
void kern_block_sums(int32_t *out, const int8_t *q, size_t n_pad);

static inline size_t kern_tile_bytes(const kern_format_t *f, size_t k)
{
    return kern_granules(f, k) * 64;
}

static inline size_t kern_tiles(size_t rows)
{
    return (rows + KERN_TILE_ROWS - 1) / KERN_TILE_ROWS;
}

static inline size_t kern_q_stride(size_t k)
{
    return (k + KERN_Q_PAD - 1) / KERN_Q_PAD * KERN_Q_PAD;
}

/* The dense kernel of a stored type. */
kern_dense_fn *kern_dense(const kern_table_t *table, kern_dense_t type);

#endif
