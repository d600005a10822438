/* model/absmean.c: exact absolute means, whatever the order of additions. */
#include <math.h>
#include <string.h>

#include "model/bytes.h"
#include "model/model.h"

enum {
    CHUNK    = 256, /* weights widened at a time */
    BAD      = 255, /* the exponent of infinities and NaN */
    LIMBS    = 26,  /* 16 bits each: 254 + 64 bits of a sum, 64 of a fraction, some room */
    FRACTION = 4,   /* limbs behind the point while dividing */
    UNIT     = -149 /* a sum counts multiples of 2^UNIT */
};

void model_absmean_accumulate(const model_source_t *source, const model_tensor_t *tensor,
                              uint64_t row, uint64_t col, uint64_t n, model_abs_sum_t *sum)
{
    float w[CHUNK];
    for (uint64_t done = 0; done < n; done += CHUNK) {
        const uint64_t take = n - done < CHUNK ? n - done : CHUNK;
        model_row_f32(source, tensor, row, col + done, take, w);
        for (uint64_t i = 0; i < take; i++) {
            const uint32_t bits     = model_bits_of_float(w[i]) & 0x7fffffff;
            const uint32_t exponent = bits >> 23;
            const uint32_t lead     = exponent == 0 ? 0 : 1u << 23;
            sum->significands[exponent] += exponent == BAD ? 1 : (bits & 0x7fffff) | lead;
        }
    }
}

void model_abs_sum_merge(model_abs_sum_t *into, const model_abs_sum_t *from)
{
    for (int e = 0; e < 256; e++) into->significands[e] += from->significands[e];
}

/* value * 2^shift added to a number of LIMBS limbs, lowest first */
static void add_shifted(uint16_t *limbs, uint64_t value, unsigned shift)
{
    uint32_t carry = 0;
    unsigned at    = shift / 16;
    unsigned bits  = shift % 16;
    uint64_t high  = bits == 0 ? 0 : value >> (64 - bits); /* what the shift pushes out */
    uint64_t low   = value << bits;
    for (; low != 0 || high != 0 || carry != 0; at++) {
        base_assert(at < LIMBS);
        carry += limbs[at] + (uint32_t)(low & 0xffff);
        limbs[at] = (uint16_t)carry;
        carry >>= 16;
        low  = low >> 16 | high << 48;
        high = high >> 16;
    }
}

float model_abs_sum_scale(const model_abs_sum_t *sum, uint64_t n_weights)
{
    uint16_t limbs[LIMBS] = {0};
    uint64_t rest         = 0;
    int      top          = LIMBS - 1;

    base_assert(n_weights > 0 && n_weights <= 1ull << 40);
    if (sum->significands[BAD] != 0) return INFINITY;
    for (unsigned e = 0; e < BAD; e++)
        add_shifted(limbs, sum->significands[e], 16 * FRACTION + (e == 0 ? 0 : e - 1));
    for (int i = LIMBS - 1; i >= 0; i--) { /* by n_weights; what is left is below 2^40 */
        rest             = rest << 16 | limbs[i];
        const uint64_t q = rest / n_weights;
        rest %= n_weights;
        limbs[i] = (uint16_t)q; /* fits, as the old rest was below n_weights */
    }
    while (top > 0 && limbs[top] == 0) top--;
    if (top < 4) return 1e-5f; /* below 2^(UNIT + 16) */

    /* The 64 bits from the highest limb down, and whether anything is below them. */
    uint64_t value  = 0;
    bool     sticky = rest != 0;
    for (int i = 0; i < 4; i++) value = value << 16 | limbs[top - i];
    for (int i = 0; i < top - 3; i++) sticky = sticky || limbs[i] != 0;
    int drop = 40; /* at least 24 of its bits stay */
    while (value >> drop >= 1u << 24) drop++;
    while (value >> drop < 1u << 23) drop--;
    const uint64_t low  = value & ((1ull << drop) - 1);
    const uint64_t half = 1ull << (drop - 1);
    uint64_t       keep = value >> drop;
    if (low > half || (low == half && (sticky || (keep & 1) != 0))) keep++;
    const float mean = ldexpf((float)keep, drop + 16 * (top - 3 - FRACTION) + UNIT);
    return mean > 1e-5f ? mean : 1e-5f;
}
