/* tests/comm/pack.c: every width at its ends, against the values themselves. labels: comm */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/pack.h"

static const int32_t ends[][2] = {
    {0, 0}, {-128, 127}, {-32768, 32767}, {-(1 << 23), (1 << 23) - 1}, {INT32_MIN, INT32_MAX}};
enum { MOST = 300, GUARD = 0x5a };

static uint32_t mix(uint32_t a)
{
    a = (a + 1) * 0x9e3779b1u;
    a ^= a >> 15;
    return a * 0x2c1b3c6du;
}

/* n values of at most `width` bytes, one of them (at `where`) at an end of it. */
static void check(uint32_t width, size_t n, size_t where, int end)
{
    int32_t  v[MOST], sum[MOST], stored[MOST];
    uint8_t *wire = malloc(comm_pack_room(n) + 1);
    uint64_t span = (uint64_t)((int64_t)ends[width][1] - ends[width][0] + 1);

    for (size_t i = 0; i < n; i++)
        v[i] = (int32_t)(ends[width][0] + (int64_t)(mix((uint32_t)i + width) % span));
    if (n > 0) v[where] = ends[width][end];
    wire[comm_pack_room(n)] = GUARD;
    size_t used             = comm_pack_i32(wire, v, n);
    assert_int_equal(used, COMM_PACK_HEAD + (n == 0 ? 0 : width) * n);
    assert_int_equal(wire[comm_pack_room(n)], GUARD);
    for (size_t i = 0; i < n; i++) sum[i] = -7;
    assert_int_equal(comm_pack_add(sum, wire, n, NULL), BASE_OK);
    assert_int_equal(comm_pack_store(stored, wire, n, NULL), BASE_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(stored[i], v[i]);
        assert_int_equal(sum[i], (int32_t)((uint32_t)v[i] - 7u));
    }
    int16_t narrow[MOST];
    assert_int_equal(comm_pack_narrow(narrow, v, n), n == 0 || width <= 2);
    for (size_t i = 0; i < n && width <= 2; i++) assert_int_equal(narrow[i], v[i]);
    for (size_t i = 0; i < n; i++) sum[i] = -7;
    if (width <= 2) comm_pack_add_narrow(sum, narrow, n);
    for (size_t i = 0; i < n && width <= 2; i++) assert_int_equal(sum[i], v[i] - 7);
    free(wire);
}

static void widths(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 3, 7, 15, 16, 17, 63, 64, 65, 255, 300};
    (void)state;
    for (uint32_t width = 0; width <= 4; width++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            for (int end = 0; end < 2; end++) {
                check(width, sizes[i], 0, end);
                if (sizes[i] > 0) check(width, sizes[i], sizes[i] - 1, end);
            }
}

/* One value beyond a width needs the next. */
static void just_beyond(void **state)
{
    uint8_t wire[COMM_PACK_HEAD + 4];
    int16_t narrow[1];
    (void)state;
    for (uint32_t width = 1; width < 4; width++)
        for (int end = 0; end < 2; end++) {
            int32_t v = ends[width][end] + (end == 0 ? -1 : 1);
            assert_int_equal(comm_pack_i32(wire, &v, 1), COMM_PACK_HEAD + width + 1);
            assert_int_equal(comm_pack_narrow(narrow, &v, 1), width + 1 <= 2);
        }
}

static void unknown_width(void **state)
{
    uint8_t    wire[COMM_PACK_HEAD + 4] = {5};
    int32_t    v                        = 0;
    base_err_t err;
    (void)state;
    assert_int_equal(comm_pack_add(&v, wire, 1, &err), BASE_ERR_PEER);
    assert_non_null(strstr(err.text, "5 bytes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(widths), cmocka_unit_test(just_beyond),
                                       cmocka_unit_test(unknown_width)};
    return cmocka_run_group_tests_name("comm.pack", tests, NULL, NULL);
}
