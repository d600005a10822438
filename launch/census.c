/* launch/census.c: the tensors of a model counted. */
#include "launch/census.h"

#include <inttypes.h>
#include <stdio.h>

#include "launch/output.h"

const char *const census_kind_names[KIND_COUNT] = {"ternary", "embedding", "head", "norms",
                                                   "dense"};

static void tally_add(census_tally_t *t, const model_tensor_t *tensor)
{
    t->n++;
    t->params += tensor->n_rows * tensor->n_cols;
    t->bytes += tensor->bytes;
}

static void census_add(census_t *c, const char *name, census_kind_t kind, const model_tensor_t *t)
{
    if (t->type == MODEL_NONE) return;
    tally_add(&c->kinds[kind], t);
    tally_add(&c->types[t->type], t);
    tally_add(&c->all, t);
    c->n_online += t->online;
    c->n_out_scales += t->out_scale != 0 && t->n_rows > 1; /* not of biases */
    if (c->list != NULL) {
        json_t *entry = json_pack("{s:s, s:s, s:[I,I], s:I, s:i, s:I}", "name", name, "type",
                                  model_type_info(t->type)->name, "shape", (json_int_t)t->n_rows,
                                  (json_int_t)t->n_cols, "bytes", (json_int_t)t->bytes, "file",
                                  (int)t->file, "offset", (json_int_t)t->offset);
        if (entry != NULL && t->online) (void)json_object_set_new(entry, "online", json_true());
        if (entry != NULL && t->out_scale != 0)
            (void)json_object_set_new(entry, "out_scale", out_json_real((double)t->out_scale));
        (void)json_array_append_new(c->list, entry);
    }
    if (!c->print) return;
    (void)printf("  %-24s %-6s %8" PRIu64 " x %-8" PRIu64 " %12" PRIu64 " bytes", name,
                 model_type_info(t->type)->name, t->n_rows, t->n_cols, t->bytes);
    if (t->online) (void)printf(", made ternary at load");
    if (t->out_scale != 0) (void)printf(", output times %g", (double)t->out_scale);
    (void)putchar('\n');
}

static census_kind_t layer_kind(model_layer_tensor_t which, const model_tensor_t *t)
{
    if (model_layer_tensor_is_norm(which)) return KIND_NORMS;
    if (model_layer_tensor_is_bias(which)) return KIND_DENSE;
    return t->online || model_type_info(t->type)->ternary ? KIND_TERNARY : KIND_DENSE;
}

void census_take(census_t *c, const model_t *m)
{
    const model_desc_t *d = &m->desc;
    char                name[64];

    for (uint32_t i = 0; i < model_source_count(m->source); i++)
        c->file_bytes += model_source_bytes(m->source, i);
    census_add(c, "token_embd", KIND_EMBEDDING, &d->embed);
    for (uint32_t l = 0; l < d->n_layers; l++)
        for (int which = 0; which < MODEL_LAYER_TENSOR_COUNT; which++) {
            const model_tensor_t *t = &d->layers[l].t[which];
            census_add(c,
                       model_layer_tensor_name(l, (model_layer_tensor_t)which, name, sizeof(name)),
                       layer_kind((model_layer_tensor_t)which, t), t);
        }
    census_add(c, "output_norm", KIND_NORMS, &d->out_norm);
    if (!d->tied) census_add(c, "output", KIND_HEAD, &d->head);
}

double census_bits_per_weight(const census_t *c)
{
    return c->all.params == 0 ? 0 : 8.0 * (double)c->all.bytes / (double)c->all.params;
}
