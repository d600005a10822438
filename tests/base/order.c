/* tests/base/order.c: samples sorted, and their median, against values by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/order.h"

static void sorted(void **state)
{
    double v[] = {3, -1, 2.5, 2.5, 1e300, -1e300, 0};
    (void)state;
    base_sort_f64(v, 7);
    const double want[] = {-1e300, -1, 0, 2.5, 2.5, 3, 1e300};
    for (int i = 0; i < 7; i++) assert_true(v[i] == want[i]);
}

static void middle(void **state)
{
    double one[] = {4}, two[] = {5, 2}, odd[] = {9, 1, 4}, even[] = {7, 1, 100, 4};
    (void)state;
    assert_true(base_median_f64(one, 1) == 4);
    assert_true(base_median_f64(two, 2) == 3.5);
    assert_true(base_median_f64(odd, 3) == 4);
    assert_true(base_median_f64(even, 4) == 5.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sorted), cmocka_unit_test(middle)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
