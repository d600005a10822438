/* tests/mpi/stages.c: streams between stages and logits to rank 0, for every grid shape.
 * np: 1 2 3 5 8
 * timeout: 300 */
#include "tests/mpi/check.h"

static uint32_t value(uint32_t round, uint32_t shard, size_t i)
{
    return check_mix(round, shard, (uint32_t)i) >> 2;
}

/* Each stage adds its number to what came; the last one checks. */
static void check_stream(comm_grid_t *g, uint32_t round, size_t n)
{
    uint32_t   stage = comm_grid_stage(g), shard = comm_grid_shard(g);
    uint32_t  *bits = check_alloc((n + 2) * sizeof(uint32_t));
    base_err_t err;

    bits[0] = bits[n + 1] = 0xabcdef01u;
    if (stage == 0)
        for (size_t i = 0; i < n; i++) bits[i + 1] = value(round, shard, i);
    else
        CHECK_OK(comm_stage_recv(g, (float *)(void *)(bits + 1), n, &err));
    for (size_t i = 0; i < n; i++)
        CHECK(bits[i + 1] == value(round, shard, i) + stage, "stage %u, n %zu, element %zu", stage,
              n, i);
    CHECK(bits[0] == 0xabcdef01u && bits[n + 1] == 0xabcdef01u, "guards");
    for (size_t i = 0; i < n; i++) bits[i + 1]++;
    if (stage + 1 < comm_grid_stages(g))
        CHECK_OK(comm_stage_send(g, (const float *)(void *)(bits + 1), n, &err));
    free(bits);
}

static void check_logits(comm_grid_t *g, size_t n_rows, uint32_t base)
{
    uint32_t   p = comm_grid_shards(g), me = comm_grid_shard(g);
    bool       last    = comm_grid_stage(g) + 1 == comm_grid_stages(g);
    bool       root    = comm_rank(check_world) == 0;
    uint32_t  *counts  = check_alloc(p * sizeof(uint32_t));
    uint32_t  *offsets = check_alloc(p * sizeof(uint32_t));
    uint32_t   total = 0, most = 0;
    base_err_t err;

    for (uint32_t s = 0; s < p; s++) {
        counts[s]  = s == 1 ? 0 : base + 3 * s;
        offsets[s] = total;
        total += counts[s];
        if (counts[s] > most) most = counts[s];
    }
    size_t    stride  = total + 5;
    uint32_t *piece   = check_alloc(n_rows * counts[me] * sizeof(uint32_t));
    uint32_t *logits  = root ? check_alloc(n_rows * stride * sizeof(uint32_t)) : NULL;
    float    *staging = root ? check_alloc(n_rows * most * sizeof(float)) : NULL;
    for (size_t r = 0; r < n_rows; r++)
        for (uint32_t i = 0; i < counts[me]; i++)
            piece[r * counts[me] + i] = value((uint32_t)r, me, i);
    CHECK_OK(comm_logits_to_root(g, last ? (float *)(void *)piece : NULL, n_rows, counts, offsets,
                                 (float *)(void *)logits, stride, staging, &err));
    for (size_t r = 0; root && r < n_rows; r++) {
        for (uint32_t s = 0; s < p; s++)
            for (uint32_t i = 0; i < counts[s]; i++)
                CHECK(logits[r * stride + offsets[s] + i] == value((uint32_t)r, s, i),
                      "row %zu, shard %u, element %u", r, s, i);
        for (uint32_t i = 0; i < 5; i++) CHECK(logits[r * stride + total + i] == 0, "padding");
    }
    free(staging);
    free(logits);
    free(piece);
    free(offsets);
    free(counts);
}

static void check_grid(uint32_t stages, uint32_t shards)
{
    static const size_t   stream_sizes[] = {1, 2, 1023, 2560, 20000, 65537, 1048576, 1048577};
    static const uint32_t slices[]       = {1, 17, 4096, 40000};
    comm_grid_t          *g              = NULL;
    base_err_t            err;

    CHECK_OK(comm_grid_create(check_world, stages, shards, &g, &err));
    for (uint32_t i = 0; i < sizeof(stream_sizes) / sizeof(stream_sizes[0]); i++)
        check_stream(g, i, stream_sizes[i]);
    for (uint32_t i = 0; i < 200; i++) check_stream(g, i, 1 + i % 5);
    for (size_t i = 0; i < sizeof(slices) / sizeof(slices[0]); i++) {
        check_logits(g, 1, slices[i]);
        check_logits(g, 3, slices[i]);
        check_logits(g, 33, slices[i]);
    }
    for (uint32_t i = 0; i < 20; i++) { /* the steps of a decode loop */
        check_stream(g, i, 640);
        check_logits(g, 1, 1000);
    }
    comm_stats_t s     = comm_stats(g);
    bool         moves = stages > 1 && comm_grid_stage(g) + 1 < stages;
    CHECK(!moves || s.bytes > 2 * 1048576 * sizeof(float), "%" PRIu64 " bytes", s.bytes);
    CHECK(s.calls > 0, "%" PRIu64 " calls", s.calls);
    comm_grid_destroy(&g);
}

int main(void)
{
    base_err_t err;

    CHECK_OK(comm_world_open(&check_world, &err));
    uint32_t size = (uint32_t)comm_size(check_world);
    for (uint32_t shards = 1; shards <= size; shards++)
        if (size % shards == 0) check_grid(size / shards, shards);
    comm_world_close(&check_world);
    return 0;
}
