/* Encoders of the stored types: golden bytes, and what they make of trits and floats and back. */
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
#include "quantize/blocks.h"

static uint32_t random_u32(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void golden(void **state)
{
    (void)state;
    int8_t  trits[256] = {0};
    uint8_t tq1[54], tq2[66];
    for (int t = -1; t <= 1; t++) {
        static const uint8_t qs[] = {0x00, 0x80, 0xff}, qh[] = {0x00, 0x7f, 0xfd};
        static const uint8_t codes[] = {0x00, 0x55, 0xaa};
        memset(trits, t, 256);
        quant_block_tq1(trits, 1, tq1);
        quant_block_tq2(trits, 1, tq2);
        for (int i = 0; i < 48; i++) assert_int_equal(tq1[i], qs[t + 1]);
        for (int i = 48; i < 52; i++) assert_int_equal(tq1[i], qh[t + 1]);
        for (int i = 0; i < 64; i++) assert_int_equal(tq2[i], codes[t + 1]);
        assert_int_equal(model_load_u16(tq1 + 52), 0x3c00);
        assert_int_equal(model_load_u16(tq2 + 64), 0x3c00);
    }
    static const struct {
        int     weight, at;
        uint8_t tq1, tq2;
    } ones[] = {{0, 0, 0xd5, 0x56}, {37, 5, 0x9c, 0x59}, {240, 48, 0xd4, 0x95}};
    for (size_t i = 0; i < sizeof(ones) / sizeof(ones[0]); i++) {
        memset(trits, 0, 256);
        trits[ones[i].weight] = 1;
        quant_block_tq1(trits, 1, tq1);
        quant_block_tq2(trits, 1, tq2);
        assert_int_equal(tq1[ones[i].at], ones[i].tq1);
        assert_int_equal(tq2[ones[i].at], ones[i].tq2);
    }
    memset(trits, 0, 256); /* +,0,-,0,+ is v = 194, stored as 205 */
    trits[0]   = 1;
    trits[64]  = -1;
    trits[128] = 1;
    quant_block_tq1(trits, 1, tq1);
    assert_int_equal(tq1[0], 205);
}

static void there_and_back(void **state)
{
    (void)state;
    uint32_t seed = 1;
    int8_t   trits[256], got[256];
    uint8_t  tq1[54], tq2[66];
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < 256; i++) trits[i] = (int8_t)((int)(random_u32(&seed) % 3) - 1);
        quant_block_tq1(trits, 0.1f, tq1);
        quant_block_tq2(trits, 0.1f, tq2);
        model_block_tq1_trits(tq1, got);
        assert_memory_equal(got, trits, 256);
        assert_true(model_block_tq2_trits(tq2, got));
        assert_memory_equal(got, trits, 256);
        assert_int_equal(model_load_u16(tq2 + 64), model_f16_of_f32(0.1f));
    }
}

static size_t load(const char *name, void *data, size_t bytes)
{
    const char *root = getenv("TRIREME_SOURCE");
    char        path[512];
    (void)snprintf(path, sizeof(path), "%s/tests/golden/blocks/%s", root == NULL ? "." : root,
                   name);
    FILE *f = fopen(path, "rb");
    if (f == NULL) fail_msg("%s: cannot open", path);
    const size_t n = fread(data, 1, bytes, f);
    (void)fclose(f);
    return n;
}

/* The blocks that tests/golden/make_blocks.py made with numpy, and the layout of 4 rows a byte. */
static void i2s(void **state)
{
    (void)state;
    enum { N = 768 };
    float   values[N];
    int8_t  trits[N];
    uint8_t want[N / 4], got[N / 4];
    for (int wide = 0; wide < 2; wide++) {
        const uint32_t elems = wide == 0 ? 64 : 128;
        assert_int_equal(load(wide == 0 ? "I2_S_64.f32" : "I2_S.f32", values, sizeof(values)),
                         sizeof(values));
        assert_int_equal(load(wide == 0 ? "I2_S_64.bin" : "I2_S.bin", want, sizeof(want)),
                         sizeof(want));
        for (int i = 0; i < N; i++) trits[i] = (int8_t)((values[i] > 0) - (values[i] < 0));
        for (uint32_t i = 0; i < N; i += elems) quant_block_i2s(trits + i, elems, got + i / 4);
        assert_memory_equal(got, want, sizeof(want));
    }
    static const int8_t rows[4][2] = {{1, -1}, {0, 1}, {-1, 0}, {1, 1}};
    uint8_t             shared[2]  = {0xff, 0xff};
    for (uint64_t r = 0; r < 4; r++) quant_row_i2s_r4(rows[r], 4 + r, 2, shared);
    assert_int_equal(shared[0], 2 << 6 | 1 << 4 | 0 << 2 | 2);
    assert_int_equal(shared[1], 0 << 6 | 2 << 4 | 1 << 2 | 2);
}

/* Largest error of a type over n values, as a part of the largest magnitude among them. */
static float worst(model_type_t type, const float *x, uint64_t n)
{
    uint64_t        bytes  = model_row_bytes(type, n);
    uint8_t        *stored = malloc(bytes);
    float          *back   = malloc(n * sizeof(float));
    model_source_t *s      = NULL;
    model_tensor_t  t      = {.type = type, .bytes = bytes, .n_rows = 1, .n_cols = n};
    float           max = 0, error = 0;
    assert_true(stored != NULL && back != NULL);
    quant_row_dense(type, x, n, stored);
    assert_int_equal(model_source_wrap(stored, bytes, "row", &s, NULL), BASE_OK);
    model_row_f32(s, &t, 0, 0, n, back);
    for (uint64_t i = 0; i < n; i++) {
        assert_true(isfinite(back[i]));
        max   = fmaxf(max, fabsf(x[i]));
        error = fmaxf(error, fabsf(x[i] - back[i]));
    }
    model_source_close(&s);
    free(stored);
    free(back);
    return max == 0 ? error : error / max;
}

static void dense(void **state)
{
    (void)state;
    static const struct {
        model_type_t type;
        float        bound;
    } types[]     = {{MODEL_F32, 0},
                     {MODEL_F16, 0x1p-11f},
                     {MODEL_BF16, 0x1p-8f},
                     {MODEL_Q8_0, 0.0041f},  /* half a step of 1/127, and the scale's rounding */
                     {MODEL_Q6_K, 0.0400f}}; /* a step of 1/32 at the short end */
    uint32_t seed = 7;
    float    x[1024];
    for (int round = 0; round < 200; round++) {
        float scale = round % 3 == 0 ? 1 : round % 3 == 1 ? 1e-2f : 200;
        for (int i = 0; i < 1024; i++)
            x[i] = scale * ((float)(random_u32(&seed) & 0xffff) - 32768) / 32768;
        for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
            float error = worst(types[t].type, x, 256);
            if (error > types[t].bound)
                fail_msg("%s: error %g", model_type_info(types[t].type)->name, (double)error);
        }
    }
    for (int i = 0; i < 1024; i++) x[i] = 0;
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++)
        assert_true(worst(types[t].type, x, 1024) == 0);
    for (int i = 0; i < 1024; i++) x[i] = i % 2 == 0 ? 1e-30f : -1e-38f; /* no half so small */
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++)
        assert_true(worst(types[t].type, x, 1024) <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(there_and_back),
                                       cmocka_unit_test(i2s), cmocka_unit_test(dense)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
