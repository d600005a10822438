/* tests/fuzz/fuzz.h
 * What fuzz targets share: seeded randomness, mutations of texts and bytes, a folder for files, and
 * main() for those built without libFuzzer.
 *
 * A target is one file here, NAME.c, and is built in two ways.
 *
 * Every preset makes a test of it, fuzz.NAME: it runs all of corpus/NAME/, then the seeds, then
 * mutations of them.
 *   PROGRAM          TRIREME_FUZZ_ROUNDS mutations of the seeds (if unset, the target's number, a
 *                    quarter of it under a sanitizer), from TRIREME_FUZZ_SEED on; a failure repeats
 *                    with the same seed
 *   PROGRAM FOLDER   write the seeds there: a corpus for libFuzzer to begin with
 *
 * The preset `fuzz` (clang) links it with libFuzzer, under the address and undefined-behaviour
 * sanitizers; its tests, libfuzzer.NAME, run for TRIREME_FUZZ_SECONDS each (20 if unset):
 *   launch/build fuzz && TRIREME_FUZZ_SECONDS=600 ctest --preset fuzz -R NAME
 * An input that fails stays in build/fuzz/artifacts/NAME/. Repair what it shows, cut it down
 * (build/fuzz/tests/bin/fuzz_NAME -minimize_crash=1 FILE), and add it to corpus/NAME/ under a name
 * that says what it broke. */
#ifndef TRIREME_TESTS_FUZZ_FUZZ_H
#define TRIREME_TESTS_FUZZ_FUZZ_H

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"
#include "tests/support/cases.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_expect(bool good, const char *what, const base_err_t *err)
{
    if (good) return;
    (void)fprintf(stderr, "%s (%s)\n", what, err == NULL ? "" : err->text);
    abort();
}

/* Errors are not wanted on the terminal, millions of times. */
static inline void fuzz_quiet(void)
{
    static bool quiet;
    if (!quiet) base_log_setup(BASE_LOG_ERROR, false, -1);
    quiet = true;
}

/* A copy of exactly n bytes, so that a sanitizer sees each byte too far. */
static inline void *fuzz_copy(const void *bytes, size_t n)
{
    void *copy = malloc(n == 0 ? 1 : n);
    if (copy == NULL) abort();
    if (n > 0) memcpy(copy, bytes, n);
    return copy;
}

/* ---- a folder of its own, in memory where there is such a place */

static char fuzz_folder[64];

static inline const char *fuzz_path(const char *name)
{
    static char path[sizeof(fuzz_folder) + 256]; /* NAME_MAX */
    (void)snprintf(path, sizeof(path), "%s/%s", fuzz_folder, name);
    return path;
}

/* The file holds these bytes; n == 0: it does not exist. */
static inline void fuzz_write(const char *name, const void *bytes, size_t n)
{
    (void)unlink(fuzz_path(name));
    if (n == 0) return;
    FILE *f = fopen(fuzz_path(name), "wb");
    if (f == NULL || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) abort();
}

/* Once; `leave` (for atexit) removes the files and calls fuzz_folder_remove(). */
static inline void fuzz_folder_make(void (*leave)(void))
{
    if (fuzz_folder[0] != '\0') return;
    (void)strcpy(fuzz_folder, "/dev/shm/trireme-fuzz-XXXXXX");
    if (mkdtemp(fuzz_folder) == NULL) {
        (void)strcpy(fuzz_folder, "/tmp/trireme-fuzz-XXXXXX");
        if (mkdtemp(fuzz_folder) == NULL) abort();
    }
    if (atexit(leave) != 0) abort();
}

static inline void fuzz_folder_remove(void)
{
    (void)rmdir(fuzz_folder);
}

/* ---- randomness and mutations */

static inline uint64_t fuzz_random(uint64_t *state) /* SplitMix64 */
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x          = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x          = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* An integer of the kind that breaks arithmetic. */
static inline uint64_t fuzz_odd(uint64_t *state)
{
    static const uint64_t near[] = {0,          1,       32,       255,        256,
                                    4096,       1 << 16, 1u << 31, UINT32_MAX, INT64_MAX,
                                    UINT64_MAX, 1 << 21, 1 << 24,  1u << 28};
    const uint64_t        pick   = fuzz_random(state);
    return near[pick % (sizeof(near) / sizeof(near[0]))] + (pick >> 32) % 5 - 2;
}

