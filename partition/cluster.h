/* partition/cluster.h
 * The machines a model shall run on, as a user describes them. A cluster file:
 *
 *   {"nodes": [{"name": "big", "count": 2, "mem": "384G", "cores": 32, "membw_gbs": 180, "ranks":
 * 2},
 *              {"mem": "24G"}],
 *    "latency_us": 30, "net_gbit": 10}
 *
 * Only "nodes" and "mem" are required. Memory and bandwidth are of one node; "count" like nodes
 * (1); "ranks" started on each; latency is one way, between nodes. A missing figure leaves the
 * prediction that needs it out. An unknown field is an error, since it is most likely a misspelt
 * one. */
#ifndef TRIREME_PARTITION_CLUSTER_H
#define TRIREME_PARTITION_CLUSTER_H

#include "base/limits.h"
#include "base/status.h"

enum { PART_NODE_NAME_BYTES = 64, PART_CLUSTER_FILE_MAX_BYTES = 1 << 20 };

typedef struct {
    char     name[PART_NODE_NAME_BYTES]; /* "big1": numbered when its count is above 1 */
    uint64_t mem_bytes;                  /* 1 MiB .. 1 PiB */
    uint32_t cores;                      /* 0: not known */
    double   membw;                      /* bytes per second; 0: not known */
    uint32_t ranks;                      /* 1.. */
    uint32_t rank0;                      /* its first rank; set when the cluster is made */
} part_node_t;

/* Ranks are numbered node by node, in the order of the nodes, as mpirun fills them. */
typedef struct {
    uint32_t     n_nodes; /* 1..LIMIT_RANKS */
    uint32_t     n_ranks; /* of all nodes, up to LIMIT_RANKS */
    part_node_t *nodes;   /* owned */
    double       latency; /* seconds, one way between nodes; < 0: not known */
    double       net;     /* bytes per second of a node's link; 0: not known */
} part_cluster_t;

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

/* n_nodes copies of a node, named node1, node2, ... Status: OK | LIMIT | MEMORY. */
base_status_t part_cluster_uniform(uint32_t n_nodes, const part_node_t *node, double latency,
                                   double net, part_cluster_t *cluster, base_err_t *err);

void part_cluster_free(part_cluster_t *cluster); /* accepts a zeroed one */

/* The node that holds a rank; rank < n_ranks. */
uint32_t part_cluster_node(const part_cluster_t *cluster, uint32_t rank);

#endif
