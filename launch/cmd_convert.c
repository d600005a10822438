/* launch/cmd_convert.c: convert and verify, which start neither MPI nor an engine. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/log.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/output.h"
#include "launch/session.h"
#include "launch/stop.h"
#include "quantize/convert.h"
#include "quantize/synth.h"
#include "quantize/verify.h"

enum { HASH_BYTES = 33 };

static base_status_t open_model(const options_t *o, model_t **out, base_err_t *err)
{
    const model_open_options_t open = {.i2s_layout = session_i2s_layout(o)};
    return model_open_with(opt_string(o, OPT_MODEL), &open, out, err);
}

/* ---- convert */

static base_status_t report_convert(const options_t *o, const quant_convert_report_t *r,
                                    base_err_t *err)
{
    const char *path = opt_string(o, OPT_OUTPUT);
    struct stat info = {.st_size = 0};
    char        size[32];
    char        change[160] = "scales unchanged";
    char        f16[64]     = "";

    (void)stat(path, &info);
    if (opt_flag(o, OPT_JSON)) {
        json_t *value = json_pack(
            "{s:o, s:s, s:s, s:I, s:o, s:I, s:I}", "file", out_json_text(path, strlen(path)),
            "arch", r->arch, "type", opt_string(o, OPT_CONVERT_TYPE), "file_bytes",
            (json_int_t)info.st_size, "scale_rounding", out_json_real(r->rounding),
            "ternary_tensors", (json_int_t)r->n_ternary, "f16_tensors", (json_int_t)r->n_f16);
        return out_json_write(&value, err);
    }
    if (r->rounding > 0)
        (void)snprintf(change, sizeof(change), "scales changed by up to %.2g of their value (%s)",
                       r->rounding, r->rounded);
    if (r->n_f16 > 0)
        (void)snprintf(f16, sizeof(f16), ", %" PRIu32 " of %" PRIu32 " ternary tensors as F16",
                       r->n_f16, r->n_ternary);
    base_log(r->rounding > 0x1p-11 ? BASE_LOG_WARN : BASE_LOG_INFO, "wrote %s: %s, %s, %s%s", path,
             r->arch, out_bytes((uint64_t)info.st_size, size, sizeof(size)), change, f16);
    return BASE_OK;
}

/* I2_S in the layout of --i2s-layout. */
static model_type_t ternary_type(const options_t *o)
{
    static const model_type_t layouts[] = {[MODEL_I2S_X86]     = MODEL_I2_S,
                                           [MODEL_I2S_ARM]     = MODEL_I2_S_64,
                                           [MODEL_I2S_X86_OLD] = MODEL_I2_S_R4};
    const model_type_t        type      = quant_type_find(opt_string(o, OPT_CONVERT_TYPE));
    return type == MODEL_I2_S ? layouts[session_i2s_layout(o)] : type;
}

int cmd_convert(const options_t *o)
{
    const char             *embed  = opt_string(o, OPT_CONVERT_EMBED_TYPE);
    model_t                *model  = NULL;
    quant_convert_report_t  report = {.rounding = 0};
    quant_convert_options_t options;
    base_err_t              err;
    base_status_t           st = BASE_OK;

    if (opt_string(o, OPT_MODEL) == NULL)
        st = base_fail(&err, BASE_ERR_USAGE, "no model: give a directory or file, or -m");
    else if (opt_string(o, OPT_OUTPUT) == NULL)
        st = base_fail(&err, BASE_ERR_USAGE, "no file to write: give OUT.gguf, or -o");
    if (st != BASE_OK) return cli_usage_error(&err, "convert");
    if (cli_launcher_rank() != 0) return 0;

    options = (quant_convert_options_t){
        .ternary = ternary_type(o),
        .embed   = embed == NULL ? MODEL_NONE : quant_type_find(embed),
        .stop    = stop_catch(),
    };
    st = open_model(o, &model, &err);
    if (st == BASE_OK)
        st = quant_convert(model, opt_string(o, OPT_OUTPUT), &options, &report, &err);
    if (st == BASE_OK) st = report_convert(o, &report, &err);
    model_close(&model);
    return st == BASE_OK ? 0 : stop_fail(&err);
}

/* ---- verify */

static const char *hash_text(model_hash_t h, char *buf)
{
    (void)snprintf(buf, HASH_BYTES, "%016" PRIx64 "%016" PRIx64, h.high, h.low);
    return buf;
}

typedef struct {
    model_t         *model;
    quant_item_t    *items;
    quant_verdict_t *verdicts;
    uint32_t         n;
    uint32_t         n_damaged;
    uint64_t         bytes;
    char             hash[HASH_BYTES]; /* of all */
} findings_t;

static void print_tensors(const findings_t *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        const model_tensor_t *t = f->items[i].tensor;
        char                  hash[HASH_BYTES];
        (void)printf("%s  %-32s %-6s %8" PRIu64 " x %-8" PRIu64 "%s\n",
                     hash_text(f->verdicts[i].hash, hash), f->items[i].name,
                     model_type_info(t->type)->name, t->n_rows, t->n_cols,
                     f->verdicts[i].damaged ? " damaged" : "");
    }
}

