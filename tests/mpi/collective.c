/* tests/mpi/collective.c: sums and gathers over the shards, for every grid shape.
 * np: 1 2 3 5 8
 * timeout: 300 */
#include "tests/mpi/check.h"

enum { GUARD = 0x5a };

static const size_t sum_sizes[] = {1,    2,    3,    7,     16,    255,   2559,   2560,   2561,
                                   8191, 8192, 8193, 65536, 65537, 70000, 262144, 262145, 600001};

static void check_sum_size(comm_grid_t *g, size_t n, uint32_t seed)
{
    uint32_t   p = comm_grid_shards(g);
    base_err_t err;
    uint8_t   *raw = check_alloc(64 + n * 4 + 64);
    int32_t   *buf = (int32_t *)(void *)(raw + 64);

    memset(raw, GUARD, 64 + n * 4 + 64);
    for (size_t i = 0; i < n; i++)
        buf[i] = (int32_t)(check_mix(seed, comm_grid_shard(g), (uint32_t)i) >> 8) - (1 << 23);
    CHECK_OK(comm_sum_i32(g, buf, n, &err));
    for (size_t i = 0; i < n; i++) {
        int64_t want = 0;
        for (uint32_t s = 0; s < p; s++)
            want += (int64_t)(check_mix(seed, s, (uint32_t)i) >> 8) - (1 << 23);
        CHECK(buf[i] == want, "n %zu, element %zu: %d, wanted %lld", n, i, buf[i], (long long)want);
    }
    for (size_t i = 0; i < 64; i++)
        CHECK(raw[i] == GUARD && raw[64 + n * 4 + i] == GUARD, "n %zu: guard %zu", n, i);
    free(raw);
}

/* Totals at the ends of int32, reached from either side. */
static void check_sum_extremes(comm_grid_t *g)
{
    int32_t    p = (int32_t)comm_grid_shards(g), me = (int32_t)comm_grid_shard(g);
    int32_t    buf[6];
    base_err_t err;

    buf[0] = me == 0 ? INT32_MAX - (p - 1) * 7 : 7;
    buf[1] = me == 0 ? INT32_MIN + (p - 1) * 7 : -7;
    buf[2] = me == p - 1 ? INT32_MAX : 0;
    buf[3] = me == p - 1 ? INT32_MIN : 0;
    buf[4] = INT32_MAX / p;
    buf[5] = INT32_MIN / p;
    CHECK_OK(comm_sum_i32(g, buf, 6, &err));
    CHECK(buf[0] == INT32_MAX && buf[1] == INT32_MIN, "%d %d", buf[0], buf[1]);
    CHECK(buf[2] == INT32_MAX && buf[3] == INT32_MIN, "%d %d", buf[2], buf[3]);
    CHECK(buf[4] == INT32_MAX / p * p && buf[5] == INT32_MIN / p * p, "%d %d", buf[4], buf[5]);
}

/* Piece sizes of a case: even, uneven, some empty, only one, all empty. */
static uint32_t piece_of(uint32_t kind, uint32_t shard, uint32_t p, uint32_t base)
{
    switch (kind) {
    case 0: return base;
    case 1: return base + check_mix(1, shard, base) % (base + 1);
    case 2: return shard % 2 == 0 ? base : 0;
    case 3: return shard == p - 1 ? base * 3 : 0;
    default: return 0;
    }
}

