/* tests/coordinator/log_softmax.c: against libm on small cases; what is not finite. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "coordinator/log_softmax.h"

static void softmax(void **state)
{
    const float logits[4] = {1.0F, 3.0F, -2.0F, 3.0F};
    const float bad[3]    = {1.0F, NAN, 0.0F};
    double      nll = -1, sum = exp(-2.0) + 1 + exp(-5.0) + 1;

    (void)state;
    assert_true(coord_nll(logits, 4, 0, &nll));
    assert_true(fabs(nll - (log(sum) + 2)) < 1e-15 * nll * 4);
    assert_true(coord_nll(logits, 4, 3, &nll));
    assert_true(fabs(nll - log(sum)) < 1e-15);
    assert_false(coord_nll(bad, 3, 0, &nll));
    assert_int_equal(coord_not_finite(bad, 3), 1);
    assert_int_equal(coord_not_finite(logits, 4), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(softmax)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
