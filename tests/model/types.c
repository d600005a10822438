/* Stored types: the golden bytes of the formats, the gguf package's blocks, parts of rows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/blocks.h"
#include "model/bytes.h"
#include "model/source.h"

/* A file of tests/golden/blocks, whole. */
static uint8_t *load(const char *name, size_t *bytes)
{
    char        path[4096];
    const char *root = getenv("TRIREME_SOURCE");
    snprintf(path, sizeof(path), "%s/tests/golden/blocks/%s", root == NULL ? "." : root, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL) fail_msg("%s: cannot open", path);
    uint8_t *data = malloc(65536);
    assert_non_null(data);
    *bytes = fread(data, 1, 65536, f);
    fclose(f);
    assert_true(*bytes > 0 && *bytes < 65536);
    return data;
}

static model_source_t *wrap(const void *data, size_t n)
{
    model_source_t *s = NULL;
    assert_int_equal(model_source_wrap(data, n, "blocks", &s, NULL), BASE_OK);
    return s;
}

static model_tensor_t row_tensor(model_type_t type, uint64_t n_cols)
{
    return (model_tensor_t){.type   = type,
                            .bytes  = model_row_bytes(type, n_cols),
                            .n_rows = 1,
                            .n_cols = n_cols,
                            .scale  = model_type_info(type)->scaled ? 0.75f : 0};
}

/* ---- ternary
 * ------------------------------------------------------------------------------------- */

/* methods.md 2.5: "zero but weight k = +1" and the like, with the byte that differs. */
static void golden_trits(void **state)
{
    (void)state;
    static const struct {
        int     weight; /* -1: all of them */
        int8_t  trit;
        int     at1, at2; /* bytes that differ from zero's, in TQ1_0 and TQ2_0 */
        uint8_t tq1, tq2;
    } cases[] = {
        {0, 1, 0, 0, 0xd5, 0x56},
        {37, 1, 5, 5, 0x9c, 0x59},
        {240, 1, 48, 48, 0xd4, 0x95},
    };
    uint8_t tq1[54], tq2[66];
    int8_t  want[256], got[256];
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        memset(tq1, 0x80, 48);
        memset(tq1 + 48, 0x7f, 4);
        memset(tq2, 0x55, 64);
        memset(want, 0, 256);
        model_block_tq1_trits(tq1, got);
        assert_memory_equal(got, want, 256);
        assert_true(model_block_tq2_trits(tq2, got));
        assert_memory_equal(got, want, 256);
        want[cases[c].weight] = cases[c].trit;
        tq1[cases[c].at1]     = cases[c].tq1;
        tq2[cases[c].at2]     = cases[c].tq2;
        model_block_tq1_trits(tq1, got);
        assert_memory_equal(got, want, 256);
        assert_true(model_block_tq2_trits(tq2, got));
        assert_memory_equal(got, want, 256);
    }
    for (int t = -1; t <= 1; t += 2) {
        memset(tq1, t < 0 ? 0 : 0xff, 48);
        memset(tq1 + 48, t < 0 ? 0 : 0xfd, 4);
        memset(tq2, t < 0 ? 0 : 0xaa, 64);
        memset(want, t, 256);
        model_block_tq1_trits(tq1, got);
        assert_memory_equal(got, want, 256);
        assert_true(model_block_tq2_trits(tq2, got));
        assert_memory_equal(got, want, 256);
    }
}

/* Every byte of TQ1_0 decodes by the rule of the format, every byte with a code 3 of TQ2_0 is
 * refused. */