static void check_gather(comm_grid_t *g, uint32_t kind, uint32_t base)
{
    uint32_t   p = comm_grid_shards(g), me = comm_grid_shard(g), total = 1;
    uint32_t  *counts  = check_alloc(p * sizeof(uint32_t));
    uint32_t  *offsets = check_alloc(p * sizeof(uint32_t));
    base_err_t err;

    for (uint32_t s = 0; s < p; s++) {
        counts[s]  = piece_of(kind, s, p, base);
        offsets[s] = total;
        total += counts[s] + s % 3; /* gaps that nobody may write */
    }
    total++;
    uint32_t *bits = check_alloc(total * sizeof(uint32_t));
    for (uint32_t i = 0; i < total; i++) bits[i] = 0xffffffffu;
    for (uint32_t i = 0; i < counts[me]; i++) bits[offsets[me] + i] = check_mix(kind, me, i) >> 2;
    CHECK_OK(comm_gather_f32(g, (float *)(void *)bits, counts, offsets, &err));
    uint32_t at = 0;
    for (uint32_t s = 0; s < p; s++) {
        for (; at < offsets[s]; at++) CHECK(bits[at] == 0xffffffffu, "gap at %u", at);
        for (uint32_t i = 0; i < counts[s]; i++, at++)
            CHECK(bits[at] == check_mix(kind, s, i) >> 2, "kind %u base %u piece %u element %u",
                  kind, base, s, i);
    }
    for (; at < total; at++) CHECK(bits[at] == 0xffffffffu, "gap at %u", at);
    free(bits);
    free(offsets);
    free(counts);
}

static void check_stats(comm_grid_t *g)
{
    int32_t    buf[100] = {0};
    base_err_t err;

    comm_stats_reset(g);
    comm_stats_t s = comm_stats(g);
    CHECK(s.bytes == 0 && s.calls == 0 && s.wait_us == 0, "after a reset");
    for (int i = 0; i < 100; i++) buf[i] = 1000; /* two bytes each are the least that holds them */
    for (int i = 0; i < 3; i++) CHECK_OK(comm_sum_i32(g, buf, 100, &err));
    s = comm_stats(g);
    if (comm_grid_shards(g) == 1)
        CHECK(s.bytes == 0 && s.calls == 0, "%" PRIu64 " bytes of one shard", s.bytes);
    else
        CHECK(s.bytes >= 3 * 100 && s.calls == 3, "%" PRIu64 " bytes, %" PRIu64 " calls", s.bytes,
              s.calls);
}

static void check_grid(uint32_t stages, uint32_t shards)
{
    static const uint32_t bases[] = {1, 2, 16, 997, 20000, 100003};
    comm_grid_t          *g       = NULL;
    base_err_t            err;
    uint32_t              rank = (uint32_t)comm_rank(check_world);

    CHECK_OK(comm_grid_create(check_world, stages, shards, &g, &err));
    CHECK(comm_grid_stage(g) == rank / shards && comm_grid_shard(g) == rank % shards, "place");
    CHECK(comm_grid_stages(g) == stages && comm_grid_shards(g) == shards, "shape");
    for (size_t i = 0; i < sizeof(sum_sizes) / sizeof(sum_sizes[0]); i++)
        check_sum_size(g, sum_sizes[i], (uint32_t)i);
    check_sum_extremes(g);
    for (uint32_t kind = 0; kind < 5; kind++)
        for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++)
            check_gather(g, kind, bases[i]);
    /* many small calls in a row, out of step: nobody may overtake */
    for (uint32_t i = 0; i < 300; i++) {
        check_sum_size(g, 1 + i % 37, i);
        if (i % 3 == 0) check_gather(g, i % 5, 1 + i % 11);
    }
    check_stats(g);
    comm_grid_destroy(&g);
    CHECK(g == NULL, "destroyed");
    comm_grid_destroy(&g);
}

int main(void)
{
    base_err_t   err;
    comm_grid_t *none = NULL;

    CHECK_OK(comm_world_open(&check_world, &err));
    uint32_t size = (uint32_t)comm_size(check_world);
    for (uint32_t shards = 1; shards <= size; shards++)
        if (size % shards == 0) check_grid(size / shards, shards);
    CHECK(comm_grid_create(check_world, size + 1, 1, &none, &err) == BASE_ERR_USAGE, "too many");
    CHECK(comm_grid_create(check_world, 0, 0, &none, &err) == BASE_ERR_USAGE, "0 x 0");
    comm_world_close(&check_world);
    return 0;
}
