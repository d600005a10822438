/* worker/locality.c: where the pages of weights and KV cache are. */
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

static void look_at_head(const worker_t *w, const worker_topology_t *topology, int t, int n,
                         worker_locality_t *found)
{
    const worker_shard_t *s    = w->shard;
    const uint8_t        *from = NULL;
    const uint8_t        *to   = NULL;
    size_t                b    = 0;
    size_t                e    = 0;
    if (!s->has_head) return;
    worker_share(s->vocab.end - s->vocab.begin, KERN_TILE_ROWS, t, n, &b, &e);
    look(topology, t, s->head + b * s->head_row_bytes, s->head + e * s->head_row_bytes, found);
    if (w->head.screen == NULL) return;
    worker_screen_share(w->head.screen, t, n, &from, &to);
    look(topology, t, from, to, found);
}

worker_locality_t worker_locality(const worker_t *w, const worker_topology_t *topology)
{
    worker_locality_t found = {0};
    int               n     = worker_team_size(w->config.team);
    for (uint32_t l = 0; l < w->shard->n_layers; l++)
        for (int id = 0; id < WORKER_MATRIX_COUNT; id++) {
            const worker_matrix_t *m = &w->shard->layers[l].m[id];
            bool   dense = m->kind == WORKER_DENSE; /* rows, perhaps fewer than the last tile has */
            size_t tile  = dense ? KERN_TILE_ROWS * m->row_bytes : m->tile_bytes;
            size_t all   = dense ? m->rows * m->row_bytes : m->n_tiles * tile;
            for (int t = 0; t < n; t++) {
                size_t b = 0;
                size_t e = 0;
                worker_tile_share(&w->shard->layers[l], (worker_matrix_id_t)id, t, n, &b, &e);
                look(topology, t, m->data + b * tile, m->data + (e * tile < all ? e * tile : all),
                     &found);
            }
        }
    for (int t = 0; t < n; t++) look_at_head(w, topology, t, n, &found);
    return found;
}

worker_locality_t worker_locality_kv(const worker_t *w, const worker_topology_t *topology)
{
    worker_locality_t found = {0};
    int               n     = worker_team_size(w->config.team);
    for (uint32_t l = 0; l < w->shard->n_layers; l++) {
        const part_range_t *own = &w->shard->layers[l].slice.kv;
        for (size_t h = 0; h < 2 * (size_t)(own->end - own->begin); h++) {
            size_t         elem = h % 2 == 0 ? w->k_elem : w->v_elem;
            const uint8_t *base = h % 2 == 0 ? w->kv[l].k : w->kv[l].v;
            int  page = worker_topology_page_domain(topology, base + h / 2 * w->kv_positions *
                                                                         w->hd_pad * elem);
            bool near = false;
            for (int t = 0; t < n; t++) near |= worker_topology_domain(topology, t) == page;
            found.pages++;
            if (page < 0)
                found.unknown++;
            else if (near)
                found.local++;
        }
    }
    return found;
}