static base_status_t print_json(const options_t *o, const findings_t *f, base_err_t *err)
{
    const char *path = opt_string(o, OPT_MODEL);
    json_t     *value =
        json_pack("{s:o, s:I, s:I, s:I, s:s}", "model", out_json_text(path, strlen(path)),
                  "tensors", (json_int_t)f->n, "bytes", (json_int_t)f->bytes, "damaged",
                  (json_int_t)f->n_damaged, "xxh3_128", f->hash);
    json_t *list = json_array();

    for (uint32_t i = 0; i < f->n && opt_flag(o, OPT_TENSORS); i++) {
        const model_tensor_t *t = f->items[i].tensor;
        char                  hash[HASH_BYTES];
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:b}", "name", f->items[i].name, "type",
                            model_type_info(t->type)->name, "rows", (json_int_t)t->n_rows,
                            "columns", (json_int_t)t->n_cols, "bytes", (json_int_t)t->bytes,
                            "xxh3_128", hash_text(f->verdicts[i].hash, hash), "damaged",
                            (int)f->verdicts[i].damaged));
    }
    if (opt_flag(o, OPT_TENSORS))
        (void)json_object_set_new(value, "list", list);
    else
        json_decref(list);
    return out_json_write(&value, err);
}

static base_status_t print_findings(const options_t *o, const findings_t *f, base_err_t *err)
{
    char size[32];
    if (opt_flag(o, OPT_JSON)) return print_json(o, f, err);
    if (opt_flag(o, OPT_TENSORS)) print_tensors(f);
    (void)printf("%s  %s: %" PRIu32 " tensors, %s, %s\n", f->hash, opt_string(o, OPT_MODEL), f->n,
                 out_bytes(f->bytes, size, sizeof(size)), f->n_damaged == 0 ? "sound" : "damaged");
    return out_flush(err);
}

static base_status_t look(findings_t *f, base_err_t *err)
{
    void         *p      = NULL;
    model_hash_t *hashes = NULL;
    uint32_t      n      = 0;
    base_status_t st     = quant_items(&f->model->desc, &f->items, &f->n, err);
    if (st != BASE_OK) goto out;
    st = base_alloc(&p, f->n, sizeof(*f->verdicts), "verdicts", err);
    if (st != BASE_OK) goto out;
    f->verdicts = p;
    st          = base_alloc(&p, f->n, 2 * sizeof(*hashes), "hashes", err);
    if (st != BASE_OK) goto out;
    hashes = p;
    st     = quant_verify(f->model->source, f->items, f->n, stop_catch(), f->verdicts, err);
    if (st != BASE_OK) goto out;
    for (uint32_t i = 0; i < f->n; i++) {
        const model_tensor_t *t = f->items[i].tensor;
        hashes[n++]             = f->verdicts[i].hash;
        if (t->scale != 0 || t->out_scale != 0) hashes[n++] = quant_hash_scales(t);
        f->bytes += t->bytes;
        f->n_damaged += f->verdicts[i].damaged;
    }
    (void)hash_text(model_hash_join(hashes, n), f->hash);
out:
    free(hashes);
    return st;
}

/* The first damage in the order of the list. */
static base_status_t fail_damaged(const findings_t *f, base_err_t *err)
{
    uint32_t i = 0;
    while (!f->verdicts[i].damaged) i++;
    if (f->n_damaged > 1)
        base_log(BASE_LOG_ERROR, "%" PRIu32 " tensors are damaged; the first:", f->n_damaged);
    return quant_fail_row(f->model->source, &f->items[i], f->verdicts[i].row, err);
}

int cmd_verify(const options_t *o)
{
    findings_t    f = {.model = NULL};
    base_err_t    err;
    base_status_t st = BASE_OK;

    if (opt_string(o, OPT_MODEL) == NULL) {
        (void)base_fail(&err, BASE_ERR_USAGE, "no model: give a directory or file, or -m");
        return cli_usage_error(&err, "verify");
    }
    if (cli_launcher_rank() != 0) return 0;
    st = open_model(o, &f.model, &err);
    if (st == BASE_OK && f.model->vocab.kind == MODEL_VOCAB_NONE)
        base_log(BASE_LOG_WARN,
                 "%s: no vocabulary that can be used (a directory: tokenizer.json is missing?): no "
                 "text goes in or out",
                 opt_string(o, OPT_MODEL));
    if (st == BASE_OK) st = look(&f, &err);
    if (st == BASE_OK) st = print_findings(o, &f, &err);
    if (st == BASE_OK && f.n_damaged > 0) st = fail_damaged(&f, &err);
    free(f.items);
    free(f.verdicts);
    model_close(&f.model);
    return st == BASE_OK ? 0 : stop_fail(&err);
}
