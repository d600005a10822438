/* tests/launch/account.c: operations and energy of a token against arithmetic by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/account.h"
#include "quantize/synth.h"

static model_desc_t shape(const char *name)
{
    model_desc_t desc;
    base_err_t   err;
    assert_int_equal(quant_synth_desc(quant_shape_find(name), MODEL_TQ2_0, MODEL_F16, &desc, &err),
                     BASE_OK);
    return desc;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

/* BitNet 2B-4T: 30 layers of width 2560, 20 heads of 128, 5 KV heads, FFN of 6912, 128256 rows. */
static void counts(void **state)
{
    (void)state;
    model_desc_t  desc  = shape("bitnet-2b-4t");
    account_ops_t ops   = account_ops(&desc, 4096);
    double        d     = 2560;
    double        layer = 2 * d * d + 2 * d * 5 * 128 + 3 * d * 6912;
    assert_true(near(ops.ternary, 30 * layer));
    assert_true(near(ops.projection, 30 * layer));
    assert_true(ops.dense == 0);
    assert_true(near(ops.attention, 30.0 * 2 * 4096 * 2560));
    assert_true(near(ops.head, 128256.0 * 2560));
    /* methods.md section 8: 69.5 million a layer, and a share of 0.77 at 4096 positions */
    assert_true(fabs(layer / 69.5e6 - 1) < 0.01);
    double share = ops.projection / (ops.projection + ops.attention);
    assert_true(fabs(share - 0.77) < 0.005);
    assert_true(fabs(account_amdahl(share, INFINITY) - 4.3) < 0.05);
    model_desc_free(&desc);
}

/* The paper's figure: matrix products of 7 nm cost 71.4 times less than in float16. */
static void energy(void **state)
{
    (void)state;
    account_ops_t    ops = {.ternary = 1e9, .projection = 1e9};
    account_joules_t j   = account_joules(&ops, &account_energies[1]);
    assert_true(fabs(j.f16_projections_joules / j.projections_joules - 71.4) < 0.05);
    assert_true(near(j.projections_joules, 7e-6)); /* 1e9 * 0.007e-12 J */
    assert_true(near(j.joules, j.projections_joules));
    ops.head = 2e9;
    j        = account_joules(&ops, &account_energies[0]);
    assert_true(near(j.joules, 1e9 * 0.03e-12 + 2e9 * 4.6e-12));
    assert_true(near(j.f16_joules, 3e9 * 1.5e-12));
}

static void amdahl(void **state)
{
    (void)state;
    assert_true(near(account_amdahl(0.5, 2), 1 / 0.75));
    assert_true(near(account_amdahl(0, 100), 1));
    assert_true(near(account_amdahl(0.9, INFINITY), 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(energy),
        cmocka_unit_test(amdahl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
