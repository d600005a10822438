/* launch/plan_json.c: a plan as one JSON value. */
#include <stdio.h>
#include <string.h>

#include "launch/output.h"
#include "launch/plan_report.h"

/* All of these may return NULL: memory has ended. json_pack passes that on. */

static json_t *json_totals(const part_choice_t *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->n_ranks && list != NULL; i++) {
        if (json_array_append_new(list, json_integer((json_int_t)c->memory[i].total)) == 0)
            continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *json_range(part_range_t range)
{
    return json_pack("[i, i]", (int)range.begin, (int)range.end);
}

static json_t *json_rank(const plan_run_t *r, uint32_t rank)
{
    const part_plan_t   *p      = &r->choice.plan;
    const part_memory_t *m      = &r->choice.memory[rank];
    const uint32_t       stage  = rank / p->shards;
    const uint32_t       shard  = rank % p->shards;
    const part_range_t   layers = part_stage_layers(p, stage);
    const part_slice_t   s      = part_slice(p, &r->desc.layers[layers.begin], shard);
    const char          *node = r->choice.used.nodes[part_cluster_node(&r->choice.used, rank)].name;

    /* clang-format off */
    return json_pack("{s:o, s:i, s:i, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:b}",
                     "node", out_json_text(node, strlen(node)),
                     "stage", (int)stage,
                     "shard", (int)shard,
                     "layers", json_range(layers),
                     "heads", json_range(s.q),
                     "kv_heads", json_range(s.kv),
                     "ffn", json_range(s.ffn),
                     "ternary_bytes", (json_int_t)m->ternary,
                     "dense_bytes", (json_int_t)m->dense,
                     "screen_bytes", (json_int_t)m->screen,
                     "kv_bytes", (json_int_t)m->kv,
                     "activation_bytes", (json_int_t)m->activations,
                     "embed_bytes", (json_int_t)m->embed,
                     "embed_held", m->embed_held);
    /* clang-format on */
}

static json_t *json_ranks(const plan_run_t *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->choice.n_ranks && list != NULL; i++) {
        if (json_array_append_new(list, json_rank(r, i)) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

/* What the plan puts on a node of the cluster; nothing on one that it leaves out. */
static uint64_t bytes_on(const part_choice_t *c, uint32_t node)
{
    for (uint32_t k = 0; k < c->n_nodes; k++)
        if (c->order[k] == node) return c->node_bytes[k];
    return 0;
}

static json_t *json_nodes(const plan_run_t *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->cluster.n_nodes && list != NULL; i++) {
        const part_node_t *n      = &r->cluster.nodes[i];
        const uint64_t     usable = part_node_usable(n), used = bytes_on(&r->choice, i);
        /* clang-format off */
        json_t *node = json_pack("{s:o, s:i, s:I, s:I, s:I, s:b}",
                                 "name", out_json_text(n->name, strlen(n->name)),
                                 "ranks", (int)n->ranks,
                                 "mem_bytes", (json_int_t)n->mem_bytes,
                                 "usable_bytes", (json_int_t)usable,
                                 "used_bytes", (json_int_t)used,
                                 "fits", used <= usable);
        /* clang-format on */
        if (json_array_append_new(list, node) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *json_known(bool known, double v)
{
    return known ? out_json_real(v) : json_null();
}

static json_t *json_predicted(const part_time_t *b)
{
    /* clang-format off */
    return json_pack("{s:s, s:o, s:o, s:o, s:{s:o, s:o, s:o, s:o, s:o, s:o}}",
                     "kind", "estimate",
                     "decode_tps", json_known(b->known, b->decode_tps),
                     "prefill_tps", json_known(b->known, b->prefill_tps),
                     "throughput_tps", json_known(b->known, b->throughput_tps),
                     "parts",
                     "weights_ms", json_known(b->known, b->weights * 1e3),
                     "attention_ms", json_known(b->known, b->attention * 1e3),
                     "overhead_ms", json_known(b->known, b->overhead * 1e3),
                     "head_ms", json_known(b->known, b->head * 1e3),
                     "communication_ms", json_known(b->comm_known, b->communication * 1e3),
                     "attention_full_ms", json_known(b->known, b->attention_full * 1e3));
    /* clang-format on */
}

static json_t *json_layouts(const plan_run_t *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->trials.n && list != NULL; i++) {
        const part_tried_t *t = &r->trials.list[i];
        char                layout[32];
        (void)snprintf(layout, sizeof(layout), "%ux%u", t->stages, t->shards);
        /* clang-format off */
        json_t *entry = json_pack("{s:s, s:i, s:o, s:b, s:I, s:f, s:o}",
                                  "layout", layout,
                                  "n_nodes", (int)t->n_nodes,
                                  "tokens_s", json_known(t->value > 0, 1 / t->value),
                                  "fits", t->fits,
                                  "memory_per_rank_max", (json_int_t)t->rank_bytes_max,
                                  "worst_share", t->worst_share,
                                  "decode_tps", json_known(t->decode_tps > 0, t->decode_tps));
        /* clang-format on */
        if (json_array_append_new(list, entry) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *json_advice(uint32_t value)
{
    return value == 0 ? json_null() : json_integer(value);
}

/* Nodes of the cluster that take no part. */
static json_t *json_left_out(const plan_run_t *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->cluster.n_nodes && list != NULL; i++) {
        const char *name = r->cluster.nodes[i].name;
        bool        used = false;
        for (uint32_t k = 0; k < r->choice.n_nodes && !used; k++) used = r->choice.order[k] == i;
        if (used || json_array_append_new(list, out_json_text(name, strlen(name))) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *json_needs(const plan_run_t *r)
{
    json_t *object = json_object();
    for (uint32_t f = 0; f < PLAN_FORMATS && object != NULL; f++) {
        if (json_object_set_new(object, plan_format_names[f], json_advice(r->needs[f])) == 0)
            continue;
        json_decref(object);
        object = NULL;
    }
    return object;
}

base_status_t plan_print_json(const plan_run_t *r, base_err_t *err)
{
    const part_choice_t *c = &r->choice;
    char                 layout[32];

    /* clang-format off */
    json_t *value = json_pack("{s:o, s:s, s:i, s:i, s:s, s:o, s:b, s:o,"
                              " s:s, s:s, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:b,"
                              " s:{s:o, s:o, s:b, s:b}}",
                              "model", out_json_text(r->desc.name, strlen(r->desc.name)),
                              "layout", part_layout_name(&c->plan, layout, sizeof(layout)),
                              "stages", (int)c->plan.stages,
                              "shards", (int)c->plan.shards,
                              "split", c->split,
                              "memory_per_rank", json_totals(c),
                              "fits", c->fits,
                              "predicted", json_predicted(&c->time),
                              "pack", r->pack,
                              "pack_reason", r->pack_reason,
                              "n_ctx", (int)r->ask.n_ctx,
                              "n_seq", (int)r->ask.n_seq,
                              "n_batch", (int)r->ask.n_batch,
                              "ranks", json_ranks(r),
                              "nodes", json_nodes(r),
                              "layouts", json_layouts(r),
                              "left_out", json_left_out(r),
                              "machines_needed", json_needs(r),
                              "exact", r->trials.exact,
                              "advice",
                              "n_ctx", json_advice(r->advice_ctx),
                              "n_nodes", json_advice(r->advice_nodes),
                              "pack_t3", r->advice_pack,
                              "cache_f16", r->advice_cache);
    /* clang-format on */
    return out_json_write(&value, err);
}
