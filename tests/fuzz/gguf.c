/* Fuzzing the GGUF reader: any bytes give a status or a model whose rows can be read.
 *
 * First byte: how many times TAIL zeros follow the rest, as weights that nobody need mutate. Built
 * and run as fuzz.h says. */
#include "tests/fuzz/fuzz.h"
#include "tests/model/builder.h"

enum { TAIL = 16384 };

static void one(const uint8_t *data, size_t size, bool vocab_only)
{
    base_err_t    err = {0};
    base_status_t st  = mini_open_in_place(data, size, vocab_only, &err);
    if (st == BASE_OK) return;
    fuzz_expect(base_status_exit(st) == 3 && strstr(err.text, MINI_LABEL) != NULL, "open", &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_quiet();
    if (size == 0) return 0;
    const size_t n     = size - 1 + (size_t)data[0] * TAIL;
    uint8_t     *exact = calloc(n == 0 ? 1 : n, 1);
    if (exact == NULL) abort();
    memcpy(exact, data + 1, size - 1);
    one(exact, n, false);
    one(exact, n, true);
    free(exact);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

/* A number of the file that is there, a little changed; or any change of bytes. */
static void mutate(fuzz_bytes_t *b, uint64_t *state)
{
    const uint64_t pick = fuzz_random(state);
    if (pick % 8 != 0 || b->n < 16) {
        fuzz_mutate_bytes(b, state);
        return;
    }
    uint8_t *at = b->data + fuzz_random(state) % (b->n - 8);
    model_store_u64(at, model_load_u64(at) + (pick >> 16 & 15) - 8);
}

int main(int argc, char **argv)
{
    static const knobs_t kinds[] = {
        {0}, {.untied = true}, {.alignment = 64}, {.version = 2}, {.i2s = true}, {.arch = "llama"}};
    enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };
    fuzz_bytes_t seeds[2 * KINDS] = {0};
    for (int i = 0; i < KINDS; i++) {
        size_t        directory = 0;
        const build_t b         = mini_model(&kinds[i], &directory);
        const uint8_t tail      = (uint8_t)((b.used - directory) / TAIL + 1);
        for (int k = 0; k < 2; k++) { /* with and without data */
            fuzz_splice(&seeds[2 * i + k], 0, 0, k == 0 ? &tail : (const uint8_t *)"", 1);
            fuzz_splice(&seeds[2 * i + k], 1, 0, b.data, directory);
        }
        free(b.data);
    }
    const int rc = fuzz_main(argc, argv, seeds, 2 * KINDS, mutate, 20000);
    for (int i = 0; i < 2 * KINDS; i++) free(seeds[i].data);
    return rc;
}

#endif
