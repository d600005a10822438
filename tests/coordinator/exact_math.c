/* tests/coordinator/exact_math.c: against a table of 60 digits (make_tables.py), at the edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/exact_math.h"

/* Distance in units of the last place, for finite values of one sign. */
static int64_t units(double a, double b)
{
    int64_t x = 0, y = 0;

    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return x > y ? x - y : y - x;
}

static void table(void **state)
{
    const char *source = getenv("TRIREME_SOURCE");
    char        path[4096], name[8], x_text[64], y_text[64];
    FILE       *f = NULL;
    int         n = 0;

    (void)state;
    snprintf(path, sizeof path, "%s/tests/coordinator/exact_math.table",
             source != NULL ? source : ".");
    f = fopen(path, "r");
    if (f == NULL) fail_msg("no %s", path);
    for (; fscanf(f, "%7s %63s %63s", name, x_text, y_text) == 3; n++) {
        double x = strtod(x_text, NULL), y = strtod(y_text, NULL);
        double got = strcmp(name, "exp") == 0 ? coord_exp(x) : coord_log(x);

        if (!(got == y || units(got, y) <= 1))
            fail_msg("%s(%a) is %a, expected %a", name, x, got, y);
    }
    fclose(f);
    assert_true(n > 1000);
}

static void edges(void **state)
{
    (void)state;
    assert_true(coord_exp(0) == 1 && coord_exp(-0.0) == 1);
    assert_true(coord_exp(-1e300) == 0 && coord_exp(-(double)INFINITY) == 0);
    assert_true(isinf(coord_exp(710)) && isinf(coord_exp((double)INFINITY)));
    assert_true(isnan(coord_exp((double)NAN)) && isnan(coord_log((double)NAN)));
    assert_true(coord_exp(-745.1) > 0 && coord_exp(-746) == 0);
    assert_true(coord_log(1) == 0 && isnan(coord_log(-1)));
    assert_true(isinf(coord_log(0)) && coord_log(0) < 0);
    assert_true(isinf(coord_log((double)INFINITY)));
    for (double x = -1e-17; x > -800; x = x * 1.01 - 1e-17) assert_true(coord_exp(x) <= 1);
}

/* Results below 2^-1022 lose digits, but are rounded once. */
static void subnormal(void **state)
{
    (void)state;
    for (double x = -708.3; x > -745; x -= 0.37) {
        double expected = exp(x);

        if (units(coord_exp(x), expected) > 1)
            fail_msg("exp(%a) is %a, libm says %a", x, coord_exp(x), expected);
    }
}

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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),
        cmocka_unit_test(edges),
        cmocka_unit_test(subnormal),
        cmocka_unit_test(softmax),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
