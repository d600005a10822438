/* RoPE frequencies of all kinds of scaling, against values of transformers 5.23 in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"

/* rope_values.py prints this table. */
static const struct {
    const char          *name;
    uint32_t             dims;
    double               base;
    model_rope_scaling_t scaling;
    double               freq[5]; /* of pairs 0, dims/8, dims/4, 3*dims/8, dims/2 - 1 */
    double               magnitude;
} cases[] = {
#include "tests/model/rope_values.inc"
};

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-12 * fabs(b);
}

static void values(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        model_desc_t   d    = {.rope_dims = cases[c].dims, .rope_base = cases[c].base};
        const uint32_t n    = cases[c].dims;
        const uint32_t at[] = {0, n / 8, n / 4, 3 * n / 8, n / 2 - 1};
        assert_int_equal(model_rope_resolve(&d, &cases[c].scaling, "t", NULL), BASE_OK);
        for (int i = 0; i < 5; i++)
            if (!near(d.rope_freq[at[i]], cases[c].freq[i]))
                fail_msg("%s: pair %u: %.17g, want %.17g", cases[c].name, at[i], d.rope_freq[at[i]],
                         cases[c].freq[i]);
        assert_true(near(d.rope_magnitude, cases[c].magnitude));
    }
}

static void divisors(void **state)
{
    (void)state;
    const float          by[4] = {1, 2, 4, 8};
    model_rope_scaling_t s     = {.divisors = by};
    model_desc_t         a = {.rope_dims = 8, .rope_base = 500000}, b = a;
    assert_int_equal(model_rope_resolve(&a, &s, "t", NULL), BASE_OK);
    s.divisors = NULL;
    assert_int_equal(model_rope_resolve(&b, &s, "t", NULL), BASE_OK);
    for (int i = 0; i < 4; i++) assert_true(a.rope_freq[i] == b.rope_freq[i] / (double)by[i]);
    assert_true(b.rope_freq[0] == 1 && a.rope_magnitude == 1 && a.rope_scale == 1);
}

static void refused(void **state)
{
    (void)state;
    static const float zero[4] = {1, 1, 0, 1};
    static const struct {
        double               base;
        model_rope_scaling_t s;
        const char          *text;
    } bad[] = {
        {0.5, {MODEL_SCALING_NONE}, "base is 0.5"},
        {10000, {MODEL_SCALING_LINEAR, .factor = 0}, "the factor"},
        {10000, {MODEL_SCALING_LINEAR, .factor = NAN}, "the factor"},
        {10000, {MODEL_SCALING_LLAMA3, .factor = 8}, "original context"},
        {10000, {MODEL_SCALING_LLAMA3, .factor = 8, .original_context = 9}, "low_freq"},
        {10000,
         {MODEL_SCALING_LLAMA3, .factor = 8, .original_context = 9, .low_freq_factor = 2,
          .high_freq_factor = 2},
         "high_freq"},
        {10000,
         {MODEL_SCALING_YARN, .factor = 8, .original_context = 9, .beta_fast = 1, .beta_slow = 2},
         "beta_fast"},
        {1, {MODEL_SCALING_YARN, .factor = 8, .original_context = 9}, "the base is 1"},
        {10000, {MODEL_SCALING_NONE, .divisors = zero}, "frequency factor is 0"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        model_desc_t d   = {.rope_dims = 8, .rope_base = bad[i].base};
        base_err_t   err = {0};
        assert_int_equal(model_rope_resolve(&d, &bad[i].s, "file", &err), BASE_ERR_INPUT);
        if (strstr(err.text, bad[i].text) == NULL || strstr(err.text, "file: ") == NULL)
            fail_msg("%zu: %s", i, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(divisors),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
