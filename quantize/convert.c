/* quantize/convert.c: tensors of any model, row by row, into a GGUF file. */
#include "quantize/convert.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/log.h"
#include "model/bytes.h"
#include "quantize/blocks.h"
#include "quantize/verify.h"

enum { BLOCK = 256 };

typedef struct {
    float low, high; /* low > high: no weight but 0 */
} span_t;

typedef struct {
    model_t                       *model;
    const quant_convert_options_t *options;
    model_gguf_writer_t           *writer;
    quant_item_t                  *items;
    uint32_t                       n;
    uint32_t                      *numbers;    /* of the items in the file */
    bool                           interleave; /* q and k: halves to pairs */
    pthread_mutex_t                lock;
    model_abs_sum_t               *sums;  /* of the items; NULL when nothing is to be measured */
    span_t                        *spans; /* likewise: of the scales in blocks */
    quant_convert_report_t        *report;
} convert_t;

/* ---- what becomes what */

static const char *arch_of(const model_desc_t *d)
{
    const bool sub_norms = d->layers[0].t[MODEL_ATTN_SUB_NORM].type != MODEL_NONE;
    if (d->layers[0].t[MODEL_ATTN_Q_IN_NORM].type != MODEL_NONE) return NULL;
    if (sub_norms && d->rope == MODEL_ROPE_HALF)
        return d->act == MODEL_ACT_SILU ? "bitnet" : "bitnet-b1.58";
    return sub_norms || d->act != MODEL_ACT_SILU ? NULL : "llama";
}

static bool to_trits(const quant_item_t *item)
{
    return item->kind == QUANT_LINEAR &&
           (model_type_info(item->tensor->type)->ternary || item->tensor->online);
}

static bool is_i2s(model_type_t type)
{
    return type == MODEL_I2_S || type == MODEL_I2_S_64 || type == MODEL_I2_S_R4;
}

/* The type in the file. */
static model_type_t type_of(const convert_t *c, const quant_item_t *item)
{
    const model_tensor_t    *t       = item->tensor;
    const model_type_info_t *ternary = model_type_info(c->options->ternary);
    if (item->kind == QUANT_VECTOR) return MODEL_F32;
    if (to_trits(item))
        return t->n_cols % ternary->block_elems == 0 && (!ternary->shared || t->n_rows % 4 == 0)
                   ? c->options->ternary
                   : MODEL_F16_TERN;
    if (item->kind == QUANT_TABLE && c->options->embed != MODEL_NONE) return c->options->embed;
    return item->tensor->type;
}

static base_status_t check_items(const convert_t *c, base_err_t *err)
{
    const model_source_t *source = c->model->source;
    for (uint32_t i = 0; i < c->n; i++) {
        const quant_item_t      *item = &c->items[i];
        const model_tensor_t    *t    = item->tensor;
        const model_type_info_t *to   = model_type_info(type_of(c, item));
        const char              *path = model_source_path(source, t->file);
        if (to->scaled && item->kind != QUANT_LINEAR)
            return base_fail(err, BASE_ERR_UNSUPPORTED,
                             "%s: tensor %s, an embedding of type %s, is not converted: give "
                             "--embed-type f16",
                             path, item->name, to->name);
        if (t->n_cols % to->block_elems == 0) continue;
        return base_fail(err, BASE_ERR_UNSUPPORTED,
                         "%s: tensor %s has rows of %" PRIu64 " weights, but %s stores blocks of "
                         "%" PRIu32 ": give --embed-type f16, bf16 or f32",
                         path, item->name, t->n_cols, to->name, to->block_elems);
    }
    return BASE_OK;
}

/* ---- the directory */

/* llama.cpp keeps a factor of the product beside the weights. */
static void factor_name(const quant_item_t *item, char *out, size_t out_bytes)
{
    const size_t stem = strlen(item->name) - strlen("weight");
    (void)snprintf(out, out_bytes, "%.*sscale", (int)stem, item->name);
}

/* Does the factor stay a tensor of its own? I2_S takes it into its scale. */
static bool has_factor(const convert_t *c, const quant_item_t *item)
{
    return item->kind == QUANT_LINEAR && item->tensor->out_scale != 0 && !is_i2s(type_of(c, item));
}

