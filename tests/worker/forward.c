/* tests/worker/forward.c
 * labels: threads
 * timeout: 300
 * The step on one rank: the same bytes for any thread count, chunking, packing and CPU variant;
 * going back to an earlier position forgets what came after it. (Against other engines:
 * tests/golden; ranks: tests/layouts.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/engine.h"
#include "tests/support/cases.h"

enum { N_IDS = 70 };

static comm_world_t *world;
static int32_t       ids[N_IDS];

static const char *model_path(const char *name)
{
    static char path[4096];
    const char *source = getenv("TRIREME_SOURCE");
    (void)snprintf(path, sizeof(path), "%s/tests/golden/transformers/%s.gguf",
                   source != NULL ? source : ".", name);
    return path;
}

static engine_t *start(const char *name, const char *cpu, const char *pack, uint32_t threads,
                       uint32_t batch)
{
    engine_config_t config = {.model_path = model_path(name),
                              .n_ctx      = 128,
                              .n_batch    = batch,
                              .n_out_max  = batch,
                              .n_threads  = threads,
                              .pack       = pack,
                              .cpu        = cpu,
                              .no_pin     = true,
                              .quiet      = true};
    engine_t       *e      = NULL;
    base_err_t      err    = {0};
    if (engine_start(world, &config, &e, &err) != BASE_OK) fail_msg("%s", err.text);
    return e;
}

static base_status_t one(engine_t *e, const int32_t *of, uint32_t n, uint32_t pos, uint32_t n_out,
                         const float **rows, base_err_t *err)
{
    part_run_t   run   = {.pos = pos, .n = n, .n_out = n_out};
    part_batch_t batch = part_batch_one(&run, of);
    return engine_step(e, &batch, rows, err);
}

static float *logits_of(engine_t *e, size_t *bytes)
{
    uint32_t vocab = engine_model(e)->desc.n_vocab;
    uint32_t batch = engine_n_batch(e);
    float   *all   = calloc((size_t)N_IDS * vocab, sizeof(float));
    assert_non_null(all);
    for (uint32_t p = 0; p < N_IDS; p += batch) {
        const float *rows = NULL;
        uint32_t     n    = N_IDS - p < batch ? N_IDS - p : batch;
        assert_int_equal(one(e, ids + p, n, p, n, &rows, NULL), BASE_OK);
        memcpy(all + (size_t)p * vocab, rows, (size_t)n * vocab * sizeof(float));
    }
    *bytes = (size_t)N_IDS * vocab * sizeof(float);
    return all;
}

static void compare_all(const char *name)
{
    static const char *const cpus[]    = {"ref", "avx2", "avx512vnni", "avx512vbmi", "zen4"};
    static const char *const packs[]   = {"t2", "t3"};
    static const uint32_t    batches[] = {1, 7, 64};
    size_t                   bytes     = 0;
    const char              *preset    = getenv("TRIREME_PRESET");
    bool                     races     = preset != NULL && strcmp(preset, "tsan") == 0;
    engine_t                *e         = start(name, "ref", "t2", 1, 1);
    float                   *want      = logits_of(e, &bytes);
    engine_destroy(&e);
    for (size_t c = 0; c < sizeof(cpus) / sizeof(cpus[0]); c++)
        for (size_t p = 0; p < 2; p++)
            for (uint32_t threads = 1; threads <= 4; threads++)
                for (size_t b = 0; b < 3; b++) {
                    size_t n = 0;
                    if (threads != 3 && b != 1) continue;      /* a part of the product is enough */
                    if (races && (c != 2 || p != 0)) continue; /* races do not depend on kernels */
                    if (cases_few() && !races && (p != c % 2 || threads % 2 == 0)) continue;
                    e          = start(name, cpus[c], packs[p], threads, batches[b]);
                    float *got = logits_of(e, &n);
                    assert_int_equal(n, bytes);
                    if (memcmp(got, want, bytes) != 0)
                        fail_msg("%s: %s %s, %u threads, chunks of %u: other bytes", name, cpus[c],
                                 packs[p], threads, batches[b]);
                    free(got);
                    engine_destroy(&e);
                }
    free(want);
}

static void same_bytes_relu2(void **state)
{
    (void)state;
    compare_all("relu2-gqa5-tq1");
}

static void same_bytes_silu(void **state)
{
    (void)state;
    compare_all("silu-tq2");
}

static void going_back(void **state)
{
    (void)state;
    engine_t    *e     = start("silu-tq2", NULL, NULL, 2, 64);
    uint32_t     vocab = engine_model(e)->desc.n_vocab;
    float       *first = calloc(vocab, sizeof(float));
    const float *rows  = NULL;
    assert_non_null(first);
    assert_int_equal(one(e, ids, 20, 0, 1, &rows, NULL), BASE_OK);
    memcpy(first, rows, vocab * sizeof(float));
    assert_int_equal(one(e, ids + 30, 10, 20, 1, &rows, NULL), BASE_OK);
    assert_int_equal(one(e, ids + 15, 5, 15, 1, &rows, NULL), BASE_OK);
    assert_memory_equal(first, rows, vocab * sizeof(float));
    free(first);
    engine_destroy(&e);
}

static void refused_steps(void **state)
{
    (void)state;
    engine_t    *e    = start("silu-tq2", NULL, NULL, 1, 64);
    base_err_t   err  = {0};
    const float *rows = NULL;
    int32_t      bad  = 320; /* the vocabulary's size */
    assert_int_equal(one(e, ids, 1, 128, 1, &rows, &err), BASE_ERR_USAGE);
    assert_int_equal(one(e, ids, 2, 127, 1, &rows, &err), BASE_ERR_USAGE);
    assert_int_equal(one(e, &bad, 1, 0, 1, &rows, &err), BASE_ERR_INPUT);
    bad = -1;
    assert_int_equal(one(e, &bad, 1, 0, 1, &rows, &err), BASE_ERR_INPUT);
    engine_destroy(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes_relu2), cmocka_unit_test(same_bytes_silu),
        cmocka_unit_test(going_back), cmocka_unit_test(refused_steps)};
    for (int i = 0; i < N_IDS; i++) ids[i] = i * 37 % 311;
    if (comm_world_open(&world, NULL) != BASE_OK) return 1;
    int failed = cmocka_run_group_tests_name("worker.forward", tests, NULL, NULL);
    comm_world_close(&world);
    return failed;
}
