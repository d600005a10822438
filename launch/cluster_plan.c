/* launch/cluster_plan.c: run, eval and bench --cluster. */
#include "launch/cluster_plan.h"

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

base_status_t cluster_plan(const char *path, const part_wish_t *wish, bool file_first,
                           part_assignment_t *a, base_err_t *err)
{
    part_cluster_t cluster = {0};
    part_choice_t *choice  = NULL; /* large: not on the stack */
    part_ask_t     ask     = ask_of(wish, a);
    base_status_t  st      = base_alloc((void **)&choice, 1, sizeof(*choice), "plan", err);

    ask.file_first = file_first;
    if (st == BASE_OK) st = part_cluster_load(path, 1, &cluster, err);
    if (st != BASE_OK) goto out;
    if (cluster.n_ranks != wish->n_ranks) {
        st = base_fail(err, BASE_ERR_USAGE,
                       "--cluster %.200s: has %u rank%s, but %u %s started: start as many, in its "
                       "order, or write it anew with doctor --save",
                       path, cluster.n_ranks, base_plural(cluster.n_ranks), wish->n_ranks,
                       wish->n_ranks == 1 ? "was" : "were");
        goto out;
    }
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
    a->plan      = choice->plan;
    choice->plan = (part_plan_t){0};
out:
    if (choice != NULL) part_choice_free(choice);
    free(choice);
    part_cluster_free(&cluster);
    return st;
}
