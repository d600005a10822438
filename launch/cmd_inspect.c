/* launch/cmd_inspect.c: what a model file holds, where its bytes are. No MPI, no weights read. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "coordinator/chat.h"
#include "launch/census.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/output.h"
#include "launch/session.h"
#include "model/model.h"

/* One number where all layers agree, else the range. */
static void layer_range(const model_desc_t *d, size_t offset, uint32_t *least, uint32_t *most)
{
    *least = UINT32_MAX;
    *most  = 0;
    for (uint32_t l = 0; l < d->n_layers; l++) {
        uint32_t v = 0;
        memcpy(&v, (const char *)&d->layers[l] + offset, sizeof(v));
        if (v < *least) *least = v;
        if (v > *most) *most = v;
    }
    if (d->n_layers == 0) *least = 0;
}

static const char *act_name(model_act_t act)
{
    return act == MODEL_ACT_SILU ? "silu" : "relu2";
}

static const char *vocab_name(model_vocab_kind_t kind)
{
    return kind == MODEL_VOCAB_SPM ? "spm" : kind == MODEL_VOCAB_BPE ? "bpe" : "none";
}

static const char *scaling_name(model_scaling_kind_t kind)
{
    static const char *const names[] = {[MODEL_SCALING_NONE]    = "none",
                                        [MODEL_SCALING_LINEAR]  = "linear",
                                        [MODEL_SCALING_LLAMA3]  = "llama3",
                                        [MODEL_SCALING_YARN]    = "yarn",
                                        [MODEL_SCALING_FACTORS] = "factors"};
    return names[kind];
}

static json_t *tally_json(const census_tally_t *t)
{
    return json_pack("{s:I, s:I, s:I}", "tensors", (json_int_t)t->n, "params",
                     (json_int_t)t->params, "bytes", (json_int_t)t->bytes);
}

static json_t *layer_json(const model_desc_t *d, size_t offset)
{
    uint32_t least = 0;
    uint32_t most  = 0;
    json_t  *list  = NULL;

    layer_range(d, offset, &least, &most);
    if (least == most) return json_integer(most);
    list = json_array();
    for (uint32_t l = 0; l < d->n_layers && list != NULL; l++) {
        uint32_t v = 0;
        memcpy(&v, (const char *)&d->layers[l] + offset, sizeof(v));
        (void)json_array_append_new(list, json_integer(v));
    }
    return list;
}

/* 1e-05, not the 9.99999974737875e-06 that the float holds. */
static json_t *short_real(float v)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%.7g", (double)v);
    return out_json_real(strtod(text, NULL));
}

/* What run -cnv takes when nothing is chosen; NULL: it would ask for --chat-template. */
static const char *chat_name(const model_t *m)
{
    const coord_chat_template_t *chat = NULL;
    base_err_t                   none;

    if (coord_chat_find(NULL, m->vocab.chat_template, m->desc.arch, &chat, &none) != BASE_OK)
        return NULL;
    return coord_chat_name(chat);
}

static json_t *vocab_json(const model_t *m)
{
    const model_vocab_t *v = &m->vocab;
    return json_pack("{s:s, s:o, s:I, s:I, s:i, s:i, s:i, s:b, s:b, s:b, s:s?}", "kind",
                     vocab_name(v->kind), "pre", out_json_text(v->pre.text, v->pre.bytes),
                     "n_tokens", (json_int_t)v->n_tokens, "n_merges", (json_int_t)v->n_merges,
                     "bos", (int)v->bos, "eos", (int)v->eos, "eot", (int)v->eot, "add_bos",
                     (int)v->add_bos, "add_eos", (int)v->add_eos, "chat_template",
                     (int)(v->chat_template.bytes > 0), "chat_template_name", chat_name(m));
}

