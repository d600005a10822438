/* Synthetic models: files read back as what was asked for, equal to those in memory, by seed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/model.h"
#include "quantize/synth.h"

static char folder[64];

static const char *at(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void same_tensor(const model_t *a, const model_tensor_t *x, const model_t *b,
                        const model_tensor_t *y)
{
    assert_true(x->type == y->type && x->n_rows == y->n_rows && x->n_cols == y->n_cols &&
                x->bytes == y->bytes);
    const uint64_t n = model_row_bytes(x->type, x->n_cols);
    uint8_t       *p = malloc(n), *q = malloc(n);
    assert_true(p != NULL && q != NULL);
    for (uint64_t r = 0; r < x->n_rows; r++) {
        model_row_copy(a->source, x, r, p);
        model_row_copy(b->source, y, r, q);
        assert_memory_equal(p, q, n);
    }
    free(p);
    free(q);
}

/* Each tiny shape as a file, byte by byte what the source in memory makes. */
static void file_is_memory(void **state)
{
    (void)state;
    static const model_type_t types[]  = {MODEL_TQ2_0, MODEL_TQ1_0, MODEL_F16};
    static const model_type_t embeds[] = {MODEL_F16, MODEL_Q6_K, MODEL_Q8_0, MODEL_BF16, MODEL_F32};
    const quant_shape_t      *shape    = NULL;
    uint32_t                  n_shapes = 0;
    for (size_t i = 0; (shape = quant_shape_at(i)) != NULL; i++) {
        if (strncmp(shape->name, "tiny-", 5) != 0) continue;
        const model_type_t type = types[i % 3], embed = embeds[i % 5];
        model_t           *file = NULL, *memory = NULL;
        base_err_t         err = {0};
        n_shapes++;
        if (quant_synth_write(at("m.gguf"), shape, type, embed, i, 3, NULL, &err) != BASE_OK)
            fail_msg("%s", err.text);
        if (model_open(at("m.gguf"), false, &file, &err) != BASE_OK) fail_msg("%s", err.text);
        if (quant_synth_model(shape, type, embed, i, &memory, &err) != BASE_OK)
            fail_msg("%s", err.text);
        assert_true(model_source_generated(memory->source) &&
                    !model_source_generated(file->source));
        const model_desc_t *d = &file->desc, *e = &memory->desc;
        assert_string_equal(d->name, e->name);
        assert_string_equal(d->arch, e->arch);
        assert_true(d->n_layers == e->n_layers && d->width == e->width && d->act == e->act &&
                    d->head_dim == e->head_dim && d->rope_dims == e->rope_dims &&
                    d->n_vocab == e->n_vocab && d->context == e->context &&
                    d->norm_eps == e->norm_eps && d->rope_base == e->rope_base &&
                    d->rope_scale == e->rope_scale && d->tied && e->tied && d->rope == e->rope &&
                    d->n_params == e->n_params);
        assert_int_equal(file->vocab.n_tokens, shape->n_vocab);
        assert_int_equal(file->vocab.kind, MODEL_VOCAB_SPM);
        assert_int_equal(memory->vocab.kind, MODEL_VOCAB_NONE);
        same_tensor(file, &d->embed, memory, &e->embed);
        same_tensor(file, &d->out_norm, memory, &e->out_norm);
        for (uint32_t l = 0; l < d->n_layers; l++) {
            assert_true(d->layers[l].n_heads == e->layers[l].n_heads &&
                        d->layers[l].n_kv_heads == e->layers[l].n_kv_heads &&
                        d->layers[l].ffn == e->layers[l].ffn);
            for (int w = 0; w < QUANT_LAYER_TENSORS; w++)
                same_tensor(file, &d->layers[l].t[w], memory, &e->layers[l].t[w]);
        }
        model_close(&file);
        model_close(&memory);
        unlink(at("m.gguf"));
    }
    assert_true(n_shapes >= 4);
}

/* TQ1_0, TQ2_0 and F32 of a seed are the same model; another seed is another. A third of the
 * trits each;
 * one scale a tensor; parts of generated rows are parts of the whole. */
static void weights(void **state)
{
    (void)state;
    static const model_type_t types[] = {MODEL_TQ2_0, MODEL_TQ1_0, MODEL_F32};
    model_t                  *m[4]    = {NULL};
    const quant_shape_t      *shape   = quant_shape_find("tiny-kv3");
    uint64_t                  zeros = 0, plus = 0, all = 0, differ = 0;
    assert_non_null(shape);
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            quant_synth_model(shape, types[i % 3], MODEL_F16, i == 3 ? 2 : 1, &m[i], NULL),
            BASE_OK);
    for (int w = 0; w < QUANT_LAYER_TENSORS; w++) {
        const model_tensor_t *t[4];
        float                 min[4], max[4];
        if (model_layer_tensor_is_norm((model_layer_tensor_t)w)) continue;
        for (int i = 0; i < 4; i++) {
            t[i]   = &m[i]->desc.layers[1].t[w];
            min[i] = INFINITY;
            max[i] = 0;
        }
        for (uint64_t r = 0; r < t[0]->n_rows; r++) {
            int8_t   a[2048], b[2048], c[2048];
            float    f[2048];
            uint64_t n = t[0]->n_cols;
            assert_true(model_row_trits(m[0]->source, t[0], r, 0, n, a, &min[0], &max[0]));
            assert_true(model_row_trits(m[1]->source, t[1], r, 0, n, b, &min[1], &max[1]));
            assert_true(model_row_trits(m[3]->source, t[3], r, 0, n, c, &min[3], &max[3]));
            model_row_f32(m[2]->source, t[2], r, 0, n, f);
            assert_memory_equal(a, b, n);
            for (uint64_t k = 0; k < n; k++) {
                assert_true(f[k] == max[0] * (float)a[k]);
                zeros += a[k] == 0;
                plus += a[k] == 1;
                differ += a[k] != c[k];
            }
            all += n;
            assert_true(model_row_trits(m[1]->source, t[1], r, 100, 300, b, &min[1], &max[1]));
            assert_memory_equal(a + 100, b, 300);
            float part[300];
            model_row_f32(m[2]->source, t[2], r, 100, 300, part);
            assert_memory_equal(f + 100, part, sizeof(part));
        }
        assert_true(min[0] == max[0] && min[1] == max[0] && min[1] == max[1]);
        assert_true(max[0] > 0 && isfinite(max[0]));
    }
    const double n = (double)all;
    assert_true(fabs((double)zeros / n - 1.0 / 3) < 0.01 &&
                fabs((double)plus / n - 1.0 / 3) < 0.01);
    assert_true(fabs((double)differ / n - 2.0 / 3) < 0.01);
    for (int i = 0; i < 4; i++) model_close(&m[i]);
}