/* trireme.ternary_tensors: what is F16 in the file and nevertheless ternary. */
static base_status_t write_ternary_names(convert_t *c, base_err_t *err)
{
    void         *p  = NULL;
    base_status_t st = base_alloc(&p, c->n, sizeof(model_str_t), "list of tensors", err);
    if (st != BASE_OK) return st;
    model_str_t *names = p;
    for (uint32_t i = 0; i < c->n; i++) {
        const quant_item_t *item = &c->items[i];
        c->report->n_ternary += to_trits(item);
        if (type_of(c, item) != MODEL_F16_TERN) continue;
        names[c->report->n_f16++] = (model_str_t){item->name, (uint32_t)strlen(item->name)};
    }
    if (c->report->n_f16 > 0)
        model_gguf_write_strs(c->writer, "trireme.ternary_tensors", names, c->report->n_f16);
    free(names);
    return BASE_OK;
}

/* Numbers behind those of the items: rope_freqs.weight, then the factors in the items' order. */
static void declare(convert_t *c, uint32_t n_divisors, uint32_t *rope)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const quant_item_t *item = &c->items[i];
        c->numbers[i]            = model_gguf_write_tensor(
                       c->writer, item->name, type_of(c, item),
            item->kind == QUANT_VECTOR ? 0 : item->tensor->n_rows, item->tensor->n_cols);
    }
    if (n_divisors > 0)
        *rope = model_gguf_write_tensor(c->writer, "rope_freqs.weight", MODEL_F32, 0, n_divisors);
    for (uint32_t i = 0; i < c->n; i++) {
        char name[80];
        if (!has_factor(c, &c->items[i])) continue;
        factor_name(&c->items[i], name, sizeof(name));
        (void)model_gguf_write_tensor(c->writer, name, MODEL_F32, 0, 1);
    }
}

static base_status_t write_floats(convert_t *c, uint32_t number, const float *x, uint32_t n,
                                  base_err_t *err)
{
    uint8_t bytes[4 * MODEL_ROPE_MAX];
    base_assert(n <= MODEL_ROPE_MAX);
    for (uint32_t i = 0; i < n; i++) model_store_u32(bytes + 4 * i, model_bits_of_float(x[i]));
    return model_gguf_write_rows(c->writer, number, 0, 1, bytes, err);
}

static base_status_t write_small(convert_t *c, const float *divisors, uint32_t n_divisors,
                                 uint32_t rope, base_err_t *err)
{
    uint32_t      number = c->n;
    base_status_t st     = BASE_OK;
    if (n_divisors > 0) {
        base_assert(number == rope);
        st = write_floats(c, number++, divisors, n_divisors, err);
    }
    for (uint32_t i = 0; st == BASE_OK && i < c->n; i++) {
        const float factor = c->items[i].tensor->out_scale;
        if (!has_factor(c, &c->items[i])) continue;
        st = write_floats(c, number++, &factor, 1, err);
    }
    return st;
}

/* ---- scales of whole tensors */

/* Are the scales in the blocks to become one? */
static bool needs_span(const convert_t *c, const quant_item_t *item)
{
    const model_tensor_t *t = item->tensor;
    return to_trits(item) && model_type_info(type_of(c, item))->scaled && !t->online &&
           !model_type_info(t->type)->scaled;
}

static bool needs_mean(const model_tensor_t *t)
{
    return t->online && !t->unit;
}

static base_status_t add_sum(convert_t *c, uint32_t item, uint64_t row, uint64_t n_rows,
                             base_err_t *err)
{
    const model_tensor_t *t   = c->items[item].tensor;
    model_abs_sum_t       sum = {{0}};
    for (uint64_t r = row; r < row + n_rows; r++) {
        model_absmean_accumulate(c->model->source, t, r, 0, t->n_cols, &sum);
        if (sum.significands[255] != 0) /* infinities and NaN */
            return quant_fail_row(c->model->source, &c->items[item], r, err);
    }
    (void)pthread_mutex_lock(&c->lock);
    model_abs_sum_merge(&c->sums[item], &sum);
    (void)pthread_mutex_unlock(&c->lock);
    return BASE_OK;
}

