/* partition/cluster.c: cluster files read, checked; cluster_write.c writes them. */
#include "partition/cluster.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { KIND_COUNT, KIND_SIZE, KIND_REAL, KIND_TEXT, KIND_NODES, KIND_PAIRS, KIND_FEW };

typedef struct {
    const char *name;
    int         kind;
    double      low, high; /* of numbers, in the unit of the file; of sizes in bytes */
} field_t;

/* The places of the fields in the tables below. */
enum {
    N_NAME,
    N_COUNT,
    N_MEM,
    N_CORES,
    N_MEMBW,
    N_RANKS,
    N_RANK_MEMBW,
    N_T3,
    N_DENSE,
    N_SCREEN,
    N_GOPS,
    N_INTRA_US,
    N_INTRA_GBS,
    N_T2_FEW,
    N_T3_FEW,
    N_DENSE_FEW,
    N_SCREEN_FEW,
    NODE_FIELDS
};
enum { C_NODES, C_LATENCY, C_NET, C_STEP, C_LAYER, C_PAIR_LATENCY, C_PAIR_NET, CLUSTER_FIELDS };

static const field_t node_fields[NODE_FIELDS] = {
    [N_NAME]       = {"name", KIND_TEXT, 1, PART_NODE_NAME_MOST},
    [N_COUNT]      = {"count", KIND_COUNT, 1, LIMIT_RANKS},
    [N_MEM]        = {"mem", KIND_SIZE, 1 << 20, 1125899906842624.0},
    [N_CORES]      = {"cores", KIND_COUNT, 1, 1 << 16},
    [N_MEMBW]      = {"membw_gbs", KIND_REAL, 0.001, 1e6},
    [N_RANKS]      = {"ranks", KIND_COUNT, 1, LIMIT_RANKS},
    [N_RANK_MEMBW] = {"rank_membw_gbs", KIND_REAL, 0.001, 1e6},
    [N_T3]         = {"t3_gbs", KIND_REAL, 0.001, 1e6},
    [N_DENSE]      = {"dense_gbs", KIND_REAL, 0.001, 1e6},
    [N_SCREEN]     = {"screen_gbs", KIND_REAL, 0.001, 1e6},
    [N_GOPS]       = {"gops", KIND_REAL, 0.001, 1e9},
    [N_INTRA_US]   = {"intra_us", KIND_REAL, 0, 1e9},
    [N_INTRA_GBS]  = {"intra_gbs", KIND_REAL, 0.001, 1e6},
    [N_T2_FEW]     = {"t2_few_gops", KIND_FEW, 0.001, 1e9},
    [N_T3_FEW]     = {"t3_few_gops", KIND_FEW, 0.001, 1e9},
    [N_DENSE_FEW]  = {"dense_few_gops", KIND_FEW, 0.001, 1e9},
    [N_SCREEN_FEW] = {"screen_few_gops", KIND_FEW, 0.001, 1e9},
};

const uint32_t part_few_vectors[PART_FEW] = {2, 4, 8, 16};

static const field_t cluster_fields[CLUSTER_FIELDS] = {
    [C_NODES]        = {"nodes", KIND_NODES, 1, LIMIT_RANKS},
    [C_LATENCY]      = {"latency_us", KIND_REAL, 0, 1e9},
    [C_NET]          = {"net_gbit", KIND_REAL, 0.001, 1e6},
    [C_STEP]         = {"step_us", KIND_REAL, 0, 1e9},
    [C_LAYER]        = {"layer_us", KIND_REAL, 0, 1e9},
    [C_PAIR_LATENCY] = {"pair_latency_us", KIND_PAIRS, 0, 1e9},
    [C_PAIR_NET]     = {"pair_net_gbit", KIND_PAIRS, 0.001, 1e6},
};

static const double MICRO = 1e-6, GIGA = 1e9, GBIT = 1e9 / 8;

bool part_size_parse(const char *text, uint64_t *bytes)
{
    static const char letters[] = "KMGT";
    double            value = 0, digit = 1, unit = 1;
    const char       *c        = text;
    uint32_t          n_digits = 0;

    for (; *c >= '0' && *c <= '9'; c++, n_digits++) value = value * 10 + (*c - '0');
    if (*c == '.') {
        for (c++; *c >= '0' && *c <= '9'; c++, n_digits++) {
            digit /= 10;
            value += digit * (*c - '0');
        }
    }
    if (n_digits == 0 || n_digits > 18) return false;
    const char *letter = *c == '\0' ? NULL : strchr(letters, *c);
    if (letter != NULL) {
        bool decimal = strcmp(c + 1, "B") == 0;
        if (!decimal && c[1] != '\0' && strcmp(c + 1, "iB") != 0) return false;
        unit = pow(decimal ? 1000 : 1024, (double)(letter - letters + 1));
    } else if (*c != '\0') {
        return false;
    }
    value *= unit;
    if (value > 1152921504606846976.0) return false;
    *bytes = (uint64_t)value;
    return true;
}

