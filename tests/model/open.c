/* Opening sound models: all that they say is found where it should be. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "model/gguf_write.h"
#include "tests/model/builder.h"

static model_t *open_mini(const knobs_t *knobs, build_t *b)
{
    base_err_t      err    = {0};
    model_source_t *source = NULL;
    model_t        *m      = NULL;
    *b                     = mini_model(knobs, NULL);
    assert_int_equal(model_source_wrap(b->data, b->used, MINI_LABEL, &source, &err), BASE_OK);
    if (model_open_source(&source, false, &m, &err) != BASE_OK) fail_msg("%s", err.text);
    assert_null(source);
    return m;
}

static void shape(void **state)
{
    (void)state;
    build_t             b;
    model_t            *m = open_mini(NULL, &b);
    const model_desc_t *d = &m->desc;
    assert_string_equal(d->arch, "bitnet");
    assert_string_equal(d->name, "mini.gguf"); /* no general.name */
    assert_int_equal(d->n_layers, MINI_LAYERS);
    assert_int_equal(d->width, MINI_WIDTH);
    assert_int_equal(d->head_dim, MINI_HEAD);
    assert_int_equal(d->rope_dims, MINI_HEAD);
    assert_int_equal(d->n_vocab, MINI_VOCAB);
    assert_int_equal(d->context, 128);
    assert_true(d->norm_eps == 1e-5f && d->rope_base == 10000 && d->rope_scale == 1);
    assert_int_equal(d->act, MODEL_ACT_SILU);
    assert_int_equal(d->rope, MODEL_ROPE_HALF);
    assert_true(d->tied && d->head.offset == d->embed.offset);
    assert_int_equal(d->embed.type, MODEL_F16);
    assert_int_equal(d->layers[0].t[MODEL_ATTN_K].type, MODEL_TQ2_0);
    assert_int_equal(d->layers[1].t[MODEL_ATTN_K].type, MODEL_TQ1_0);
    assert_int_equal(d->layers[1].n_heads, MINI_HEADS);
    assert_int_equal(d->layers[1].n_kv_heads, MINI_KV);
    assert_int_equal(d->layers[1].ffn, MINI_FFN);
    assert_int_equal(d->n_params, MINI_VOCAB * 256 + 256 +
                                      2 * (4 * 256 + 3 * 65536 + 65536 + 2 * 32768 + 65536));
    float norm[256];
    model_row_f32(m->source, &d->layers[1].t[MODEL_FFN_SUB_NORM], 0, 0, 256, norm);
    for (int i = 0; i < 256; i++) assert_true(norm[i] == 1);
    model_close(&m);
    assert_null(m);
    free(b.data);
}

static void vocabulary(void **state)
{
    (void)state;
    build_t              b;
    model_t             *m = open_mini(NULL, &b);
    const model_vocab_t *v = &m->vocab;
    assert_int_equal(v->kind, MODEL_VOCAB_SPM);
    assert_int_equal(v->n_tokens, MINI_VOCAB);
    assert_true(model_str_is(v->tokens[0], "<unk>") && model_str_is(v->tokens[261], "abc"));
    assert_true(model_str_is(v->tokens[13], "<0x0A>"));
    assert_true(v->scores[7] == -7);
    assert_int_equal(v->types[0], MODEL_TOKEN_UNKNOWN);
    assert_int_equal(v->types[100], MODEL_TOKEN_BYTE);
    assert_true(v->bos == 1 && v->eos == 2 && v->unk == 0 && v->pad == -1 && v->eot == -1);
    assert_true(v->add_bos && !v->add_eos && v->add_space_prefix);
    assert_int_equal(v->chat_template.bytes, 0);
    model_close(&m);
    free(b.data);
}