static void every_byte(void **state)
{
    (void)state;
    static const uint8_t powers[] = {1, 3, 9, 27, 81};
    uint8_t              tq1[54] = {0}, tq2[66] = {0};
    int8_t               got[256];
    for (int byte = 0; byte < 256; byte++) {
        memset(tq1, byte, 52);
        model_block_tq1_trits(tq1, got);
        for (int i = 0; i < 256; i++) {
            int n = i < 160 ? i / 32 : i < 240 ? (i - 160) / 16 : (i - 240) / 4;
            int b = byte * powers[n] & 255;
            assert_int_equal(got[i], (b * 3 >> 8) - 1);
        }
        bool bad = (byte & byte >> 1 & 0x55) != 0;
        for (int at = 0; at < 64; at++) {
            memset(tq2, 0x55, 64);
            tq2[at] = (uint8_t)byte;
            assert_int_equal(model_block_tq2_trits(tq2, got), !bad);
            for (int k = 0; k < 4 && !bad; k++)
                assert_int_equal(got[at / 32 * 128 + k * 32 + at % 32], (byte >> 2 * k & 3) - 1);
        }
    }
}

/* Scales: common value, zero blocks, negative, zero with codes, not finite. */
static void scales(void **state)
{
    (void)state;
    static const struct {
        uint16_t half;
        uint8_t  codes;
        bool     ok;
        int      trit; /* expected of all */
        float    min, max;
    } cases[] = {
        {0x3c00, 0xaa, true, 1, 1, 1},
        {0x3c00, 0x55, true, 0, INFINITY, 0},
        {0xbc00, 0xaa, true, -1, 1, 1},
        {0x0000, 0xaa, true, 0, INFINITY, 0},
        {0x0001, 0x00, true, -1, 0x1p-24f, 0x1p-24f},
        {0x7c00, 0xaa, false, 0, 0, 0},
        {0x7e00, 0x55, false, 0, 0, 0},
        {0xfc00, 0xaa, false, 0, 0, 0},
        {0x3c00, 0xff, false, 0, 0, 0},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        uint8_t block[66];
        int8_t  trits[256];
        float   min = INFINITY, max = 0;
        memset(block, cases[c].codes, 64);
        model_store_u16(block + 64, cases[c].half);
        model_source_t *s  = wrap(block, sizeof(block));
        model_tensor_t  t  = row_tensor(MODEL_TQ2_0, 256);
        bool            ok = model_row_trits(s, &t, 0, 0, 256, trits, &min, &max);
        assert_int_equal(ok, cases[c].ok);
        for (int i = 0; ok && i < 256; i++) assert_int_equal(trits[i], cases[c].trit);
        if (ok) assert_true(min == cases[c].min && max == cases[c].max);
        model_source_close(&s);
    }
}

/* ---- against the gguf package
 * --------------------------------------------------------------------- */

static void package_blocks(void **state)
{
    (void)state;
    for (int i = MODEL_NONE + 1; i <= MODEL_I2_S_64; i++) {
        const model_type_t type = (model_type_t)i;
        char               name[32];
        size_t             n_bytes = 0, n_values = 0;
        snprintf(name, sizeof(name), "%s.bin", model_type_info(type)->name);
        uint8_t *bytes = load(name, &n_bytes);
        snprintf(name, sizeof(name), "%s.f32", model_type_info(type)->name);
        uint8_t *values = load(name, &n_values);
        n_values /= 4;
        assert_int_equal(model_row_bytes(type, n_values), n_bytes);
        model_source_t *s   = wrap(bytes, n_bytes);
        model_tensor_t  t   = row_tensor(type, n_values);
        float          *got = calloc(n_values, sizeof(float));
        assert_non_null(got);
        assert_int_equal(model_source_check(s, &t, "t", NULL), BASE_OK);
        model_row_f32(s, &t, 0, 0, n_values, got);
        for (size_t k = 0; k < n_values; k++)
            if (got[k] != model_load_f32(values + 4 * k)) /* -0 of trit * d is 0 */
                fail_msg("%s: %zu: %a, want %a", model_type_info(type)->name, k, (double)got[k],
                         (double)model_load_f32(values + 4 * k));
        free(got);
        free(bytes);
        free(values);
        model_source_close(&s);
    }
}

