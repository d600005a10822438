/* Fuzzing the GGUF reader: any bytes give a status or a model whose rows can be read.
 *
 * As a test (no libFuzzer) it mutates small sound models, TRIREME_FUZZ_ROUNDS times, from
 * TRIREME_FUZZ_SEED on;
 * a failure repeats with the same seed. With libFuzzer:
 *   clang -g -O1 -std=c11 -D_GNU_SOURCE -DTRIREME_LIBFUZZER -fsanitize=fuzzer,address,undefined
 * -I . \
 *       tests/fuzz/gguf.c model/[a-z]*.c base/[a-z]*.c -lm -o fuzz && ./fuzz -max_len=65536
 * CORPUS */
#include <inttypes.h>

#include "base/log.h"
#include "tests/model/builder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one(const uint8_t *data, size_t size, bool vocab_only)
{
    base_err_t    err = {0};
    base_status_t st  = mini_open_in_place(data, size, vocab_only, &err);
    if (st == BASE_OK) return;
    if (base_status_exit(st) != 3 || strstr(err.text, MINI_LABEL) == NULL) {
        (void)fprintf(stderr, "status %s, text '%s'\n", base_status_name(st), err.text);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool quiet;
    if (!quiet) base_log_setup(BASE_LOG_ERROR, false, -1);
    quiet = true;
    one(data, size, false);
    one(data, size, true);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

static uint64_t random_u64(uint64_t *state) /* SplitMix64 */
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x          = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x          = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* An integer of the kind that breaks arithmetic. */
static uint64_t odd_number(uint64_t *state)
{
    static const uint64_t near[] = {
        0,          1,         32,         255,           256,         1 << 16,       1u << 31,
        UINT32_MAX, INT64_MAX, UINT64_MAX, LIMIT_TENSORS, LIMIT_VOCAB, LIMIT_KV_PAIRS};
    uint64_t pick = random_u64(state);
    return near[pick % (sizeof(near) / sizeof(near[0]))] + (pick >> 32) % 5 - 2;
}

/* One change among the first `directory` bytes (sometimes behind); may shorten the file. */
static void mutate(build_t *b, size_t directory, uint64_t *state)
{
    uint64_t pick  = random_u64(state);
    size_t   range = pick % 16 == 0 ? b->used : directory;
    if (range > b->used) range = b->used;
    if (range < 16) return;
    size_t   at = random_u64(state) % (range - 8);
    uint64_t v  = 0;
    switch (pick >> 8 & 7) {
    case 0: b->data[at] = (uint8_t)(pick >> 16); break;
    case 1: b->data[at] ^= (uint8_t)(1u << (pick >> 16 & 7)); break;
    case 2: model_store_u64(b->data + at, odd_number(state)); break;
    case 3: model_store_u32(b->data + at, (uint32_t)odd_number(state)); break;
    case 4: /* a number that is there, a little changed */
        v = model_load_u64(b->data + at);
        model_store_u64(b->data + at, v + (pick >> 16 & 15) - 8);
        break;
    case 5: /* bytes from elsewhere */
        memmove(b->data + at, b->data + random_u64(state) % (range - 8), 8);
        break;
    case 6: /* take bytes out */
        v = 1 + (pick >> 16 & 15);
        if (v > b->used - at) v = b->used - at;
        memmove(b->data + at, b->data + at + v, b->used - at - v);
        b->used -= v;
        break;
    default: b->used = pick >> 16 & 1 ? at : b->used; break;
    }
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 0);
}

int main(void)
{
    static const knobs_t kinds[] = {{0}, {.untied = true}, {.alignment = 64}, {.version = 2}};
    const uint64_t       rounds  = number("TRIREME_FUZZ_ROUNDS", 20000);
    const uint64_t       seed    = number("TRIREME_FUZZ_SEED", 1);
    build_t              sound[4];
    size_t               directory[4];
    for (int k = 0; k < 4; k++) sound[k] = mini_model(&kinds[k], &directory[k]);
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t     state = seed + i;
        const size_t kind  = random_u64(&state) % 4;
        /* The data matters little: half the time it is cut away for speed. */
        build_t b = sound[kind];
        if (random_u64(&state) % 2 == 0) b.used = directory[kind] + 64;
        b.data = malloc(b.used);
        if (b.data == NULL) abort();
        memcpy(b.data, sound[kind].data, b.used);
        for (uint64_t n = 1 + random_u64(&state) % 4; n > 0; n--)
            mutate(&b, directory[kind], &state);
        uint8_t *exact = b.used == 0 ? NULL : realloc(b.data, b.used); /* for sanitizers */
        if (exact != NULL) (void)LLVMFuzzerTestOneInput(exact, b.used);
        free(exact != NULL ? exact : b.data);
    }
    for (int k = 0; k < 4; k++) free(sound[k].data);
    (void)printf("%" PRIu64 " rounds from seed %" PRIu64 "\n", rounds, seed);
    return 0;
}

#endif