static base_status_t print_json(const model_t *m, census_t *c, base_err_t *err)
{
    const model_desc_t *d     = &m->desc;
    json_t             *kinds = json_object();
    json_t             *types = json_object();
    json_t             *value = NULL;

    for (int k = 0; k < KIND_COUNT; k++)
        if (c->kinds[k].n > 0)
            (void)json_object_set_new(kinds, census_kind_names[k], tally_json(&c->kinds[k]));
    for (int t = 0; t < MODEL_TYPE_COUNT; t++)
        if (c->types[t].n > 0)
            (void)json_object_set_new(types, model_type_info((model_type_t)t)->name,
                                      tally_json(&c->types[t]));
    value = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:I}", "arch",
                      out_json_text(d->arch, strlen(d->arch)), "name",
                      out_json_text(d->name, strlen(d->name)), "n_layers", (json_int_t)d->n_layers,
                      "n_params", (json_int_t)c->all.params, "file_bytes",
                      (json_int_t)c->file_bytes, "tensor_bytes", (json_int_t)c->all.bytes,
                      "bits_per_weight", out_json_real(census_bits_per_weight(c)), "files",
                      (json_int_t)model_source_count(m->source));
    if (value != NULL) {
        json_t *shape = json_pack(
            "{s:I, s:o, s:o, s:I, s:o, s:I, s:I, s:o, s:s, s:s, s:I, s:o, s:o, s:b}", "width",
            (json_int_t)d->width, "n_heads", layer_json(d, offsetof(model_layer_t, n_heads)),
            "n_kv_heads", layer_json(d, offsetof(model_layer_t, n_kv_heads)), "head_dim",
            (json_int_t)d->head_dim, "ffn", layer_json(d, offsetof(model_layer_t, ffn)), "n_vocab",
            (json_int_t)d->n_vocab, "context", (json_int_t)d->context, "norm_eps",
            short_real(d->norm_eps), "activation", act_name(d->act), "rope",
            d->rope == MODEL_ROPE_HALF ? "half" : "pair", "rope_dims", (json_int_t)d->rope_dims,
            "rope_base", out_json_real(d->rope_base), "rope_scale", out_json_real(d->rope_scale),
            "tied_embedding", (int)d->tied);
        (void)json_object_update(value, shape);
        (void)json_object_set_new(value, "rope_scaling",
                                  json_string(scaling_name(d->rope_scaling)));
        (void)json_object_set_new(value, "online_tensors", json_integer((json_int_t)c->n_online));
        (void)json_object_set_new(value, "out_scales", json_integer((json_int_t)c->n_out_scales));
        json_decref(shape);
        (void)json_object_set_new(value, "kinds", kinds);
        (void)json_object_set_new(value, "types", types);
        (void)json_object_set_new(value, "tokenizer", vocab_json(m));
        if (c->list != NULL) (void)json_object_set(value, "tensors", c->list);
    }
    return out_json_write(&value, err);
}

static void print_layer_line(const char *label, const model_desc_t *d, size_t offset)
{
    uint32_t least = 0;
    uint32_t most  = 0;

    layer_range(d, offset, &least, &most);
    (void)printf("  %-16s %" PRIu32, label, least);
    if (most != least) (void)printf(" to %" PRIu32, most);
    (void)putchar('\n');
}

static void print_tally(const char *label, const census_tally_t *t)
{
    char   size[32];
    double bits = t->params == 0 ? 0 : 8.0 * (double)t->bytes / (double)t->params;

    if (t->n == 0) return;
    (void)printf("  %-16s %7" PRIu64 " tensor%s %16" PRIu64 " params %12s %7.3f bits/weight\n",
                 label, t->n, t->n == 1 ? " " : "s", t->params,
                 out_bytes(t->bytes, size, sizeof(size)), bits);
}

static void print_id(int32_t id, const char *behind)
{
    if (id < 0)
        (void)printf("none%s", behind);
    else
        (void)printf("%d%s", id, behind);
}

static void print_vocab(const model_vocab_t *v, const char *chat)
{
    char         pre[64]; /* the file's word, and so nothing that a terminal may get as it is */
    const size_t n = v->pre.bytes < sizeof(pre) ? v->pre.bytes : sizeof(pre) - 1;

    if (n > 0) memcpy(pre, v->pre.text, n);
    base_text_clean(pre, n);
    (void)printf("\n\nTokenizer\n");
    (void)printf("  %-16s %s%s%.*s\n  %-16s %" PRIu32 "\n  %-16s ", "kind", vocab_name(v->kind),
                 n > 0 ? ", " : "", (int)n, pre, "tokens", v->n_tokens, "bos, eos, eot");
    print_id(v->bos, ", ");
    print_id(v->eos, ", ");
    print_id(v->eot, v->add_bos ? " (bos added)\n" : "\n");
    if (chat != NULL || v->chat_template.bytes > 0)
        (void)printf("  %-16s %s\n", "chat template",
                     chat == NULL ? "unknown here: name one with --chat-template" : chat);
    if (chat != NULL && v->chat_template.bytes == 0)
        (void)printf("  %-16s (the file has none: what run -cnv takes by the architecture)\n", "");
}