typedef struct {
    uint8_t *data;
    size_t   n, room;
} fuzz_bytes_t;

/* The bytes [at, at + n) of b become n_new others. */
static inline void fuzz_splice(fuzz_bytes_t *b, size_t at, size_t n, const void *new, size_t n_new)
{
    if (at > b->n) at = b->n;
    if (n > b->n - at) n = b->n - at;
    if (b->n - n + n_new > b->room) {
        b->room = 2 * (b->n + n_new) + 256;
        b->data = realloc(b->data, b->room);
        if (b->data == NULL) abort();
    }
    if (b->n - at - n > 0) memmove(b->data + at + n_new, b->data + at + n, b->n - at - n);
    if (n_new > 0) memcpy(b->data + at, new, n_new);
    b->n = b->n - n + n_new;
}

/* Where the JSON value at `at` ends: before a comma, or what closes the value around it. */
static inline size_t fuzz_value_end(const fuzz_bytes_t *b, size_t at)
{
    int  depth = 0;
    bool text  = false;
    for (; at < b->n; at++) {
        const uint8_t c = b->data[at];
        if (text && c == '\\') at++;
        if (c == '"') text = !text;
        if (text || c == '"') continue;
        if (depth == 0 && (c == ',' || c == ']' || c == '}')) break;
        if (c == '[' || c == '{') depth++;
        if (c == ']' || c == '}') depth--;
    }
    return at < b->n ? at : b->n;
}

/* A value of a JSON text becomes another: one of `pieces`, of the text itself, or an odd one. */
static inline void fuzz_mutate_json(fuzz_bytes_t *b, const char *const *pieces, size_t n_pieces,
                                    uint64_t *state)
{
    static const char *const odd[] = {"null",        "true",
                                      "false",       "-1",
                                      "0",           "1",
                                      "1.5",         "1e308",
                                      "-1e-308",     "9223372036854775807",
                                      "4294967296",  "2097152",
                                      "65537",       "\"\"",
                                      "\"x\"",       "\"a b\"",
                                      "\"\\u0000\"", "\"\\u2581\"",
                                      "[]",          "{}",
                                      "[[]]",        "[1]",
                                      "{\"\": 0}",   "[\"a\", \"b\"]"};
    const uint64_t           pick  = fuzz_random(state);
    size_t                   at    = b->n == 0 ? 0 : fuzz_random(state) % b->n;
    char                     number[32];
    while (at < b->n && b->data[at] != ':' && b->data[at] != '[' && b->data[at] != ',') at++;
    if (at >= b->n) return;
    const size_t n  = fuzz_value_end(b, at + 1) - (at + 1);
    const char *new = odd[(pick >> 8) % (sizeof(odd) / sizeof(odd[0]))];
    switch (pick % 8) {
    case 0: /* another value of the text */
    case 1: {
        size_t from = fuzz_random(state) % b->n;
        while (from < b->n && b->data[from] != ':' && b->data[from] != '[') from++;
        if (from >= b->n) return;
        const size_t n_other = fuzz_value_end(b, from + 1) - (from + 1);
        uint8_t     *other   = fuzz_copy(b->data + from + 1, n_other);
        fuzz_splice(b, at + 1, n, other, n_other);
        free(other);
        return;
    }
    case 2: /* without it and its comma */ fuzz_splice(b, at, n + 1, NULL, 0); return;
    case 3:
        (void)snprintf(number, sizeof(number), "%" PRId64, (int64_t)fuzz_odd(state));
        new = number;
        break;
    case 4:
    case 5:
        if (n_pieces > 0) new = pieces[(pick >> 8) % n_pieces];
        break;
    default: break;
    }
    fuzz_splice(b, at + 1, n, new, strlen(new));
}