/* Any part of a row is that part of the whole, for floats and trits. */
static void parts(void **state)
{
    (void)state;
    for (int i = MODEL_NONE + 1; i <= MODEL_I2_S_64; i++) {
        const model_type_t type = (model_type_t)i;
        char               name[32];
        size_t             n_bytes = 0;
        snprintf(name, sizeof(name), "%s.bin", model_type_info(type)->name);
        uint8_t *bytes = load(name, &n_bytes);
        uint64_t n =
            n_bytes / model_type_info(type)->block_bytes * model_type_info(type)->block_elems;
        model_source_t *s = wrap(bytes, n_bytes);
        model_tensor_t  t = row_tensor(type, n);
        float           whole[768], part[768];
        int8_t          trits[768], some[768];
        float           min = INFINITY, max = 0;
        model_row_f32(s, &t, 0, 0, n, whole);
        if (model_type_info(type)->ternary)
            assert_true(model_row_trits(s, &t, 0, 0, n, trits, &min, &max));
        for (uint64_t col = 0; col < n; col += 13) {
            for (uint64_t len = 0; len <= n - col; len += 29) {
                model_row_f32(s, &t, 0, col, len, part);
                assert_memory_equal(part, whole + col, len * sizeof(float));
                if (!model_type_info(type)->ternary) continue;
                assert_true(model_row_trits(s, &t, 0, col, len, some, &min, &max));
                assert_memory_equal(some, trits + col, len);
            }
        }
        model_source_close(&s);
        free(bytes);
    }
}

/* ---- rows that share bytes */

/* Six or eight rows of 37 weights, packed by the formula, come back; a code 3 is seen by its row
 * alone. */
static void shared_rows(void **state)
{
    (void)state;
    enum { COLS = 37 };
    for (int kind = 0; kind < 4; kind++) {
        const bool   rows4   = kind < 2;
        const size_t rows    = kind % 2 == 0 ? 8 : 6;
        const size_t quarter = (rows + 3) / 4;
        uint8_t      bytes[2 * COLS];
        int8_t       want[8][COLS], got[COLS];
        float        min = INFINITY, max = 0, values[COLS];
        memset(bytes, 0, sizeof(bytes));
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < COLS; c++) {
                int code   = (int)((r * 7 + c * 5 + r * c) % 3);
                want[r][c] = (int8_t)(code - 1);
                if (rows4)
                    bytes[r % quarter * COLS + c] |= (uint8_t)(code << 2 * (r / quarter));
                else
                    bytes[r / 4 * COLS + c] |= (uint8_t)(code << (6 - 2 * (r % 4)));
            }
        model_source_t *s = wrap(bytes, sizeof(bytes));
        model_tensor_t  t = {.type   = rows4 ? MODEL_ROWS4 : MODEL_I2_S_R4,
                             .bytes  = sizeof(bytes),
                             .n_rows = rows,
                             .n_cols = COLS,
                             .scale  = 0.5f};
        assert_int_equal(model_source_check(s, &t, "t", NULL), BASE_OK);
        for (size_t r = 0; r < rows; r++)
            for (size_t col = 0; col < COLS; col += 3) {
                assert_true(model_row_trits(s, &t, r, col, COLS - col, got, &min, &max));
                assert_memory_equal(got, want[r] + col, COLS - col);
                model_row_f32(s, &t, r, col, COLS - col, values);
                for (size_t c = col; c < COLS; c++)
                    assert_true(values[c - col] == 0.5f * (float)want[r][c]);
            }
        assert_true(min == 0.5f && max == 0.5f);
        bytes[COLS + 30] |= rows4 ? 3 : 3 << 6; /* of row 1 or 4 */
        for (size_t r = 0; r < rows; r++)
            assert_int_equal(model_row_trits(s, &t, r, 0, COLS, got, &min, &max),
                             r != (rows4 ? 1 : 4));
        model_source_close(&s);
    }
}

/* ---- float weights made ternary */