static void per_layer(build_t *b)
{
    build_array(b, "bitnet.feed_forward_length", MODEL_GGUF_I32, 2);
    build_u32(b, MINI_FFN);
    build_u32(b, MINI_FFN);
    build_key_f32(b, "bitnet.rope.freq_base", 500000);
    build_key_str(b, "bitnet.rope.scaling.type", "linear");
    build_key_u32(b, "bitnet.rope.scaling.factor", 4);
    build_key_u32(b, "bitnet.rope.dimension_count", 64);
    build_key_str(b, "general.name", "a\nb\xc3\xa9");
    build_key_u32(b, "tokenizer.ggml.padding_token_id", UINT32_MAX);
    build_key(b, "tokenizer.ggml.eot_token_id", MODEL_GGUF_I64);
    build_u64(b, 5);
}

static void keys(void **state)
{
    (void)state;
    build_t       b;
    const knobs_t knobs = {
        .skip_key = "feed_forward_length", .more_keys = per_layer, .extra_keys = 8, .untied = true};
    model_t *m = open_mini(&knobs, &b);
    assert_true(m->desc.rope_base == 500000 && m->desc.rope_scale == 4 && m->desc.rope_dims == 64);
    assert_string_equal(m->desc.name, "a?b\xc3\xa9");
    assert_true(!m->desc.tied && m->desc.head.type == MODEL_Q8_0);
    assert_true(m->vocab.eot == 5 && m->vocab.pad == -1);
    model_close(&m);
    free(b.data);
    const knobs_t relu = {.arch = "bitnet-b1.58", .skip_key = "attention.head_count_kv"};
    base_err_t    err  = {0};
    b = mini_model(&relu, NULL); /* KV heads as many as heads, but the file has 1 */
    assert_int_equal(mini_open(b.data, b.used, false, &err), BASE_ERR_INPUT);
    assert_non_null(strstr(err.text, "attn_k has 128 rows of 256"));
    free(b.data);
    const knobs_t b158 = {.arch = "bitnet-b1.58"};
    m                  = open_mini(&b158, &b);
    assert_int_equal(m->desc.act, MODEL_ACT_RELU2);
    model_close(&m);
    free(b.data);
}

/* ---- other architectures and types */

static void llama(void **state)
{
    (void)state;
    build_t             b;
    const knobs_t       knobs = {.arch = "llama", .untied = true};
    model_t            *m     = open_mini(&knobs, &b);
    const model_desc_t *d     = &m->desc;
    assert_int_equal(d->act, MODEL_ACT_SILU);
    assert_int_equal(d->rope, MODEL_ROPE_PAIR);
    assert_false(d->tied);
    assert_int_equal(d->layers[0].t[MODEL_ATTN_SUB_NORM].type, MODEL_NONE);
    assert_int_equal(d->layers[0].t[MODEL_ATTN_Q_BIAS].type, MODEL_NONE);
    assert_int_equal(d->layers[1].t[MODEL_ATTN_Q_BIAS].type, MODEL_F32);
    assert_int_equal(d->layers[1].t[MODEL_ATTN_Q_BIAS].n_cols, MINI_HEADS * MINI_HEAD);
    assert_true(d->layers[0].t[MODEL_FFN_UP].out_scale == 1);
    assert_true(d->layers[1].t[MODEL_FFN_UP].out_scale == 0);
    assert_true(d->rope_freq[0] == 1 && d->rope_magnitude == 1); /* factors of 1 */
    model_close(&m);
    free(b.data);
}

static void rope_keys(build_t *b)
{
    build_key_str(b, "llama.rope.scaling.type", "yarn");
    build_key_f32(b, "llama.rope.scaling.factor", 4);
    build_key_u32(b, "llama.rope.scaling.original_context_length", 32);
    build_key_f32(b, "llama.rope.scaling.attn_factor", 2);
}

static void yarn(void **state)
{
    (void)state;
    build_t                    b;
    const knobs_t              knobs = {.arch = "llama", .more_keys = rope_keys, .extra_keys = 4};
    model_t                   *m     = open_mini(&knobs, &b);
    model_desc_t               want  = {.rope_dims = MINI_HEAD, .rope_base = 10000};
    const model_rope_scaling_t s     = {MODEL_SCALING_YARN, .factor = 4, .original_context = 32};
    assert_int_equal(model_rope_resolve(&want, &s, "t", NULL), BASE_OK);
    assert_memory_equal(m->desc.rope_freq, want.rope_freq, sizeof(want.rope_freq));
    assert_true(m->desc.rope_magnitude == 2 * want.rope_magnitude);
    model_close(&m);
    free(b.data);
}