/* The value of a field as a double; it must be there. `at` names the object: "file: nodes[2]". */
static base_status_t number_read(const char *at, const field_t *f, const json_t *value, double *out,
                                 base_err_t *err)
{
    double   v     = 0;
    uint64_t bytes = 0;

    if (f->kind == KIND_SIZE && json_is_string(value)) {
        if (!part_size_parse(json_string_value(value), &bytes))
            return base_fail(err, BASE_ERR_INPUT,
                             "%s.%s: '%.40s' is no size; expected as in 24G, 1.5T, 512M", at,
                             f->name, json_string_value(value));
        v = (double)bytes;
    } else if (json_is_number(value)) {
        v = json_number_value(value);
    } else {
        return base_fail(err, BASE_ERR_INPUT, "%s.%s: expected %s", at, f->name,
                         f->kind == KIND_SIZE ? "a size, as in \"24G\"" : "a number");
    }
    if (f->kind == KIND_COUNT && !json_is_integer(value))
        return base_fail(err, BASE_ERR_INPUT, "%s.%s: %g, expected a whole number", at, f->name, v);
    if (f->kind == KIND_SIZE && json_is_number(value) && v < f->low)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s.%s: %.17g bytes are less than 1 MiB; a size with a unit is a text, as "
                         "in \"24G\"",
                         at, f->name, v);
    if (!(v >= f->low && v <= f->high))
        return base_fail(err, BASE_ERR_INPUT, "%s.%s: %.17g, expected %g to %g", at, f->name, v,
                         f->low, f->high);
    *out = v;
    return BASE_OK;
}

static base_status_t unknown_field(const char *at, const char *key, const field_t *fields,
                                   uint32_t n_fields, base_err_t *err)
{
    char   known[232];
    size_t used = 0;

    known[0] = '\0';
    for (uint32_t i = 0; i < n_fields && used < sizeof(known); i++)
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i == 0 ? "" : ", ",
                                 fields[i].name);
    return base_fail(err, BASE_ERR_INPUT, "%s.%.60s: no such field; known are %s", at, key, known);
}

/* Names go into commands that people paste, and into lists of hosts: what a host or an address may
 * be called, no more. */
static bool name_is_plain(const char *name)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return name[0] != '-' && name[strspn(name, plain)] == '\0';
}

/* Every field of an object must be a known one of the right kind. values[i] (number fields) keep
 * what they hold where the object lacks field i. */
static base_status_t object_read(const char *at, json_t *object, const field_t *fields,
                                 uint32_t n_fields, double *values, base_err_t *err)
{
    const char *key   = NULL;
    json_t     *value = NULL;

    if (!json_is_object(object))
        return base_fail(err, BASE_ERR_INPUT, "%s: expected an object {...}", at);
    json_object_foreach(object, key, value)
    {
        uint32_t i = 0;
        while (i < n_fields && strcmp(key, fields[i].name) != 0) i++;
        if (i == n_fields) return unknown_field(at, key, fields, n_fields, err);
        const field_t *f = &fields[i];
        if (f->kind == KIND_PAIRS || f->kind == KIND_FEW) continue; /* read by who knows where to */
        if (f->kind == KIND_NODES) {
            if (!json_is_array(value) || json_array_size(value) == 0 ||
                json_array_size(value) > LIMIT_RANKS)
                return base_fail(err, BASE_ERR_INPUT, "%s.%s: expected an array of 1..%d nodes", at,
                                 key, LIMIT_RANKS);
        } else if (f->kind == KIND_TEXT) {
            size_t length = json_is_string(value) ? json_string_length(value) : 0;
            if (!((double)length >= f->low && (double)length <= f->high))
                return base_fail(err, BASE_ERR_INPUT, "%s.%s: expected a text of 1..%.0f bytes", at,
                                 f->name, f->high);
            if (!name_is_plain(json_string_value(value)))
                return base_fail(err, BASE_ERR_INPUT,
                                 "%s.%s: expected a host's name: letters, digits, '.', '_', '-', "
                                 "and no '-' in front",
                                 at, f->name);
        } else {
            base_status_t st = number_read(at, f, value, &values[i], err);
            if (st != BASE_OK) return st;
        }
    }
    return BASE_OK;
}

