/* worker/kernels/ref/attn.c
 * Attention over one KV page, and the merge of pages: NUMERICS 7. */
#include "worker/kernels/kernel_decl.h"
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

void kern_attn_page_f32__ref(float *m, float *z, float *o, size_t o_stride, const float *q,
                             size_t q_stride, size_t n_q, const float *k, const float *v,
                             size_t n_pos, size_t hd_pad, float scale)
{
    for (size_t h = 0; h < n_q; h++) {
        const float *qh = q + h * q_stride;
        float       *oh = o + h * o_stride;
        float        e[KERN_PAGE];

        for (size_t j = 0; j < n_pos; j++) e[j] = ref_dot16(qh, k + j * hd_pad, hd_pad) * scale;
        m[h] = max16(e, n_pos);
        for (size_t j = 0; j < n_pos; j++) e[j] = ref_exp(e[j] - m[h]);
        z[h] = ref_sum16(e, n_pos);

        for (size_t c = 0; c < hd_pad; c++) oh[c] = 0.0f;
        for (size_t j = 0; j < n_pos; j++) {
            for (size_t c = 0; c < hd_pad; c++) oh[c] = fmaf(e[j], v[j * hd_pad + c], oh[c]);
        }
    }
}

void kern_attn_merge_f32__ref(float *m, float *z, float *o, float mp, float zp, const float *op,
                              size_t hd_pad)
{
    const float top = ref_max(*m, mp);
    const float f   = ref_exp(*m - top);
    const float fp  = ref_exp(mp - top);

    *m = top;
    *z = fmaf(zp, fp, *z * f);
    for (size_t c = 0; c < hd_pad; c++) o[c] = fmaf(op[c], fp, o[c] * f);
}
