/* worker/measure.c: memory bandwidth of a team. */
#include "worker/measure.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "worker/kernels/probe.h"
#include "worker/measure_internal.h"

enum {
    MIB          = 1 << 20,
    SPANS        = 9,
    SPAN_US      = 22000,
    CHUNK_BYTES  = 256 * 1024, /* read between two looks at the clock */
    THREAD_BYTES = 16 * MIB,
};

size_t worker_measure_bytes(int n_threads)
{
    const size_t bytes = (size_t)n_threads * THREAD_BYTES;

    if (bytes < (size_t)256 * MIB) return (size_t)256 * MIB;
    return bytes < (size_t)768 * MIB ? bytes : (size_t)768 * MIB;
}

uint32_t worker_measure_features(const char *cpu)
{
    uint32_t mask = KERN_CPU_ALL;

    if (cpu != NULL) base_assert(kern_cpu_mask_parse(cpu, &mask));
    return kern_cpu_features() & mask;
}

void worker_measure_fill(uint8_t *p, size_t bytes)
{
    uint64_t s = UINT64_C(88172645463325252);

    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17; /* Marsaglia's xorshift64 */
        const uint64_t v = (s & UINT64_C(0x03ff03ff03ff03ff)) | UINT64_C(0x3800380038003800);
        memcpy(p + i, &v, 8);
    }
}

typedef struct {
    worker_team_t      *team;
    kern_probe_read_fn *wide, *plain;
    uint8_t            *memory;
    size_t              bytes;
    int                 n_active;
    double             *rates; /* SPANS rows of n_active */
    uint64_t           *sums;  /* [n_active] what was read, so that it is */
} bandwidth_t;

/* One span of one thread: bytes per second. Which way is fastest depends on the machine and on how
 * many read: wide loads, the same with prefetch instructions, or short loads. */
static double read_span(const bandwidth_t *b, int thread, int way, size_t begin, size_t end,
                        size_t *at)
{
    kern_probe_read_fn *read  = way < 2 ? b->wide : b->plain;
    const uint64_t      start = base_clock_us();
    uint64_t            now   = start;
    size_t              done  = 0;

    while (now - start < SPAN_US) {
        size_t n = end - *at < CHUNK_BYTES ? end - *at : CHUNK_BYTES;

        b->sums[thread] ^= read(b->memory + *at, n, way == 1);
        done += n;
        *at = *at + n < end ? *at + n : begin;
        now = base_clock_us();
    }
    return (double)done * 1e6 / (double)(now - start);
}

static void bandwidth_thread(void *ctx, int thread, int n_threads)
{
    bandwidth_t *b     = ctx;
    const bool   reads = thread < b->n_active;
    size_t       begin = 0, end = 0, at = 0;

    (void)n_threads;
    if (reads) {
        worker_share(b->bytes, KERN_PROBE_BYTES, thread, b->n_active, &begin, &end);
        worker_measure_fill(b->memory + begin, end - begin);
        at = begin;
    }
    for (int span = 0; span < SPANS; span++) {
        worker_team_barrier(b->team);
        if (reads)
            b->rates[span * b->n_active + thread] = read_span(b, thread, span % 3, begin, end, &at);
    }
}

base_status_t worker_measure_bandwidth(worker_team_t *team, int n_threads, const char *cpu,
                                       double *bytes_per_s, base_err_t *err)
{
    const size_t  n      = (size_t)n_threads;
    bandwidth_t   b      = {.team = team, .n_active = n_threads};
    base_arena_t  arena  = {0};
    void         *memory = NULL;
    double        best   = 0;
    base_status_t st     = BASE_OK;

    base_assert(n_threads >= 1 && n_threads <= worker_team_size(team));
    b.bytes = worker_measure_bytes(n_threads);
    b.wide  = kern_probes(worker_measure_features(cpu)).probe_read;
    b.plain = kern_probes(0).probe_read;
    st      = base_arena_create(&arena, b.bytes, "measuring memory bandwidth", err);
    if (st == BASE_OK) st = base_alloc(&memory, n * (SPANS + 1), 8, "measuring bandwidth", err);
    if (st != BASE_OK) goto out;
    b.memory = base_arena_take(&arena, b.bytes);
    b.rates  = memory;
    b.sums   = (uint64_t *)memory + n * SPANS;
    worker_team_run(team, bandwidth_thread, &b);
    for (int span = 0; span < SPANS; span++) {
        double sum = 0;

        for (int i = 0; i < n_threads; i++) sum += b.rates[span * n_threads + i];
        if (sum > best) best = sum;
    }
    *bytes_per_s = best;
out:
    free(memory);
    base_arena_destroy(&arena);
    return st;
}
