/* The GGUF writer: what it writes reads back; half files are never seen; full disks are reported.
 * */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/bytes.h"
#include "model/gguf.h"
#include "model/gguf_write.h"
#include "quantize/synth.h"

static char folder[64];

static const char *at(const char *name)
{
    static char path[2][128];
    static int  turn;
    turn = 1 - turn;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", folder, name);
    return path[turn];
}

static int files_in_folder(void)
{
    int  n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void every_kind(void **state)
{
    (void)state;
    static const uint32_t    u32s[] = {1, 2, 4000000000u};
    static const int32_t     i32s[] = {-1, 7};
    static const float       f32s[] = {0.5f, -2};
    static const model_str_t strs[] = {{"ab", 2}, {"", 0}, {"c\0d", 3}};
    model_gguf_writer_t     *w      = NULL;
    model_source_t          *s      = NULL;
    model_gguf_t             g      = {0};
    uint8_t                  rows[5 * 66];
    float                    norm[256];
    int64_t                  v    = 0;
    const char              *path = at("kinds.gguf");
    for (size_t i = 0; i < sizeof(rows); i++) rows[i] = (uint8_t)i;
    for (int i = 0; i < 256; i++) norm[i] = (float)i;
    assert_int_equal(model_gguf_writer_open(path, &w, NULL), BASE_OK);
    model_gguf_write_u32(w, "u", 4000000000u);
    model_gguf_write_f32(w, "f", 0.25f);
    model_gguf_write_bool(w, "b", true);
    model_gguf_write_str(w, "s", "text");
    model_gguf_write_u32s(w, "us", u32s, 3);
    model_gguf_write_i32s(w, "is", i32s, 2);
    model_gguf_write_f32s(w, "fs", f32s, 2);
    model_gguf_write_strs(w, "ss", strs, 3);
    assert_int_equal(model_gguf_write_tensor(w, "m.weight", MODEL_TQ2_0, 5, 256), 0);
    assert_int_equal(model_gguf_write_tensor(w, "v.weight", MODEL_F32, 0, 256), 1);
    assert_int_equal(model_gguf_writer_begin(w, NULL), BASE_OK);
    assert_int_equal(model_gguf_writer_total(w), 5 * 66 + 1024);
    assert_int_equal(model_gguf_write_rows(w, 1, 0, 1, norm, NULL), BASE_OK);
    assert_int_equal(model_gguf_write_rows(w, 0, 3, 2, rows + 3 * 66, NULL), BASE_OK);
    assert_int_equal(model_gguf_write_rows(w, 0, 0, 3, rows, NULL), BASE_OK);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(model_gguf_writer_finish(w, NULL), BASE_OK);
    model_gguf_writer_close(&w);
    assert_int_equal(files_in_folder(), 1);

    assert_int_equal(model_source_open(&path, 1, &s, NULL), BASE_OK);
    assert_int_equal(model_gguf_parse(s, 0, &g, NULL), BASE_OK);
    assert_int_equal(g.n_keys, 8);
    assert_int_equal(g.n_tensors, 2);
    assert_true(model_gguf_int_at(model_gguf_key(&g, "u"), 0, &v) && v == 4000000000);
    assert_true(model_gguf_int_at(model_gguf_key(&g, "is"), 0, &v) && v == -1);
    assert_true(model_gguf_int_at(model_gguf_key(&g, "us"), 2, &v) && v == 4000000000);
    assert_true(model_load_f32(model_gguf_key(&g, "fs")->data + 4) == -2);
    const uint8_t *p = model_gguf_key(&g, "ss")->data;
    assert_true(model_str_is(model_gguf_next_str(&p), "ab"));
    assert_int_equal(model_gguf_next_str(&p).bytes, 0);
    assert_int_equal(model_gguf_next_str(&p).bytes, 3);
    assert_null(model_gguf_key(&g, "none"));
    const model_gguf_tensor_t *t = model_gguf_tensor(&g, "m.weight");
    assert_true(t->dims[0] == 256 && t->dims[1] == 5 && t->n_dims == 2);
    model_tensor_t m = {
        .type = t->type, .offset = t->offset, .bytes = t->bytes, .n_rows = 5, .n_cols = 256};
    assert_memory_equal(model_row(s, &m, 0), rows, sizeof(rows));
    t = model_gguf_tensor(&g, "v.weight");
    assert_true(t->dims[0] == 256 && t->dims[1] == 1 && t->n_dims == 1);
    model_gguf_free(&g);
    model_source_close(&s);
    unlink(path);
}

static void given_up(void **state)
{
    (void)state;
    model_gguf_writer_t *w = NULL;
    base_err_t           err;
    assert_int_equal(model_gguf_writer_open(at("half.gguf"), &w, NULL), BASE_OK);
    model_gguf_write_tensor(w, "m.weight", MODEL_F32, 5, 256);
    assert_int_equal(model_gguf_writer_begin(w, NULL), BASE_OK);
    assert_int_equal(files_in_folder(), 1); /* the temporary one */
    model_gguf_writer_close(&w);
    assert_int_equal(files_in_folder(), 0);
    assert_int_equal(model_gguf_writer_open(at("none/x.gguf"), &w, &err), BASE_ERR_IO);
    assert_non_null(strstr(err.text, "none/x.gguf"));
    assert_null(w);
}

/* A limit on file sizes stands for a full disk. */
static void disk_full(void **state)
{
    (void)state;
    struct rlimit old, low;
    base_err_t    err = {0};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low                  = old;
    low.rlim_cur         = 100000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    base_status_t st = quant_synth_write(at("big.gguf"), quant_shape_find("tiny-mha"), MODEL_TQ2_0,
                                         MODEL_F16, 1, 2, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(st, BASE_ERR_IO);
    assert_non_null(strstr(err.text, "big.gguf"));
    assert_int_equal(files_in_folder(), 0);
}

/* ---- sets of files
 * -------------------------------------------------------------------------------- */

/* Copy the keys and a third of the tensors of a tiny model, as llama.cpp splits: keys in the
 * first. */
static void write_split(const quant_shape_t *shape, const model_desc_t *d, uint32_t no, uint32_t n)
{
    model_gguf_writer_t *w = NULL;
    char                 name[64];
    uint32_t             ids[64], n_ids = 0, total = 2 + d->n_layers * QUANT_LAYER_TENSORS;
    snprintf(name, sizeof(name), "set-%05u-of-%05u.gguf", no + 1, n);
    assert_int_equal(model_gguf_writer_open(at(name), &w, NULL), BASE_OK);
    model_gguf_write_u32(w, "split.no", no);
    model_gguf_write_u32(w, "split.count", n);
    if (no == 0) {
        model_gguf_write_str(w, "general.architecture", "bitnet");
        model_gguf_write_u32(w, "bitnet.block_count", shape->n_layers);
        model_gguf_write_u32(w, "bitnet.context_length", shape->context);
        model_gguf_write_u32(w, "bitnet.embedding_length", shape->width);
        model_gguf_write_u32(w, "bitnet.feed_forward_length", shape->ffn);
        model_gguf_write_u32(w, "bitnet.attention.head_count", shape->n_heads);
        model_gguf_write_u32(w, "bitnet.attention.head_count_kv", shape->n_kv_heads);
        model_gguf_write_u32(w, "bitnet.attention.key_length", shape->head_dim);
        model_gguf_write_f32(w, "bitnet.attention.layer_norm_rms_epsilon", shape->norm_eps);
    }
    for (uint32_t id = no * total / n; id < (no + 1) * total / n; id++) {
        char                  base[64], full[80];
        const model_tensor_t *t = id == 0   ? &d->embed
                                  : id == 1 ? &d->out_norm
                                            : &d->layers[(id - 2) / 11].t[(id - 2) % 11];
        if (id < 2)
            snprintf(base, sizeof(base), "%s", id == 0 ? "token_embd" : "output_norm");
        else
            model_layer_tensor_name((id - 2) / 11, (model_layer_tensor_t)((id - 2) % 11), base,
                                    sizeof(base));
        snprintf(full, sizeof(full), "%s.weight", base);
        model_gguf_write_tensor(w, full, t->type, t->n_rows == 1 ? 0 : t->n_rows, t->n_cols);
        ids[n_ids++] = id;
    }
    assert_int_equal(model_gguf_writer_begin(w, NULL), BASE_OK);
    for (uint32_t i = 0; i < n_ids; i++) {
        uint32_t              id  = ids[i];
        const model_tensor_t *t   = id == 0   ? &d->embed
                                    : id == 1 ? &d->out_norm
                                              : &d->layers[(id - 2) / 11].t[(id - 2) % 11];
        uint8_t              *row = malloc(model_row_bytes(t->type, t->n_cols));
        assert_non_null(row);
        for (uint64_t r = 0; r < t->n_rows; r++) {
            quant_synth_row(3, t, r, 0, t->n_cols / model_type_info(t->type)->block_elems, row);
            assert_int_equal(model_gguf_write_rows(w, i, r, 1, row, NULL), BASE_OK);
        }
        free(row);
    }
    assert_int_equal(model_gguf_writer_finish(w, NULL), BASE_OK);
    model_gguf_writer_close(&w);
}

static void split_set(void **state)
{
    (void)state;
    enum { FILES = 3 };
    const quant_shape_t *shape = quant_shape_find("tiny-mqa");
    model_desc_t         d     = {0};
    model_source_t      *synth = NULL;
    model_t             *m     = NULL;
    base_err_t           err   = {0};
    assert_int_equal(quant_synth_desc(shape, MODEL_TQ1_0, MODEL_F16, &d, NULL), BASE_OK);
    assert_int_equal(quant_synth_source("synth", 3, &synth, NULL), BASE_OK);
    for (uint32_t i = 0; i < FILES; i++) write_split(shape, &d, i, FILES);
    if (model_open(at("set-00001-of-00003.gguf"), false, &m, &err) != BASE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(model_source_count(m->source), FILES);
    for (uint32_t l = 0; l < d.n_layers; l++) {
        const model_tensor_t *t = &m->desc.layers[l].t[MODEL_FFN_DOWN];
        uint8_t               a[512], b[512];
        assert_int_equal(t->file, l == 0 ? 1 : 2);
        model_row_copy(m->source, t, 17, a);
        model_row_copy(synth, &d.layers[l].t[MODEL_FFN_DOWN], 17, b);
        assert_memory_equal(a, b, model_row_bytes(t->type, t->n_cols));
    }
    model_close(&m);
    assert_int_equal(model_open(at("set-00002-of-00003.gguf"), false, &m, &err), BASE_ERR_INPUT);
    assert_non_null(strstr(err.text, "give the first"));
    unlink(at("set-00003-of-00003.gguf"));
    assert_int_equal(model_open(at("set-00001-of-00003.gguf"), false, &m, &err), BASE_ERR_IO);
    assert_non_null(strstr(err.text, "set-00003-of-00003.gguf"));
    unlink(at("set-00002-of-00003.gguf"));
    unlink(at("set-00001-of-00003.gguf"));
    model_source_close(&synth);
    model_desc_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_kind), cmocka_unit_test(given_up),
                                       cmocka_unit_test(disk_full), cmocka_unit_test(split_set)};
    snprintf(folder, sizeof(folder), "/tmp/trireme-write-XXXXXX");
    if (mkdtemp(folder) == NULL) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