static base_status_t print_table(const options_t *o, const model_t *m, const census_t *c,
                                 base_err_t *err)
{
    const model_desc_t *d = &m->desc;
    char                size[32];

    (void)printf("%s: %s, %s\n\nShape\n", opt_string(o, OPT_MODEL), d->arch, d->name);
    (void)printf("  %-16s %" PRIu32 "\n  %-16s %" PRIu32 "\n", "layers", d->n_layers, "width",
                 d->width);
    print_layer_line("heads", d, offsetof(model_layer_t, n_heads));
    print_layer_line("kv heads", d, offsetof(model_layer_t, n_kv_heads));
    (void)printf("  %-16s %" PRIu32 "\n", "head dim", d->head_dim);
    print_layer_line("ffn", d, offsetof(model_layer_t, ffn));
    (void)printf("  %-16s %s\n  %-16s %" PRIu32 "\n  %-16s %" PRIu32 " rows%s\n", "activation",
                 act_name(d->act), "context", d->context, "vocabulary", d->n_vocab,
                 d->tied ? ", head tied to the embedding" : "");
    (void)printf("  %-16s %s, %" PRIu32 " dims, base %.10g, scale %g", "rope",
                 d->rope == MODEL_ROPE_HALF ? "half-split" : "pairs", d->rope_dims, d->rope_base,
                 d->rope_scale);
    if (d->rope_scaling != MODEL_SCALING_NONE)
        (void)printf(", scaling %s", scaling_name(d->rope_scaling));
    if (c->n_online > 0)
        (void)printf("\n  %-16s %" PRIu64 " tensors, by their absolute mean", "made ternary",
                     c->n_online);
    if (c->n_out_scales > 0)
        (void)printf("\n  %-16s %" PRIu64 " tensors", "output factors", c->n_out_scales);
    print_vocab(&m->vocab, chat_name(m));
    (void)printf("\nBytes by kind\n");
    for (int k = 0; k < KIND_COUNT; k++) print_tally(census_kind_names[k], &c->kinds[k]);
    (void)printf("\nBytes by type\n");
    for (int t = 0; t < MODEL_TYPE_COUNT; t++)
        print_tally(model_type_info((model_type_t)t)->name, &c->types[t]);
    (void)printf("\nTotal\n");
    print_tally("tensors", &c->all);
    (void)printf("  %-16s %" PRIu64 " bytes (%s) in %" PRIu32 " file%s\n", "file", c->file_bytes,
                 out_bytes(c->file_bytes, size, sizeof(size)), model_source_count(m->source),
                 base_plural(model_source_count(m->source)));
    return out_flush(err);
}

int cmd_inspect(const options_t *o)
{
    bool          json   = opt_flag(o, OPT_JSON);
    model_t      *model  = NULL;
    census_t      census = {0};
    base_err_t    err;
    base_status_t st = BASE_OK;

    model_open_options_t open = {.i2s_layout = session_i2s_layout(o)};
    if (cli_launcher_rank() != 0) return 0;
    if (opt_string(o, OPT_MODEL) == NULL)
        st = base_fail(&err, BASE_ERR_USAGE,
                       "no model: give a GGUF file or a Hugging Face directory, or -m");
    if (st == BASE_OK) st = model_open_with(opt_string(o, OPT_MODEL), &open, &model, &err);
    if (st == BASE_OK) {
        if (json && opt_flag(o, OPT_TENSORS)) census.list = json_array();
        census.print = !json && opt_flag(o, OPT_TENSORS);
        if (census.print) (void)printf("Tensors\n");
        census_take(&census, model);
        if (census.print) (void)putchar('\n');
        st = json ? print_json(model, &census, &err) : print_table(o, model, &census, &err);
    }
    json_decref(census.list);
    model_close(&model);
    return st == BASE_OK ? 0 : out_fail(&err);
}
