/* launch/cluster_plan.c: run, eval and bench --cluster. */
#include "launch/cluster_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "partition/choose.h"

static part_ask_t ask_of(const part_wish_t *wish, const part_assignment_t *a)
{
    part_ask_t ask = {.n_ctx = a->n_ctx, .n_seq = a->n_seq, .n_batch = a->n_batch};

    ask.n_out        = a->n_out_max;
    ask.ternary_bits = strcmp(a->pack, "t3") == 0 ? 1.6 : 2;
    ask.type_k       = a->type_k;
    ask.type_v       = a->type_v;
    ask.screen       = a->screen;
    ask.layout       = wish->layout;
    ask.split        = wish->split;
    ask.all_nodes    = true;
    if (a->n_seq > 1) ask.optimize = PART_FOR_THROUGHPUT;

    ask.pipeline_parallel = wish->pipeline_parallel;
    ask.tensor_parallel   = wish->tensor_parallel;
    return ask;
}

/* ---- whose rank is whose ------------------------------------------------------------------- */

enum { WHY_BYTES = 320 };

/* The same, as far as a node's name goes; or one of the two has no domain. */
static bool same_host(const char *name, const char *host)
{
    const size_t n = strcspn(name, "."), m = strcspn(host, ".");
    return strncmp(name, host, PART_NODE_NAME_MOST) == 0 ||
           (n == m && strncmp(name, host, n) == 0 && (name[n] == '\0' || host[n] == '\0'));
}

/* The only node of that name; n_nodes if there is none, or more than one. */
static uint32_t node_of(const part_cluster_t *file, const char *host)
{
    uint32_t found = file->n_nodes;
    for (uint32_t i = 0; i < file->n_nodes; i++) {
        if (!same_host(file->nodes[i].name, host)) continue;
        if (found != file->n_nodes) return file->n_nodes;
        found = i;
    }
    return found;
}

static uint32_t ranks_alike(const comm_world_t *world, uint32_t rank, uint32_t n_ranks)
{
    const char *host = comm_host_name(world, (int)rank);
    uint32_t    n    = 1;
    while (rank + n < n_ranks && strcmp(host, comm_host_name(world, (int)(rank + n))) == 0) n++;
    return n;
}

/* Nodes of the file in the order of the ranks, as far as they are known. *known: how many ranks run
 * on a node of the file. `why` is empty if all do, as many on each as the file says. */
static uint32_t order_of(const part_cluster_t *file, const comm_world_t *world, uint32_t n_ranks,
                         uint32_t *order, uint32_t *known, char *why)
{
    uint32_t n_order = 0;
    *known           = 0;
    why[0]           = '\0';
    for (uint32_t rank = 0, n; rank < n_ranks; rank += n) {
        const char    *host   = comm_host_name(world, (int)rank);
        const uint32_t node   = node_of(file, host);
        const bool     is     = node < file->n_nodes;
        bool           before = false;

        n = ranks_alike(world, rank, n_ranks);
        for (uint32_t i = 0; i < n_order; i++) before = before || order[i] == node;
        if (is) *known += n;
        if (is && !before) order[n_order++] = node;
        if (why[0] != '\0') continue;
        if (!is)
            (void)snprintf(why, WHY_BYTES, "rank %u runs on %s, which it does not name", rank,
                           host);
        else if (before)
            (void)snprintf(why, WHY_BYTES,
                           "the ranks of %s do not follow each other, see mpirun's --map-by slot",
                           host);
        else if (n != file->nodes[node].ranks)
            (void)snprintf(why, WHY_BYTES, "%s has %u in it, and %u here", host,
                           file->nodes[node].ranks, n);
    }
    return n_order;
}

/* The file's nodes as the ranks lie on them. *named: some run on a host that it names. */
static base_status_t read_nodes(const char *path, const comm_world_t *world, uint32_t n_ranks,
                                part_cluster_t *cluster, bool *named, base_err_t *err)
{
    part_cluster_t file  = {0};
    uint32_t      *order = NULL, n = 0, known = 0;
    char           why[WHY_BYTES];
    base_status_t  st = part_cluster_load(path, 1, &file, err);

    if (st == BASE_OK) st = base_alloc((void **)&order, file.n_nodes, sizeof(*order), "nodes", err);
    if (st != BASE_OK) goto out;
    n      = order_of(&file, world, n_ranks, order, &known, why);
    *named = known > 0;
    if (why[0] == '\0') {
        st = part_cluster_pick(&file, order, n, cluster, err);
        goto out;
    }
    if (file.n_ranks != n_ranks)
        st = base_fail(
            err, BASE_ERR_USAGE,
            "--cluster %.200s: has %u rank%s, but %u %s started%s%s%s: start as many, in its "
            "order, or write it anew with doctor --save",
            path, file.n_ranks, base_plural(file.n_ranks), n_ranks, n_ranks == 1 ? "was" : "were",
            known > 0 ? " (" : "", known > 0 ? why : "", known > 0 ? ")" : "");
    else if (known > 0)
        base_log(BASE_LOG_WARN,
                 "--cluster %.200s: %s; its nodes are taken in the order of the file, and what is "
                 "planned for one may run on another",
                 path, why);
    if (st == BASE_OK) {
        *cluster = file;
        file     = (part_cluster_t){0};
    }
out:
    free(order);
    part_cluster_free(&file);
    return st;
}

/* ---- the plan -------------------------------------------------------------------------------- */

base_status_t cluster_plan(const char *path, const comm_world_t *world, const part_wish_t *wish,
                           bool file_first, part_assignment_t *a, base_err_t *err)
{
    part_cluster_t cluster = {0};
    bool           named   = true;
    part_choice_t *choice  = NULL; /* large: not on the stack */
    part_ask_t     ask     = ask_of(wish, a);
    base_status_t  st      = base_alloc((void **)&choice, 1, sizeof(*choice), "plan", err);

    ask.file_first = file_first;
    if (st == BASE_OK) st = read_nodes(path, world, wish->n_ranks, &cluster, &named, err);
    if (st != BASE_OK) goto out;
    st = part_plan_choose(&cluster, &a->desc, &ask, choice, NULL, err);
    if (st == BASE_OK && !choice->fits && strcmp(a->pack, "auto") == 0) {
        part_choice_free(choice); /* ranks take base 3 where only that fits */
        ask.ternary_bits = 1.6;
        st               = part_plan_choose(&cluster, &a->desc, &ask, choice, NULL, err);
    }
    if (st == BASE_OK && !choice->fits)
        base_log(BASE_LOG_WARN,
                 "by --cluster %s the model does not fit: %s would hold %.0f %% of what it may; "
                 "trireme plan says what would",
                 path, choice->used.nodes[choice->worst_node].name, choice->worst_share * 100);
    if (st != BASE_OK) goto out;
    base_log(BASE_LOG_INFO, "by --cluster %s: layout %ux%u, split %s%s", path, choice->plan.stages,
             choice->plan.shards, choice->split,
             named ? "" : " (it names no host of these ranks: its nodes in its order)");
    a->plan      = choice->plan;
    choice->plan = (part_plan_t){0};
out:
    if (choice != NULL) part_choice_free(choice);
    free(choice);
    part_cluster_free(&cluster);
    return st;
}
