/* tests/base/detmath.c: exp and log against a table of 60 digits, at the edges
 * (tests/coordinator/make_tables.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/detmath.h"

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
    snprintf(path, sizeof path, "%s/tests/base/detmath.table", source != NULL ? source : ".");
    f = fopen(path, "r");
    if (f == NULL) fail_msg("no %s", path);
    for (; fscanf(f, "%7s %63s %63s", name, x_text, y_text) == 3; n++) {
        double x = strtod(x_text, NULL), y = strtod(y_text, NULL);
        double got = strcmp(name, "exp") == 0 ? base_exp(x) : base_ln(x);

        if (!(got == y || units(got, y) <= 1))
            fail_msg("%s(%a) is %a, expected %a", name, x, got, y);
    }
    fclose(f);
    assert_true(n > 1000);
}

static void edges(void **state)
{
    (void)state;
    assert_true(base_exp(0) == 1 && base_exp(-0.0) == 1);
    assert_true(base_exp(-1e300) == 0 && base_exp(-(double)INFINITY) == 0);
    assert_true(isinf(base_exp(710)) && isinf(base_exp((double)INFINITY)));
    assert_true(isnan(base_exp((double)NAN)) && isnan(base_ln((double)NAN)));
    assert_true(base_exp(-745.1) > 0 && base_exp(-746) == 0);
    assert_true(base_ln(1) == 0 && isnan(base_ln(-1)));
    assert_true(isinf(base_ln(0)) && base_ln(0) < 0);
    assert_true(isinf(base_ln((double)INFINITY)));
    for (double x = -1e-17; x > -800; x = x * 1.01 - 1e-17) assert_true(base_exp(x) <= 1);
}

/* Results below 2^-1022 lose digits, but are rounded once. */
static void subnormal(void **state)
{
    (void)state;
    for (double x = -708.3; x > -745; x -= 0.37) {
        double expected = exp(x);

        if (units(base_exp(x), expected) > 1)
            fail_msg("exp(%a) is %a, libm says %a", x, base_exp(x), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),
        cmocka_unit_test(edges),
        cmocka_unit_test(subnormal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