static void i2s(void **state)
{
    (void)state;
    static const model_type_t types[] = {MODEL_I2_S, MODEL_I2_S_64, MODEL_I2_S_R4};
    const knobs_t             knobs   = {.i2s = true};
    build_t                   b       = mini_model(&knobs, NULL);
    for (int layout = 0; layout < 3; layout++) {
        const model_open_options_t options = {.i2s_layout = (model_i2s_layout_t)layout};
        base_err_t                 err     = {0};
        model_source_t            *source  = NULL;
        model_t                   *m       = NULL;
        int8_t                     trits[256];
        float                      min = INFINITY, max = 0;
        assert_int_equal(model_source_wrap(b.data, b.used, MINI_LABEL, &source, &err), BASE_OK);
        if (model_open_source_with(&source, &options, &m, &err) != BASE_OK)
            fail_msg("%s", err.text);
        const model_tensor_t *t = &m->desc.layers[1].t[MODEL_FFN_DOWN];
        assert_int_equal(t->type, types[layout]);
        assert_true(t->scale == 0.5f);
        assert_int_equal(t->bytes, 256 * 256 / 4);
        assert_true(model_row_trits(m->source, t, 255, 0, 256, trits, &min, &max));
        assert_true(min == 0.5f && max == 0.5f);
        model_close(&m);
    }
    free(b.data);
}

