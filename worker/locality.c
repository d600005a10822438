/* worker/locality.c: where the pages of the weights are. */
#include "worker/locality.h"

#include "worker/state.h"

static void look(const worker_topology_t *topology, int thread, const uint8_t *begin,
                 const uint8_t *end, worker_locality_t *l)
{
    int own  = worker_topology_domain(topology, thread);
    int page = -1;
    if (begin >= end) return;
    page = worker_topology_page_domain(topology, begin + (end - begin) / 2);
    l->pages++;
    if (own < 0 || page < 0)
        l->unknown++;
    else if (own == page)
        l->local++;
}

worker_locality_t worker_locality(const worker_t *w, const worker_topology_t *topology)
{
    worker_locality_t found = {0};
    int               n     = worker_team_size(w->config.team);
    for (uint32_t l = 0; l < w->shard->n_layers; l++)
        for (int id = 0; id < WORKER_MATRIX_COUNT; id++) {
            const worker_matrix_t *m = &w->shard->layers[l].m[id];
            for (int t = 0; t < n && m->kind != WORKER_DENSE; t++) {
                size_t b = 0;
                size_t e = 0;
                worker_tile_share(&w->shard->layers[l], (worker_matrix_id_t)id, t, n, &b, &e);
                look(topology, t, m->data + b * m->tile_bytes, m->data + e * m->tile_bytes, &found);
            }
        }
    return found;
}
