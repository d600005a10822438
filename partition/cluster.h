/* partition/cluster.h
 * The machines a model shall run on, as a user describes them or `doctor` measures them. A cluster
 * file (docs/FORMATS.md):
 *
 *   {"nodes": [{"name": "big", "count": 2, "mem": "384G", "cores": 32, "membw_gbs": 180},
 *              {"mem": "24G", "ranks": 2}],
 *    "latency_us": 30, "net_gbit": 10}
 *
 * Only "nodes" and "mem" are required. Memory, bandwidth and rates are of one node; "count" like
 * nodes (1); "ranks" started on each; latency is one way, between nodes. A missing figure leaves
 * the prediction that needs it out. An unknown field is an error, since it is most likely a
 * misspelt one. */
#ifndef TRIREME_PARTITION_CLUSTER_H
#define TRIREME_PARTITION_CLUSTER_H

#include "base/limits.h"
#include "base/status.h"

enum {
    PART_NODE_NAME_BYTES        = 64,
    PART_NODE_NAME_MOST         = 52, /* of a name that is given; a number may follow */
    PART_CLUSTER_FILE_MAX_BYTES = 1 << 20,
    PART_PAIR_NODES             = 256, /* most nodes of a table of pairs */
};

/* Numbers of vectors, between one and a prompt's many, whose products a node may give rates for:
 * 2, 4, 8 and 16. Kernels are neither bound by memory there nor at their best. */
enum { PART_FEW = 4 };
extern const uint32_t part_few_vectors[PART_FEW];

/* Products a second of all its ranks with so many vectors at once, weights from memory; all 0: not
 * known. */
typedef struct {
    double t2[PART_FEW], t3[PART_FEW]; /* packed weights, int8 */
    double dense[PART_FEW];            /* float16 weights */
    double screen[PART_FEW];           /* coarse rows of the head (NUMERICS 9) */
} part_few_t;

typedef struct {
    char       name[PART_NODE_NAME_BYTES]; /* "big1": numbered when its count is above 1 */
    uint64_t   mem_bytes;                  /* 1 MiB .. 1 PiB */
    uint32_t   cores;                      /* 0: not known */
    double     membw;      /* bytes of weights a second that all its ranks read; 0: not known */
    double     rank_membw; /* the same of one rank, others idle; 0: membw / ranks */
    double     t3_bw;      /* as membw, of weights packed as t3; 0: like membw */
    double     dense_bw;   /* as membw, of float16 weights; 0: like membw */
    double     screen_bw;  /* as membw, of coarse rows of the head; 0: like dense_bw */
    double     ops;        /* int8 products a second of all its ranks; 0: not known */
    part_few_t few;
    double     intra_latency; /* seconds of an exchange between its ranks; 0: left out */
    double     intra_bw;      /* bytes a second through such an exchange; 0: left out */
    uint32_t   ranks;         /* 1.. */
    uint32_t   rank0;         /* its first rank; set when the cluster is made */
} part_node_t;

/* Ranks are numbered node by node, in the order of the nodes, as mpirun fills them. */
typedef struct {
    uint32_t     n_nodes; /* 1..LIMIT_RANKS */
    uint32_t     n_ranks; /* of all nodes, up to LIMIT_RANKS */
    part_node_t *nodes;   /* owned */
    double       latency; /* seconds, one way between nodes; < 0: not known */
    double       net;     /* bytes per second of a node's link; 0: not known */
    double       step;    /* seconds that a step takes besides (commands, sampling); 0: left out */
    double       layer;   /* the same of a layer (norms, barriers) */
    /* n_nodes x n_nodes, from row to column, in the same units; NULL: alike for all pairs.
     * Owned. */
    double *pair_latency;
    double *pair_net;
} part_cluster_t;

/* From node a to node b, a != b. */
double part_cluster_latency(const part_cluster_t *cluster, uint32_t a, uint32_t b);
double part_cluster_net(const part_cluster_t *cluster, uint32_t a, uint32_t b);

/* "24G", "1.5T", "512M", "64GiB" (powers of 1024), "24GB" (of 1000), or bytes. False for anything
 * else, and for more than 2^60. */
bool part_size_parse(const char *text, uint64_t *bytes);

/* Parse the n bytes of a cluster file. `where` names it in texts; default_ranks for nodes that say
 * nothing of ranks. Status: OK | INPUT (text names the field) | LIMIT | MEMORY. Local. */
base_status_t part_cluster_parse(const char *json, size_t n, const char *where,
                                 uint32_t default_ranks, part_cluster_t *cluster, base_err_t *err);

/* The same from a file. Status: as above | IO. Local. */
base_status_t part_cluster_load(const char *path, uint32_t default_ranks, part_cluster_t *cluster,
                                base_err_t *err);

/* The file's text: what part_cluster_parse reads back, each figure to 12 digits. *text_p is
 * malloc'd and ends with a newline and a NUL, *n_p counts bytes without the NUL. Status: OK |
 * MEMORY. */
base_status_t part_cluster_write(const part_cluster_t *cluster, char **text_p, size_t *n_p,
                                 base_err_t *err);

/* The same to a file, whole or not at all. Status: OK | MEMORY | IO. Local. */
base_status_t part_cluster_save(const part_cluster_t *cluster, const char *path, base_err_t *err);

/* Some of the nodes, in the order of `nodes` (n of them, each at most once): ranks are numbered
 * anew. Status: OK | MEMORY. */
base_status_t part_cluster_pick(const part_cluster_t *cluster, const uint32_t *nodes, uint32_t n,
                                part_cluster_t *picked, base_err_t *err);

/* n_nodes copies of a node, named node1, node2, ... Status: OK | LIMIT | MEMORY. */
base_status_t part_cluster_uniform(uint32_t n_nodes, const part_node_t *node, double latency,
                                   double net, part_cluster_t *cluster, base_err_t *err);

void part_cluster_free(part_cluster_t *cluster); /* accepts a zeroed one */

/* The node that holds a rank; rank < n_ranks. */
uint32_t part_cluster_node(const part_cluster_t *cluster, uint32_t rank);

#endif