static base_status_t add_span(convert_t *c, uint32_t item, uint64_t row, uint64_t n_rows,
                              int8_t *trits, base_err_t *err)
{
    const model_tensor_t *t    = c->items[item].tensor;
    span_t                span = {INFINITY, 0};
    for (uint64_t r = row; r < row + n_rows; r++)
        if (!model_row_trits(c->model->source, t, r, 0, t->n_cols, trits, &span.low, &span.high))
            return quant_fail_row(c->model->source, &c->items[item], r, err);
    (void)pthread_mutex_lock(&c->lock);
    c->spans[item].low  = fminf(c->spans[item].low, span.low);
    c->spans[item].high = fmaxf(c->spans[item].high, span.high);
    (void)pthread_mutex_unlock(&c->lock);
    return BASE_OK;
}

static base_status_t measure(void *context, uint32_t item, uint64_t row, uint64_t n_rows,
                             quant_scratch_t *scratch, base_err_t *err)
{
    convert_t *c = context;
    if (needs_mean(c->items[item].tensor)) return add_sum(c, item, row, n_rows, err);
    if (needs_span(c, &c->items[item])) return add_span(c, item, row, n_rows, scratch->trits, err);
    return BASE_OK;
}

/* The one scale of a tensor whose target has one; a tensor of zeros has the scale 0. */
static float scale_of(const convert_t *c, uint32_t item)
{
    return needs_span(c, &c->items[item]) ? c->spans[item].high : c->items[item].tensor->scale;
}

static base_status_t check_span(const convert_t *c, uint32_t item, base_err_t *err)
{
    const quant_item_t *it = &c->items[item];
    if (!needs_span(c, it) || c->spans[item].low >= c->spans[item].high) return BASE_OK;
    return base_fail(err, BASE_ERR_UNSUPPORTED,
                     "%s: tensor %s has scales from %g to %g in its blocks, but %s stores one for "
                     "the tensor: --type tq2_0 keeps them",
                     model_source_path(c->model->source, it->tensor->file), it->name,
                     (double)c->spans[item].low, (double)c->spans[item].high,
                     model_type_info(c->options->ternary)->name);
}

static base_status_t find_scales(convert_t *c, base_err_t *err)
{
    bool  any = false;
    void *p   = NULL;
    for (uint32_t i = 0; i < c->n; i++)
        any = any || needs_mean(c->items[i].tensor) || needs_span(c, &c->items[i]);
    if (!any) return BASE_OK;
    base_status_t st = base_alloc(&p, c->n, sizeof(*c->sums), "absolute means", err);
    if (st != BASE_OK) return st;
    c->sums = p;
    st      = base_alloc(&p, c->n, sizeof(*c->spans), "scales", err);
    if (st != BASE_OK) return st;
    c->spans = p;
    for (uint32_t i = 0; i < c->n; i++) c->spans[i] = (span_t){INFINITY, 0};
    st = quant_rows_each(c->items, c->n, false, measure, c, c->options->stop, "measuring", err);
    for (uint32_t i = 0; st == BASE_OK && i < c->n; i++) {
        model_tensor_t *t = c->items[i].tensor;
        if (needs_mean(t)) t->scale = model_abs_sum_scale(&c->sums[i], t->n_rows * t->n_cols);
        st = check_span(c, i, err);
    }
    return st;
}

/* Behind each I2_S tensor its scale, a factor of the product included. */
static base_status_t write_scales(convert_t *c, base_err_t *err)
{
    base_status_t st = BASE_OK;
    for (uint32_t i = 0; st == BASE_OK && i < c->n; i++) {
        const quant_item_t *item   = &c->items[i];
        const float         factor = item->tensor->out_scale;
        const float         scale  = scale_of(c, i) * (factor == 0 ? 1 : factor);
        if (item->kind != QUANT_LINEAR || !is_i2s(type_of(c, item))) continue;
        if (!isfinite(scale) || scale < 0)
            return base_fail(err, BASE_ERR_UNSUPPORTED,
                             "%s: tensor %s has the scale %g with its factor %g, which I2_S "
                             "cannot have: --type tq2_0 keeps them apart",
                             model_source_path(c->model->source, item->tensor->file), item->name,
                             (double)scale, (double)factor);
        st = model_gguf_write_scale(c->writer, c->numbers[i], scale, err);
    }
    return st;
}