static void online(void **state)
{
    (void)state;
    static const float  w[]    = {0.5f, -0.5f, 0.75f, -0.76f, 1.5f, 0, -0.0f, 1e30f, 0.24f, -3};
    static const int8_t want[] = {1, -1, 2, -2, 3, 0, 0, 9, 0, -9}; /* nearest, before limiting */
    uint8_t             bytes[sizeof(w)];
    int8_t              got[10];
    float               min = INFINITY, max = 0;
    for (int i = 0; i < 10; i++) model_store_u32(bytes + 4 * i, model_bits_of_float(w[i]));
    model_source_t *s = wrap(bytes, sizeof(bytes));
    model_tensor_t  t = {.type   = MODEL_F32,
                         .bytes  = sizeof(bytes),
                         .n_rows = 1,
                         .n_cols = 10,
                         .scale  = 0.5f,
                         .online = true};
    assert_true(model_row_trits(s, &t, 0, 0, 10, got, &min, &max));
    for (int i = 0; i < 10; i++) {
        const int limited = want[i] > 1 ? 1 : want[i] < -1 ? -1 : want[i];
        assert_int_equal(got[i], limited);
    }
    assert_true(min == 0.5f && max == 0.5f);
    t.scale = 1; /* halves go to even: 0.5 to 0 */
    assert_true(model_row_trits(s, &t, 0, 0, 2, got, &min, &max));
    assert_true(got[0] == 0 && got[1] == 0);
    model_store_u32(bytes, 0x7fc00000);
    assert_false(model_row_trits(s, &t, 0, 0, 1, got, &min, &max));
    model_source_close(&s);
}

static float mean_of(const float *w, size_t n, size_t cut)
{
    uint8_t        *bytes = malloc(4 * n);
    model_abs_sum_t a = {{0}}, b = {{0}};
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) model_store_u32(bytes + 4 * i, model_bits_of_float(w[i]));
    model_source_t *s = wrap(bytes, 4 * n);
    model_tensor_t  t = row_tensor(MODEL_F32, n);
    model_absmean_accumulate(s, &t, 0, cut, n - cut, &a);
    model_absmean_accumulate(s, &t, 0, 0, cut, &b);
    model_abs_sum_merge(&a, &b);
    model_source_close(&s);
    free(bytes);
    return model_abs_sum_scale(&a, n);
}

static void absmeans(void **state)
{
    (void)state;
    const float one[] = {-3}, tie[] = {1, 0x1.000002p0f},
                huge[] = {0x1.fffffep127f, -0x1.fffffep127f};
    const float tiny[] = {1e-9f, -1e-40f}, mixed[] = {0x1p100f, 0x1p-140f, 0x1p100f, -0x1p101f};
    const float third[] = {1, 0, 0}, bad[] = {1, INFINITY};
    assert_true(mean_of(one, 1, 0) == 3);
    assert_true(mean_of(tie, 2, 1) == 1); /* 1 + 2^-24: halves to even */
    assert_true(mean_of(huge, 2, 1) == 0x1.fffffep127f);
    assert_true(mean_of(tiny, 2, 2) == 1e-5f);
    assert_true(mean_of(mixed, 4, 3) == 0x1p100f);
    assert_true(mean_of(third, 3, 1) == 1.0f / 3);
    assert_true(isinf(mean_of(bad, 2, 1)));
    /* Against a sum that is exact in double: multiples of 2^-20 below 1. */
    float    w[1000];
    uint64_t seed = 7;
    double   sum  = 0;
    for (int i = 0; i < 1000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        w[i] = (float)(int32_t)(seed >> 44) * 0x1p-20f - 0.5f;
        sum += fabs((double)w[i]);
    }
    const float want = mean_of(w, 1000, 0);
    assert_true(fabs((double)want - sum / 1000) <= 0x1p-25 * (double)want);
    for (size_t cut = 1; cut <= 1000; cut += 37) assert_true(mean_of(w, 1000, cut) == want);
}

/* ---- half precision
 * ------------------------------------------------------------------------------ */

