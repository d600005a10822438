/* partition/cluster_write.c: a cluster as the text of its file. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "partition/cluster.h"

enum { DIGITS = 12 };

/* Add a number; false when memory ends. Twelve digits: units scale back and forth without tails
 * such as 29.999999999999996. */
static bool real_add(json_t *object, const char *name, double v)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%.*g", DIGITS, v);
    return json_object_set_new(object, name, json_real(strtod(text, NULL))) == 0;
}

/* Only where it is known. */
static bool known_add(json_t *object, const char *name, double v)
{
    return v <= 0 || real_add(object, name, v);
}

/* The same for rates at part_few_vectors. */
static bool few_add(json_t *object, const char *name, const double *rates)
{
    if (rates[0] <= 0) return true;
    json_t *list = json_array();
    bool    ok   = list != NULL;
    for (uint32_t i = 0; ok && i < PART_FEW; i++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "%.*g", DIGITS, rates[i] / 1e9);
        ok = json_array_append_new(list, json_real(strtod(text, NULL))) == 0;
    }
    return json_object_set_new(object, name, list) == 0 && ok; /* takes NULL for a failure */
}

static json_t *node_json(const part_node_t *n)
{
    json_t *o  = json_object();
    bool    ok = o != NULL && json_object_set_new(o, "name", json_string(n->name)) == 0;
    ok         = ok && json_object_set_new(o, "mem", json_integer((json_int_t)n->mem_bytes)) == 0;
    if (n->cores > 0) ok = ok && json_object_set_new(o, "cores", json_integer(n->cores)) == 0;
    ok = ok && json_object_set_new(o, "ranks", json_integer(n->ranks)) == 0;
    ok = ok && known_add(o, "membw_gbs", n->membw / 1e9);
    ok = ok && known_add(o, "rank_membw_gbs", n->rank_membw / 1e9);
    ok = ok && known_add(o, "t3_gbs", n->t3_bw / 1e9);
    ok = ok && known_add(o, "dense_gbs", n->dense_bw / 1e9);
    ok = ok && known_add(o, "screen_gbs", n->screen_bw / 1e9);
    ok = ok && known_add(o, "gops", n->ops / 1e9);
    ok = ok && few_add(o, "t2_few_gops", n->few.t2);
    ok = ok && few_add(o, "t3_few_gops", n->few.t3);
    ok = ok && few_add(o, "dense_few_gops", n->few.dense);
    ok = ok && few_add(o, "screen_few_gops", n->few.screen);
    ok = ok && known_add(o, "intra_us", n->intra_latency * 1e6);
    ok = ok && known_add(o, "intra_gbs", n->intra_bw / 1e9);
    if (ok) return o;
    json_decref(o);
    return NULL;
}

static bool pairs_add(json_t *root, const char *name, const double *pairs, uint32_t n, double unit)
{
    json_t *table = pairs == NULL ? NULL : json_array();
    bool    ok    = pairs == NULL || table != NULL;

    for (uint32_t a = 0; ok && pairs != NULL && a < n; a++) {
        json_t *row = json_array();
        ok          = row != NULL;
        for (uint32_t b = 0; ok && b < n; b++) {
            char text[64];
            (void)snprintf(text, sizeof(text), "%.*g", DIGITS, pairs[(size_t)a * n + b] / unit);
            ok = json_array_append_new(row, json_real(strtod(text, NULL))) == 0;
        }
        ok = json_array_append_new(table, row) == 0 && ok; /* takes NULL for a failure */
    }
    if (table != NULL) ok = json_object_set_new(root, name, table) == 0 && ok;
    return ok;
}

static json_t *cluster_json(const part_cluster_t *c)
{
    json_t *root  = json_object();
    json_t *nodes = json_array();
    bool    ok    = root != NULL && nodes != NULL;

    for (uint32_t i = 0; ok && i < c->n_nodes; i++)
        ok = json_array_append_new(nodes, node_json(&c->nodes[i])) == 0;
    ok = json_object_set_new(root, "nodes", nodes) == 0 && ok;
    if (c->latency >= 0) ok = ok && real_add(root, "latency_us", c->latency * 1e6);
    ok = ok && known_add(root, "net_gbit", c->net * 8 / 1e9);
    ok = ok && known_add(root, "step_us", c->step * 1e6);
    ok = ok && known_add(root, "layer_us", c->layer * 1e6);
    ok = ok && pairs_add(root, "pair_latency_us", c->pair_latency, c->n_nodes, 1e-6);
    ok = ok && pairs_add(root, "pair_net_gbit", c->pair_net, c->n_nodes, 1e9 / 8);
    if (ok) return root;
    json_decref(root);
    return NULL;
}

base_status_t part_cluster_write(const part_cluster_t *cluster, char **text_p, size_t *n_p,
                                 base_err_t *err)
{
    json_t       *root = cluster_json(cluster);
    char         *flat = NULL, *text = NULL;
    base_status_t st = BASE_OK;

    if (root != NULL) flat = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(DIGITS));
    if (flat == NULL) {
        st = base_fail(err, BASE_ERR_MEMORY, "cluster file: no memory");
        goto out;
    }
    const size_t n = strlen(flat);
    st             = base_alloc((void **)&text, n + 2, 1, "cluster file", err);
    if (st != BASE_OK) goto out;
    memcpy(text, flat, n);
    text[n]     = '\n';
    text[n + 1] = '\0';
    *text_p     = text;
    *n_p        = n + 1;
out:
    free(flat);
    json_decref(root);
    return st;
}

base_status_t part_cluster_save(const part_cluster_t *cluster, const char *path, base_err_t *err)
{
    char          beside[4096];
    struct stat   info;
    char         *text = NULL;
    size_t        n    = 0;
    FILE         *file = NULL;
    base_status_t st   = part_cluster_write(cluster, &text, &n, err);

    if (st != BASE_OK) return st;
    /* A pipe or device stays what it is; of files a reader sees the old one or the new one. */
    const bool plain  = stat(path, &info) != 0 || S_ISREG(info.st_mode);
    const int  length = snprintf(beside, sizeof(beside), "%s%s", path, plain ? ".part" : "");
    if (length > 0 && (size_t)length < sizeof(beside)) file = fopen(beside, "wb");
    bool ok = file != NULL && fwrite(text, 1, n, file) == n;
    if (file != NULL) ok = fclose(file) == 0 && ok;
    if (!ok || (plain && rename(beside, path) != 0)) {
        st = base_fail(err, BASE_ERR_IO, "%s: cannot write the cluster file: %s", path,
                       strerror(errno));
        if (file != NULL && plain) (void)remove(beside);
    }
    free(text);
    return st;
}
