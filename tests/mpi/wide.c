/* tests/mpi/wide.c: prompts in chunks of hundreds of tokens, whose products are shared out by
 * groups of tokens, have the same logits as tokens one by one.
 * np: 1 2 3
 * timeout: 300
 * labels: threads */
#include "tests/mpi/texts.h"

enum { WIDE = 261 };

static int32_t text[WIDE];

/* [WIDE][*n_vocab] on rank 0, by chunks of n_batch. */
static float *rows_of(engine_config_t config, uint32_t n_batch, size_t *n_vocab)
{
    float     *all   = NULL;
    base_err_t err   = {0};
    config.n_batch   = n_batch;
    config.n_out_max = n_batch;
    engine_t *e      = start_with(&config);
    for (uint32_t p = 0; comm_rank(check_world) == 0 && p < WIDE; p += n_batch) {
        size_t       vocab = *n_vocab = engine_model(e)->desc.n_vocab;
        const float *rows             = NULL;
        uint32_t     n                = WIDE - p < n_batch ? WIDE - p : n_batch;
        part_run_t   run              = {.pos = p, .n = n, .n_out = n};
        part_batch_t batch            = part_batch_one(&run, text + p);
        if (all == NULL) all = check_alloc(WIDE * vocab * sizeof(float));
        CHECK_OK(engine_step(e, &batch, &rows, &err));
        memcpy(all + p * vocab, rows, n * vocab * sizeof(float));
    }
    stop(e);
    return all;
}

static void compare_chunks(const char *name, const char *layout, const char *cpu)
{
    static const uint32_t chunks[] = {WIDE, 192, 193, 239};
    engine_config_t       config   = {.model_path = model_path(name),
                                      .layout     = layout,
                                      .cpu        = cpu,
                                      .n_ctx      = N_CTX,
                                      .n_threads  = 1,
                                      .no_pin     = true,
                                      .quiet      = true};
    size_t                vocab    = 0;
    float                *want     = rows_of(config, 1, &vocab);
    for (uint32_t i = 0; i < 8; i++) {
        config.n_threads = 1 + i % 4;
        config.pack      = i % 3 == 2 ? "t3" : "t2";
        float *got       = rows_of(config, chunks[(i + i / 4) % 4], &vocab);
        for (uint32_t r = 0; comm_rank(check_world) == 0 && r < WIDE; r++)
            CHECK(memcmp(got + r * vocab, want + r * vocab, vocab * sizeof(float)) == 0,
                  "%s %s %s: row %u of chunks of %u on %u threads: other bytes", name, layout,
                  cpu == NULL ? "" : cpu, r, chunks[(i + i / 4) % 4], config.n_threads);
        free(got);
    }
    free(want);
}

int main(void)
{
    static const char *const names[]      = {"tests/golden/transformers/relu2-gqa5-tq1",
                                             "tests/golden/transformers/llama-tq2-blocks"};
    static const char *const cpus[]       = {NULL, "avx512vnni", "avx2"};
    static const char *const layouts[][2] = {{"1x1"}, {"2x1", "1x2"}, {"1x3"}};
    base_err_t               err          = {0};
    CHECK_OK(comm_world_open(&check_world, &err));
    int size = comm_size(check_world);
    for (int32_t i = 0; i < WIDE; i++) text[i] = i * 37 % 160;
    for (size_t n = 0; n < 2; n++)
        for (size_t l = 0; l < 2 && layouts[size - 1][l] != NULL; l++)
            for (size_t c = 0; c < (size == 1 ? 3 : 1); c++)
                compare_chunks(names[n], layouts[size - 1][l], cpus[c]);
    comm_world_close(&check_world);
    return 0;
}
