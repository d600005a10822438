/* launch/plan_scale.c: plan --scale: how the predicted speed grows with like machines, and how many
 * of them each format needs; as a table, JSON, CSV. The picture is plan_svg.c's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "launch/output.h"
#include "launch/plan_svg.h"

/* A kind of node, with what each format needs of it, and the speed of one sequence there. */
typedef struct {
    const part_node_t *node;
    uint32_t           needs[PLAN_FORMATS];
    double             decode_tps[PLAN_FORMATS]; /* 0: not known */
} plan_kind_t;

typedef struct {
    const plan_run_t *run;
    bool              weak;
    uint32_t          n_points, n_kinds;
    plan_point_t     *points;
    plan_kind_t      *kinds;
} scale_t;

/* --- figures --- */

static base_status_t cluster_of(const plan_run_t *r, const part_node_t *node, uint32_t n,
                                part_cluster_t *c, base_err_t *err)
{
    base_status_t st = part_cluster_uniform(n, node, r->cluster.latency, r->cluster.net, c, err);
    if (st != BASE_OK) return st;
    c->step  = r->cluster.step;
    c->layer = r->cluster.layer;
    return BASE_OK;
}

static base_status_t point_of(const scale_t *s, uint32_t n, plan_point_t *p, base_err_t *err)
{
    const plan_run_t *r      = s->run;
    part_ask_t        ask    = r->ask;
    part_cluster_t    c      = {0};
    part_choice_t     choice = {0};
    base_status_t     st     = BASE_OK;

    ask.all_nodes = true;
    if (s->weak) {
        ask.optimize = PART_FOR_THROUGHPUT;
        ask.n_seq *= n;
        ask.n_out = ask.n_seq;
        if (ask.n_batch < ask.n_seq) ask.n_batch = ask.n_seq;
        if (ask.streams > 1) ask.streams *= n;
    }
    st = cluster_of(r, &r->cluster.nodes[0], n, &c, err);
    if (st == BASE_OK) st = part_plan_choose(&c, &r->desc, &ask, &choice, NULL, err);
    if (st != BASE_OK) goto out;
    *p = (plan_point_t){.nodes     = n,
                        .sequences = ask.n_seq,
                        .stages    = choice.plan.stages,
                        .shards    = choice.plan.shards,
                        .fits      = choice.fits,
                        .time      = choice.time,
                        .tokens_s  = choice.fits ? 1 / choice.time.value : 0};
out:
    part_choice_free(&choice);
    part_cluster_free(&c);
    return st;
}

/* Ideal: as many times the speed as there are times the machines of the first point that fits. */
static void fill_ideal(scale_t *s)
{
    const plan_point_t *first = NULL;

    for (uint32_t i = 0; i < s->n_points; i++) {
        plan_point_t *p = &s->points[i];
        if (!p->fits) continue;
        if (first == NULL) first = p;
        p->ideal_tokens_s = first->tokens_s * p->nodes / first->nodes;
        p->efficiency     = p->tokens_s / p->ideal_tokens_s;
    }
}

static base_status_t kind_fill(const plan_run_t *r, plan_kind_t *k, base_err_t *err)
{
    base_status_t st = plan_needs(&r->desc, k->node, &r->ask, k->needs, err);

    for (uint32_t f = 0; f < PLAN_FORMATS && st == BASE_OK; f++) {
        model_desc_t   desc   = {0};
        part_ask_t     ask    = r->ask;
        part_cluster_t c      = {0};
        part_choice_t  choice = {0};
        if (k->needs[f] == 0 || !plan_in_format(&r->desc, f, &desc)) continue;
        ask.ternary_bits = f == PLAN_T3 ? 1.6 : 2;
        ask.all_nodes    = true;
        ask.optimize     = PART_FOR_DECODE;
        st               = cluster_of(r, k->node, k->needs[f], &c, err);
        if (st == BASE_OK) st = part_plan_choose(&c, &desc, &ask, &choice, NULL, err);
        if (st == BASE_OK && choice.fits) k->decode_tps[f] = choice.time.decode_tps;
        part_choice_free(&choice);
        part_cluster_free(&c);
        model_desc_free(&desc);
    }
    return st;
}

static bool same_kind(const part_node_t *a, const part_node_t *b)
{
    return a->mem_bytes == b->mem_bytes && a->membw == b->membw && a->ranks == b->ranks &&
           a->ops == b->ops && a->cores == b->cores;
}

static base_status_t kinds_fill(scale_t *s, base_err_t *err)
{
    const part_cluster_t *c  = &s->run->cluster;
    base_status_t         st = BASE_OK;

    for (uint32_t i = 0; i < c->n_nodes && st == BASE_OK; i++) {
        uint32_t k = 0;
        while (k < s->n_kinds && !same_kind(s->kinds[k].node, &c->nodes[i])) k++;
        if (k < s->n_kinds) continue;
        s->kinds[s->n_kinds].node = &c->nodes[i];
        st                        = kind_fill(s->run, &s->kinds[s->n_kinds++], err);
    }
    return st;
}

