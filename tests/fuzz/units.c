/* Fuzzing what nodes without the model's files read: files of --cache, and asks of other ranks for
 * weights. Any bytes give a status; what a cache gives out is what was kept, and an answer has the
 * bytes that were announced.
 *
 * First byte: 0 modulo 3, an ask; 1, a file of a cache; 2, the same with the tags of heads and
 * units made right first, so that what lies behind them is reached (and what it gives out is what
 * the bytes say). Built and run as fuzz.h says.
 * sources: worker/unit_cache.c worker/feed_server.c */
#include <sys/stat.h>

#include "base/limits.h"
#include "model/bytes.h"
#include "model/source.h"
#include "tests/fuzz/fuzz.h"
#include "worker/feed.h"
#include "worker/feed_wire.h"
#include "worker/unit_cache.h"

enum { HEAD = 112, ROWS = 40, COLS = 300, OFFSET = 64, BYTES = OFFSET + ROWS * COLS * 2 };

static const model_secret_t secret = {{11, 12}};
static const model_hash_t   model  = {3, 4};
static uint8_t              stored[BYTES];
static char                 name[80]; /* of the cache's file of rank 1, which rank 0 reads */

static model_window_t window(bool strips)
{
    const model_tensor_t t = {.type   = MODEL_F16,
                              .offset = OFFSET,
                              .bytes  = ROWS * COLS * 2,
                              .n_rows = ROWS,
                              .n_cols = COLS};
    return model_window(&t, strips, 0, ROWS, 0, COLS);
}

static worker_unit_cache_t *open_cache(int rank)
{
    worker_unit_cache_t *c   = NULL;
    base_err_t           err = {0};
    fuzz_expect(worker_unit_cache_open(fuzz_folder, model, &secret, rank, &c, &err) == BASE_OK,
                "open", &err);
    return c;
}

static void remove_files(void)
{
    DIR *d = opendir(fuzz_folder);
    for (const struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d))
        if (strstr(e->d_name, ".units") != NULL) (void)unlink(fuzz_path(e->d_name));
    if (d != NULL) (void)closedir(d);
}

static void leave(void)
{
    remove_files();
    fuzz_folder_remove();
}

static void set_up(void)
{
    if (name[0] != '\0') return;
    fuzz_quiet();
    fuzz_folder_make(leave);
    for (size_t i = 0; i < BYTES; i++) stored[i] = (uint8_t)(i * 131 >> 2);
    worker_unit_cache_t *c = open_cache(1);
    worker_unit_cache_close(&c);
    DIR *d = opendir(fuzz_folder);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (strstr(e->d_name, "-0001.units") != NULL)
            (void)snprintf(name, sizeof(name), "%.79s", e->d_name);
    (void)closedir(d);
    fuzz_expect(name[0] != '\0', "no file", NULL);
}

/* ---- an ask */

static void try_ask(const uint8_t *data, size_t size)
{
    uint8_t         ask[COMM_ASK_BYTES] = {0};
    uint64_t        done = 0, total = 0;
    worker_server_t server = {.n_ranks = 1, .done = &done, .total = &total};
    base_err_t      err    = {0};
    size_t          n      = 0;
    model_source_t *source = NULL;
    memcpy(ask, data, size < sizeof(ask) ? size : sizeof(ask));
    fuzz_expect(model_source_wrap(stored, BYTES, "model", &source, &err) == BASE_OK, "wrap", &err);
    server.source = source;
    if (worker_server_answer(&server, 0, ask, NULL, &n, &err) != BASE_OK) {
        fuzz_expect(err.text[0] != '\0', "no text", NULL);
        goto out;
    }
    if (n > 1 << 22) goto out; /* comm/feed.c has a limit, too */
    const size_t want   = n;
    uint8_t     *answer = malloc(n);
    if (answer == NULL) abort();
    fuzz_expect(worker_server_answer(&server, 0, ask, answer, &n, &err) == BASE_OK && n == want,
                "another answer", &err);
    fuzz_expect(server.sent < n, "no room for hashes", NULL);
    free(answer);
out:
    model_source_close(&source);
}

/* ---- a file */

/* worker/unit_cache.c: tags of a head, and of a unit in its place. */
static uint64_t mac_words(const model_secret_t *s, const uint64_t *words, size_t n)
{
    uint8_t bytes[16 * 8];
    for (size_t i = 0; i < n; i++) model_store_u64(bytes + 8 * i, words[i]);
    return model_bytes_mac64(s, bytes, 8 * n);
}

/* The window that a head's fields speak of; false: it has no units to make tags for. */
static bool window_of(const uint64_t *f, model_window_t *w)
{
    if (f[0] == MODEL_NONE || f[0] >= MODEL_TYPE_COUNT || f[3] == 0 || f[3] > LIMIT_VOCAB ||
        f[4] == 0 || f[4] > LIMIT_FFN || f[5] > 1)
        return false;
    *w = (model_window_t){.tensor   = {.type   = (model_type_t)f[0],
                                       .file   = (uint32_t)f[1],
                                       .offset = f[2],
                                       .n_rows = f[3],
                                       .n_cols = f[4]},
                          .strips   = f[5] != 0,
                          .tile0    = f[6],
                          .n_tiles  = f[7],
                          .strip0   = f[8],
                          .n_strips = f[9]};
    return f[4] % model_type_info(w->tensor.type)->block_elems == 0 && model_window_check(w) &&
           model_window_units(w) == f[11] && model_window_bytes(w) == f[10];
}