/* ---- rows */

/* Row r of q or k in pairs was row source_row() in halves: rotated dimension 2j + b of a head was
 * dimension j + b * dims / 2 (llama.cpp, conversion of Llama). */
static uint64_t source_row(const convert_t *c, const quant_item_t *item, uint64_t row)
{
    const model_desc_t        *d     = &c->model->desc;
    const model_layer_tensor_t which = item->which;
    if (!c->interleave || (which != MODEL_ATTN_Q && which != MODEL_ATTN_K &&
                           which != MODEL_ATTN_Q_BIAS && which != MODEL_ATTN_K_BIAS))
        return row;
    const uint64_t in_head = row % d->head_dim;
    if (in_head >= d->rope_dims) return row;
    return row - in_head + in_head / 2 + in_head % 2 * (d->rope_dims / 2);
}

static void note_rounding(convert_t *c, const quant_item_t *item, double error)
{
    (void)pthread_mutex_lock(&c->lock);
    if (error > c->report->rounding) {
        c->report->rounding = error;
        (void)snprintf(c->report->rounded, sizeof(c->report->rounded), "%s", item->name);
    }
    (void)pthread_mutex_unlock(&c->lock);
}

/* A scale in half precision, the change noted; what has none there is refused. */
static base_status_t round_scale(convert_t *c, const quant_item_t *item, float scale, double *worst,
                                 base_err_t *err)
{
    const float rounded = model_f32_of_f16(model_f16_of_f32(scale));
    if (!isfinite(rounded))
        return base_fail(err, BASE_ERR_UNSUPPORTED,
                         "%s: tensor %s has the scale %g, too large for half precision",
                         model_source_path(c->model->source, item->tensor->file), item->name,
                         (double)scale);
    if (scale > 0) *worst = fmax(*worst, fabs((double)rounded - (double)scale) / (double)scale);
    return BASE_OK;
}

/* A row of trits in blocks, each with the scale that it had. */
static base_status_t block_row(convert_t *c, const quant_item_t *item, uint64_t row,
                               quant_scratch_t *scratch, uint8_t *out, base_err_t *err)
{
    const model_source_t *source = c->model->source;
    const model_tensor_t *t      = item->tensor;
    const bool            one    = t->online || model_type_info(t->type)->scaled;
    const uint32_t        bytes  = model_type_info(c->options->ternary)->block_bytes;
    double                worst  = 0;

    for (uint64_t col = 0; col < t->n_cols; col += BLOCK, out += bytes) {
        float min = INFINITY;
        float max = 0;
        if (!model_row_trits(source, t, row, col, BLOCK, scratch->trits, &min, &max))
            return quant_fail_row(source, item, row, err);
        const float   g  = one ? t->scale : max; /* a block of zeros has no scale of its own */
        base_status_t st = round_scale(c, item, g, &worst, err);
        if (st != BASE_OK) return st;
        if (c->options->ternary == MODEL_TQ1_0)
            quant_block_tq1(scratch->trits, g, out);
        else
            quant_block_tq2(scratch->trits, g, out);
    }
    if (worst > 0) note_rounding(c, item, worst);
    return BASE_OK;
}