/* Append `count` copies of a node. nodes has room for LIMIT_RANKS. */
static base_status_t nodes_append(part_cluster_t *c, const part_node_t *node, const char *name,
                                  uint32_t count, const char *at, base_err_t *err)
{
    if (count > LIMIT_RANKS - c->n_nodes ||
        (uint64_t)count * node->ranks > LIMIT_RANKS - c->n_ranks)
        return base_fail(err, BASE_ERR_LIMIT,
                         "%s: %u nodes of %u ranks more than the %u ranks before: limit %d", at,
                         count, node->ranks, c->n_ranks, LIMIT_RANKS);
    const size_t length = strlen(name);
    const char  *dash = length > 0 && name[length - 1] >= '0' && name[length - 1] <= '9' ? "-" : "";
    for (uint32_t i = 0; i < count; i++) {
        part_node_t *n = &c->nodes[c->n_nodes++];
        *n             = *node;
        n->rank0       = c->n_ranks;
        if (count == 1)
            (void)snprintf(n->name, sizeof(n->name), "%.*s", PART_NODE_NAME_MOST, name);
        else
            (void)snprintf(n->name, sizeof(n->name), "%.*s%s%u", PART_NODE_NAME_MOST, name, dash,
                           i + 1);
        c->n_ranks += node->ranks;
    }
    return BASE_OK;
}

/* Rates at part_few_vectors. Absent: they stay 0. */
static base_status_t few_read(const char *at, json_t *object, const field_t *f, double *out,
                              base_err_t *err)
{
    json_t *list = json_object_get(object, f->name);

    if (list == NULL) return BASE_OK;
    if (!json_is_array(list) || json_array_size(list) != PART_FEW)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s.%s: expected %d numbers, of 2, 4, 8 and 16 vectors at once", at,
                         f->name, PART_FEW);
    for (uint32_t i = 0; i < PART_FEW; i++) {
        double        v  = 0;
        base_status_t st = number_read(at, f, json_array_get(list, i), &v, err);
        if (st != BASE_OK) return st;
        out[i] = v * GIGA;
    }
    return BASE_OK;
}

static base_status_t few_read_all(const char *at, json_t *object, part_few_t *few, base_err_t *err)
{
    const struct {
        int     field;
        double *out;
    } lists[] = {{N_T2_FEW, few->t2},
                 {N_T3_FEW, few->t3},
                 {N_DENSE_FEW, few->dense},
                 {N_SCREEN_FEW, few->screen}};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        base_status_t st = few_read(at, object, &node_fields[lists[i].field], lists[i].out, err);
        if (st != BASE_OK) return st;
    }
    return BASE_OK;
}

static base_status_t node_read(const char *where, json_t *object, uint32_t index,
                               uint32_t default_ranks, part_cluster_t *c, base_err_t *err)
{
    char          at[160];
    char          name[PART_NODE_NAME_BYTES];
    double        v[NODE_FIELDS] = {[N_COUNT] = 1, [N_RANKS] = default_ranks};
    base_status_t st             = BASE_OK;

    (void)snprintf(at, sizeof(at), "%.120s: nodes[%u]", where, index);
    (void)snprintf(name, sizeof(name), "node%u", index + 1);
    st = object_read(at, object, node_fields, NODE_FIELDS, v, err);
    if (st != BASE_OK) return st;
    if (v[N_MEM] <= 0)
        return base_fail(err, BASE_ERR_INPUT, "%s.mem: missing; expected a size, as in \"24G\"",
                         at);
    const char *given = json_string_value(json_object_get(object, "name"));
    part_node_t node  = {.mem_bytes     = (uint64_t)v[N_MEM],
                         .cores         = (uint32_t)v[N_CORES],
                         .membw         = v[N_MEMBW] * GIGA,
                         .rank_membw    = v[N_RANK_MEMBW] * GIGA,
                         .t3_bw         = v[N_T3] * GIGA,
                         .dense_bw      = v[N_DENSE] * GIGA,
                         .screen_bw     = v[N_SCREEN] * GIGA,
                         .ops           = v[N_GOPS] * GIGA,
                         .intra_latency = v[N_INTRA_US] * MICRO,
                         .intra_bw      = v[N_INTRA_GBS] * GIGA,
                         .ranks         = (uint32_t)v[N_RANKS]};
    st                = few_read_all(at, object, &node.few, err);
    if (st != BASE_OK) return st;
    return nodes_append(c, &node, given != NULL ? given : name, (uint32_t)v[N_COUNT], at, err);
}

