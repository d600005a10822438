/* Hugging Face directories: the golden checkpoints of ../shared, their shapes and some weights. */
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

#include "base/log.h"
#include "model/bytes.h"
#include "model/gguf.h"

/* hf_values.py prints this table. */
static const struct {
    const char          *name;
    uint32_t             layer;
    model_layer_tensor_t which;
    uint64_t             n_rows, n_cols;
    float                scale;  /* factor or absolute mean; 0: dense */
    int64_t              sum;    /* of trits by place */
    float                corner; /* last float stored; 0: packed */
} values[] = {
#include "tests/model/hf_values.inc"
};

static bool golden(char *path, size_t n, const char *name)
{
    const char *root = getenv("TRIREME_SHARED"), *source = getenv("TRIREME_SOURCE");
    if (root != NULL)
        snprintf(path, n, "%s/golden/%s", root, name);
    else
        snprintf(path, n, "%s/../shared/data/golden/%s", source == NULL ? "." : source, name);
    if (access(path, R_OK) == 0) return true;
    print_message("skipped: %s is not there\n", path);
    return false;
}

static int64_t checksum(const model_t *m, const model_tensor_t *t)
{
    int64_t sum = 0;
    float   min = INFINITY, max = 0;
    int8_t  trits[1024];
    assert_true(t->n_cols <= 1024);
    for (uint64_t r = 0; r < t->n_rows; r++) {
        assert_true(model_row_trits(m->source, t, r, 0, t->n_cols, trits, &min, &max));
        for (uint64_t c = 0; c < t->n_cols; c++) sum += trits[c] * (int)(1 + (7 * r + 3 * c) % 11);
    }
    assert_true(min == t->scale && max == t->scale);
    return sum;
}

static void check_value(const model_t *m, size_t i)
{
    model_tensor_t t = m->desc.layers[values[i].layer].t[values[i].which];
    assert_true(t.n_rows == values[i].n_rows && t.n_cols == values[i].n_cols);
    if (values[i].corner != 0) {
        float corner = 0;
        model_row_f32(m->source, &t, t.n_rows - 1, t.n_cols - 1, 1, &corner);
        assert_true(corner == values[i].corner);
    }
    assert_int_equal(t.online, values[i].corner != 0 && values[i].scale != 0);
    if (values[i].scale == 0) return;
    if (t.online) { /* as the shards of a worker do it */
        model_abs_sum_t sum = {{0}};
        for (uint64_t r = 0; r < t.n_rows; r++)
            model_absmean_accumulate(m->source, &t, r, 0, t.n_cols, &sum);
        t.scale = model_abs_sum_scale(&sum, t.n_rows * t.n_cols);
    }
    assert_true(t.scale == values[i].scale);
    assert_int_equal(checksum(m, &t), values[i].sum);
}

static void golden_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char       path[4096];
        base_err_t err = {0};
        model_t   *m   = NULL;
        if (!golden(path, sizeof(path), values[i].name)) skip();
        if (model_open(path, false, &m, &err) != BASE_OK) fail_msg("%s", err.text);
        check_value(m, i);
        model_close(&m);
    }
}

static void golden_shapes(void **state)
{
    (void)state;
    static const struct {
        const char *name, *arch;
        uint32_t    layers, width, ffn, heads, kv, head_dim;
        model_act_t act;
        bool        tied, sub_norms;
        double      base, eps;
    } shapes[] = {
        {"bitnet-2b-online", "bitnet", 2, 192, 512, 6, 3, 32, MODEL_ACT_RELU2, true, true, 5e5,
         1e-5},
        {"bitnet-2b-packed", "bitnet", 3, 256, 704, 4, 2, 64, MODEL_ACT_RELU2, true, true, 5e5,
         1e-5},
        {"falcon3-158-packed", "llama", 2, 256, 768, 4, 1, 128, MODEL_ACT_SILU, false, false,
         1000042, 1e-6},
        {"llama-dense", "llama", 3, 128, 352, 4, 2, 32, MODEL_ACT_SILU, true, false, 1e4, 1e-5},
        {"llama3-158-packed", "llama", 3, 256, 640, 8, 4, 32, MODEL_ACT_SILU, false, false, 5e5,
         1e-5},
    };
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        char       path[4096];
        base_err_t err = {0};
        model_t   *m   = NULL;
        if (!golden(path, sizeof(path), shapes[i].name)) skip();
        if (model_open(path, false, &m, &err) != BASE_OK) fail_msg("%s", err.text);
        const model_desc_t  *d = &m->desc;
        const model_layer_t *l = &d->layers[d->n_layers - 1];
        assert_string_equal(d->name, shapes[i].name);
        assert_string_equal(d->arch, shapes[i].arch);
        assert_true(d->n_layers == shapes[i].layers && d->width == shapes[i].width);
        assert_true(l->ffn == shapes[i].ffn && l->n_heads == shapes[i].heads);
        assert_true(l->n_kv_heads == shapes[i].kv && d->head_dim == shapes[i].head_dim);
        assert_true(d->act == shapes[i].act && d->tied == shapes[i].tied);
        assert_true(d->rope == MODEL_ROPE_HALF && d->rope_base == shapes[i].base);
        assert_true(d->norm_eps == (float)shapes[i].eps && d->n_vocab == 1024 && d->context == 512);
        assert_int_equal(l->t[MODEL_FFN_SUB_NORM].type != MODEL_NONE, shapes[i].sub_norms);
        assert_int_equal(l->t[MODEL_ATTN_Q_BIAS].type, MODEL_NONE);
        const bool   llama3 = strcmp(shapes[i].name, "llama3-158-packed") == 0; /* factor 8 */
        const double last   = pow(shapes[i].base, -2.0 * (d->head_dim / 2 - 1) / d->head_dim);
        assert_true(fabs(d->rope_freq[d->head_dim / 2 - 1] * (llama3 ? 8 : 1) / last - 1) < 1e-12);
        const model_vocab_t *v = &m->vocab;
        assert_int_equal(v->kind, MODEL_VOCAB_BPE);
        assert_true(model_str_is(v->pre, "llama-bpe"));
        assert_true(v->n_tokens == 1024 && v->n_merges == 760);
        assert_true(model_str_is(v->tokens[0], "!") && v->types[0] == MODEL_TOKEN_NORMAL);
        assert_true(model_str_is(v->tokens[1020], "<|eot_id|>"));
        assert_true(v->types[1020] == MODEL_TOKEN_CONTROL);
        assert_true(model_str_is(v->merges[0], "\xc4\xa0 \xc4\xa0"));
        assert_true(v->bos == 1016 && v->eos == 1017 && v->pad == -1 && !v->add_bos);
        model_close(&m);
        if (model_open(path, true, &m, &err) != BASE_OK) fail_msg("%s", err.text);
        assert_true(m->desc.n_vocab == 1024 && m->desc.n_layers == 0 && m->vocab.n_tokens == 1024);
        model_close(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_shapes),
        cmocka_unit_test(golden_values),
    };
    base_log_setup(BASE_LOG_ERROR, false, -1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
