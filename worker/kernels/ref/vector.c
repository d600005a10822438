/* worker/kernels/ref/vector.c
 * Sums, norms, quantisation and elementwise functions: NUMERICS 1, 2, 3, 4 and 6. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/ref/lanes.h"

void kern_sumsq_f32__ref(float *out, const float *x, size_t n, size_t block)
{
    for (size_t i = 0; i < n; i += block) {
        *out++ = ref_dot16(x + i, x + i, n - i < block ? n - i : block);
    }
}

float kern_sum_f32__ref(const float *x, size_t n)
{
    return ref_sum16(x, n);
}

float kern_absmax_f32__ref(const float *x, const float *w, size_t n)
{
    float m = 0;

    for (size_t i = 0; i < n; i++) {
        const float u = fabsf(w != NULL ? x[i] * w[i] : x[i]);
        if (isnan(u)) return u;
        m = ref_max(m, u);
    }
    return m;
}

int32_t kern_quant_f32_i8__ref(int8_t *q, const float *x, const float *w, float d, size_t n,
                               size_t n_pad)
{
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        const float u = w != NULL ? x[i] * w[i] : x[i];
        const float v = rintf(u / d);

        /* In float, so that nothing out of range is ever converted. */
        q[i] = isnan(v) ? 0 : (int8_t)ref_min(ref_max(v, -128.0f), 127.0f);
        sum += q[i];
    }
    for (size_t i = n; i < n_pad; i++) q[i] = 0;
    return sum;
}

void kern_norm_f32__ref(float *y, const float *x, const float *w, float r, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = (x[i] * w[i]) * r;
}

void kern_scale_i32_f32__ref(float *y, const int32_t *acc, float s, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = (float)acc[i] * s;
}

void kern_scale_add_i32_f32__ref(float *y, const int32_t *acc, float s, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = fmaf((float)acc[i], s, y[i]);
}

void kern_add_f32__ref(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = y[i] + x[i];
}

void kern_scale_f32__ref(float *y, float s, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = y[i] * s;
}

void kern_silu_mul_f32__ref(float *f, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) f[i] = (gate[i] / (1.0f + ref_exp(-gate[i]))) * up[i];
}

void kern_relu2_mul_f32__ref(float *f, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float z = ref_max(gate[i], 0.0f);
        f[i]          = (z * z) * up[i];
    }
}

void kern_rope_half_f32__ref(float *x, const float *cos_t, const float *sin_t, size_t rot)
{
    for (size_t j = 0; j < rot / 2; j++) {
        const float x0 = x[j], x1 = x[j + rot / 2];
        x[j]           = fmaf(x0, cos_t[j], -(x1 * sin_t[j]));
        x[j + rot / 2] = fmaf(x1, cos_t[j], x0 * sin_t[j]);
    }
}

void kern_rope_pair_f32__ref(float *x, const float *cos_t, const float *sin_t, size_t rot)
{
    for (size_t j = 0; j < rot / 2; j++) {
        const float x0 = x[2 * j], x1 = x[2 * j + 1];
        x[2 * j]     = fmaf(x0, cos_t[j], -(x1 * sin_t[j]));
        x[2 * j + 1] = fmaf(x1, cos_t[j], x0 * sin_t[j]);
    }
}

void kern_div_f32__ref(float *out, const float *o, float z, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = o[i] / z;
}

void kern_exp_f32__ref(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = ref_exp(x[i]);
}
