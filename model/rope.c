/* model/rope.c: from what files say about rotary positions to one frequency a pair.
 *
 * Sources: transformers 5.23 modeling_rope_utils.py (linear, llama3, yarn), ggml ops.cpp
 * (rope_yarn) and llama.cpp (rope_freqs). All in double with base/detmath.h. */
#include <inttypes.h>
#include <math.h>

#include "base/detmath.h"
#include "model/model.h"

#define TWO_PI 6.28318530717958647693

static base_status_t fail_number(const char *where, const char *what, double v, base_err_t *err)
{
    return base_fail(err, BASE_ERR_INPUT, "%s: RoPE scaling: %s is %g: damaged file?", where, what,
                     v);
}

/* Long wavelengths are stretched by the factor, short ones stay, those between are blended. */
static base_status_t scale_llama3(model_desc_t *d, const model_rope_scaling_t *s, const char *where,
                                  base_err_t *err)
{
    if (!(s->low_freq_factor > 0))
        return fail_number(where, "low_freq_factor", s->low_freq_factor, err);
    if (!(s->high_freq_factor > s->low_freq_factor))
        return fail_number(where, "high_freq_factor", s->high_freq_factor, err);
    for (uint32_t j = 0; j < d->rope_dims / 2; j++) {
        const double freq  = d->rope_freq[j];
        const double turns = s->original_context * freq / TWO_PI; /* in the trained context */
        if (turns > s->high_freq_factor) continue;
        if (turns < s->low_freq_factor) {
            d->rope_freq[j] = freq / s->factor;
            continue;
        }
        const double smooth =
            (turns - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
        d->rope_freq[j] = (1 - smooth) * freq / s->factor + smooth * freq;
    }
    return BASE_OK;
}

/* The pair whose wavelength fits `turns` times into the trained context, as a fraction. */
static double yarn_pair(const model_desc_t *d, const model_rope_scaling_t *s, double turns)
{
    return (double)d->rope_dims * base_ln(s->original_context / (turns * TWO_PI)) /
           (2 * base_ln(d->rope_base));
}

static base_status_t scale_yarn(model_desc_t *d, const model_rope_scaling_t *s, const char *where,
                                base_err_t *err)
{
    const double fast = s->beta_fast == 0 ? 32 : s->beta_fast;
    const double slow = s->beta_slow == 0 ? 1 : s->beta_slow;
    if (!(slow > 0 && slow <= 1e6)) return fail_number(where, "beta_slow", slow, err);
    if (!(fast >= slow && fast <= 1e6)) return fail_number(where, "beta_fast", fast, err);
    if (!(d->rope_base > 1)) return fail_number(where, "the base", d->rope_base, err);
    if (s->magnitude < 0) return fail_number(where, "the attention factor", s->magnitude, err);

    double low  = yarn_pair(d, s, fast);
    double high = yarn_pair(d, s, slow);
    if (!s->untruncated) {
        low  = floor(low);
        high = ceil(high);
    }
    low  = fmax(low, 0);
    high = fmin(high, (double)d->rope_dims - 1);
    for (uint32_t j = 0; j < d->rope_dims / 2; j++) {
        const double ramp =
            fmin(fmax(((double)j - low) / (high == low ? 0.001 : high - low), 0), 1);
        const double freq = d->rope_freq[j];
        d->rope_freq[j]   = freq / s->factor * ramp + freq * (1 - ramp);
    }
    d->rope_magnitude = s->magnitude;
    if (s->magnitude == 0) d->rope_magnitude = s->factor <= 1 ? 1 : 0.1 * base_ln(s->factor) + 1;
    return BASE_OK;
}

base_status_t model_rope_resolve(model_desc_t *desc, const model_rope_scaling_t *scaling,
                                 const char *where, base_err_t *err)
{
    const model_rope_scaling_t *s = scaling;
    if (!(desc->rope_base >= 1 && desc->rope_base <= 1e12))
        return base_fail(err, BASE_ERR_INPUT, "%s: the RoPE base is %g, want 1 to 1e12", where,
                         desc->rope_base);
    if (desc->rope_dims == 0 || desc->rope_dims % 2 != 0 || desc->rope_dims > LIMIT_HEAD_DIM)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: %" PRIu32 " rotated dimensions: want an even number up to %d", where,
                         desc->rope_dims, LIMIT_HEAD_DIM);
    if (s->kind != MODEL_SCALING_NONE && !(s->factor >= 1e-6 && s->factor <= 1e6))
        return fail_number(where, "the factor", s->factor, err);
    if ((s->kind == MODEL_SCALING_LLAMA3 || s->kind == MODEL_SCALING_YARN) &&
        !(s->original_context >= 1 && s->original_context <= LIMIT_CONTEXT))
        return fail_number(where, "the original context", s->original_context, err);

    const double log_base = base_ln(desc->rope_base);
    for (uint32_t j = 0; j < desc->rope_dims / 2; j++) {
        desc->rope_freq[j] = base_exp(-2.0 * (double)j / (double)desc->rope_dims * log_base);
        if (s->divisors == NULL) continue;
        const double by = (double)s->divisors[j];
        if (!(by >= 1e-3 && by <= 1e9)) return fail_number(where, "a frequency factor", by, err);
        desc->rope_freq[j] /= by;
    }
    desc->rope_scaling =
        s->kind == MODEL_SCALING_NONE && s->divisors != NULL ? MODEL_SCALING_FACTORS : s->kind;
    desc->rope_scale     = 1;
    desc->rope_magnitude = 1;
    switch (s->kind) {
    case MODEL_SCALING_NONE:
    case MODEL_SCALING_FACTORS: return BASE_OK;
    case MODEL_SCALING_LINEAR:
        desc->rope_scale = s->factor;
        for (uint32_t j = 0; j < desc->rope_dims / 2; j++) desc->rope_freq[j] /= s->factor;
        return BASE_OK;
    case MODEL_SCALING_LLAMA3: return scale_llama3(desc, s, where, err);
    case MODEL_SCALING_YARN: return scale_yarn(desc, s, where, err);
    }
    base_assert(s->kind <= MODEL_SCALING_FACTORS);
    return BASE_OK;
}