/* A table of pairs, rows of n_nodes numbers each. The diagonal says nothing and becomes 0. Absent:
 * *out stays NULL. */
static base_status_t pairs_read(const char *where, json_t *root, const field_t *f, double unit,
                                uint32_t n, double **out, base_err_t *err)
{
    json_t       *table = json_object_get(root, f->name);
    double       *pairs = NULL;
    base_status_t st    = BASE_OK;

    if (table == NULL) return BASE_OK;
    if (!json_is_array(table) || json_array_size(table) != n || n > PART_PAIR_NODES)
        return base_fail(
            err, BASE_ERR_INPUT,
            "%.120s.%s: expected %u rows of %u numbers, one for each node (%d at most)", where,
            f->name, n, n, PART_PAIR_NODES);
    st = base_alloc((void **)&pairs, (size_t)n * n, sizeof(*pairs), "cluster", err);
    for (uint32_t a = 0; a < n && st == BASE_OK; a++) {
        json_t *row = json_array_get(table, a);
        char    at[200];
        (void)snprintf(at, sizeof(at), "%.120s: %s[%u]", where, f->name, a);
        if (!json_is_array(row) || json_array_size(row) != n) {
            st =
                base_fail(err, BASE_ERR_INPUT, "%s: expected %u numbers, one for each node", at, n);
            break;
        }
        for (uint32_t b = 0; b < n && st == BASE_OK; b++) {
            double v = 0;
            if (a != b) st = number_read(at, f, json_array_get(row, b), &v, err);
            pairs[(size_t)a * n + b] = v * unit;
        }
    }
    if (st == BASE_OK)
        *out = pairs;
    else
        free(pairs);
    return st;
}

base_status_t part_cluster_parse(const char *json, size_t n, const char *where,
                                 uint32_t default_ranks, part_cluster_t *cluster, base_err_t *err)
{
    part_cluster_t c     = {0};
    json_error_t   error = {0};
    json_t        *root  = NULL;
    base_status_t  st    = BASE_OK;

    base_assert(default_ranks >= 1 && default_ranks <= LIMIT_RANKS);
    root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        st = base_fail(err, BASE_ERR_INPUT, "%.200s: line %d, column %d: %.150s", where, error.line,
                       error.column, error.text);
        goto out;
    }
    double v[CLUSTER_FIELDS] = {[C_LATENCY] = -1};
    st                       = object_read(where, root, cluster_fields, CLUSTER_FIELDS, v, err);
    if (st != BASE_OK) goto out;
    json_t *nodes = json_object_get(root, "nodes");
    if (nodes == NULL) {
        st = base_fail(err, BASE_ERR_INPUT,
                       "%.200s: nodes: missing; expected [{\"mem\": \"24G\"}, ...]", where);
        goto out;
    }
    st = base_alloc((void **)&c.nodes, LIMIT_RANKS, sizeof(*c.nodes), "cluster", err);
    if (st != BASE_OK) goto out;
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        st = node_read(where, json_array_get(nodes, i), (uint32_t)i, default_ranks, &c, err);
        if (st != BASE_OK) goto out;
    }
    c.latency = v[C_LATENCY] < 0 ? -1 : v[C_LATENCY] * MICRO;
    c.net     = v[C_NET] * GBIT;
    c.step    = v[C_STEP] * MICRO;
    c.layer   = v[C_LAYER] * MICRO;
    st = pairs_read(where, root, &cluster_fields[C_PAIR_LATENCY], MICRO, c.n_nodes, &c.pair_latency,
                    err);
    if (st == BASE_OK)
        st =
            pairs_read(where, root, &cluster_fields[C_PAIR_NET], GBIT, c.n_nodes, &c.pair_net, err);
    if (st != BASE_OK) goto out;
    *cluster = c;
    c        = (part_cluster_t){0};
out:
    json_decref(root);
    part_cluster_free(&c);
    return st;
}

base_status_t part_cluster_load(const char *path, uint32_t default_ranks, part_cluster_t *cluster,
                                base_err_t *err)
{
    char         *text = NULL;
    FILE         *file = NULL;
    base_status_t st   = BASE_OK;

    st = base_alloc((void **)&text, PART_CLUSTER_FILE_MAX_BYTES + 1, 1, "cluster file", err);
    if (st != BASE_OK) goto out;
    file = fopen(path, "rb");
    if (file == NULL) {
        st = base_fail(err, BASE_ERR_IO, "%s: %s", path, strerror(errno));
        goto out;
    }
    size_t n = fread(text, 1, PART_CLUSTER_FILE_MAX_BYTES + 1, file);
    if (ferror(file)) {
        st = base_fail(err, BASE_ERR_IO, "%s: cannot read", path);
        goto out;
    }
    if (n > PART_CLUSTER_FILE_MAX_BYTES) {
        st = base_fail(err, BASE_ERR_LIMIT, "%s: longer than %d bytes: not a cluster file?", path,
                       PART_CLUSTER_FILE_MAX_BYTES);
        goto out;
    }
    st = part_cluster_parse(text, n, path, default_ranks, cluster, err);
out:
    if (file != NULL) (void)fclose(file);
    free(text);
    return st;
}