/* --- text and CSV --- */

static const char *goal(const scale_t *s)
{
    if (s->weak) return "weak scaling, all sequences together";
    switch (s->run->ask.optimize) {
    case PART_FOR_DECODE: break;
    case PART_FOR_PREFILL: return "strong scaling of a prompt";
    case PART_FOR_THROUGHPUT: return "strong scaling of several sequences";
    }
    return "strong scaling of one sequence";
}

static void print_text(const scale_t *s)
{
    const plan_run_t *r = s->run;

    (void)printf("%s, packed as %s, on nodes like %s: %s (predicted)\n\n", r->desc.name, r->pack,
                 r->cluster.nodes[0].name, goal(s));
    (void)printf("nodes  layout     tokens/s      ideal  efficiency  weights ms  head ms  exchange "
                 "ms  besides ms\n");
    for (uint32_t i = 0; i < s->n_points; i++) {
        const plan_point_t *p = &s->points[i];
        char                layout[32];
        (void)snprintf(layout, sizeof(layout), "%ux%u", p->stages, p->shards);
        if (!p->fits) {
            (void)printf("%5u  does not fit\n", p->nodes);
            continue;
        }
        (void)printf("%5u  %-8s %10.*f %10.*f %9.1f %% %11.2f %8.2f %12.2f %11.2f\n", p->nodes,
                     layout, plan_digits(p->tokens_s), p->tokens_s, plan_digits(p->ideal_tokens_s),
                     p->ideal_tokens_s, p->efficiency * 100,
                     (p->time.weights + p->time.attention) * 1e3, p->time.head * 1e3,
                     p->time.communication * 1e3, p->time.overhead * 1e3);
    }
    (void)printf("\nThe parts are of one token of one sequence. Ideal: the first line that fits, "
                 "times the nodes.\n\nmachines needed, and tokens/s of one sequence on so many:\n");
    (void)printf("%-14s %10s", "node", "memory GiB");
    for (uint32_t f = 0; f < PLAN_FORMATS; f++) (void)printf(" %16s", plan_format_names[f]);
    (void)printf("\n");
    for (uint32_t k = 0; k < s->n_kinds; k++) {
        const plan_kind_t *kind = &s->kinds[k];
        (void)printf("%-14.14s %10.1f", kind->node->name,
                     (double)kind->node->mem_bytes / 1073741824.0);
        for (uint32_t f = 0; f < PLAN_FORMATS; f++) {
            char text[32] = "none will do";
            if (kind->needs[f] > 0)
                (void)snprintf(text, sizeof(text), "%u (%.*f)", kind->needs[f],
                               plan_digits(kind->decode_tps[f]), kind->decode_tps[f]);
            (void)printf(" %16s", text);
        }
        (void)printf("\n");
    }
}

/* The columns that both kinds of rows begin with. Names of nodes have no commas or quotes. */
static void print_csv_node(const char *table, const part_node_t *node, const char *format)
{
    (void)printf("%s,%s,%.9g,%s,", table, node->name, (double)node->mem_bytes / 1073741824.0,
                 format);
}

/* One table, for programs that read a whole file as one: the column `table` says whether a row is a
 * point of the curve or what a format needs. What a row does not know is empty. */
static void print_csv(const scale_t *s)
{
    const plan_run_t *r      = s->run;
    const char       *format = plan_format_names[r->ask.ternary_bits < 2 ? PLAN_T3 : PLAN_T2];

    (void)printf("table,node,node_gib,format,nodes,fits,tokens_s,layout,sequences,ideal_tokens_s,"
                 "efficiency,weights_ms,attention_ms,head_ms,communication_ms,overhead_ms\n");
    for (uint32_t i = 0; i < s->n_points; i++) {
        const plan_point_t *p = &s->points[i];
        print_csv_node("scale", &r->cluster.nodes[0], format);
        if (!p->fits) {
            (void)printf("%u,0,,,%u,,,,,,,\n", p->nodes, p->sequences);
            continue;
        }
        (void)printf("%u,1,%.9g,%ux%u,%u,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g\n", p->nodes,
                     p->tokens_s, p->stages, p->shards, p->sequences, p->ideal_tokens_s,
                     p->efficiency, p->time.weights * 1e3, p->time.attention * 1e3,
                     p->time.head * 1e3, p->time.communication * 1e3, p->time.overhead * 1e3);
    }
    for (uint32_t k = 0; k < s->n_kinds; k++)
        for (uint32_t f = 0; f < PLAN_FORMATS; f++) {
            const plan_kind_t *kind = &s->kinds[k];
            print_csv_node("needed", kind->node, plan_format_names[f]);
            if (kind->needs[f] == 0)
                (void)printf(",0,");
            else if (kind->decode_tps[f] > 0)
                (void)printf("%u,1,%.9g", kind->needs[f], kind->decode_tps[f]);
            else
                (void)printf("%u,1,", kind->needs[f]);
            (void)printf(",,,,,,,,,\n");
        }
}