/* Normal embedding of the width's scale, norms near 1. */
static void moments(void **state)
{
    (void)state;
    model_t *m = NULL;
    float    row[512];
    double   sum = 0, squares = 0;
    assert_int_equal(
        quant_synth_model(quant_shape_find("tiny-mha"), MODEL_TQ2_0, MODEL_F32, 5, &m, NULL),
        BASE_OK);
    for (uint64_t r = 0; r < 512; r++) {
        model_row_f32(m->source, &m->desc.embed, r, 0, 512, row);
        for (int i = 0; i < 512; i++) {
            sum += (double)row[i];
            squares += (double)row[i] * (double)row[i];
        }
    }
    assert_true(fabs(sum / 262144) < 0.001);
    assert_true(fabs(sqrt(squares / 262144) - 0.1) < 0.001);
    model_row_f32(m->source, &m->desc.out_norm, 0, 0, 512, row);
    for (int i = 0; i < 512; i++) assert_true(row[i] > 0.5f && row[i] < 1.5f);
    model_close(&m);
}

/* All shapes have a desc; the sizes of the known models come out. */
static void all_shapes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double      billions; /* with a tied head */
    } sizes[] = {{"bitnet-2b-4t", 2.41}, {"bitnet-3b", 3.3},    {"falcon3-10b", 9.9},
                 {"llama3-8b", 7.5},     {"llama-13b", 12.85},  {"llama-70b", 68.7},
                 {"bitnet-100b", 100.2}, {"llama3-405b", 403.7}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        model_desc_t         d     = {0};
        base_err_t           err   = {0};
        const quant_shape_t *shape = quant_shape_find(sizes[i].name);
        assert_non_null(shape);
        base_status_t st = quant_synth_desc(shape, MODEL_TQ1_0, MODEL_F16, &d, &err);
        if (strcmp(sizes[i].name, "bitnet-3b") == 0) {
            assert_int_equal(st, BASE_ERR_USAGE);
            assert_non_null(strstr(err.text, "3200"));
            st = quant_synth_desc(shape, MODEL_F16, MODEL_F16, &d, &err);
        }
        if (st != BASE_OK) fail_msg("%s", err.text);
        double ratio = (double)d.n_params / 1e9 / sizes[i].billions;
        if (ratio < 0.99 || ratio > 1.01)
            fail_msg("%s: %.3f billion", sizes[i].name, (double)d.n_params / 1e9);
        model_desc_free(&d);
    }
    assert_null(quant_shape_find("gpt-5"));
    assert_int_equal(quant_type_find("tq2_0"), MODEL_TQ2_0);
    assert_int_equal(quant_type_find("Q6_K"), MODEL_Q6_K);
    assert_int_equal(quant_type_find("none"), MODEL_NONE);
    assert_int_equal(quant_type_find("q4_9"), MODEL_NONE);
}

static void refused(void **state)
{
    (void)state;
    const quant_shape_t *s   = quant_shape_find("tiny-mha");
    base_err_t           err = {0};
    struct stat          info;
    assert_int_equal(quant_synth_write(at("x"), s, MODEL_Q8_0, MODEL_F16, 1, 1, NULL, &err),
                     BASE_ERR_USAGE);
    assert_int_equal(quant_synth_write(at("x"), s, MODEL_NONE, MODEL_F16, 1, 1, NULL, &err),
                     BASE_ERR_USAGE);
    assert_int_equal(quant_synth_write(at("x"), s, MODEL_TQ2_0, MODEL_TQ2_0, 1, 1, NULL, &err),
                     BASE_ERR_USAGE);
    assert_int_equal(quant_synth_write(at("no/x"), s, MODEL_TQ2_0, MODEL_F16, 1, 1, NULL, &err),
                     BASE_ERR_IO);
    assert_non_null(strstr(err.text, "no/x"));
    assert_int_not_equal(stat(at("x"), &info), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_is_memory), cmocka_unit_test(weights), cmocka_unit_test(moments),
        cmocka_unit_test(all_shapes),     cmocka_unit_test(refused),
    };
    snprintf(folder, sizeof(folder), "/tmp/trireme-synth-XXXXXX");
    if (mkdtemp(folder) == NULL) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