/* A row of trits in a type with one scale for the tensor: row `from` becomes row `row`. */
static base_status_t scaled_row(convert_t *c, const quant_item_t *item, uint64_t from, uint64_t row,
                                quant_scratch_t *scratch, uint8_t *out, base_err_t *err)
{
    const model_tensor_t    *t     = item->tensor;
    const model_type_t       to    = type_of(c, item);
    const model_type_info_t *info  = model_type_info(to);
    const float              scale = scale_of(c, (uint32_t)(item - c->items));
    float                    min   = INFINITY;
    float                    max   = 0;
    double                   worst = 0;
    base_status_t            st    = BASE_OK;

    if (!model_row_trits(c->model->source, t, from, 0, t->n_cols, scratch->trits, &min, &max))
        return quant_fail_row(c->model->source, item, from, err);
    if (to == MODEL_I2_S_R4) {
        quant_row_i2s_r4(scratch->trits, row, t->n_cols, out);
        return BASE_OK;
    }
    if (to != MODEL_F16_TERN) {
        for (uint64_t col = 0; col < t->n_cols; col += info->block_elems, out += info->block_bytes)
            quant_block_i2s(scratch->trits + col, info->block_elems, out);
        return BASE_OK;
    }
    st = round_scale(c, item, scale, &worst, err);
    if (worst > 0) note_rounding(c, item, worst);
    for (uint64_t i = 0; i < t->n_cols; i++) {
        const int8_t   trit = scratch->trits[i];
        const uint16_t one  = model_f16_of_f32(trit < 0 ? -scale : scale);
        model_store_u16(out + 2 * i, trit == 0 ? 0 : one);
    }
    return st;
}

static base_status_t vector_row(convert_t *c, const quant_item_t *item, quant_scratch_t *scratch,
                                uint8_t *out)
{
    const uint64_t n      = item->tensor->n_cols;
    const float    factor = item->tensor->out_scale == 0 ? 1 : item->tensor->out_scale;
    for (uint64_t i = 0; i < n; i++) {
        const float x = scratch->row[source_row(c, item, i)] * factor;
        model_store_u32(out + 4 * i, model_bits_of_float(x));
    }
    return BASE_OK;
}

static base_status_t one_row(convert_t *c, const quant_item_t *item, uint64_t row,
                             quant_scratch_t *scratch, uint8_t *out, base_err_t *err)
{
    const model_source_t *source = c->model->source;
    const model_tensor_t *t      = item->tensor;
    const model_type_t    to     = type_of(c, item);
    const bool            vector = item->kind == QUANT_VECTOR;
    const uint64_t        from   = vector ? row : source_row(c, item, row);

    if (to_trits(item) && model_type_info(to)->scaled)
        return scaled_row(c, item, from, row, scratch, out, err);
    if (to_trits(item)) return block_row(c, item, from, scratch, out, err);
    if (!quant_row_sound(source, t, from, scratch)) return quant_fail_row(source, item, from, err);
    if (to == t->type && !vector) {
        model_row_copy(source, t, from, out);
        return BASE_OK;
    }
    model_row_f32(source, t, from, 0, t->n_cols, scratch->row);
    if (vector) return vector_row(c, item, scratch, out);
    quant_row_dense(to, scratch->row, t->n_cols, out);
    return BASE_OK;
}

static base_status_t convert_rows(void *context, uint32_t item, uint64_t row, uint64_t n_rows,
                                  quant_scratch_t *scratch, base_err_t *err)
{
    convert_t          *c     = context;
    const quant_item_t *it    = &c->items[item];
    const model_type_t  to    = type_of(c, it);
    const bool          quads = model_type_info(to)->shared;
    const uint64_t      cols  = it->tensor->n_cols;
    const uint64_t      bytes = quads ? cols : model_row_bytes(to, cols);
    base_status_t       st    = BASE_OK;
    for (uint64_t r = 0; st == BASE_OK && r < n_rows; r++)
        st = one_row(c, it, row + r, scratch, scratch->bytes + (quads ? r / 4 : r) * bytes, err);
    if (st != BASE_OK) return st;
    return model_gguf_write_rows(c->writer, c->numbers[item], row, n_rows, scratch->bytes, err);
}

/* ---- the whole */

/* A file that is read must not be the one that is written: it would be gone in the end. */
static base_status_t check_path(const model_t *model, const char *path, base_err_t *err)
{
    struct stat to, from;
    if (stat(path, &to) != 0) return BASE_OK;
    for (uint32_t i = 0; i < model_source_count(model->source); i++)
        if (stat(model_source_path(model->source, i), &from) == 0 && from.st_dev == to.st_dev &&
            from.st_ino == to.st_ino)
            return base_fail(err, BASE_ERR_IO,
                             "%s: is the model that is read; give another name for the file to "
                             "write",
                             path);
    return BASE_OK;
}