static void tag_units(const uint64_t *f, const model_window_t *w, uint8_t *tags)
{
    const uint8_t *at = tags + 8 * f[11];
    model_secret_t units_secret;
    for (uint64_t i = 0; i < 2; i++) units_secret.words[i] = mac_words(&secret, &i, 1);
    for (uint64_t i = 0; i < f[11]; i++) {
        const uint64_t t = w->tile0 + i / w->n_strips, s = w->strip0 + i % w->n_strips;
        const size_t   bytes   = model_unit_bytes(w, t, s);
        const uint64_t words[] = {model.high,
                                  model.low,
                                  f[0],
                                  w->tensor.file,
                                  f[2],
                                  f[3],
                                  f[4],
                                  f[5],
                                  t,
                                  s,
                                  model_bytes_mac64(&units_secret, at, bytes)};
        model_store_u64(tags + 8 * i, mac_words(&secret, words, 11));
        at += bytes;
    }
}

/* Tags of all records as if rank 0's own cluster had made them, up to one that is cut. */
static void repair(uint8_t *record, size_t n)
{
    while (n >= HEAD) {
        uint64_t       f[12];
        model_window_t w    = {0};
        const size_t   room = n - HEAD;
        uint8_t       *tags = record + HEAD;
        for (size_t i = 0; i < 12; i++) f[i] = model_load_u64(record + 8 + 8 * i);
        if (f[11] > room / 8 || f[10] > room - 8 * f[11]) return;
        if (window_of(f, &w)) tag_units(f, &w, tags);
        const uint64_t head[] = {model.high, model.low,
                                 model_bytes_mac64(&secret, record, HEAD - 8),
                                 model_bytes_mac64(&secret, tags, 8 * f[11])};
        model_store_u64(record + HEAD - 8, mac_words(&secret, head, 4));
        record += HEAD + 8 * f[11] + f[10];
        n -= HEAD + 8 * (size_t)f[11] + (size_t)f[10];
    }
}

static void try_file(const uint8_t *data, size_t size, bool right)
{
    uint8_t *bytes = fuzz_copy(data, size);
    if (right) repair(bytes, size);
    remove_files();
    fuzz_write(name, bytes, size);
    worker_unit_cache_t *c = open_cache(0);
    for (int strips = 0; strips < 2; strips++) {
        const model_window_t w     = window(strips != 0);
        const size_t         units = model_window_units(&w);
        const char          *path  = NULL;
        uint8_t             *out   = malloc(model_window_bytes(&w));
        bool                *good  = calloc(units, sizeof(*good));
        if (out == NULL || good == NULL) abort();
        worker_unit_cache_read(c, &w, out, good, &path);
        size_t i = 0, at = 0;
        for (uint64_t t = 0; t < w.n_tiles; t++)
            for (uint64_t s = 0; s < w.n_strips; s++, i++) {
                const size_t n = model_unit_bytes(&w, t, s);
                uint8_t      want[16 * COLS * 2];
                fuzz_expect(!good[i] || worker_unit_cache_has(c, &w, t, s), "from nowhere", NULL);
                if (good[i] && !right) { /* nobody can make tags up */
                    model_source_t *source = NULL;
                    if (model_source_wrap(stored, BYTES, "model", &source, NULL) != BASE_OK)
                        abort();
                    model_unit_copy(source, &w, t, s, want);
                    fuzz_expect(memcmp(out + at, want, n) == 0, "another unit", NULL);
                    model_source_close(&source);
                }
                at += n;
            }
        free(out);
        free(good);
    }
    worker_unit_cache_close(&c);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    set_up();
    if (size < 2) return 0;
    if (data[0] % 3 == 0)
        try_ask(data + 1, size - 1);
    else
        try_file(data + 1, size - 1, data[0] % 3 == 2);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

/* A cache with all units, whole rows and strips, as its file's bytes. */
static size_t sound_file(uint8_t *out, size_t room)
{
    set_up();
    remove_files();
    model_source_t      *source = NULL;
    worker_unit_cache_t *c      = open_cache(1);
    if (model_source_wrap(stored, BYTES, "model", &source, NULL) != BASE_OK) abort();
    for (int strips = 0; strips < 2; strips++) {
        const model_window_t w     = window(strips != 0);
        uint8_t             *units = malloc(model_window_bytes(&w));
        uint8_t             *at    = units;
        if (units == NULL) abort();
        for (uint64_t t = 0; t < w.n_tiles; t++)
            for (uint64_t s = 0; s < w.n_strips; s++) {
                model_unit_copy(source, &w, t, s, at);
                at += model_unit_bytes(&w, t, s);
            }
        worker_unit_cache_keep(c, &w, units);
        free(units);
    }
    worker_unit_cache_close(&c);
    model_source_close(&source);
    FILE *f = fopen(fuzz_path(name), "rb");
    if (f == NULL) abort();
    const size_t n = fread(out, 1, room, f);
    (void)fclose(f);
    return n;
}

int main(int argc, char **argv)
{
    static uint8_t file[1 << 16];
    uint8_t        ask[COMM_ASK_BYTES];
    fuzz_bytes_t   seeds[4] = {0};
    const size_t   n        = sound_file(file, sizeof(file));
    for (uint8_t i = 0; i < 4; i++) {
        const uint8_t        kind = i < 2 ? 0 : (uint8_t)(i - 1);
        const model_window_t w    = window(i % 2 != 0);
        worker_ask_pack(&w, 1, 2, ask);
        fuzz_splice(&seeds[i], 0, 0, &kind, 1);
        fuzz_splice(&seeds[i], 1, 0, i < 2 ? ask : file, i < 2 ? sizeof(ask) : n);
    }
    const int rc = fuzz_main(argc, argv, seeds, 4, fuzz_mutate_bytes, 4000);
    for (int i = 0; i < 4; i++) free(seeds[i].data);
    return rc;
}

#endif