static void halves(void **state)
{
    (void)state;
    size_t   n = 0, n16 = 0, nb16 = 0;
    uint8_t *f32 = load("halves.f32", &n), *f16 = load("halves.f16", &n16);
    uint8_t *bf16 = load("halves.bf16", &nb16);
    assert_true(n == 2 * n16 && n == 2 * nb16);
    for (size_t i = 0; i < n / 4; i++) {
        float x = model_load_f32(f32 + 4 * i);
        assert_int_equal(model_f16_of_f32(x), model_load_u16(f16 + 2 * i));
        if (fabsf(x) >= 1e-38f) /* the package flushes subnormals */
            assert_int_equal(model_bf16_of_f32(x), model_load_u16(bf16 + 2 * i));
    }
    for (uint32_t h = 0; h < 65536; h++) { /* there and back again */
        float x = model_f32_of_f16((uint16_t)h), y = model_f32_of_bf16((uint16_t)h);
        if (isnan(x))
            assert_true((h & 0x7c00) == 0x7c00 && isnan(model_f32_of_f16(model_f16_of_f32(x))));
        else
            assert_int_equal(model_f16_of_f32(x), h);
        if (isnan(y))
            assert_true(isnan(model_f32_of_bf16(model_bf16_of_f32(y))));
        else
            assert_int_equal(model_bf16_of_f32(y), h);
    }
    assert_true(model_f32_of_f16(0x3c00) == 1 && model_f32_of_f16(0x0001) == 0x1p-24f);
    assert_true(model_f32_of_f16(0x7bff) == 65504 && model_f32_of_f16(0xfc00) == -INFINITY);
    free(f32);
    free(f16);
    free(bf16);
}

/* ---- checks of tensors
 * --------------------------------------------------------------------------- */

static void hostile_tensors(void **state)
{
    (void)state;
    static const uint8_t bytes[660];
    model_source_t      *s    = wrap(bytes, sizeof(bytes));
    const model_tensor_t good = {
        .type = MODEL_TQ2_0, .bytes = 660, .n_rows = 5, .n_cols = 512, .offset = 0};
    const struct {
        model_tensor_t t;
        base_status_t  st;
    } cases[] = {
        {good, BASE_OK},
        {{.type = MODEL_NONE}, BASE_OK}, /* absent */
        {{.type = MODEL_TYPE_COUNT, .bytes = 660, .n_rows = 5, .n_cols = 512}, BASE_ERR_INPUT},
        {{.type = (model_type_t)-1, .bytes = 660, .n_rows = 5, .n_cols = 512}, BASE_ERR_INPUT},
        {{.type = MODEL_TQ2_0, .file = 1, .bytes = 660, .n_rows = 5, .n_cols = 512},
         BASE_ERR_INPUT},
        {{.type = MODEL_TQ2_0, .bytes = 660, .n_rows = 5, .n_cols = 511}, BASE_ERR_INPUT},
        {{.type = MODEL_TQ2_0, .bytes = 660, .n_rows = 4, .n_cols = 512}, BASE_ERR_INPUT},
        {{.type = MODEL_TQ2_0, .bytes = 0, .n_rows = 0, .n_cols = 512}, BASE_ERR_INPUT},
        {{.type = MODEL_TQ2_0, .bytes = 660, .n_rows = 5, .n_cols = 512, .offset = 1},
         BASE_ERR_INPUT},
        {{.type = MODEL_TQ2_0, .bytes = 660, .n_rows = 5, .n_cols = 512, .offset = UINT64_MAX},
         BASE_ERR_INPUT},
        {{.type = MODEL_F32, .bytes = 4, .n_rows = UINT64_MAX, .n_cols = 4}, BASE_ERR_LIMIT},
        {{.type = MODEL_F32, .bytes = 4, .n_rows = 1, .n_cols = 1ull << 62}, BASE_ERR_LIMIT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        base_err_t err = {0};
        assert_int_equal(model_source_check(s, &cases[i].t, "blk.0.x", &err), cases[i].st);
        if (cases[i].st != BASE_OK) assert_non_null(strstr(err.text, "blk.0.x"));
    }
    model_source_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_trits),    cmocka_unit_test(every_byte),  cmocka_unit_test(scales),
        cmocka_unit_test(package_blocks),  cmocka_unit_test(parts),       cmocka_unit_test(halves),
        cmocka_unit_test(hostile_tensors), cmocka_unit_test(shared_rows), cmocka_unit_test(online),
        cmocka_unit_test(absmeans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
