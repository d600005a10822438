/* worker/kernels/ref/attn.c
 * Attention over one KV page, the merge of pages, and what the cache stores: NUMERICS 7. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/ref/half.h"
#include "worker/kernels/ref/lanes.h"

/* The page's maximum goes over lanes like a sum, missing positions being -inf, so that variants
 * agree on the sign of a zero and on NaN too. */
static float max16(const float *s, size_t n)
{
    float lane[KERN_LANES];

    for (size_t l = 0; l < KERN_LANES; l++) lane[l] = -INFINITY;
    for (size_t j = 0; j < n; j += KERN_LANES) {
        for (size_t l = 0; l < KERN_LANES; l++) {
            lane[l] = ref_max(lane[l], j + l < n ? s[j + l] : -INFINITY);
        }
    }
    for (size_t h = KERN_LANES / 2; h > 0; h /= 2) {
        for (size_t l = 0; l < h; l++) lane[l] = ref_max(lane[l], lane[l + h]);
    }
    return lane[0];
}

typedef float element_fn(const void *p, size_t i);

static float element_f32(const void *p, size_t i)
{
    return ((const float *)p)[i];
}

static float element_f16(const void *p, size_t i)
{
    return ref_from_f16(((const uint16_t *)p)[i]);
}

static float score(const float *q, const void *k, size_t first, size_t n, element_fn *element)
{
    float lane[KERN_LANES] = {0};

    for (size_t c = 0; c < n; c++) {
        lane[c % KERN_LANES] = fmaf(q[c], element(k, first + c), lane[c % KERN_LANES]);
    }
    return ref_fold(lane);
}

static void scores(float *e, float *m, float *z, const float *q, size_t n_rows, const void *k,
                   const uint32_t *n_pos, size_t hd_pad, float scale, element_fn *element)
{
    for (size_t r = 0; r < n_rows; r++, e += KERN_PAGE) {
        for (size_t j = 0; j < n_pos[r]; j++) {
            e[j] = score(q + r * hd_pad, k, j * hd_pad, hd_pad, element) * scale;
        }
        m[r] = max16(e, n_pos[r]);
        for (size_t j = 0; j < n_pos[r]; j++) e[j] = ref_exp(e[j] - m[r]);
        z[r] = ref_sum16(e, n_pos[r]);
    }
}

static void values(float *o, const float *e, size_t n_rows, const void *v, const uint32_t *n_pos,
                   size_t hd_pad, element_fn *element)
{
    for (size_t r = 0; r < n_rows; r++, e += KERN_PAGE, o += hd_pad) {
        for (size_t c = 0; c < hd_pad; c++) o[c] = 0.0f;
        for (size_t j = 0; j < n_pos[r]; j++) {
            for (size_t c = 0; c < hd_pad; c++) {
                o[c] = fmaf(e[j], element(v, j * hd_pad + c), o[c]);
            }
        }
    }
}

#define ATTN(type)                                                                                 \
    void kern_attn_scores_##type##__ref(float *e, float *m, float *z, const float *q,              \
                                        size_t n_rows, const void *k, const uint32_t *n_pos,       \
                                        size_t hd_pad, float scale)                                \
    {                                                                                              \
        scores(e, m, z, q, n_rows, k, n_pos, hd_pad, scale, element_##type);                       \
    }                                                                                              \
    void kern_attn_values_##type##__ref(float *o, const float *e, size_t n_rows, const void *v,    \
                                        const uint32_t *n_pos, size_t hd_pad)                      \
    {                                                                                              \
        values(o, e, n_rows, v, n_pos, hd_pad, element_##type);                                    \
    }
ATTN(f32)
ATTN(f16)

void kern_attn_merge_f32__ref(float *m, float *z, float *o, const float *mp, const float *zp,
                              const float *op, size_t n_rows, size_t hd_pad)
{
    for (size_t r = 0; r < n_rows; r++, o += hd_pad, op += hd_pad) {
        const float top = ref_max(m[r], mp[r]);
        const float f   = ref_exp(m[r] - top);
        const float fp  = ref_exp(mp[r] - top);

        m[r] = top;
        z[r] = fmaf(zp[r], fp, z[r] * f);
        for (size_t c = 0; c < hd_pad; c++) o[c] = fmaf(op[c], fp, o[c] * f);
    }
}

void kern_narrow_f16__ref(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = ref_to_f16(x[i]);
}