/* --- JSON: any of these may be NULL, memory has ended then --- */

static json_t *known(bool there, double v)
{
    return there ? out_json_real(v) : json_null();
}

static json_t *json_point(const plan_point_t *p)
{
    char layout[32];
    (void)snprintf(layout, sizeof(layout), "%ux%u", p->stages, p->shards);
    /* clang-format off */
    return json_pack("{s:i, s:s, s:i, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "nodes", (int)p->nodes,
                     "layout", layout,
                     "sequences", (int)p->sequences,
                     "fits", p->fits,
                     "tokens_s", known(p->fits, p->tokens_s),
                     "ideal_tokens_s", known(p->fits, p->ideal_tokens_s),
                     "efficiency", known(p->fits, p->efficiency),
                     "weights_ms", known(p->fits, p->time.weights * 1e3),
                     "attention_ms", known(p->fits, p->time.attention * 1e3),
                     "head_ms", known(p->fits, p->time.head * 1e3),
                     "communication_ms", known(p->fits, p->time.communication * 1e3),
                     "overhead_ms", known(p->fits, p->time.overhead * 1e3));
    /* clang-format on */
}

static json_t *json_kind(const plan_kind_t *k)
{
    json_t *formats = json_object();
    for (uint32_t f = 0; f < PLAN_FORMATS; f++) {
        json_t *needs = k->needs[f] == 0 ? json_null() : json_integer(k->needs[f]);
        (void)json_object_set_new(formats, plan_format_names[f],
                                  json_pack("{s:o, s:o}", "machines", needs, "decode_tps",
                                            known(k->decode_tps[f] > 0, k->decode_tps[f])));
    }
    return json_pack("{s:o, s:I, s:o}", "node", out_json_text(k->node->name, strlen(k->node->name)),
                     "mem_bytes", (json_int_t)k->node->mem_bytes, "formats", formats);
}

static base_status_t print_json(const scale_t *s, base_err_t *err)
{
    json_t *points = json_array(), *kinds = json_array();

    for (uint32_t i = 0; i < s->n_points; i++)
        (void)json_array_append_new(points, json_point(&s->points[i]));
    for (uint32_t k = 0; k < s->n_kinds; k++)
        (void)json_array_append_new(kinds, json_kind(&s->kinds[k]));
    json_t *value = json_pack("{s:o, s:s, s:s, s:o, s:o}", "model",
                              out_json_text(s->run->desc.name, strlen(s->run->desc.name)), "pack",
                              s->run->pack, "scaling", s->weak ? "weak" : "strong", "points",
                              points, "machines_needed", kinds);
    return out_json_write(&value, err);
}

base_status_t plan_scale(const plan_run_t *r, const plan_scale_t *scale, base_err_t *err)
{
    scale_t       s  = {.run = r, .weak = scale->weak, .n_points = scale->n};
    base_status_t st = BASE_OK;

    if (r->cluster.nodes[0].membw <= 0 || r->cluster.latency < 0 || r->cluster.net <= 0)
        return base_fail(
            err, BASE_ERR_USAGE,
            "--scale: needs the bandwidth of a node and of the network: --membw, "
            "--latency and --netbw, or membw_gbs, latency_us and net_gbit of --cluster");
    st = base_alloc((void **)&s.points, s.n_points, sizeof(*s.points), "scale", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&s.kinds, r->cluster.n_nodes, sizeof(*s.kinds), "scale", err);
    for (uint32_t i = 0; i < s.n_points && st == BASE_OK; i++)
        st = point_of(&s, (uint32_t)scale->nodes[i], &s.points[i], err);
    if (st != BASE_OK) goto out;
    fill_ideal(&s);
    if (strcmp(scale->format, "svg") == 0) {
        plan_svg(s.points, s.n_points, r->desc.name, goal(&s), stdout);
        st = out_flush(err);
        goto out;
    }
    st = kinds_fill(&s, err);
    if (st != BASE_OK) goto out;
    if (strcmp(scale->format, "json") == 0) {
        st = print_json(&s, err);
        goto out;
    }
    if (strcmp(scale->format, "csv") == 0)
        print_csv(&s);
    else
        print_text(&s);
    st = out_flush(err);
out:
    free(s.points);
    free(s.kinds);
    return st;
}