/* llama.cpp's "bitnet" refuses files with tensors that it does not know. */
static void warn_bitnet(const convert_t *c, uint32_t n_divisors)
{
    const char *what = c->model->desc.tied ? NULL : "a head of its own";
    if (n_divisors > 0) what = "RoPE factors";
    for (uint32_t i = 0; i < c->n; i++)
        if (c->items[i].kind == QUANT_VECTOR && model_layer_tensor_is_bias(c->items[i].which))
            what = "biases";
    if (what != NULL)
        base_log(BASE_LOG_WARN,
                 "llama.cpp will not load the file: its architecture bitnet "
                 "does not take %s",
                 what);
}

static base_status_t write_file(convert_t *c, const char *arch, base_err_t *err)
{
    float         divisors[MODEL_ROPE_MAX];
    uint32_t      n_divisors = 0;
    uint32_t      rope       = 0;
    uint32_t      kind       = UINT32_MAX;
    base_status_t st = quant_convert_keys(c->writer, c->model, arch, divisors, &n_divisors, err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < c->n; i++)
        if (c->items[i].kind == QUANT_LINEAR)
            kind = quant_file_type(to_trits(&c->items[i]) ? c->options->ternary
                                                          : type_of(c, &c->items[i]));
    st = write_ternary_names(c, err);
    if (st != BASE_OK) return st;
    if (kind != UINT32_MAX) model_gguf_write_u32(c->writer, "general.file_type", kind);
    if (strcmp(arch, "bitnet") == 0) warn_bitnet(c, n_divisors);
    if (strcmp(arch, "bitnet-b1.58") == 0 && !c->model->desc.tied)
        base_log(BASE_LOG_WARN, "bitnet.cpp will take the embedding for the head: its architecture "
                                "bitnet-b1.58 does not use a head of its own");
    declare(c, n_divisors, &rope);
    st = model_gguf_writer_begin(c->writer, err);
    if (st == BASE_OK) st = write_small(c, divisors, n_divisors, rope, err);
    if (st == BASE_OK) st = find_scales(c, err); /* long: a full disk is known by now */
    if (st == BASE_OK)
        st = quant_rows_each(c->items, c->n, false, convert_rows, c, c->options->stop, "converting",
                             err);
    if (st == BASE_OK) st = write_scales(c, err);
    if (st == BASE_OK) st = model_gguf_writer_finish(c->writer, err);
    return st;
}

base_status_t quant_convert(model_t *model, const char *path,
                            const quant_convert_options_t *options, quant_convert_report_t *report,
                            base_err_t *err)
{
    convert_t     c    = {.model = model, .options = options, .report = report};
    const char   *arch = arch_of(&model->desc);
    void         *p    = NULL;
    base_status_t st   = check_path(model, path, err);

    base_assert(options->ternary == MODEL_TQ1_0 || options->ternary == MODEL_TQ2_0 ||
                is_i2s(options->ternary));
    memset(report, 0, sizeof(*report));
    if (st != BASE_OK) return st;
    if (arch == NULL)
        return base_fail(err, BASE_ERR_UNSUPPORTED,
                         "%s: no architecture of GGUF has this activation with these norms: "
                         "trireme runs the model as it is, without a conversion",
                         model_source_path(model->source, 0));
    (void)snprintf(report->arch, sizeof(report->arch), "%s", arch);
    c.interleave = model->desc.rope == MODEL_ROPE_HALF && strcmp(arch, "llama") == 0;
    (void)pthread_mutex_init(&c.lock, NULL);
    st = quant_items(&model->desc, &c.items, &c.n, err);
    if (st != BASE_OK) goto out;
    st = base_alloc(&p, c.n, sizeof(*c.numbers), "list of tensors", err);
    if (st != BASE_OK) goto out;
    c.numbers = p;
    st        = check_items(&c, err);
    if (st != BASE_OK) goto out;
    st = model_gguf_writer_open(path, &c.writer, err);
    if (st != BASE_OK) goto out;
    st = write_file(&c, arch, err);
out:
    model_gguf_writer_close(&c.writer);
    (void)pthread_mutex_destroy(&c.lock);
    free(c.sums);
    free(c.spans);
    free(c.numbers);
    free(c.items);
    return st;
}