static bool ends(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Where in a file of `layout` a weight's code is: byte and shift. */
static size_t i2s_place(int layout, size_t row, size_t col, size_t n_cols, unsigned *shift)
{
    const size_t block = layout == MODEL_I2S_X86 ? 128 : 64;
    const size_t at    = row * n_cols + col;
    if (layout == MODEL_I2S_X86_OLD) {
        *shift = 6 - 2 * (unsigned)(row % 4);
        return row / 4 * n_cols + col;
    }
    *shift = 6 - 2 * (unsigned)(at % block / (block / 4));
    return at / block * (block / 4) + at % (block / 4);
}

/* Weights whose channels are denser the higher their number, in all three layouts: each is taken as
 * what it is, and nothing else. The scores go by the feed-forward channels. */
static void i2s_choice(void **state)
{
    (void)state;
    static const char *const   names[] = {"x86", "arm", "x86-old"};
    const knobs_t              knobs   = {.i2s = true};
    const model_layer_tensor_t which[] = {MODEL_FFN_GATE, MODEL_FFN_UP, MODEL_FFN_DOWN};
    for (int is = 0; is < 3; is++) {
        build_t  b;
        model_t *m    = open_mini(&knobs, &b);
        uint32_t seed = 1;
        for (int w = 0; w < 6; w++) {
            const model_tensor_t *t    = &m->desc.layers[w / 3].t[which[w % 3]];
            uint8_t              *data = b.data + t->offset;
            memset(data, 0, t->bytes);
            for (size_t r = 0; r < 256; r++)
                for (size_t c = 0; c < 256; c++) {
                    const size_t channel = w % 3 == 2 ? c : r;
                    unsigned     shift   = 0;
                    const size_t place   = i2s_place(is, r, c, 256, &shift);
                    seed                 = seed * 1664525u + 1013904223u;
                    const bool zero      = (seed >> 24) > channel * 77 % 256;
                    data[place] |= (uint8_t)((zero ? 1u : (seed >> 20 & 2)) << shift);
                }
        }
        model_close(&m);
        for (int layout = 0; layout < 3; layout++) {
            const model_open_options_t options = {.i2s_layout = (model_i2s_layout_t)layout};
            model_source_t            *source  = NULL;
            base_err_t                 err     = {0};
            assert_int_equal(model_source_wrap(b.data, b.used, MINI_LABEL, &source, &err), BASE_OK);
            base_status_t st = model_open_source_with(&source, &options, &m, &err);
            assert_int_equal(st, layout == is ? BASE_OK : BASE_ERR_INPUT);
            char want[64];
            snprintf(want, sizeof(want), "give --i2s-layout %s", names[is]);
            if (st != BASE_OK && !ends(err.text, want)) fail_msg("%s, want '%s'", err.text, want);
            model_close(&m);
        }
        free(b.data);
    }
}

/* ---- a desc from elsewhere
 * ----------------------------------------------------------------------- */

static void desc_check(void **state)
{
    (void)state;
    build_t    b;
    base_err_t err = {0};
    model_t   *m   = open_mini(NULL, &b);
    assert_int_equal(model_desc_check(&m->desc, "wire", &err), BASE_OK);
    model_tensor_t *q     = &m->desc.layers[0].t[MODEL_ATTN_Q];
    model_tensor_t  saved = *q;
    q->type               = MODEL_NONE;
    assert_int_equal(model_desc_check(&m->desc, "wire", &err), BASE_ERR_INPUT);
    assert_string_equal(err.text, "wire: tensor blk.0.attn_q is missing");
    *q = saved;
    q->bytes++;
    assert_int_equal(model_desc_check(&m->desc, "wire", &err), BASE_ERR_INPUT);
    *q                                            = saved;
    m->desc.layers[1].t[MODEL_ATTN_SUB_NORM].type = MODEL_NONE; /* some models lack it */
    assert_int_equal(model_desc_check(&m->desc, "wire", &err), BASE_OK);
    m->desc.act = (model_act_t)7;
    assert_int_equal(model_desc_check(&m->desc, "wire", &err), BASE_ERR_INPUT);
    m->desc.act               = MODEL_ACT_SILU;
    m->desc.layers[0].n_heads = 0;
    assert_int_equal(model_desc_check(&m->desc, "wire", &err), BASE_ERR_INPUT);
    m->desc.layers[0].n_heads = 1u << 31;
    assert_int_equal(model_desc_check(&m->desc, "wire", &err), BASE_ERR_LIMIT);
    m->desc.layers[0].n_heads = MINI_HEADS;
    memset(m->desc.name, 'x', sizeof(m->desc.name));
    assert_int_equal(model_desc_check(&m->desc, "wire", &err), BASE_ERR_INPUT);
    model_close(&m);
    free(b.data);
}

/* ---- files
 * --------------------------------------------------------------------------------------- */

static void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void paths(void **state)
{
    (void)state;
    char       dir[] = "/tmp/trireme-open-XXXXXX";
    char       path[256];
    base_err_t err = {0};
    model_t   *m   = NULL;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(model_open(dir, false, &m, &err), BASE_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, dir));
    snprintf(path, sizeof(path), "%s/none.gguf", dir);
    assert_int_equal(model_open(path, false, &m, &err), BASE_ERR_IO);
    assert_non_null(strstr(err.text, path));
    snprintf(path, sizeof(path), "%s/empty.gguf", dir);
    write_file(path, "", 0);
    assert_int_equal(model_open(path, false, &m, &err), BASE_ERR_INPUT);
    assert_non_null(strstr(err.text, "empty"));
    unlink(path);
    snprintf(path, sizeof(path), "%s/pipe.gguf", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(model_open(path, false, &m, &err), BASE_ERR_IO); /* at once: no waiting */
    unlink(path);
    snprintf(path, sizeof(path), "%s/m.gguf", dir);
    build_t b = mini_model(NULL, NULL);
    write_file(path, b.data, b.used);
    assert_int_equal(model_open(path, false, &m, &err), BASE_OK);
    assert_string_equal(model_source_path(m->source, 0), path);
    assert_int_equal(model_source_bytes(m->source, 0), b.used);
    model_close(&m);
    unlink(path);
    rmdir(dir);
    free(b.data);
    assert_null(m);
}

/* The real files of the project's shared data. */
static bool shared(char *path, size_t n, const char *name)
{
    const char *root = getenv("TRIREME_SHARED"), *source = getenv("TRIREME_SOURCE");
    if (root != NULL)
        snprintf(path, n, "%s/%s", root, name);
    else
        snprintf(path, n, "%s/../shared/data/%s", source == NULL ? "." : source, name);
    if (access(path, R_OK) == 0) return true;
    print_message("skipped: %s is not there\n", path);
    return false;
}

static void real_model(void **state)
{
    (void)state;
    static const char *const names[] = {"bitllama/bitllama-3m-tq1.gguf",
                                        "bitllama/bitllama-3m-tq2.gguf"};
    char                     path[4096];
    base_err_t               err  = {0};
    model_t                 *m[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        if (!shared(path, sizeof(path), names[i])) skip();
        if (model_open(path, false, &m[i], &err) != BASE_OK) fail_msg("%s", err.text);
        assert_int_equal(m[i]->desc.n_layers, 8);
        assert_int_equal(m[i]->desc.layers[0].n_kv_heads, 4);
        assert_int_equal(m[i]->vocab.n_tokens, 512);
        assert_string_equal(m[i]->desc.name, "bitllama tinystories");
    }
    for (uint32_t l = 0; l < 8; l++) { /* both files hold the same weights */
        for (int w = 0; w < MODEL_LAYER_TENSOR_COUNT; w++) {
            const model_tensor_t *a = &m[0]->desc.layers[l].t[w], *b = &m[1]->desc.layers[l].t[w];
            if (a->type == MODEL_NONE || a->type == MODEL_F32) continue;
            float min[2] = {INFINITY, INFINITY}, max[2] = {0, 0};
            for (uint64_t r = 0; r < a->n_rows; r++) {
                int8_t x[256], y[256];
                assert_true(model_row_trits(m[0]->source, a, r, 0, 256, x, &min[0], &max[0]));
                assert_true(model_row_trits(m[1]->source, b, r, 0, 256, y, &min[1], &max[1]));
                assert_memory_equal(x, y, 256);
            }
            assert_true(min[0] == max[0] && min[0] == min[1] && max[0] == max[1]);
        }
    }
    model_close(&m[0]);
    model_close(&m[1]);
}

static void real_vocabs(void **state)
{
    (void)state;
    static const struct {
        const char        *name;
        model_vocab_kind_t kind;
        uint32_t           n_tokens, n_merges;
        int32_t            bos;
    } cases[] = {
        {"vocabs/ggml-vocab-llama-spm.gguf", MODEL_VOCAB_SPM, 32000, 0, 1},
        {"vocabs/ggml-vocab-gpt-2.gguf", MODEL_VOCAB_BPE, 50257, 50000, 50256},
        {"vocabs/ggml-vocab-falcon.gguf", MODEL_VOCAB_BPE, 65024, 64784, 11},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char       path[4096];
        base_err_t err = {0};
        model_t   *m   = NULL;
        if (!shared(path, sizeof(path), cases[i].name)) skip();
        if (model_open(path, true, &m, &err) != BASE_OK) fail_msg("%s", err.text);
        assert_int_equal(m->vocab.kind, cases[i].kind);
        assert_int_equal(m->vocab.n_tokens, cases[i].n_tokens);
        assert_int_equal(m->vocab.n_merges, cases[i].n_merges);
        assert_int_equal(m->vocab.bos, cases[i].bos);
        assert_int_equal(m->desc.n_layers, 0);
        model_close(&m);
        assert_int_not_equal(model_open(path, false, &m, &err), BASE_OK); /* no weights */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shape),       cmocka_unit_test(vocabulary), cmocka_unit_test(keys),
        cmocka_unit_test(desc_check),  cmocka_unit_test(paths),      cmocka_unit_test(real_model),
        cmocka_unit_test(real_vocabs), cmocka_unit_test(llama),      cmocka_unit_test(yarn),
        cmocka_unit_test(i2s),         cmocka_unit_test(i2s_choice),
    };
    base_log_setup(BASE_LOG_ERROR, false, -1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