/* Any change of a few bytes. */
static inline void fuzz_mutate_bytes(fuzz_bytes_t *b, uint64_t *state)
{
    const uint64_t pick = fuzz_random(state);
    const size_t   at   = b->n == 0 ? 0 : fuzz_random(state) % b->n;
    const size_t   from = b->n == 0 ? 0 : fuzz_random(state) % b->n;
    const uint64_t odd  = fuzz_odd(state);
    uint8_t        few[16];
    size_t         n = 1 + (pick >> 24) % sizeof(few);
    if (n > b->n - from) n = b->n - from;
    switch (pick % 8) {
    case 0:
    case 1: fuzz_splice(b, at, 1, &odd, 1); break;
    case 2:
        if (b->n > 0) b->data[at] ^= (uint8_t)(1u << (pick >> 16 & 7));
        break;
    case 3: fuzz_splice(b, at, 8, &odd, (pick >> 16 & 1) != 0 ? 8 : 4); break;
    case 4: fuzz_splice(b, at, n, NULL, 0); break;
    case 5: /* bytes from elsewhere, instead or besides */
    case 6:
        memcpy(few, b->data + from, n);
        fuzz_splice(b, at, pick % 8 == 5 ? n : 0, few, n);
        break;
    default:
        if ((pick >> 16) % 8 == 0) b->n = at;
        break;
    }
}

/* ---- a target without libFuzzer */

static inline uint64_t fuzz_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 0);
}

static inline void fuzz_run_one(const fuzz_bytes_t *b)
{
    uint8_t *exact = fuzz_copy(b->data, b->n);
    (void)LLVMFuzzerTestOneInput(exact, b->n);
    free(exact);
}

/* The files of corpus/NAME, the name being the end of the program's own; how many. */
static inline unsigned fuzz_corpus(const char *program)
{
    const char *root = getenv("TRIREME_SOURCE");
    const char *name = strrchr(program, '_');
    char        path[4096];
    unsigned    n = 0;
    fuzz_expect(root != NULL && name != NULL, "TRIREME_SOURCE is not set: run it by ctest", NULL);
    (void)snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/%s", root, name + 1);
    DIR *folder = opendir(path);
    fuzz_expect(folder != NULL, path, NULL);
    for (const struct dirent *e = readdir(folder); e != NULL; e = readdir(folder)) {
        uint8_t data[65536];
        char    file[4096 + 300];
        if (e->d_name[0] == '.') continue;
        (void)snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
        FILE *f = fopen(file, "rb");
        fuzz_expect(f != NULL, file, NULL);
        const fuzz_bytes_t b = {data, fread(data, 1, sizeof(data), f), sizeof(data)};
        (void)fclose(f);
        fuzz_expect(b.n > 0 && b.n < sizeof(data), file, NULL);
        fuzz_run_one(&b);
        n++;
    }
    (void)closedir(folder);
    fuzz_expect(n > 0, "an empty corpus", NULL);
    return n;
}

/* `mutate` changes a seed once; a round changes one seed one to four times. */
static inline int fuzz_main(int argc, char **argv, const fuzz_bytes_t *seeds, size_t n_seeds,
                            void (*mutate)(fuzz_bytes_t *b, uint64_t *state), uint32_t rounds)
{
    const uint64_t seed     = fuzz_number("TRIREME_FUZZ_SEED", 1),
                   n_rounds = fuzz_number("TRIREME_FUZZ_ROUNDS", cases_of(rounds));
    for (size_t i = 0; i < n_seeds && argc > 1; i++) {
        char path[4096];
        (void)snprintf(path, sizeof(path), "%s/seed%zu", argv[1], i);
        FILE *f = fopen(path, "wb");
        if (f == NULL || fwrite(seeds[i].data, 1, seeds[i].n, f) != seeds[i].n || fclose(f) != 0)
            return 1;
    }
    if (argc > 1) return 0;
    const unsigned n_corpus = fuzz_corpus(argv[0]);
    for (size_t i = 0; i < n_seeds; i++) fuzz_run_one(&seeds[i]);
    for (uint64_t i = 0; i < n_rounds; i++) {
        uint64_t            state = seed + i;
        const fuzz_bytes_t *from  = &seeds[fuzz_random(&state) % n_seeds];
        fuzz_bytes_t        b     = {fuzz_copy(from->data, from->n), from->n, from->n};
        for (uint64_t n = 1 + fuzz_random(&state) % 4; n > 0; n--) mutate(&b, &state);
        fuzz_run_one(&b);
        free(b.data);
    }
    (void)printf("%u of the corpus, %" PRIu64 " rounds from seed %" PRIu64 "\n", n_corpus, n_rounds,
                 seed);
    return 0;
}

#endif