base_status_t part_cluster_uniform(uint32_t n_nodes, const part_node_t *node, double latency,
                                   double net, part_cluster_t *cluster, base_err_t *err)
{
    part_cluster_t c  = {.latency = latency, .net = net};
    base_status_t  st = BASE_OK;

    base_assert(n_nodes >= 1 && node->ranks >= 1);
    st = base_alloc((void **)&c.nodes, LIMIT_RANKS, sizeof(*c.nodes), "cluster", err);
    if (st != BASE_OK) goto out;
    st = nodes_append(&c, node, n_nodes == 1 ? "node1" : "node", n_nodes, "cluster", err);
    if (st != BASE_OK) goto out;
    *cluster = c;
    c        = (part_cluster_t){0};
out:
    part_cluster_free(&c);
    return st;
}

void part_cluster_free(part_cluster_t *cluster)
{
    free(cluster->nodes);
    free(cluster->pair_latency);
    free(cluster->pair_net);
    memset(cluster, 0, sizeof(*cluster));
}

uint32_t part_cluster_node(const part_cluster_t *cluster, uint32_t rank)
{
    uint32_t low = 0, high = cluster->n_nodes; /* rank0 of low <= rank < rank0 of high */

    base_assert(rank < cluster->n_ranks);
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (cluster->nodes[middle].rank0 <= rank)
            low = middle;
        else
            high = middle;
    }
    return low;
}

double part_cluster_latency(const part_cluster_t *cluster, uint32_t a, uint32_t b)
{
    base_assert(a != b && a < cluster->n_nodes && b < cluster->n_nodes);
    if (cluster->pair_latency == NULL) return cluster->latency;
    return cluster->pair_latency[(size_t)a * cluster->n_nodes + b];
}

double part_cluster_net(const part_cluster_t *cluster, uint32_t a, uint32_t b)
{
    base_assert(a != b && a < cluster->n_nodes && b < cluster->n_nodes);
    if (cluster->pair_net == NULL) return cluster->net;
    return cluster->pair_net[(size_t)a * cluster->n_nodes + b];
}

static base_status_t pairs_pick(const double *from, uint32_t n_from, const uint32_t *nodes,
                                uint32_t n, double **out, base_err_t *err)
{
    base_status_t st = BASE_OK;

    if (from == NULL) return BASE_OK;
    st = base_alloc((void **)out, (size_t)n * n, sizeof(**out), "cluster", err);
    for (uint32_t a = 0; a < n && st == BASE_OK; a++)
        for (uint32_t b = 0; b < n; b++)
            (*out)[(size_t)a * n + b] = from[(size_t)nodes[a] * n_from + nodes[b]];
    return st;
}

base_status_t part_cluster_pick(const part_cluster_t *cluster, const uint32_t *nodes, uint32_t n,
                                part_cluster_t *picked, base_err_t *err)
{
    part_cluster_t c  = *cluster;
    base_status_t  st = BASE_OK;

    base_assert(n >= 1 && n <= cluster->n_nodes);
    c.nodes        = NULL;
    c.pair_latency = c.pair_net = NULL;
    c.n_nodes = c.n_ranks = 0;
    st                    = base_alloc((void **)&c.nodes, n, sizeof(*c.nodes), "cluster", err);
    if (st != BASE_OK) goto out;
    for (uint32_t i = 0; i < n; i++) {
        base_assert(nodes[i] < cluster->n_nodes);
        c.nodes[i]       = cluster->nodes[nodes[i]];
        c.nodes[i].rank0 = c.n_ranks;
        c.n_ranks += c.nodes[i].ranks;
        c.n_nodes++;
    }
    st = pairs_pick(cluster->pair_latency, cluster->n_nodes, nodes, n, &c.pair_latency, err);
    if (st == BASE_OK)
        st = pairs_pick(cluster->pair_net, cluster->n_nodes, nodes, n, &c.pair_net, err);
    if (st != BASE_OK) goto out;
    *picked = c;
    memset(&c, 0, sizeof(c));
out:
    part_cluster_free(&c);
    return st;
}
